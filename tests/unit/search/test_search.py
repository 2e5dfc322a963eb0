"""A whole search: what it found on a sentence depends on the sentence and the policy, and on nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from l2s_nmt import decoding
from l2s_nmt.data.batches import Batch
from l2s_nmt.search import search as searching
from l2s_nmt.search.context import Context, LengthLimit
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.noisy import Noisy
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out import finish as finishing
from l2s_nmt.search.roll_out.bandit import Bandit, Exploration
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import Outcome, RollOut
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions, ReferenceCosts
from l2s_nmt.search.roll_out.trajectory_loss import TrajectoryLoss
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories
from tests.clock import Clock
from tests.searches import search_of
from tests.tiny import FAMILIES, random_batch, shared_policy

LIMIT = LengthLimit(0.5, 3)
DRAWS = Draws(seed=2, update=5)
BLEU = OnTokens(SentenceBleu("add_k"))
EDITS = OnTokens(edit_distance_cost)
SUFFIX, ORACLE = Suffix(BLEU), EditDistance(EDITS)
GREEDY = RollIn("learned", Decoding())
SAMPLED = RollIn("learned", Decoding("sample", 0.7))
REFERENCE = RollIn("reference", Decoding())
BY_STATE = RollIn("mixed", Decoding(), SUFFIX)
BY_SENTENCE = RollIn("mixed", Decoding("sample"), SUFFIX, mix_unit="sentence")
THREE = StateChoice("uniform", 3)
MIXED = RollOutPolicy("mixed", BLEU, SUFFIX, mix_unit="decision")
SELDOM = Schedule("constant", 0.1)
TOP_K = CandidateChoice("top_k", 4, SUFFIX)
LOLS = Deviations(THREE, TOP_K, replace(MIXED, own_is_greedy=True))
PLAIN = Deviations(THREE, TOP_K, MIXED)
BANDIT = Bandit(StateChoice("uniform"), TOP_K, MIXED, Exploration("boltzmann", 0.1), "doubly_robust", 2.0)


def search_with(roll_in: RollIn, roll_out: RollOut, samples: int = 1) -> Search:
    return Search(roll_in, roll_out, BLEU, LIMIT, samples)


IN_ALL_FAMILIES: dict[str, Search] = {
    "lols": search_with(GREEDY, LOLS),
    "sampled roll-in": search_with(SAMPLED, PLAIN),
    "by state": search_with(BY_STATE, replace(PLAIN, roll_out=replace(MIXED, mix_unit="state"))),
    "aggrevated": search_with(SAMPLED, ReferenceCosts(StateChoice("all"), ORACLE)),
}
SEARCHES: dict[str, Search] = {
    **IN_ALL_FAMILIES,
    "reference roll-in": search_with(REFERENCE, PLAIN),
    "by sentence": search_with(BY_SENTENCE, replace(PLAIN, roll_out=replace(MIXED, mix_unit="sentence"))),
    "by roll-out": search_with(GREEDY, replace(PLAIN, roll_out=replace(MIXED, mix_unit="roll_out"))),
    "horizon": search_with(SAMPLED, replace(PLAIN, roll_out=replace(MIXED, horizon=2))),
    "full vocabulary": search_with(SAMPLED, ReferenceCosts(THREE, SUFFIX)),
    "dagger": search_with(BY_SENTENCE, ReferenceActions(StateChoice("all"), ORACLE)),
    "coaching": search_with(SAMPLED, ReferenceActions(StateChoice("all"), ORACLE, 0.2)),
    "poor reference": search_with(SAMPLED, ReferenceCosts(THREE, Noisy(SUFFIX, BLEU, "suboptimal", 0.5))),
    "drawn candidates": search_with(GREEDY, replace(LOLS, candidates=CandidateChoice("sampled", 3, SUFFIX))),
    "biased candidates": search_with(GREEDY, replace(LOLS, candidates=CandidateChoice("biased", 3, SUFFIX))),
    "low margin": search_with(GREEDY, replace(LOLS, states=StateChoice("low_margin", 2))),
    "several trajectories": search_with(SAMPLED, PLAIN, samples=3),
    "shared prefixes": search_with(SAMPLED, ReferenceCosts(StateChoice("all"), ORACLE), samples=5),
    "shared actions": search_with(SAMPLED, ReferenceActions(THREE, ORACLE, 0.2), samples=5),
    "bandit": search_with(GREEDY, BANDIT),
    "reinforce": search_with(SAMPLED, TrajectoryLoss(BLEU, 1, "greedy")),
    "minimum risk": search_with(SAMPLED, TrajectoryLoss(BLEU, 3, "others"), samples=3),
    "seldom by the reference": search_with(
        replace(BY_STATE, p_reference=SELDOM),
        replace(PLAIN, roll_out=replace(MIXED, mix_unit="state", p_reference=SELDOM)),
    ),
}

Findings = dict[int, list[object]]


def roll_in_costs(search: Search, experience: Experience, batch: Batch) -> Tensor:
    """Which are there wherever there is a cost."""
    costs = search.roll_in_costs(experience, batch)
    assert costs is not None
    return costs


def found(
    search: Search, batch: Batch, family: str = "marian", level: float = 0.3
) -> tuple[Findings, Experience]:
    """What there is about each sentence, by its row of the data, free of padding."""
    with torch.no_grad():
        experience = search(shared_policy(family), batch, DRAWS, level)
    trajectories, decisions, costs = experience.trajectories, experience.decisions, experience.costs
    costs_of_all = roll_in_costs(search, experience, batch)
    findings: Findings = {row: [] for row in batch.rows.tolist()}
    for place, owner in enumerate(experience.owner.tolist()):
        states = (decisions.sentence == place).nonzero().squeeze(1)
        assert decisions.group is None or set(decisions.group[states].tolist()) == {owner}
        length = int(trajectories.lengths[place])
        findings[int(batch.rows[owner])] += [
            trajectories.tokens[place, :length].tolist(),
            trajectories.by_reference[place, :length].tolist(),
            bool(trajectories.finished[place]),
            float(costs_of_all[place]),
            decisions.position[states].tolist(),
            [decisions.actions[n, decisions.mask[n]].tolist() for n in states],
            [costs.costs[n, decisions.mask[n]].tolist() for n in states],
            None if costs.other is None else costs.other[states].tolist(),
            None if decisions.visits is None else decisions.visits[states].tolist(),
            None if experience.observed is None else experience.observed[states].tolist(),
        ]
    return findings, experience


def assert_invariant(search: Search, family: str) -> None:
    batch = random_batch(shared_policy(family), 10, seed=1, first_row=50)
    whole, experience = found(search, batch, family)
    assert len(experience.decisions) > 0
    order = torch.tensor([6, 1, 9, 3, 0, 8, 2, 7, 5, 4])
    assert found(search, batch.select(order), family)[0] == whole
    halves = [found(search, batch.select(part), family) for part in (order[:3], order[3:])]
    assert {**halves[0][0], **halves[1][0]} == whole
    assert sum(half.roll_outs for _, half in halves) == experience.roll_outs


@pytest.mark.parametrize("name", SEARCHES)
def test_nothing_changes_with_order_or_chunks(name: str) -> None:
    assert_invariant(SEARCHES[name], "marian")


@pytest.mark.parametrize("name", IN_ALL_FAMILIES)
@pytest.mark.parametrize("family", FAMILIES[1:])
def test_nothing_changes_with_order_or_chunks_in_other_models(name: str, family: str) -> None:
    assert_invariant(SEARCHES[name], family)


@pytest.mark.parametrize("name", SEARCHES)
def test_nothing_changes_where_sentences_that_ended_leave_late(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the policies are asked about them for a while."""
    batch = random_batch(shared_policy(), 10, seed=1, first_row=50)
    expected = found(SEARCHES[name], batch)[0]
    monkeypatch.setattr(decoding, "settle_every", lambda device: 8)
    assert found(SEARCHES[name], batch)[0] == expected


