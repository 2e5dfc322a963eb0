"""Signals that ask training to stop: it ends after the update that is going on, with everything saved."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Signals:
    """Within this context SIGINT and SIGTERM end training after the update that is going on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.number: int | None = None
        """The signal that came, if one did."""
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.previous[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: a notebook's own handling stays
                return

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.say("stopping after this update; the same command goes on from here")
