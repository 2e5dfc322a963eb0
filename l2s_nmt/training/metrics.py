"""RUN/metrics.jsonl: what was measured while training, a JSON object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from l2s_nmt.errors import UserError


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

    def settle(self) -> int:
        """The size in bytes, all of which is on the disk from now on."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def before_last(self, size: int) -> int:
        """Where the last line begins that was whole when the file had this size; that size where it is shorter now."""
        try:
            with self.path.open("rb") as file:
                there = file.read(size)
        except FileNotFoundError:
            there = b""
        return there.rstrip(b"\n").rfind(b"\n") + 1 if len(there) == size else size

    def rewind(self, size: int) -> None:
        """Forget what was written after it had this size: it will be written again.

        Raises:
            UserError: the file is shorter.
        """
        there = self.path.stat().st_size if self.path.exists() else 0
        if there < size:
            raise UserError(
                f"{self.path}: has {there} bytes, but had {size} at the newest checkpoint; bring it back from a copy, "
                f"or remove {self.path.with_name('checkpoints')} and it to begin again"
            )
        if there > size:
            with self.path.open("r+b") as file:
                file.truncate(size)