def test_trajectories_are_scored_without_their_end() -> None:
    batch = random_batch(shared_policy(), 12, seed=2)
    search = Search(GREEDY, LOLS, EDITS, LIMIT)
    _, experience = found(search, batch)
    trajectories, costs = experience.trajectories, roll_in_costs(search, experience, batch)
    for row in range(12):
        words: Tensor = trajectories.tokens[row, : trajectories.lengths[row]]
        words = words[words != shared_policy().eos]
        target = batch.target[row, : batch.target_lengths[row] - 1]
        lengths = torch.tensor([len(words)]), torch.tensor([len(target)])
        alone = edit_distance_cost(words[None], lengths[0], target[None], lengths[1])
        assert float(costs[row]) == float(alone)
    assert set(trajectories.finished.tolist()) == {True, False}


def test_several_trajectories_of_a_sentence_are_its_own_and_differ() -> None:
    batch = random_batch(shared_policy(), 6, first_row=30)
    search = SEARCHES["several trajectories"]
    _, experience = found(search, batch)
    assert experience.owner.tolist() == [row for row in range(6) for _ in range(3)]
    tokens = experience.trajectories.tokens.view(6, 3, -1)
    assert (tokens[:, 1:] != tokens[:, :1]).any(2).float().mean() > 0.5
    # The first is the one that would have been there alone; its costs are those of its own sentence.
    _, alone = found(replace(search, samples=1), batch)
    first = experience.decisions.sentence % 3 == 0
    assert torch.equal(experience.decisions.sentence[first] // 3, alone.decisions.sentence)
    assert torch.equal(experience.costs.costs[first], alone.costs.costs)
    found_costs = roll_in_costs(search, experience, batch).view(6, 3)
    assert torch.equal(found_costs[:, 0], roll_in_costs(replace(search, samples=1), alone, batch))


@pytest.mark.parametrize("name", ["shared prefixes", "shared actions"])
def test_a_state_counts_as_often_as_it_was_visited_and_costs_what_it_would(name: str) -> None:
    batch = random_batch(shared_policy(), 6, first_row=30)
    search = SEARCHES[name]
    _, experience = found(search, batch)
    shared: dict[object, tuple[float, object]] = {}
    for state, what in states_of(experience):
        assert state not in shared
        shared[state] = what

    def apart(context: Context, trajectories: Trajectories) -> Outcome:
        return search.roll_out(replace(context, source=None), trajectories)

    _, each = found(replace(search, roll_out=apart), batch)
    assert torch.equal(each.trajectories.tokens, experience.trajectories.tokens)
    separate = states_of(each)
    visits = Counter(state for state, _ in separate)
    assert len(shared) < len(separate)
    assert {state: count for state, (count, _) in shared.items()} == visits
    assert all(shared[state][1] == what for state, (_, what) in separate)
    assert experience.decisions.total_visits() == each.decisions.total_visits() == len(separate)


def states_of(experience: Experience) -> list[tuple[object, tuple[float, object]]]:
    """Sentence and prefix of each state; how often it was visited, and what was found there."""
    decisions, costs = experience.decisions, experience.costs
    ones = torch.ones(len(decisions))
    places = zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)
    return [
        (
            (int(experience.owner[row]), tuple(experience.trajectories.tokens[row, :position].tolist())),
            (
                float((ones if decisions.visits is None else decisions.visits)[n]),
                (
                    decisions.actions[n, decisions.mask[n]].tolist(),
                    costs.costs[n, decisions.mask[n]].tolist(),
                ),
            ),
        )
        for n, (row, position) in enumerate(places)
    ]


