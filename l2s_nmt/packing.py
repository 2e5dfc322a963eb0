"""Rows of like length together."""

from __future__ import annotations

import torch
from torch import Tensor


def groups_by_length(lengths: Tensor, overhead: int) -> list[tuple[Tensor, int]]:
    """Rows in groups of like length: the least padding for the least passes.

    Args:
        lengths: (R,) tokens of each row; those of none belong to no group.
        overhead: tokens of padding that are no worse than one more group.

    Returns:
        The rows of each group, and its longest's length.
    """
    order = lengths.argsort()
    widths, counts = torch.unique_consecutive(lengths[order], return_counts=True)
    # The best way to group the shortest rows, by how many different lengths they have: cost, and where its last begins.
    best, begins = [0.0], [0]
    present = [(width, count) for width, count in zip(widths.tolist(), counts.tolist(), strict=True)]
    for end in range(1, len(present) + 1):
        width, rows, options = present[end - 1][0], 0, []
        for begin in reversed(range(end)):
            rows += present[begin][1]
            options.append((best[begin] + rows * width + overhead * (width > 0), begin))
        cost, begin = min(options)
        best.append(cost)
        begins.append(begin)
    ends = torch.tensor([0, *counts.cumsum(0).tolist()])
    groups, end = [], len(present)
    while end:
        begin = begins[end]
        if present[end - 1][0]:
            groups.append((order[ends[begin] : ends[end]], int(present[end - 1][0])))
        end = begin
    return groups[::-1]
