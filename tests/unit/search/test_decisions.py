"""States: without replacement, uniform, and the sentence's own. Candidates: who is listed, once each."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.decisions import all_states, top_k_candidates, uniform_states
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.types import Trajectories

lengths_lists = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def trajectories(lengths: list[int], width: int = 0) -> Trajectories:
    tokens = torch.zeros(len(lengths), max(width, *lengths, 1), dtype=torch.long)
    return Trajectories(tokens, torch.tensor(lengths), torch.ones(len(lengths), dtype=torch.bool))


def by_sentence(sentence: Tensor, position: Tensor, count: int) -> list[list[int]]:
    return [position[sentence == row].tolist() for row in range(count)]


@settings(deadline=None, max_examples=60)
@given(lengths=lengths_lists, count=st.integers(1, 11), seed=st.integers(0, 10**6))
def test_uniform_states_are_distinct_positions_inside_the_trajectory(
    lengths: list[int], count: int, seed: int
) -> None:
    sentence, position = uniform_states(
        trajectories(lengths), torch.arange(len(lengths)), count, Draws(seed, 0)
    )
    assert sentence.tolist() == sorted(sentence.tolist())
    for length, positions in zip(lengths, by_sentence(sentence, position, len(lengths)), strict=True):
        assert positions == sorted(set(positions))
        assert len(positions) == min(count, length)
        assert set(positions) <= set(range(length))


def test_every_set_of_positions_is_equally_likely() -> None:
    sentences, length, count = 15_000, 6, 2
    _, position = uniform_states(
        trajectories([length] * sentences), torch.arange(sentences), count, Draws(1, 1)
    )
    pairs = position.view(sentences, count)
    expected = sentences / 15
    for first, second in combinations(range(length), 2):
        found = int(((pairs[:, 0] == first) & (pairs[:, 1] == second)).sum())
        assert abs(found - expected) < 4 * expected**0.5


def test_one_state_is_uniform_over_the_positions_of_its_own_sentence() -> None:
    lengths = [3, 8] * 6000
    sentence, position = uniform_states(trajectories(lengths), torch.arange(12_000), 1, Draws(2, 0))
    for length, row in ((3, 0), (8, 1)):
        counts = torch.bincount(position[sentence % 2 == row], minlength=length)
        assert len(counts) == length
        assert ((counts - 6000 / length).abs() < 4 * (6000 / length) ** 0.5).all()


def test_states_belong_to_the_sentence_and_not_to_its_place_or_to_the_padding() -> None:
    lengths, rows, draws = [5, 2, 9, 4], torch.tensor([30, 4, 11, 99]), Draws(3, 3)
    found = by_sentence(*uniform_states(trajectories(lengths), rows, 2, draws), 4)
    again = by_sentence(*uniform_states(trajectories(lengths, width=20), rows, 2, draws), 4)
    assert again == found
    order = torch.tensor([2, 0, 3])
    shuffled = uniform_states(trajectories([9, 5, 4]), rows[order], 2, draws)
    assert by_sentence(*shuffled, 3) == [found[row] for row in order]
    other = by_sentence(*uniform_states(trajectories(lengths), rows, 2, Draws(3, 4)), 4)
    assert other != found


@settings(deadline=None, max_examples=30)
@given(lengths=lengths_lists)
def test_all_states(lengths: list[int]) -> None:
    sentence, position = all_states(trajectories(lengths, width=11))
    expected = [(row, at) for row, length in enumerate(lengths) for at in range(length)]
    assert list(zip(sentence.tolist(), position.tolist(), strict=True)) == expected


EOS, PAD = 1, 0


def targets() -> Batch:
    return collate([[5, EOS]] * 2, [[4, 5, 6, EOS], [7, EOS]], np.arange(2), PAD)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 6),
    states=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7)), min_size=1, max_size=6),
)
def test_candidates_are_the_best_the_reference_and_the_end_each_once(
    seed: int, k: int, states: list[tuple[int, int]]
) -> None:
    scores = torch.randn(len(states), 9, generator=torch.Generator().manual_seed(seed))
    sentence, position = torch.tensor(states).unbind(1)
    batch = targets()
    decisions = top_k_candidates(scores, sentence, position, k, batch, EOS)
    assert torch.equal(decisions.sentence, sentence)
    assert torch.equal(decisions.position, position)
    assert decisions.actions.shape == (len(states), k + 2)
    for row, (number, at) in enumerate(states):
        listed = decisions.actions[row, decisions.mask[row]].tolist()
        best = sorted(range(9), key=lambda token, row=row: -float(scores[row, token]))[:k]  # type: ignore[misc]
        target = batch.target[number, : batch.target_lengths[number]].tolist()
        reference = target[at] if at < len(target) else EOS
        assert len(listed) == len(set(listed))
        assert set(listed) == {*best, reference, EOS}
        assert listed[0] == best[0]


def test_what_repeats_is_masked_where_it_comes_again() -> None:
    scores = torch.tensor([[0.0, 1, 0, 0, 9, 0], [0, 5, 0, 0, 0, 9]])
    decisions = top_k_candidates(scores, torch.tensor([0, 0]), torch.tensor([0, 3]), 2, targets(), EOS)
    assert decisions.actions.tolist() == [[4, EOS, 4, EOS], [5, EOS, EOS, EOS]]
    assert decisions.mask.tolist() == [[True, True, False, False], [True, True, False, False]]
