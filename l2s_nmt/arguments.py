"""What functions are given by people, seen to be what it should be before any work."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from l2s_nmt.errors import UserError
from l2s_nmt.plain_text import refuse_surrogates, shorten

T = TypeVar("T")


def is_whole(value: object, least: int = 1) -> TypeGuard[int]:
    """Whether it is a whole number, and not below the least."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; true and false are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def listed(given: Iterable[T], name: str) -> list[T]:
    """What is given as a list, an array, or a column of a table.

    Raises:
        UserError: a text stands there, whose characters it would be, or nothing of which there are several.
    """
    if isinstance(given, str):
        raise UserError(f"{name}: {shorten(repr(given))} is one text; give a list of texts")
    try:
        return list(given)
    except TypeError as error:
        raise UserError(f"{name}: {shorten(repr(given))} is no list; give one") from error


def strings(given: Iterable[str], name: str) -> list[str]:
    """Likewise, of strings.

    Raises:
        UserError: something else is among them.
    """
    found = listed(given, name)
    for number, text in enumerate(found, start=1):
        if not isinstance(text, str):
            raise UserError(f"{name}, number {number}: {shorten(repr(text))} is no text")
    return found


def texts(given: Iterable[str], name: str) -> list[str]:
    """Likewise, of strings that can be written as UTF-8.

    Raises:
        UserError: something else is among them.
    """
    found = strings(given, name)
    for number, text in enumerate(found, start=1):
        refuse_surrogates(text, f"{name}, number {number}:")
    return found


def whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number.

    Raises:
        UserError: it is none, or below the least.
    """
    if not is_whole(value, least):
        raise UserError(f"{name} is {shorten(repr(value))}; give {least} or more")
    return int(value)


def path_of(value: Any, name: str) -> Path:
    """A file or folder.

    Raises:
        UserError: it cannot be one.
    """
    if not isinstance(value, str | Path):
        raise UserError(f"{name} is {shorten(repr(value))}; give the name of a file or folder")
    return Path(value)
