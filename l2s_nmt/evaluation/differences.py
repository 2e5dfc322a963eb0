"""Which words only one of two translations has; of scripts without spaces, which characters."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from l2s_nmt.languages import UNSPACED

Kind = Literal["same", "removed", "added"]

_WORD = re.compile(rf"(\s*)([{UNSPACED}]|[^\s{UNSPACED}]+)")

Side = list[tuple[str, bool]]
"""Stretches of words, and whether the other translation lacks them."""


def word_changes(before: str, after: str) -> Iterator[tuple[Kind, str]]:
    """Two translations as one line of stretches: words of both, of the first alone, of the second alone."""
    first, second = _WORD.findall(before), _WORD.findall(after)
    words = [word for _, word in first], [word for _, word in second]
    matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
    for kind, start, stop, other_start, other_stop in matcher.get_opcodes():
        if kind == "equal":
            yield "same", _text(first[start:stop])
            continue
        if start < stop:
            yield "removed", _text(first[start:stop])
        if other_start < other_stop:
            yield "added", _text(second[other_start:other_stop])


def _text(words: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{' ' if space else ''}{word}" for space, word in words).strip()


def word_differences(baseline: str, system: str) -> tuple[Side, Side]:
    """The words of two translations in stretches that both have or only one of them has."""
    changes = list(word_changes(baseline, system))
    return (
        [(text, kind == "removed") for kind, text in changes if kind != "added"],
        [(text, kind == "added") for kind, text in changes if kind != "removed"],
    )
