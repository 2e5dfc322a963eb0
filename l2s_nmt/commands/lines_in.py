"""Sentences as they come: from a file, a pipe or a person."""

from __future__ import annotations

import io
import queue
import sys
import threading
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, TypeAlias

from l2s_nmt.errors import UserError
from l2s_nmt.files import text_line

AT_ONCE = 4_096
"""Most lines of a window: enough for batches of like length, and what an interruption costs at most."""
PROMPT = "> "

_Arrived: TypeAlias = "queue.Queue[bytes | OSError | None]"


def in_windows(sentences: list[str]) -> Iterator[list[str]]:
    """Sentences that are all there."""
    return (sentences[first : first + AT_ONCE] for first in range(0, len(sentences), AT_ONCE))


def standard_input() -> BinaryIO:
    """Its bytes, in a buffer of their own: Python fails at its end if a thread still waits in that of ``sys.stdin``."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # no file of the system's
        return sys.stdin.buffer


def as_they_come(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    """Windows of what has come since the last one was asked for, at least one line.

    So a writer who waits for the translation of each line gets it, and of one who does not many lines are
    translated together.

    Args:
        stream: with one sentence a line.
        name: of it in errors.

    Raises:
        UserError: it cannot be read, or a line is not UTF-8; the lines before that one have been given.
    """
    arrived: _Arrived = queue.Queue(AT_ONCE)
    threading.Thread(target=_listen, args=(stream, arrived), daemon=True).start()
    number, over = 0, False
    while not over:
        lines, over = _take(arrived)
        window: list[str] = []
        for line in lines:
            number += 1
            try:
                window.append(_text(line, name, number))
            except UserError:
                if window:
                    yield window
                raise
        if window:
            yield window


def _take(arrived: _Arrived) -> tuple[list[bytes | OSError], bool]:
    """What is there, after waiting for the first; and whether it was the last."""
    lines: list[bytes | OSError] = []
    line = arrived.get()
    while line is not None:
        lines.append(line)
        if len(lines) == AT_ONCE or arrived.empty():
            return lines, False
        line = arrived.get()
    return lines, True


def _listen(stream: BinaryIO, arrived: _Arrived) -> None:
    try:
        arrived.put(stream.readline().removeprefix(BOM_UTF8) or None)
        while line := stream.readline():
            arrived.put(line)
        arrived.put(None)
    except OSError as error:
        arrived.put(error)


def _text(line: bytes | OSError, name: str, number: int) -> str:
    if isinstance(line, OSError):
        raise UserError(f"{name}: cannot be read: {line.strerror}") from line
    return text_line(line, name, number)


def from_a_person() -> Iterator[list[str]]:
    """One line at a time, asked for with a prompt, until Ctrl-D."""
    with suppress(ImportError):
        import readline  # noqa: F401  (lines can be edited and brought back)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    while True:
        try:
            yield [_ask()]
        except EOFError:
            sys.stderr.write("\n")
            return


def _ask() -> str:
    if sys.stdout.isatty():
        return input(PROMPT)
    sys.stderr.write(PROMPT)  # not into a file of translations
    sys.stderr.flush()
    return input()
