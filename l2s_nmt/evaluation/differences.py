"""Which words only one of two translations has; of scripts without spaces, which characters."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from l2s_nmt.languages import UNSPACED

Kind = Literal["same", "removed", "added"]

_WORD = re.compile(rf"(\s*)([{UNSPACED}]|[^\s{UNSPACED}]+)")

_UNSPACED = re.compile(f"[{UNSPACED}]")

Side = list[tuple[str, bool]]
"""Stretches of words, and whether the other translation lacks them; see `word_changes`."""


def word_changes(before: str, after: str) -> Iterator[tuple[Kind, str]]:
    """Two translations as one line of stretches: words of both, of the first alone, of the second alone.

    A stretch begins with a space where one stands before it; see `around_words`.
    """
    first, second = _words(before), _words(after)
    words = [word for _, word in first], [word for _, word in second]
    matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
    for kind, start, stop, other_start, other_stop in matcher.get_opcodes():
        if kind == "equal":
            yield "same", _text(first[start:stop], second[other_start][0])
            continue
        if start < stop:
            yield "removed", _text(first[start:stop])
        if other_start < other_stop:
            # At the head of both nothing stands before either, but they are read one after the other.
            apart = start < stop and not other_start and not _UNSPACED.match(words[1][0])
            yield "added", _text(second[other_start:other_stop], " " if apart else "")


def around_words(stretch: str, write: Callable[[str], str]) -> str:
    """A stretch with its words written in some way; the space that it begins with stays before what is written."""
    words = stretch.removeprefix(" ")
    return f"{stretch[: len(stretch) - len(words)]}{write(words)}"


def word_differences(baseline: str, system: str) -> tuple[Side, Side]:
    """The words of two translations in stretches that both have or only one of them has."""
    changes = list(word_changes(baseline, system))
    return (
        _headed((text, kind == "removed") for kind, text in changes if kind != "added"),
        _headed((text, kind == "added") for kind, text in changes if kind != "removed"),
    )


def _words(text: str) -> list[tuple[str, str]]:
    """Each word, and the space before it."""
    return [(" " if space else "", word) for space, word in _WORD.findall(text.strip())]


def _text(words: Sequence[tuple[str, str]], space: str = "") -> str:
    text = "".join(f"{before}{word}" for before, word in words)
    return text if text.startswith(" ") else f"{space}{text}"


def _headed(side: Iterable[tuple[str, bool]]) -> Side:
    """Nothing stands before the first word."""
    return [(text if number else text.lstrip(), differs) for number, (text, differs) in enumerate(side)]
