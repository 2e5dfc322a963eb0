"""Costs of deviations against finishing every branch by hand, one at a time, without a cache."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.costs import Cost, SentenceBleu, edit_distance_cost
from l2s_nmt.search.decisions import all_states, uniform_states
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.edit_distance import edit_distance_costs
from l2s_nmt.search.roll_in import LengthLimit, RollIn
from l2s_nmt.search.roll_out import Deviations, EditDistanceOracle
from l2s_nmt.search.search import RollOut
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories
from tests.tiny import finish, random_sentences, shared_policy, source_of, words

LIMIT = LengthLimit(1.0, 3)
DRAWS = Draws(seed=3, update=8)
BLEU = SentenceBleu("add_k")
GREEDY = RollIn("learned", "greedy", 1.0, LIMIT)
SAMPLED = RollIn("learned", "sample", 1.0, LIMIT)
REFERENCE = RollIn("reference", "greedy", 1.0, LIMIT)
LOLS = Deviations(
    states="all",
    per_sentence=3,
    candidates="top_k",
    k=3,
    policy="mixed",
    p_reference=0.5,
    greedy_roll_in=False,
    cost=BLEU,
    limit=LIMIT,
)

Result = tuple[Decisions, CostVectors, int]


@cache
def batch() -> Batch:
    """Targets that resemble what the model says, so that costs differ; some are longer than its limit."""
    policy, draw = shared_policy(), np.random.default_rng(0)
    sources = random_sentences(policy, 8, seed=1, shortest=2)
    targets = []
    for source in sources:
        target = [t for t in finish(policy, source, [], len(source) + 4) if t != policy.eos] or [5]
        target[int(draw.integers(len(target)))] = int(draw.choice(words(policy)))
        target.insert(int(draw.integers(len(target))), int(draw.choice(words(policy))))
        targets.append([*target, policy.eos])
    return collate(sources, targets, np.arange(40, 48), policy.pad)


@torch.no_grad()
def searched(roll_out: RollOut, roll_in: RollIn = GREEDY, draws: Draws = DRAWS) -> Result:
    policy = shared_policy()
    memory = policy.encode(batch().source, batch().source_mask)
    return roll_out(policy, memory, batch(), roll_in(policy, memory, batch(), draws), draws)


@torch.no_grad()
def trajectories_of(roll_in: RollIn) -> Trajectories:
    policy = shared_policy()
    return roll_in(policy, policy.encode(batch().source, batch().source_mask), batch(), DRAWS)


def loss(cost: Cost, hypothesis: list[int], target: list[int]) -> float:
    """Of words: no EOS."""
    rows = (torch.tensor([[*hypothesis, 0]]), torch.tensor([len(hypothesis)]))
    references = (torch.tensor([[*target, 0]]), torch.tensor([len(target)]))
    return float(cost(*rows, *references))


def by_hand(policy_name: str, row: int, branch: list[int], cost: Cost) -> float:
    """The loss of one branch when the named policy finishes it."""
    policy = shared_policy()
    target = batch().target[row, : batch().target_lengths[row] - 1].tolist()
    if policy_name == "learned":
        sentence = finish(policy, source_of(batch(), row), branch, int(LIMIT(batch().source_mask)[row]))
        return loss(cost, [token for token in sentence if token != policy.eos], target)
    if branch[-1] == policy.eos:
        return loss(cost, branch[:-1], target)
    return min(loss(cost, branch + target[start:], target) for start in range(len(target) + 1))


def costs_by_hand(
    names: list[str], decisions: Decisions, trajectories: Trajectories, cost: Cost
) -> tuple[Tensor, int]:
    """(N, K) costs, and the number of branches; ``names`` says who finishes each sentence."""
    table = torch.zeros(decisions.actions.shape)
    for n, (row, position) in enumerate(
        zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)
    ):
        prefix = trajectories.tokens[row, :position].tolist()
        real = decisions.mask[n].nonzero().squeeze(1).tolist()
        losses = [by_hand(names[row], row, [*prefix, int(decisions.actions[n, slot])], cost) for slot in real]
        table[n, real] = torch.tensor(losses) - min(losses)
    return table, int(decisions.mask.sum())


def equal(one: Result, other: Result) -> bool:
    """Bit for bit, but for the number of branches."""
    return all(
        torch.equal(a, b)
        for a, b in (
            (one[0].sentence, other[0].sentence),
            (one[0].position, other[0].position),
            (one[0].actions, other[0].actions),
            (one[0].mask, other[0].mask),
            (one[1].costs, other[1].costs),
        )
    )


@pytest.mark.parametrize("roll_in", [GREEDY, SAMPLED, REFERENCE], ids=["greedy", "sampled", "reference"])
@pytest.mark.parametrize("policy", ["learned", "reference"])
@pytest.mark.parametrize("cost", [BLEU, edit_distance_cost], ids=["bleu", "edit_distance"])
def test_costs_equal_finishing_each_branch_by_hand(policy: str, roll_in: RollIn, cost: Cost) -> None:
    roll_out = replace(LOLS, policy=policy, cost=cost)  # type: ignore[arg-type]
    decisions, costs, branches = searched(roll_out, roll_in)
    trajectories = trajectories_of(roll_in)
    sentence, position = all_states(trajectories)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    expected, count = costs_by_hand([policy] * 8, decisions, trajectories, cost)
    torch.testing.assert_close(costs.costs, expected, atol=1e-6, rtol=0)
    assert branches == count
    assert costs.other is None
    assert costs.costs.max() > 0.1
    assert (costs.costs.masked_fill(~decisions.mask, torch.inf).amin(1) == 0).all()
    assert not costs.costs[~decisions.mask].any()


def test_mixed_costs_equal_finishing_each_sentence_by_the_policy_drawn_for_it() -> None:
    decisions, costs, _ = searched(LOLS)
    drawn = DRAWS.uniform("roll_out", batch().rows, 1).squeeze(1) < 0.5
    names = ["reference" if by_reference else "learned" for by_reference in drawn]
    assert set(names) == {"reference", "learned"}
    expected, _ = costs_by_hand(names, decisions, trajectories_of(GREEDY), BLEU)
    torch.testing.assert_close(costs.costs, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("roll_in", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_all_branches_of_a_sentence_are_finished_by_the_same_policy(roll_in: RollIn) -> None:
    pure = {name: searched(replace(LOLS, policy=name), roll_in) for name in ("learned", "reference")}
    chosen = set()
    for update in range(6):
        # The roll-in draws stay: only the mixture is drawn anew.
        decisions, costs, _ = mixed_with(Draws(1, update), roll_in)
        for row in range(8):
            at = decisions.sentence == row
            same = {
                name for name, result in pure.items() if torch.equal(costs.costs[at], result[1].costs[at])
            }
            assert same
            chosen.add((row, tuple(same)))
    assert {names for _, names in chosen} >= {("learned",), ("reference",)}
    assert any({(row, ("learned",)), (row, ("reference",))} <= chosen for row in range(8))


@torch.no_grad()
def mixed_with(draws: Draws, roll_in: RollIn) -> Result:
    policy = shared_policy()
    memory = policy.encode(batch().source, batch().source_mask)
    return LOLS(policy, memory, batch(), trajectories_of(roll_in), draws)


@pytest.mark.parametrize("roll_in", [GREEDY, SAMPLED, REFERENCE], ids=["greedy", "sampled", "reference"])
@pytest.mark.parametrize(("probability", "name"), [(0.0, "learned"), (1.0, "reference")])
def test_a_mixture_with_probability_0_or_1_is_the_pure_policy(
    probability: float, name: str, roll_in: RollIn
) -> None:
    # With probability 1 it is LOLS that rolls out with the reference: AggreVaTe's cost vectors.
    mixed = searched(replace(LOLS, p_reference=probability), roll_in)
    pure = searched(replace(LOLS, policy=name), roll_in)  # type: ignore[arg-type]
    assert equal(mixed, pure)
    assert mixed[2] == pure[2]


@pytest.mark.parametrize("name", ["learned", "reference"])
def test_a_pure_policy_does_not_look_at_the_probability(name: str) -> None:
    pure = [replace(LOLS, policy=name, p_reference=p) for p in (0.0, 0.5, 1.0)]  # type: ignore[arg-type]
    assert equal(searched(pure[0]), searched(pure[1]))
    assert equal(searched(pure[0]), searched(pure[2]))


@pytest.mark.parametrize("policy", ["learned", "mixed"])
def test_reusing_the_greedy_roll_in_changes_nothing(policy: str) -> None:
    fresh = replace(LOLS, policy=policy)  # type: ignore[arg-type]
    assert equal(searched(replace(fresh, greedy_roll_in=True)), searched(fresh))


def test_reusing_the_greedy_roll_in_saves_the_branches_that_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished = []
    policy = shared_policy()
    continue_branches = policy.continue_branches

    def counted(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        finished.append(len(arguments[1]))
        return continue_branches(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "continue_branches", counted)
    learned = replace(LOLS, policy="learned")
    decisions, _, branches = searched(learned)
    assert searched(replace(learned, greedy_roll_in=True))[2] == branches
    assert finished == [branches, branches - len(decisions)]


def test_one_candidate_that_is_the_trajectory_itself_costs_nothing() -> None:
    # Every branch may be the trajectory's own: then there is nothing to decode.
    policy = shared_policy()
    with torch.no_grad():
        memory = policy.encode(batch().source, batch().source_mask)
        trajectories = GREEDY(policy, memory, batch(), DRAWS)
        copied = Batch(
            batch().source, batch().source_mask, trajectories.tokens, trajectories.lengths, batch().rows
        )
        ended = trajectories.finished.nonzero().squeeze(1)
        last = Deviations(
            **{**vars(LOLS), "policy": "learned", "k": 1, "greedy_roll_in": True, "states": "uniform"}
        )
        _, costs, _ = last(policy, memory, copied, trajectories, DRAWS)
    assert len(ended)
    assert (costs.costs[:, 0] == 0).all()


def test_states_are_drawn_by_the_sentence() -> None:
    decisions, costs, _ = searched(replace(LOLS, states="uniform", per_sentence=2))
    sentence, position = uniform_states(trajectories_of(GREEDY), batch().rows, 2, DRAWS)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    everywhere, all_costs, _ = searched(LOLS)
    for n in range(len(decisions)):
        same = (everywhere.sentence == sentence[n]) & (everywhere.position == position[n])
        assert torch.equal(costs.costs[n], all_costs.costs[same][0])


@pytest.mark.parametrize("cost", [BLEU, edit_distance_cost], ids=["bleu", "edit_distance"])
@pytest.mark.parametrize("roll_in", [GREEDY, SAMPLED, REFERENCE], ids=["greedy", "sampled", "reference"])
def test_the_full_vocabulary_agrees_with_the_listed_actions(cost: Cost, roll_in: RollIn) -> None:
    reference = replace(LOLS, policy="reference", cost=cost)
    decisions, costs, _ = searched(reference, roll_in)
    full_decisions, full_costs, branches = searched(replace(reference, candidates="full"), roll_in)
    assert torch.equal(full_decisions.sentence, decisions.sentence)
    assert torch.equal(full_decisions.position, decisions.position)
    assert full_costs.other is not None
    assert branches == int(full_decisions.mask.sum())
    for n in range(len(decisions)):
        known = dict(
            zip(
                full_decisions.actions[n, full_decisions.mask[n]].tolist(),
                full_costs.costs[n, full_decisions.mask[n]],
                strict=True,
            )
        )
        real = decisions.mask[n]
        full = torch.stack([known.get(a, full_costs.other[n]) for a in decisions.actions[n, real].tolist()])
        assert min(full_costs.costs[n].min(), full_costs.other[n]) == 0
        torch.testing.assert_close(costs.costs[n, real], full - full.min(), atol=1e-6, rtol=0)


def test_the_edit_distance_oracle_returns_the_dynamic_programme() -> None:
    for roll_in in (GREEDY, SAMPLED, REFERENCE):
        decisions, costs, branches = searched(EditDistanceOracle(), roll_in)
        trajectories = trajectories_of(roll_in)
        expected = edit_distance_costs(
            trajectories.tokens, trajectories.lengths, batch().target, batch().target_lengths
        )
        assert equal((decisions, costs, 0), (*expected, 0))
        assert costs.other is not None
        assert torch.equal(
            costs.other, expected[1].other if expected[1].other is not None else torch.empty(0)
        )
        assert branches == 0


def test_the_oracle_agrees_with_the_best_suffix_under_edit_distance() -> None:
    # Two ways to the same advantages: the one counts edits, the other divides them by the target's words.
    oracle = searched(EditDistanceOracle())
    suffix = searched(replace(LOLS, policy="reference", candidates="full", cost=edit_distance_cost))
    scale = (batch().target_lengths - 1)[oracle[0].sentence]
    torch.testing.assert_close(oracle[1].costs / scale[:, None], suffix[1].costs, atol=1e-6, rtol=0)
