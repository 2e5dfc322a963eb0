"""RUN/metrics.jsonl: what was measured while training, a JSON object a line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_nmt.errors import UserError


@dataclass(frozen=True)
class Mark:
    """A place in it, at which a checkpoint was written."""

    size: int
    """Bytes before it."""
    end: str = ""
    """The line behind it that said that this was the end: one that has to go where training goes on after all, and
    that is written again where it does not."""


class Metrics:
    """The file, as the main process writes it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def settle(self, *, ended: bool) -> Mark:
        """Where it stands, all of which is on the disk from now on.

        Args:
            ended: its last line says that this is the end.
        """
        if not self.path.exists():
            return Mark(0)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            text = file.read()
        end = text[text.rstrip(b"\n").rfind(b"\n") + 1 :] if ended else b""
        return Mark(len(text) - len(end), end.decode())

    def rewind(self, mark: Mark) -> None:
        """Forget what was written after a mark, which will be written again.

        Raises:
            UserError: the file is shorter.
        """
        there = self.path.stat().st_size if self.path.exists() else 0
        if there < mark.size:
            raise UserError(
                f"{self.path}: has {there} bytes, but had {mark.size} at the newest checkpoint; bring it back from a "
                f"copy, or remove {self.path.with_name('checkpoints')} and it to begin again"
            )
        if not there:
            return
        end = mark.end.encode()
        with self.path.open("r+b") as file:
            file.seek(mark.size)
            if file.read() != end:
                file.truncate(mark.size)
                file.seek(mark.size)
                file.write(end)
