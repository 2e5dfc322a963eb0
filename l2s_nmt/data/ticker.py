"""Where a long preparation stands, said now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]

_SECONDS = 15.0


def silent(text: str) -> None:
    """Say nothing."""


class Ticker:
    """Says every quarter of a minute how much is done; nothing of what takes less.

    Args:
        say: is told.
        doing: what is being done.
        total: sentences in all; None: nobody knows.
    """

    def __init__(self, say: Say, doing: str, total: int | None = None) -> None:
        self._say = say
        self._doing = doing
        self._of = "" if total is None else f" of {total:,}"
        self._begun = self._last = time.monotonic()
        self._done = 0

    def __call__(self, count: int) -> None:
        """So many sentences more are done."""
        self._done += count
        now = time.monotonic()
        if now - self._last >= _SECONDS:
            self._last = now
            rate = self._done / (now - self._begun)
            self._say(f"{self._doing}: {self._done:,}{self._of} sentences, {rate:,.0f} a second")
