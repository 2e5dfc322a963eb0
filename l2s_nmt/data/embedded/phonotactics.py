"""How the words of the two languages sound: Vorsk piles up consonants, Tamari alternates them with vowels."""

from __future__ import annotations

from typing import NamedTuple

from l2s_nmt.data.embedded.randomness import Draw, below


class Sounds(NamedTuple):
    """What a syllable of a language consists of, in this order."""

    onsets: tuple[str, ...]
    nuclei: tuple[str, ...]
    codas: tuple[str, ...]


def _list(items: str) -> tuple[str, ...]:
    return tuple(items.split())


VORSK = Sounds(
    onsets=_list("b br d dr f g gr h k kl m n p r s sk st t tr v z"),
    nuclei=_list("a e i o u ö å ei"),
    codas=_list("b d g k l lk m n nd ng p r rk rt s st t"),
)
TAMARI = Sounds(
    onsets=_list("b ch d k l m n p r s sh t v y"),
    nuclei=_list("a e i o u a e i o u ia ue"),
    codas=("", "", "", "", "", "n", "l"),
)
NAMES = Sounds(
    onsets=_list("B D F G J K L M N P R S T V"),
    nuclei=_list("a e i o u"),
    codas=_list("l ld m n nd r rn rr s st v"),
)


def syllables(count: int, sounds: Sounds, draw: Draw) -> str:
    """A word of `count` syllables."""
    return "".join(part[below(len(part), draw)] for _ in range(count) for part in sounds)


def stem(count: int, sounds: Sounds, draw: Draw) -> str:
    """A word of `count` syllables that ends in a consonant, to which an ending can be added."""
    return syllables(count, sounds, draw) + sounds.onsets[below(len(sounds.onsets), draw)]
