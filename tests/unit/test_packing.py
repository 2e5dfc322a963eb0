"""Groups of rows of like length: every row once, and no grouping with less padding and passes."""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.packing import groups_by_length

lengths_of_rows = st.lists(st.integers(0, 9), max_size=8)


def cost(groups: list[list[int]], overhead: int) -> int:
    return sum(len(group) * max(group) + overhead for group in groups)


def cheapest(lengths: list[int], overhead: int) -> int:
    """Over all ways to cut the sorted lengths."""
    ordered = sorted(length for length in lengths if length)
    found = [0] if not ordered else []
    for count in range(len(ordered)):
        for cuts in combinations(range(1, len(ordered)), count):
            edges = [0, *cuts, len(ordered)]
            groups = [ordered[start:end] for start, end in pairwise(edges)]
            found.append(cost(groups, overhead))
    return min(found)


@settings(deadline=None)
@given(lengths_of_rows, st.integers(1, 20))
def test_no_grouping_is_cheaper(lengths: list[int], overhead: int) -> None:
    found = groups_by_length(torch.tensor(lengths, dtype=torch.long), overhead)
    rows = sorted(row for group, _ in found for row in group.tolist())
    assert len(set(rows)) == len(rows)
    assert {row for row, length in enumerate(lengths) if length} <= set(rows)
    grouped = [[lengths[row] for row in group.tolist()] for group, _ in found]
    assert [width for _, width in found] == [max(group) for group in grouped]
    assert cost(grouped, overhead) <= cheapest(lengths, overhead)


def test_a_high_price_makes_one_group() -> None:
    groups = groups_by_length(torch.tensor([3, 9, 1]), 1_000)
    assert [(sorted(rows.tolist()), width) for rows, width in groups] == [([0, 1, 2], 9)]


def test_a_row_that_is_much_longer_stands_alone() -> None:
    groups = groups_by_length(torch.tensor([5, 60, 5, 6, 5]), 8)
    assert [(sorted(rows.tolist()), width) for rows, width in groups] == [([0, 2, 3, 4], 6), ([1], 60)]
