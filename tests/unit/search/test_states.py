"""At which states the search looks: how many, which, and that they are the sentence's own."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.decoder_state import Memory
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.decisions.states import StateChoice, StatesName
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.types import Trajectories
from tests.tiny import next_scores, random_batch, random_sentences, shared_policy, source_of

LIMIT = LengthLimit(0.5, 3)
DRAWS = Draws(seed=5, update=9)
lengths_lists = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def trajectories(lengths: list[int], width: int = 0) -> Trajectories:
    tokens = torch.zeros(len(lengths), max(width, *lengths, 1), dtype=torch.long)
    finished = torch.ones(len(lengths), dtype=torch.bool)
    return Trajectories(tokens, torch.tensor(lengths), finished, torch.zeros_like(tokens, dtype=torch.bool))


def without_model(rows: Tensor, draws: Draws) -> Context:
    """A context for what asks for draws alone."""
    one = torch.ones(len(rows), 1, dtype=torch.long)
    batch = Batch(one, one.bool(), one, one[:, 0], one[:, None], one, rows)
    return Context(shared_policy(), Memory(torch.zeros(len(rows), 1, 16), one), batch, draws, one[:, 0])


def positions_of(chosen: tuple[Tensor, Tensor], count: int) -> list[list[int]]:
    """The chosen positions of each sentence; all in order."""
    pairs = list(zip(*(part.tolist() for part in chosen), strict=True))
    assert pairs == sorted(set(pairs))
    return [[at for row, at in pairs if row == sentence] for sentence in range(count)]


def uniform(trajectories: Trajectories, rows: Tensor, count: int, draws: Draws) -> list[list[int]]:
    chosen = StateChoice("uniform", count)(without_model(rows, draws), trajectories)
    return positions_of(chosen, len(rows))


@settings(deadline=None, max_examples=60)
@given(lengths=lengths_lists, count=st.integers(1, 11), seed=st.integers(0, 10**6))
def test_uniform_states_are_distinct_positions_inside_the_trajectory(
    lengths: list[int], count: int, seed: int
) -> None:
    found = uniform(trajectories(lengths), torch.arange(len(lengths)), count, Draws(seed, 0))
    for length, positions in zip(lengths, found, strict=True):
        assert len(positions) == min(count, length)
        assert set(positions) <= set(range(length))


def test_every_set_of_positions_is_equally_likely() -> None:
    sentences, length, count = 15_000, 6, 2
    _, position = StateChoice("uniform", count)(
        without_model(torch.arange(sentences), Draws(1, 1)), trajectories([length] * sentences)
    )
    pairs = position.view(sentences, count)
    expected = sentences / 15
    for first, second in combinations(range(length), 2):
        found = int(((pairs[:, 0] == first) & (pairs[:, 1] == second)).sum())
        assert abs(found - expected) < 4 * expected**0.5


def test_one_state_is_uniform_over_the_positions_of_its_own_sentence() -> None:
    lengths = [3, 8] * 6000
    sentence, position = StateChoice("uniform", 1)(
        without_model(torch.arange(12_000), Draws(2, 0)), trajectories(lengths)
    )
    for length, row in ((3, 0), (8, 1)):
        counts = torch.bincount(position[sentence % 2 == row], minlength=length)
        assert len(counts) == length
        assert ((counts - 6000 / length).abs() < 4 * (6000 / length) ** 0.5).all()


def test_uniform_states_belong_to_the_sentence_and_not_to_its_place_or_to_the_padding() -> None:
    lengths, rows, draws = [5, 2, 9, 4], torch.tensor([30, 4, 11, 99]), Draws(3, 3)
    found = uniform(trajectories(lengths), rows, 2, draws)
    assert uniform(trajectories(lengths, width=20), rows, 2, draws) == found
    order = torch.tensor([2, 0, 3])
    assert uniform(trajectories([9, 5, 4]), rows[order], 2, draws) == [found[row] for row in order]
    assert uniform(trajectories(lengths), rows, 2, Draws(3, 4)) != found


@settings(deadline=None, max_examples=30)
@given(lengths=lengths_lists)
def test_all_states_and_the_last_two(lengths: list[int]) -> None:
    context, of = without_model(torch.arange(len(lengths)), DRAWS), trajectories(lengths, width=11)
    every = positions_of(StateChoice("all")(context, of), len(lengths))
    assert every == [list(range(length)) for length in lengths]
    ends = positions_of(StateChoice("ends")(context, of), len(lengths))
    assert ends == [positions[-2:] for positions in every]


def sampled(batch: Batch) -> tuple[Context, Trajectories]:
    context = see(shared_policy(), batch, DRAWS, LIMIT)
    return context, RollIn("learned", Decoding("sample", 4.0))(context)


def uncertainty(name: StatesName, scores: Tensor) -> float:
    probabilities: list[float] = sorted(scores.softmax(0).tolist(), reverse=True)
    if name == "low_margin":
        return probabilities[1] - probabilities[0]
    return -sum(p * math.log(p) for p in probabilities if p > 0)


@pytest.mark.parametrize("name", ["low_margin", "high_entropy"])
@pytest.mark.parametrize("count", [1, 3])
def test_focused_states_are_those_where_the_policy_is_least_sure(name: StatesName, count: int) -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 12, seed=3)
    context, written = sampled(batch)
    found = positions_of(StateChoice(name, count)(context, written), 12)
    lengths = written.lengths.tolist()
    assert min(lengths) < 3 < max(lengths)
    for row, positions in enumerate(found):
        tokens = written.tokens[row, : written.lengths[row]].tolist()
        source = source_of(batch, row)
        unsure = [uncertainty(name, next_scores(policy, source, tokens[:at])) for at in range(len(tokens))]
        assert len(positions) == min(count, len(tokens))
        order = sorted(range(len(tokens)), key=lambda at, unsure=unsure: -unsure[at])  # type: ignore[misc]
        assert positions == sorted(order[:count])


def test_margin_and_entropy_differ_and_are_not_the_first_states() -> None:
    # What the test above rests on.
    context, written = sampled(random_batch(shared_policy(), 40, seed=3))
    margin, entropy = (
        positions_of(StateChoice(name)(context, written), 40) for name in ("low_margin", "high_entropy")
    )
    assert margin != entropy
    assert len({row[0] for row in margin}) > 2


def test_failed_segments_are_those_of_the_trajectories() -> None:
    policy = shared_policy()
    targets = [[2, 3, 4, 5, 6, policy.eos]] * 3
    batch = collate(random_sentences(policy, 3, 0, shortest=2), targets, np.arange(3), policy.pad)
    rows = [[2, 3, 4, 5, 6, policy.eos], [2, 3, 5, 5, policy.eos, policy.pad], [7, 3, 4, 5, 6, 7]]
    written = Trajectories(
        torch.tensor(rows),
        torch.tensor([6, 5, 6]),
        torch.tensor([True, True, False]),
        torch.zeros(3, 6, dtype=torch.bool),
    )
    context = see(policy, batch, DRAWS, LIMIT)
    for size, expected in (
        (1, [[], [2], [0]]),
        (2, [[], [2, 3], [0, 1]]),
        (4, [[], [0, 1, 2, 3], [0, 1, 2, 3]]),
    ):
        choice = StateChoice("failed_segments", per_sentence=1, segment=size)
        assert positions_of(choice(context, written), 3) == expected


@pytest.mark.parametrize("name", ["all", "uniform", "ends", "low_margin", "high_entropy", "failed_segments"])
def test_states_do_not_depend_on_place_companions_or_padding(name: StatesName) -> None:
    policy, choice = shared_policy(), StateChoice(name, 2, 2)
    sources, targets = (random_sentences(policy, 8, seed, shortest=2) for seed in (60, 61))
    rows = np.arange(30, 38)
    batch = collate(sources, targets, rows, policy.pad)
    whole = positions_of(choice(*sampled(batch)), 8)
    order = torch.tensor([4, 0, 2, 6, 1, 7, 3, 5])
    moved = positions_of(choice(*sampled(batch.select(order))), 8)
    assert moved == [whole[row] for row in order]
    alone = collate(sources[3:5], targets[3:5], rows[3:5], policy.pad)
    assert positions_of(choice(*sampled(alone)), 2) == whole[3:5]
    long = [*[5, 6] * 8, policy.eos]
    wide = collate([*sources, long], [*targets, long], np.arange(30, 39), policy.pad)
    assert positions_of(choice(*sampled(wide)), 9)[:8] == whole
