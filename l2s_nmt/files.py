"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from safetensors import SafetensorError

from l2s_nmt.errors import TrainingFailed, UserError

_GZIP = b"\x1f\x8b"
"""How its files begin, and no UTF-8 text does."""


def text_lines(raw: bytes, name: str) -> list[str]:
    """The lines of UTF-8 text, one sentence each; also of such text compressed by gzip.

    A line ends at "\\n" and nowhere else; a "\\r" before it and a byte order mark at the head are dropped.

    Raises:
        UserError: it is not UTF-8, and names the line; or the compressed file is damaged.
    """
    if raw.startswith(_GZIP):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name}: the compressed file is damaged ({error}); copy it again") from error
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{name}, line {line}: not UTF-8 text; convert it first") from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def text_line(raw: bytes, name: str, number: int) -> str:
    """A line, with its end or without, which is the so-manyth of its text.

    Raises:
        UserError: it is not UTF-8; names the line.
    """
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}, line {number}: not UTF-8 text; convert it first") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never half of it; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_there(path, text)


def write_there(path: Path, text: str) -> None:
    """The same, into a folder that is there.

    Raises:
        FileNotFoundError: it is not, or was moved meanwhile.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # The name of a file need not be UTF-8. In JSON the escape is read back as what it was.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what `write_text` began to write in a folder by processes that are no more."""
    for path in folder.glob(".*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def try_writing(folder: Path) -> None:
    """See that files can be written into a folder, before the work whose result it will hold.

    Raises:
        OSError: they cannot.
    """
    probe = folder / ".writable"
    write_text(probe, "")
    probe.unlink(missing_ok=True)  # another process may have tried the same


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """What cannot be written within is the user's to solve.

    Raises:
        UserError: names the path.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; choose another --output") from error


def refuse_unwritable_folder(folder: Path) -> None:
    """See that files can be written into a folder that a person named; it is not made yet.

    Raises:
        UserError: they cannot.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    with writing_to(folder):
        try_writing(there)


def is_folder(path: str | Path) -> bool:
    """Whether it is a folder; no path at all (too long, or with a NUL) is none, where ``Path.is_dir`` raises."""
    return os.path.isdir(path)


def is_file(path: str | Path) -> bool:
    """Whether it is a file, likewise."""
    return os.path.isfile(path)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the context ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        _let_read(temporary)
        _sync(temporary)
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Within this context a full disk and the like end training with a message.

    Args:
        place: what is written.

    Raises:
        TrainingFailed: it cannot be.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _of_the_system(error)
        if reason is None:
            raise
        raise TrainingFailed(
            f"{place}: cannot be written ({reason}). What was saved before is intact: make room, and give the same "
            "command again to go on"
        ) from error


def _of_the_system(error: BaseException | None) -> str | None:
    """What the system had against it, if it was the system."""
    while error is not None:
        if isinstance(error, shutil.Error):  # a list of what could not be copied, each with its reason
            return str(error.args[0][0][2]) if isinstance(error.args[0], list) else str(error)
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if isinstance(error, SafetensorError) and "I/O error" in str(error):
            return str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
        error = error.__cause__ or error.__context__
    return None


def replace_folder(new: Path, path: Path) -> None:
    """Put ``new`` in the place of ``path``; a crash in between leaves what ``recover_folder`` mends."""
    old = aside(path)
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def aside(path: Path) -> Path:
    """Where the old folder is while it is replaced."""
    return path.with_name(f".{path.name}.old")


def recover_folder(path: Path) -> None:
    """Bring back the old folder where a crash came between its removal and the new one's arrival."""
    old = aside(path)
    if old.exists() and not path.exists():
        old.rename(path)


def _let_read(folder: Path) -> None:
    """Whoever may read the folder may read its files: safetensors makes some for their owner alone."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(folder.stat().st_mode & 0o666)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
