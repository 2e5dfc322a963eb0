"""The segments that failed, against a plain edit distance and a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.decisions.segments import failed_segments
from l2s_nmt.search.types import Trajectories

PAD, EOS = 0, 1


def batch_of(references: list[list[list[int]]]) -> Batch:
    """Sentences with these references, given as words."""
    ended = [[[*words, EOS] for words in several] for several in references]
    targets = [several[0] if several else [EOS] for several in ended]
    return collate([[2, EOS]] * len(references), targets, np.arange(len(references)), PAD, ended)


def trajectories_of(rows: list[list[int]], width: int = 0, filler: int = PAD) -> Trajectories:
    longest = max(width, *map(len, rows))
    tokens = torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
    finished = torch.tensor([row[-1] == EOS for row in rows])
    return Trajectories(
        tokens, torch.tensor([len(row) for row in rows]), finished, torch.zeros_like(tokens).bool()
    )


def failed(
    references: list[list[list[int]]], rows: list[list[int]], size: int, width: int = 0
) -> list[list[int]]:
    chosen = failed_segments(batch_of(references), trajectories_of(rows, width), size)
    return [row.nonzero().flatten().tolist() for row in chosen]


def edits(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    table = [list(range(len(b) + 1))]
    for i, x in enumerate(a):
        table.append([i + 1])
        for j, y in enumerate(b):
            table[-1].append(min(table[i][j] + (x != y), table[i][j + 1] + 1, table[-1][j] + 1))
    return table[-1][-1]


def value(prefix: list[int], references: list[list[int]]) -> int:
    """The fewest edits with which the best completion of the prefix ends."""
    if prefix[-1:] == [EOS]:
        return min(edits(prefix[:-1], words) for words in references)
    return min(edits(prefix, words[:j]) for words in references for j in range(len(words) + 1))


def failed_by_hand(references: list[list[int]], row: list[int], size: int) -> list[int]:
    for begin in range(0, len(row), size):
        segment = list(range(begin, min(begin + size, len(row))))
        if value(row[: segment[-1] + 1], references) > value(row[:begin], references):
            return segment
    return []


words = st.lists(st.integers(2, 4), max_size=6)


@st.composite
def sentence_and_references(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """A trajectory, ended or cut, and one to three references that it is often near to."""
    references = draw(st.lists(words, min_size=1, max_size=3))
    row = draw(words | st.sampled_from(references))
    if draw(st.booleans()) and row:
        row = list(row)
        row[draw(st.integers(0, len(row) - 1))] = draw(st.integers(2, 4))
    return [*row, EOS] if not row or draw(st.booleans()) else row, references


@settings(deadline=None, max_examples=250)
@given(
    cases=st.lists(sentence_and_references(), min_size=1, max_size=4),
    size=st.integers(1, 5),
    wider=st.integers(0, 3),
)
def test_the_first_segment_after_which_the_best_completion_is_worse(
    cases: list[tuple[list[int], list[list[int]]]], size: int, wider: int
) -> None:
    rows, references = [row for row, _ in cases], [several for _, several in cases]
    width = max(map(len, rows)) + wider
    expected = [failed_by_hand(several, row, size) for row, several in cases]
    assert failed(references, rows, size, width) == expected


@given(references=st.lists(words, min_size=1, max_size=3), which=st.integers(0, 2), size=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_a_right_trajectory_has_no_failed_segment_ended_or_cut(
    references: list[list[int]], which: int, size: int
) -> None:
    right = references[which % len(references)]
    # A longer companion, so that there is room behind.
    longer = [2] * 9
    rows = [[*right, EOS], longer, *([right[: len(right) // 2 + 1]] if right else [])]
    found = failed([references] * len(rows), rows, size)
    assert found[0] == []
    assert found[2:] == [[]] * (len(rows) - 2)


@pytest.mark.parametrize(
    ("row", "size", "expected"),
    [
        ([2, 3, 4, 2, 3, EOS], 2, []),
        ([2, 4, 4, 2, 3, EOS], 2, [0, 1]),
        ([2, 3, 4, 4, 4, EOS], 2, [2, 3]),
        ([2, 3, 4, 4, 4, EOS], 4, [0, 1, 2, 3]),
        # Ended too early: EOS is the mistake.
        ([2, 3, EOS], 2, [2]),
        ([2, 3, EOS], 3, [0, 1, 2]),
        # Too long by a word: it stands where EOS would.
        ([2, 3, 4, 2, 3, 3, EOS], 5, [5, 6]),
        # Cut by the limit: nothing is wrong yet.
        ([2, 3], 2, []),
    ],
)
def test_examples(row: list[int], size: int, expected: list[int]) -> None:
    assert failed([[[2, 3, 4, 2, 3]]], [row], size) == [expected]


def test_each_trajectory_is_right_if_it_follows_any_of_its_references_to_the_end() -> None:
    references = [[2, 3], [4, 4, 4]]
    rows = [[2, 3, EOS], [4, 4, 4, EOS], [4, 4, EOS], [2, 4, 4, EOS]]
    assert failed([references] * 4, rows, 1) == [[], [], [2], [1]]


def test_a_sentence_without_a_reference_can_not_be_wrong() -> None:
    assert failed([[[2, 3]], []], [[4, EOS], [4, EOS]], 1) == [[0], []]


def test_what_stands_behind_the_end_does_not_count() -> None:
    batch = batch_of([[[2, 3]], [[2, 3]]])
    rows = [[2, 3, EOS], [2, 4, 4, 4, 4, EOS]]
    for filler in (PAD, 2, 4):
        chosen = failed_segments(batch, trajectories_of(rows, 8, filler), 4)
        assert chosen.int().tolist() == [[0] * 8, [1, 1, 1, 1, 0, 0, 0, 0]]