def test_counts_and_times() -> None:
    batch = random_batch(shared_policy(), 5)
    _, experience = found(SEARCHES["lols"], batch)
    assert experience.roll_outs == int(experience.decisions.mask.sum())
    assert set(experience.seconds) == {"roll_in", "roll_out", "scoring"}
    assert all(seconds >= 0 for seconds in experience.seconds.values())
    for name, roll_outs in {
        "aggrevated": 0,
        "dagger": 0,
        "bandit": 5,
        "reinforce": 5,
        "minimum risk": 15,
    }.items():
        assert found(SEARCHES[name], batch)[1].roll_outs == roll_outs
    tree = search_of("search_expert", reference={"simulations": 4, "parallel": 2})
    assert 5 < found(tree, batch)[1].roll_outs <= 20  # of one state of each sentence
    assert "simulated" not in found(tree, batch)[1].notes


def test_the_time_of_each_stage_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in (searching, finishing):
        monkeypatch.setattr(module, "time", clock)

    def cost(hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        clock.now += 5
        return EDITS(hypotheses, lengths, sentence, batch)

    def roll_in(context: Context) -> Trajectories:
        clock.now += 3
        return GREEDY(context)

    def roll_out(context: Context, trajectories: Trajectories) -> Outcome:
        clock.now += 2
        stages = Deviations(THREE, CandidateChoice("top_k", 2, None), RollOutPolicy("learned", cost, None))
        return stages(context, trajectories)

    slow: Any = roll_in
    with torch.no_grad():
        experience = search_with(slow, roll_out)(shared_policy(), random_batch(shared_policy(), 3), DRAWS)
    assert experience.seconds == {"roll_in": 3, "roll_out": 2, "scoring": 5}


def test_losses_count_as_observed_under_bandit_feedback_alone() -> None:
    batch = random_batch(shared_policy(), 5)
    for name, search in SEARCHES.items():
        observed = found(search, batch)[1].observed
        assert (observed is not None) == (name == "bandit")


def test_the_roll_out_gets_the_trajectories_and_the_level() -> None:
    seen: list[tuple[Context, Trajectories]] = []

    def watching(context: Context, trajectories: Trajectories) -> Outcome:
        seen.append((context, trajectories))
        return ReferenceCosts(THREE, ORACLE)(context, trajectories)

    batch = random_batch(shared_policy(), 3)
    _, experience = found(search_with(SAMPLED, watching), batch, level=0.7)
    context, trajectories = seen[0]
    assert trajectories.tokens is experience.trajectories.tokens
    assert (context.level, context.draws, context.batch) == (0.7, DRAWS, batch)


def test_all_of_it_moves_to_another_device() -> None:
    elsewhere = torch.device("meta")
    for name in ("bandit", "minimum risk"):
        experience = found(SEARCHES[name], random_batch(shared_policy(), 3))[1].to(elsewhere)
        parts: list[object] = [experience, experience.trajectories, experience.decisions, experience.costs]
        for part in parts:
            assert isinstance(part, Experience | Trajectories | Decisions | CostVectors)
            values: Mapping[str, object] = {field.name: getattr(part, field.name) for field in fields(part)}
            assert all(v.device == elsewhere for v in values.values() if isinstance(v, Tensor)), values
