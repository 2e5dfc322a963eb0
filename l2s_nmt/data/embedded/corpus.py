"""Sentence pairs by their number."""

from __future__ import annotations

from collections.abc import Iterator

from l2s_nmt.data.embedded.grammar import sentence
from l2s_nmt.data.embedded.meaning import Sentence
from l2s_nmt.data.embedded.randomness import Draw, stream
from l2s_nmt.data.embedded.source import realise_source
from l2s_nmt.data.embedded.target import realise_target

SHORTEST, LONGEST = 5, 32
"""Words of a source sentence, marks counted."""
_ATTEMPTS = 12
"""How often another reference is looked for before one is given twice."""


def generate(
    split: str, size: int, *, seed: int = 1, references: int = 1, start: int = 0
) -> Iterator[tuple[str, list[str]]]:
    """Generate the sentence pairs `start`, …, `start + size - 1` of a split.

    Sentence i depends on `seed`, `split` and i alone: a larger corpus starts with the smaller one, and going
    straight to `start` costs nothing. Other splits and seeds give other sentences of the same two languages.

    Args:
        split: any name, usually ``train``, ``valid`` or ``test``.
        size: number of pairs.
        seed: which corpus.
        references: translations of each sentence. The first does not depend on their number; the others say
            the same in other words and differ from all before where that is possible.
        start: number of the first pair.

    Yields:
        A source sentence and its references.

    Raises:
        ValueError: a number is negative, or there is to be no reference.
    """
    if size < 0 or start < 0 or references < 1:
        raise ValueError(f"size {size}, start {start} or references {references} is too small")
    return (_pair(stream(seed, split, number), references) for number in range(start, start + size))


def _pair(draw: Draw, references: int) -> tuple[str, list[str]]:
    meaning, source = _sentence(draw)
    translations = [_text(realise_target(meaning, draw))]
    while len(translations) < references:
        translations.append(_another(meaning, translations, draw))
    return source, translations


def _sentence(draw: Draw) -> tuple[Sentence, str]:
    """The first sentence whose length is right."""
    while True:
        meaning = sentence(draw)
        words = realise_source(meaning, draw)
        if SHORTEST <= len(words) <= LONGEST:
            return meaning, _text(words)


def _another(meaning: Sentence, known: list[str], draw: Draw) -> str:
    for _ in range(_ATTEMPTS):
        translation = _text(realise_target(meaning, draw))
        if translation not in known:
            break
    return translation


def _text(words: list[str]) -> str:
    """Put the words together: a capital at the start, marks after a word, no comma before another mark."""
    text = " ".join(words).replace(" , ,", " ,").replace(" , .", " .").replace(" , ?", " ?")
    for mark in ",.?":
        text = text.replace(" " + mark, mark)
    return text[0].upper() + text[1:]
