"""Translations as they are done: to standard output, or to a file that is whole in the end and can be gone on with."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from l2s_nmt.errors import UserError
from l2s_nmt.files import is_file, is_folder, write_json


def print_lines(lines: Sequence[str]) -> None:
    """Write to standard output at once, as UTF-8 wherever it goes."""
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
    sys.stdout.buffer.flush()


def check_output(path: Path, source: Path | None) -> None:
    """Refuse a folder, and the file that is to be translated.

    Raises:
        UserError: names it.
    """
    if is_folder(path):
        raise UserError(f"{path}: is a folder; name a file in it with --output")
    if source is not None and is_file(path) and is_file(source) and path.samefile(source):
        raise UserError(f"--output {path}: is the file of --input, which would be lost; name another")
    partial = path.with_name(f"{path.name}.partial")
    if source is not None and is_file(partial) and is_file(source) and partial.samefile(source):
        raise UserError(
            f"--output {path}: is written as {partial.name} first, which is the file of --input; name another"
        )


def is_stream(path: Path) -> bool:
    """Whether it is a pipe, a terminal or another device, which cannot be moved to its place when it is whole."""
    in_memory = path.parts[:3] == ("/", "dev", "shm")  # of the devices the one that is a folder of files
    device = path.parts[:2] in (("/", "dev"), ("/", "proc")) and not in_memory
    return os.path.exists(path) and (device or not is_file(path))


class GrowingFile:
    """A file that is written line by line beside its place, by one process alone, and moved there when it is whole.

    FILE.partial         the lines so far
    FILE.partial.json    what they are made from

    Args:
        path: of the whole file; behind a symbolic link the one that it leads to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = Path(os.path.realpath(path))
        self.partial = path.with_name(f"{path.name}.partial")
        self.note = path.with_name(f"{path.name}.partial.json")
        self._held: BinaryIO | None = None

    def begin(self, made_from: str, say: Callable[[str], None]) -> int:
        """Find out how many lines are there already.

        Args:
            made_from: tells apart what the lines are made from: input, weights and settings.
            say: is told what is gone on with, or not.

        Raises:
            UserError: another process is writing it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        was_there = self.partial.exists()
        self._held = self._hold()
        if self._is_from(made_from):
            whole = self._whole_lines()
            if whole:
                say(f"{self.partial}: goes on behind line {whole:,}")
            return whole
        if was_there:
            say(f"{self.partial}: of another input, weights or settings; begun anew")
        self._held.truncate(0)
        write_json(self.note, {"made_from": made_from})
        return 0

    def add(self, lines: Sequence[str]) -> None:
        """Write lines, and see them on the disk."""
        with self.partial.open("ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Move the file to its place."""
        self.partial.replace(self.path)
        # Not before: without it the lines would be taken for those of another input.
        self.note.unlink(missing_ok=True)
        self._held = None

    def _hold(self) -> BinaryIO:
        """The lines so far, opened and locked; the lock goes with the process, however it ends."""
        self._held = None
        while True:
            lines = self.partial.open("ab")
            try:
                fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path}: another process is writing it; wait for it, stop it, or choose another --output"
                ) from None
            # One that finished meanwhile has moved what was opened.
            if self.partial.exists() and os.path.samestat(os.fstat(lines.fileno()), self.partial.stat()):
                return lines

    def _is_from(self, made_from: str) -> bool:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return self.partial.is_file() and note["made_from"] == made_from
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def _whole_lines(self) -> int:
        """How many there are; half a line at the end is cut off."""
        with self.partial.open("r+b") as file:
            content = file.read()
            end = content.rfind(b"\n") + 1
            file.truncate(end)
        return content.count(b"\n", 0, end)
