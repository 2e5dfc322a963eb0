"""Random numbers that are the same on every machine: integers out of a counter-based hash, and nothing else.

BLAKE2b (RFC 7693) of a counter and a key gives 16 numbers at a time. No floating point enters any decision:
`pow` may differ between mathematical libraries in the last bit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

from l2s_nmt.data.embedded.difficulty import ZIPF_SHIFT

T = TypeVar("T")

Draw = Callable[[], int]
"""Gives the next random number, uniform over the integers 0 … 2³² - 1."""

_BLOCK = Struct("<16I")


def stream(*key: int | str) -> Draw:
    """An endless stream of numbers that depends on the key alone; different keys give independent streams."""
    return _numbers("/".join(map(str, key)).encode()).__next__


def _numbers(key: bytes) -> Iterator[int]:
    block = 0
    while True:
        yield from _BLOCK.unpack(blake2b(b"%d/%b" % (block, key)).digest())
        block += 1


def percent(share: int) -> int:
    """The threshold under which a draw lies in `share` of 100 cases: ``if draw() < percent(30): …``."""
    return (share << 32) // 100


def below(bound: int, draw: Draw) -> int:
    """A uniform integer 0 … bound - 1."""
    return draw() * bound >> 32


class Choice(NamedTuple, Generic[T]):
    """Several items, one of which is to be chosen; the first is the likeliest."""

    items: tuple[T, ...]
    thresholds: tuple[int, ...]
    """Item i is chosen by the draws from thresholds[i - 1] up to thresholds[i]; one fewer than items."""


def pick(choice: Choice[T], draw: Draw) -> T:
    """Choose one item."""
    return choice.items[bisect_right(choice.thresholds, draw())]


def weighted(items: Iterable[T], weights: Sequence[int]) -> Choice[T]:
    """A choice in which item i has the probability weights[i] / sum(weights)."""
    total = sum(weights)
    return Choice(tuple(items), tuple((part << 32) // total for part in accumulate(weights[:-1])))


def zipf(items: Sequence[T], shift: int = ZIPF_SHIFT) -> Choice[T]:
    """A choice in which the item of rank r = 1, 2, … has a probability proportional to 1 / (r + shift)."""
    return weighted(items, [(1 << 32) // (rank + shift) for rank in range(1, len(items) + 1)])
