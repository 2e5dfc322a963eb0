"""Bandit feedback: one deviation and one observed loss a sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.bandit import Bandit, Estimator, Exploration, estimate, predicted_costs
from l2s_nmt.search.roll_out.branches import Branches
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import Outcome
from l2s_nmt.search.types import CostVectors
from tests.tiny import shared_policy
from tests.unit.search.test_roll_out import (
    ALL,
    BLEU,
    DRAWS,
    GREEDY,
    ROLL_INS,
    batch,
    context,
    mixed,
    trajectories_of,
)

ESTIMATORS: tuple[Estimator, ...] = ("biased", "ips", "doubly_robust", "regression")
ONE = StateChoice("uniform")
TOP_K = CandidateChoice("top_k", 3, Suffix(BLEU))
LEARNED = RollOutPolicy("learned", BLEU, Suffix(BLEU))
BANDIT = Bandit(ONE, TOP_K, LEARNED, Exploration("boltzmann", 0.2), "doubly_robust", 2.0)


@dataclass(frozen=True)
class Watched:
    """A roll-out policy that remembers which branches it was asked to finish, and may be all one to."""

    inner: RollOutPolicy
    seen: list[Branches]
    constant: float | None = None

    def __call__(self, context: Context, trunk: object, branches: Branches) -> Tensor:
        self.seen.append(branches)
        if self.constant is not None:
            return torch.full(branches.sentence.shape, self.constant)
        return self.inner(context, trunk, branches)  # type: ignore[arg-type]


@cache
def watched(
    estimator: Estimator,
    roll_in: RollIn,
    update: int = 0,
    constant: float | None = None,
    alpha: float | None = 2.0,
) -> tuple[Outcome, Branches]:
    """A bandit at states that are the same for every update; the action is drawn anew."""
    watcher = Watched(LEARNED, [], constant)
    states = ONE(context(), trajectories_of(roll_in))
    fixed: StateChoice = lambda context, trajectories: states  # type: ignore[assignment]  # noqa: E731
    bandit = replace(BANDIT, estimator=estimator, states=fixed, roll_out=watcher, alpha=alpha)  # type: ignore[arg-type]
    with torch.no_grad():
        seen = replace(context(), draws=Draws(4, update), level=0.3)
        outcome = bandit(seen, trajectories_of(roll_in))
    (branches,) = watcher.seen
    return outcome, branches


def tried(outcome: Outcome, branches: Branches) -> Tensor:
    """(N, K) bool: the action that was drawn."""
    return outcome.decisions.mask & (outcome.decisions.actions == branches.action[:, None])


@ROLL_INS
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("alpha", [2.0, None], ids=["regressor", "mean loss"])
def test_one_branch_of_a_sentence_is_finished_and_its_loss_makes_the_vector(
    estimator: Estimator, alpha: float | None, roll_in: RollIn
) -> None:
    outcome, branches = watched(estimator, roll_in, alpha=alpha)
    decisions = outcome.decisions
    assert branches.sentence.tolist() == decisions.sentence.tolist() == list(range(8))
    assert torch.equal(branches.position, decisions.position)
    one = tried(outcome, branches)
    assert one.sum(1).tolist() == [1] * 8
    assert outcome.roll_outs == 8
    # All candidates there, by the same policy, without a bandit.
    states: StateChoice = lambda context, trajectories: (decisions.sentence, decisions.position)  # type: ignore[assignment]  # noqa: E731
    with torch.no_grad():
        every = Deviations(states, TOP_K, LEARNED)(context(), trajectories_of(roll_in))
        scores, trunk = context().score(
            trajectories_of(roll_in).tokens, decisions.sentence, decisions.position
        )
        assert outcome.observed is not None
        torch.testing.assert_close(outcome.observed, LEARNED(context(), trunk, branches), atol=1e-6, rtol=0)
    assert torch.equal(every.decisions.actions, decisions.actions)
    listed = scores.gather(1, decisions.actions)
    q = BANDIT.exploration(listed, decisions.mask)
    # A policy that is no regressor predicts the mean of the losses so far for every action.
    predicted = torch.full_like(q, 0.3)
    if alpha is not None:
        predicted += predicted_costs(listed, decisions.mask, alpha)
    raw = estimate(estimator, outcome.observed, one.int().argmax(1), q, predicted)
    smallest = raw.masked_fill(~decisions.mask, torch.inf).amin(1, keepdim=True)
    expected = (raw - smallest).masked_fill(~decisions.mask, 0)
    torch.testing.assert_close(outcome.costs.costs, expected)
    assert outcome.costs.other is None


def test_actions_are_drawn_as_often_as_exploration_says() -> None:
    updates, counts = 120, torch.zeros(watched("ips", GREEDY)[0].decisions.actions.shape)
    for update in range(updates):
        counts += tried(*watched("ips", GREEDY, update, 0.5))
    decisions = watched("ips", GREEDY)[0].decisions
    scores, _ = context().score(trajectories_of(GREEDY).tokens, decisions.sentence, decisions.position)
    q = BANDIT.exploration(scores.gather(1, decisions.actions), decisions.mask)
    spread = (q * (1 - q) / updates).sqrt()
    assert ((counts / updates - q).abs() <= 4 * spread + 1e-6).all()
    assert (counts[decisions.mask] > 0).all()


@pytest.mark.parametrize("estimator", ["ips", "doubly_robust"])
def test_a_constant_loss_gives_no_expected_gradient(estimator: Estimator) -> None:
    """Of expected cost, over all actions that may be drawn; and the biased estimate does give one."""
    outcome, _ = watched(estimator, GREEDY)
    decisions = outcome.decisions
    scores, _ = context().score(trajectories_of(GREEDY).tokens, decisions.sentence, decisions.position)
    pad = torch.arange(scores.shape[1]) == shared_policy().pad
    logits = scores.masked_fill(pad, -30.0).requires_grad_()
    listed = logits.detach().gather(1, decisions.actions)
    q = BANDIT.exploration(listed, decisions.mask)
    predicted = predicted_costs(listed, decisions.mask, 2.0) + 0.3
    size = {}
    for name in (estimator, "biased"):
        total = torch.zeros_like(logits)
        for action in range(q.shape[1]):
            drawn = torch.full((8,), action)
            costs = estimate(name, torch.full((8,), 0.6), drawn, q.clamp(min=1e-9), predicted)
            costs = costs - costs.masked_fill(~decisions.mask, torch.inf).amin(1, keepdim=True)
            vector = CostVectors(costs.masked_fill(~decisions.mask, 0))
            loss = expected_cost(logits, decisions, vector, alpha=1, support="vocabulary")
            total += torch.autograd.grad((q[:, action] * loss).sum(), logits)[0]
        size[name] = float(total.abs().max())
    assert size[estimator] < 1e-6 < 1e-3 < size["biased"]


def test_draws_belong_to_the_sentence_and_the_update() -> None:
    drawn = torch.stack([tried(*watched("ips", GREEDY, update, 0.5)).int().argmax(1) for update in range(20)])
    assert (drawn != drawn[0]).any(0).sum() > 5
    assert not all((drawn[:, n] == drawn[:, 0]).all() for n in range(1, 8))


def test_the_action_is_the_one_at_the_draw_of_the_sentence() -> None:
    for update in range(6):
        outcome, branches = watched("ips", GREEDY, update, 0.5)
        decisions = outcome.decisions
        scores, _ = context().score(trajectories_of(GREEDY).tokens, decisions.sentence, decisions.position)
        q = BANDIT.exploration(scores.gather(1, decisions.actions), decisions.mask)
        own = Draws(4, update).uniform("bandit", batch().rows[decisions.sentence], 1)
        expected = (q.cumsum(1) > own * q.sum(1, keepdim=True)).int().argmax(1)
        assert torch.equal(tried(outcome, branches).int().argmax(1), expected)


def test_the_cheapest_action_costs_nothing_be_it_the_only_one() -> None:
    constant: RollOutPolicy = Watched(LEARNED, [], 1.0)  # type: ignore[assignment]
    best = CandidateChoice("top_k", 1, None)  # and EOS, where it is not the best
    bandit = replace(BANDIT, states=ALL, candidates=best, estimator="ips", roll_out=constant)
    with torch.no_grad():
        outcome = bandit(context(), trajectories_of(GREEDY))
    mask = outcome.decisions.mask
    assert (mask.sum(1) == 1).any()
    assert not outcome.costs.costs.masked_fill(~mask, torch.inf).amin(1).any()


def test_bootstrap_counts_the_votes_of_dropout_masks_and_leaves_the_policy_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[bool] = []
    prefill = shared_policy().prefill

    def noisy(*arguments: Tensor) -> tuple[Tensor, object]:
        modes.append(shared_policy().training)
        scores, state = prefill(*arguments)  # type: ignore[arg-type]
        return (scores + 3 * torch.randn_like(scores) if modes[-1] else scores), state

    monkeypatch.setattr(shared_policy(), "prefill", noisy)
    asked: list[Tensor] = []

    class Remembering(Exploration):
        def __call__(self, scores: Tensor, mask: Tensor, votes: Tensor | None = None) -> Tensor:
            assert votes is not None
            asked.append(votes)
            return super().__call__(scores, mask, votes)

    bandit = replace(BANDIT, exploration=Remembering("bootstrap", 0.1, bag=40))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        outcome = bandit(replace(context(), draws=DRAWS), trajectories_of(GREEDY))
    assert modes == [False] + [True] * 40
    assert not shared_policy().training
    (votes,) = asked
    assert votes.sum(1).tolist() == [40.0] * 8
    assert not votes[~outcome.decisions.mask].any()
    assert ((votes > 0).sum(1) > 1).any()


def test_other_roll_outs_and_all_states() -> None:
    for roll_out in (mixed("state"), mixed("roll_out"), replace(LEARNED, policy="reference")):
        bandit = replace(BANDIT, roll_out=roll_out, states=ALL)
        with torch.no_grad():
            outcome = bandit(context(), trajectories_of(GREEDY))
        assert outcome.observed is not None
        assert len(outcome.observed) == len(outcome.decisions) == outcome.roll_outs
        assert len(outcome.observed) > len(batch())


def test_importance_weighting_is_unbiased_at_the_states_that_were_drawn() -> None:
    """Where the action's draw would depend on the state's, it is not: both are drawn anew here."""
    trajectories = trajectories_of(GREEDY)
    inner: RollOutPolicy = Watched(LEARNED, [], 1.0)  # type: ignore[assignment]
    bandit = replace(BANDIT, estimator="ips", alpha=None, roll_out=inner)
    first, later = [], []
    for update in range(400):
        with torch.no_grad():
            found = bandit(replace(context(), draws=Draws(4, update), level=0.0), trajectories)
        several, start = found.decisions.mask.sum(1) > 1, found.decisions.position == 0
        first.append(found.costs.costs[several & start][:, 0])
        later.append(found.costs.costs[several & ~start][:, 0])
    for estimates in (torch.cat(first), torch.cat(later)):
        assert abs(float(estimates.mean()) - 1) < 4 * float(estimates.std()) / len(estimates) ** 0.5
