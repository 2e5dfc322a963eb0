"""States: without replacement, uniform, the sentence's own; where the policy is unsure; where a segment failed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.decisions.segments import failed_segments
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.types import Trajectories
from tests.tiny import next_scores, random_batch, shared_policy, source_of

EOS, PAD = 1, 0
lengths_lists = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def trajectories(lengths: list[int], width: int = 0) -> Trajectories:
    tokens = torch.zeros(len(lengths), max(width, *lengths, 1), dtype=torch.long)
    finished = torch.ones(len(lengths), dtype=torch.bool)
    return Trajectories(tokens, torch.tensor(lengths), finished, torch.zeros_like(tokens, dtype=torch.bool))


def context_of(rows: Tensor, draws: Draws) -> Context:
    """Of sentences that nothing but their numbers is known of."""
    sources = [[3, EOS]] * len(rows)
    batch = collate(sources, sources, rows.numpy(), PAD)
    nothing: object = None
    return Context(nothing, nothing, batch, draws, torch.full((len(rows),), 9))  # type: ignore[arg-type]


def uniform_states(
    lengths: list[int], rows: Tensor, count: int, draws: Draws, width: int = 0
) -> tuple[Tensor, Tensor]:
    return StateChoice("uniform", count)(context_of(rows, draws), trajectories(lengths, width))


def by_sentence(sentence: Tensor, position: Tensor, count: int) -> list[list[int]]:
    return [position[sentence == row].tolist() for row in range(count)]


@settings(deadline=None, max_examples=60)
@given(lengths=lengths_lists, count=st.integers(1, 11), seed=st.integers(0, 10**6))
def test_uniform_states_are_distinct_positions_inside_the_trajectory(
    lengths: list[int], count: int, seed: int
) -> None:
    sentence, position = uniform_states(lengths, torch.arange(len(lengths)), count, Draws(seed, 0))
    assert sentence.tolist() == sorted(sentence.tolist())
    for length, positions in zip(lengths, by_sentence(sentence, position, len(lengths)), strict=True):
        assert positions == sorted(set(positions))
        assert len(positions) == min(count, length)
        assert set(positions) <= set(range(length))


def test_every_set_of_positions_is_equally_likely() -> None:
    sentences, length, count = 15_000, 6, 2
    _, position = uniform_states([length] * sentences, torch.arange(sentences), count, Draws(1, 1))
    pairs = position.view(sentences, count)
    expected = sentences / 15
    for first, second in combinations(range(length), 2):
        found = int(((pairs[:, 0] == first) & (pairs[:, 1] == second)).sum())
        assert abs(found - expected) < 4 * expected**0.5


def test_one_state_is_uniform_over_the_positions_of_its_own_sentence() -> None:
    sentence, position = uniform_states([3, 8] * 6000, torch.arange(12_000), 1, Draws(2, 0))
    for length, row in ((3, 0), (8, 1)):
        counts = torch.bincount(position[sentence % 2 == row], minlength=length)
        assert len(counts) == length
        assert ((counts - 6000 / length).abs() < 4 * (6000 / length) ** 0.5).all()


def test_states_belong_to_the_sentence_and_not_to_its_place_or_to_the_padding() -> None:
    lengths, rows, draws = [5, 2, 9, 4], torch.tensor([30, 4, 11, 99]), Draws(3, 3)
    found = by_sentence(*uniform_states(lengths, rows, 2, draws), 4)
    assert by_sentence(*uniform_states(lengths, rows, 2, draws, width=20), 4) == found
    order = torch.tensor([2, 0, 3])
    assert by_sentence(*uniform_states([9, 5, 4], rows[order], 2, draws), 3) == [found[row] for row in order]
    assert by_sentence(*uniform_states(lengths, rows, 2, Draws(3, 4)), 4) != found


@settings(deadline=None, max_examples=30)
@given(lengths=lengths_lists)
def test_all_states_and_the_ends(lengths: list[int]) -> None:
    context = context_of(torch.arange(len(lengths)), Draws(1, 1))
    sentence, position = StateChoice("all")(context, trajectories(lengths, width=11))
    expected = [(row, at) for row, length in enumerate(lengths) for at in range(length)]
    assert list(zip(sentence.tolist(), position.tolist(), strict=True)) == expected
    ends = by_sentence(*StateChoice("ends")(context, trajectories(lengths, width=11)), len(lengths))
    assert ends == [list(range(max(0, length - 2), length)) for length in lengths]


@pytest.mark.parametrize("name", ["low_margin", "high_entropy"])
def test_focus_is_where_the_policy_is_least_sure(name: str) -> None:
    policy, batch = shared_policy(), random_batch(shared_policy(), 6, seed=4)
    context = see(policy, batch, Draws(1, 1), LengthLimit(1.0, 3))
    rolled = RollIn("learned", Decoding())(context)
    found = by_sentence(*StateChoice(name, 2)(context, rolled), 6)  # type: ignore[arg-type]
    for row in range(6):
        sure = []
        for position in range(int(rolled.lengths[row])):
            prefix = rolled.tokens[row, :position].tolist()
            p = next_scores(policy, source_of(batch, row), prefix).softmax(0)
            best = p.topk(2).values
            sure.append(float(best[0] - best[1] if name == "low_margin" else torch.xlogy(p, p).sum()))
        assert found[row] == sorted(sorted(range(len(sure)), key=sure.__getitem__)[:2])


# ---- segments -------------------------------------------------------------------------------------


def distance(one: list[int], other: list[int]) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def value(prefix: list[int], references: list[list[int]]) -> int:
    """Edits that the best completion needs; none is possible after EOS."""
    if prefix[-1:] == [EOS]:
        return min(distance(prefix[:-1], reference) for reference in references)
    return min(
        distance(prefix, reference[:length])
        for reference in references
        for length in range(len(reference) + 1)
    )


def expected_segment(written: list[int], references: list[list[int]], size: int) -> list[int]:
    for position in range(len(written)):
        if value(written[: position + 1], references) > value(written[:position], references):
            first = position // size * size
            return list(range(first, min(first + size, len(written))))
    return []


words = st.lists(st.integers(2, 4), max_size=6)


@settings(deadline=None, max_examples=150)
@given(
    pairs=st.lists(
        st.tuples(words, st.booleans(), st.lists(words, min_size=1, max_size=2)), min_size=1, max_size=4
    ),
    size=st.integers(1, 4),
)
def test_the_first_segment_that_lost_an_edit(
    pairs: list[tuple[list[int], bool, list[list[int]]]], size: int
) -> None:
    written = [[*tokens, EOS] if finished or not tokens else tokens for tokens, finished, _ in pairs]
    references = [[[*words, EOS] for words in each] for _, _, each in pairs]
    batch: Batch = collate(
        [[2, EOS]] * len(pairs), [each[0] for each in references], np.arange(len(pairs)), PAD, references
    )
    width = max(map(len, written)) + 2
    tokens = torch.tensor([row + [PAD] * (width - len(row)) for row in written])
    rolled = Trajectories(
        tokens,
        torch.tensor([len(row) for row in written]),
        torch.tensor([row[-1] == EOS for row in written]),
        torch.zeros_like(tokens, dtype=torch.bool),
    )
    failed = failed_segments(batch, rolled, size)
    for row, (sentence, (_, _, each)) in enumerate(zip(written, pairs, strict=True)):
        assert failed[row].nonzero()[:, 0].tolist() == expected_segment(sentence, each, size)


def test_a_right_translation_has_no_states() -> None:
    batch = random_batch(shared_policy(), 5, seed=2)
    context = see(shared_policy(), batch, Draws(1, 1), LengthLimit(1.0, 3))
    golden = RollIn("reference", Decoding())(context)
    assert len(StateChoice("failed_segments", segment=2)(context, golden)[0]) == 0
