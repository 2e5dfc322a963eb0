"""The loss of whole trajectories at each of their tokens, and the baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.losses.minimum_risk import minimum_risk
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.trajectory_loss import Baseline, TrajectoryLoss
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.search.types import CostVectors, Trajectories
from l2s_nmt.training.build import build_objective
from l2s_nmt.training.objective import Counts
from tests.searches import recipe_of
from tests.tiny import finish, new_policy, shared_policy, source_of
from tests.unit.search.test_roll_out import batch

LIMIT = LengthLimit(0.5, 2)
DRAWS = Draws(seed=1, update=2)
BLEU = OnTokens(SentenceBleu("add_k"))
SAMPLED = RollIn("learned", Decoding("sample"))


def search_with(samples: int, baseline: Baseline) -> Search:
    return Search(SAMPLED, TrajectoryLoss(BLEU, samples, baseline), BLEU, LIMIT, samples)


@cache
@torch.no_grad()
def searched(samples: int, baseline: Baseline) -> Experience:
    return search_with(samples, baseline)(shared_policy(), batch(), DRAWS)


def loss(tokens: list[int], row: int) -> float:
    words = [token for token in tokens if token != shared_policy().eos]
    return float(BLEU(torch.tensor([[*words, 0]]), torch.tensor([len(words)]), torch.tensor([row]), batch()))


def losses(experience: Experience) -> list[float]:
    """Of each trajectory, by itself."""
    rolled = experience.trajectories
    rows = zip(rolled.tokens, rolled.lengths.tolist(), experience.owner.tolist(), strict=True)
    return [loss(tokens[:length].tolist(), owner) for tokens, length, owner in rows]


def greedy_loss(row: int) -> float:
    limit = int(LIMIT(batch().source_mask)[row])
    return loss(finish(shared_policy(), source_of(batch(), row), [], limit), row)


def by_hand(experience: Experience, samples: int, baseline: Baseline) -> list[float]:
    """The cost of each trajectory."""
    own, costs = losses(experience), []
    for n, value in enumerate(own):
        row = n // samples
        others = [own[m] for m in range(row * samples, (row + 1) * samples) if m != n]
        if baseline == "others":
            value -= sum(others) / len(others)
        costs.append(value - greedy_loss(row) if baseline == "greedy" else value)
    return costs


CASES = [(1, "none"), (3, "none"), (1, "greedy"), (3, "greedy"), (2, "others"), (3, "others")]


@pytest.mark.parametrize(("samples", "baseline"), CASES)
def test_each_token_costs_what_its_trajectory_does_less_the_baseline(
    samples: int, baseline: Baseline
) -> None:
    experience = searched(samples, baseline)
    trajectories, decisions = experience.trajectories, experience.decisions
    expected = torch.tensor(by_hand(experience, samples, baseline))
    states = [(n, t) for n, length in enumerate(trajectories.lengths.tolist()) for t in range(length)]
    assert list(zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)) == states
    assert decisions.actions.tolist() == [[int(trajectories.tokens[n, t])] for n, t in states]
    assert decisions.mask.all()
    torch.testing.assert_close(
        experience.costs.costs[:, 0], expected[[n for n, _ in states]], atol=1e-6, rtol=0
    )
    assert experience.costs.other is None
    assert experience.roll_outs == 8 * samples
    assert decisions.group is not None
    assert decisions.group.tolist() == [n // samples for n, _ in states]
    assert set(trajectories.finished.tolist()) == {True, False}
    assert len(set(expected.tolist())) > 4


def test_baselines_leave_the_sampled_trajectories_as_they_are() -> None:
    plain = searched(3, "none")
    for baseline in ("greedy", "others"):
        other = searched(3, baseline)
        assert torch.equal(other.trajectories.tokens, plain.trajectories.tokens)
    costs = searched(3, "others").costs.costs[:, 0]
    first = [0, *searched(3, "others").trajectories.lengths.cumsum(0)[:-1].tolist()]
    # The three of a sentence are compared with each other.
    torch.testing.assert_close(costs[first].view(8, 3).sum(1), torch.zeros(8), atol=1e-6, rtol=0)


def test_the_greedy_translation_costs_nothing_against_itself() -> None:
    with torch.no_grad():
        context: Context = see(shared_policy(), batch(), DRAWS, LIMIT)
        greedy = RollIn("learned", Decoding())(context)
        outcome = TrajectoryLoss(BLEU, 1, "greedy")(context, greedy)
    assert not outcome.costs.costs.any()


def alone(row: int) -> Batch:
    return batch().select(torch.tensor([row]))


def every_translation(policy: Policy, limit: LengthLimit) -> tuple[Context, Trajectories, Tensor]:
    """All that a policy may write in two tokens, and how probable each is."""
    vocabulary = [token for token in range(policy.model.config.vocab_size) if token != policy.pad]
    every = [[policy.eos]] + [[a, b] for a in vocabulary if a != policy.eos for b in vocabulary]
    tokens = torch.tensor([row + [policy.pad] * (2 - len(row)) for row in every])
    lengths = torch.tensor([len(row) for row in every])
    wide = alone(1).select(torch.zeros(len(every), dtype=torch.long))
    with torch.no_grad():
        context = see(policy, wide, DRAWS, limit)
    ended = tokens.gather(1, lengths[:, None] - 1)[:, 0] == policy.eos
    scores = policy.mask_scores(policy.score(policy.encode(wide.source, wide.source_mask), tokens))
    log_probs = scores.log_softmax(-1).gather(2, tokens[:, :, None])[:, :, 0]
    inside = torch.arange(2) < lengths[:, None]
    chance = log_probs.masked_fill(~inside, 0).sum(1).exp()
    assert float(chance.detach().sum()) == pytest.approx(1.0)
    return context, Trajectories(tokens, lengths, ended, torch.zeros_like(tokens, dtype=torch.bool)), chance


def gradients_of_reinforce(
    policy: Policy, context: Context, trajectories: Trajectories, losses: Tensor, chance: Tensor
) -> list[Tensor | None]:
    """What an update expects, each translation being drawn as often as it is probable, through the objective."""
    outcome = TrajectoryLoss(BLEU, 1, "none")(context, trajectories)
    weighted = (chance.detach() * losses)[outcome.decisions.sentence, None]
    owner = torch.arange(len(chance))
    experience = Experience(
        trajectories, owner, outcome.decisions, CostVectors(weighted), len(chance), None, {}
    )
    recipe = recipe_of("reinforce", loss={"cross_entropy": 0.0})
    loss, _ = build_objective(recipe)(policy, context.batch, experience, Counts(1.0, 1.0))
    parameters = [p for p in policy.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, parameters, allow_unused=True))


def test_the_gradient_is_that_of_the_expected_loss_over_all_translations() -> None:
    """Of a policy that may write two tokens: enumerated, weighted by their probabilities."""
    policy = new_policy()
    context, trajectories, chance = every_translation(policy, LengthLimit(0.0, 2))
    outcome = TrajectoryLoss(BLEU, 1, "none")(context, trajectories)
    losses = torch.zeros(len(chance), dtype=chance.dtype)
    losses[outcome.decisions.sentence] = outcome.costs.costs[:, 0].to(losses.dtype)
    ours = gradients_of_reinforce(policy, context, trajectories, losses, chance)
    parameters = [p for p in policy.parameters() if p.requires_grad]
    theirs = torch.autograd.grad((chance * losses).sum(), parameters, allow_unused=True)
    for one_gradient, other in zip(ours, theirs, strict=True):
        if other is not None and one_gradient is not None:
            torch.testing.assert_close(one_gradient, other, atol=1e-9, rtol=1e-6)
    assert any(g is not None and g.abs().max() > 1e-3 for g in ours)


def test_a_constant_loss_has_no_expected_gradient() -> None:
    """Not even by the score of padding, which no translation that is drawn ever holds."""
    policy = new_policy()
    context, trajectories, chance = every_translation(policy, LengthLimit(0.0, 2))
    found = gradients_of_reinforce(policy, context, trajectories, torch.ones_like(chance), chance)
    assert all(g is None or g.abs().max() < 1e-9 for g in found)


def test_minimum_risk_compares_the_trajectories_of_a_sentence() -> None:
    experience = searched(3, "none")
    logits = torch.zeros(len(experience.decisions), 14, dtype=torch.float64)
    risk = minimum_risk(logits, experience.decisions, experience.costs, alpha=0.0, support="vocabulary")
    # Without a preference for likely ones, it is the mean loss of the sentence's three, a third at each state.
    expected = torch.tensor(losses(experience), dtype=torch.float64).view(8, 3).mean(1) / 3
    assert experience.decisions.group is not None
    torch.testing.assert_close(risk, expected[experience.decisions.group], atol=1e-6, rtol=0)


def test_the_roll_in_may_have_been_cut() -> None:
    # A trajectory without EOS is scored with all of its tokens.
    context = see(shared_policy(), alone(0), DRAWS, LIMIT)
    trajectories = RollIn("reference", Decoding())(context)
    cut = replace(
        trajectories,
        tokens=trajectories.tokens[:, : int(trajectories.lengths[0]) - 1],
        lengths=trajectories.lengths - 1,
    )
    for whole in (trajectories, cut):
        assert not TrajectoryLoss(BLEU, 1, "none")(context, whole).costs.costs.any()
