"""Measure contenders turn by turn: whatever slows the machine down slows all of them down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Turn:
    """One turn of a contender."""

    seconds: float
    work: float
    """What was done in that time, in the contender's own unit."""

    @property
    def price(self) -> float:
        """Seconds for a unit."""
        return self.seconds / self.work


Contender = Callable[[int], Turn]
"""Does the work of one round and says how long it took."""
Rounds = dict[str, list[Turn]]
"""The turns of each contender, one a round."""


@dataclass(frozen=True)
class Spread:
    """A figure over several rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Median, lowest and highest."""
        return Spread(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


class Stopwatch:
    """Seconds between the start and the end of a context."""

    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time what runs within this context, on the GPU as well."""
    watch = Stopwatch()
    started = now()
    yield watch
    watch.seconds = now() - started


def now() -> float:
    """A clock that is read when the GPU has done all that it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> Rounds:
    """Let all contenders work in turn: A B C, A B C, and so on.

    Args:
        contenders: by their names; called with the number of the round, from 0.
        rounds: that count; one more comes first, to warm up.
    """
    turns: Rounds = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            turn = contender(number)
            if number:
                turns[name].append(turn)
    return turns


def prices(turns: Sequence[Turn]) -> Spread:
    """Seconds for a unit of work."""
    return Spread.of([turn.price for turn in turns])


def rates(turns: Sequence[Turn]) -> Spread:
    """Units of work in a second."""
    return Spread.of([1 / turn.price for turn in turns])


def price_ratio(above: Sequence[Turn], below: Sequence[Turn]) -> Spread:
    """How many times as much a unit costs the one as the other, by rounds."""
    return Spread.of([a.price / b.price for a, b in zip(above, below, strict=True)])
