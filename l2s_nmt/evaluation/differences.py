"""Which words only one of two translations has."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Literal

Kind = Literal["same", "removed", "added"]

Side = list[tuple[str, bool]]
"""Stretches of words, and whether the other translation lacks them."""


def word_changes(before: str, after: str) -> Iterator[tuple[Kind, str]]:
    """Two translations as one line of stretches: words of both, of the first alone, of the second alone."""
    first, second = before.split(), after.split()
    matcher = difflib.SequenceMatcher(a=first, b=second, autojunk=False)
    for kind, start, stop, other_start, other_stop in matcher.get_opcodes():
        if kind == "equal":
            yield "same", " ".join(first[start:stop])
            continue
        if start < stop:
            yield "removed", " ".join(first[start:stop])
        if other_start < other_stop:
            yield "added", " ".join(second[other_start:other_stop])


def word_differences(baseline: str, system: str) -> tuple[Side, Side]:
    """The words of two translations in stretches that both have or only one of them has."""
    changes = list(word_changes(baseline, system))
    return (
        [(text, kind == "removed") for kind, text in changes if kind != "added"],
        [(text, kind == "added") for kind, text in changes if kind != "removed"],
    )
