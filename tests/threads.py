"""Threads in the place of processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any, TypeVar

from l2s_nmt.processes import Processes

T = TypeVar("T")


@dataclass(frozen=True)
class Thread(Processes):
    """One of several that share a piece of work."""

    barrier: Barrier = field(default_factory=lambda: Barrier(1))
    slots: list[Any] = field(default_factory=list)

    def gather(self, value: T) -> list[T]:
        """As of processes."""
        self.barrier.wait()
        self.slots[self.index] = value
        self.barrier.wait()
        return list(self.slots)

    def from_main(self, find: Callable[[], T]) -> T:
        """As of processes."""
        found: T = self.gather(find() if self.is_main else None)[0]  # type: ignore[assignment]
        return found


def in_threads(count: int, action: Callable[[Processes], T]) -> list[T]:
    """What so many threads return that do the same together."""
    barrier, slots = Barrier(count, timeout=30), [None] * count
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(action, [Thread(index, count, barrier, slots) for index in range(count)]))
