"""What training reads: the updates of an epoch, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from l2s_nmt.data.batches import Batch


@dataclass(frozen=True)
class TrainingData:
    """The updates of an epoch, and the sentences of a part of one."""

    block: Callable[[int, int], Sequence[Any] | None]
    """The row numbers of every update of an epoch's block; None behind its last."""
    split: Callable[[Any, int], list[Any]]
    """The rows of one update of this block in so many parts."""
    load: Callable[[Any], Batch]
    """The batch of the given rows of this block."""
    blocks: Callable[[], int | None] = lambda: 1
    """Blocks of an epoch; None where it is not known yet."""
    close: Callable[[], None] = lambda: None
    """Nothing more will be asked for."""


def in_one_block(epoch: Callable[[int], Sequence[Any]]) -> Callable[[int, int], Sequence[Any] | None]:
    """The updates of an epoch, all in its first block."""
    return lambda number, block: epoch(number) if block == 0 else None
