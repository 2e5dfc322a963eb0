"""Standard error for work that is worth more than what it says."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, Any, cast


def lossy_stderr() -> IO[str]:
    """Standard error, but what it does not take is lost: on a full disk, or where the reader has gone.

    So is what a signal's handler says in the middle of another line, which Python refuses as reentrant.
    """
    return cast("IO[str]", _Lossy())


class _Lossy:
    def write(self, text: str) -> int:
        with suppress(OSError, RuntimeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, RuntimeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def _stream(self) -> Any:
        """As it is now, behind the one that a live view puts in its place."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)
