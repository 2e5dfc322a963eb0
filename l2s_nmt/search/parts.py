"""Parts of a corpus, for runs that each leave one out of their training."""

from __future__ import annotations

from torch import Tensor

from l2s_nmt.search.randomness import SENTENCES, Draws

_DRAWS = Draws(0, 0)


def part_of(rows: Tensor, parts: int) -> Tensor:
    """Which of so many parts each sentence is in: drawn by its number alone, the same for all seeds.

    Neighbours need not be alike, and seldom are: a corpus may have a short sentence in every other line.

    Args:
        rows: (B,) numbers of sentences; copies of one have its part.
        parts: how many there are.

    Returns:
        (B,) parts, from 0.
    """
    return (_DRAWS.uniform("part", rows % SENTENCES, 1)[:, 0] * parts).long()
