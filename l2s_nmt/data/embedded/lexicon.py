"""The open classes: nouns, verbs, adjectives and adverbs of both languages, drawn once from a fixed seed.

A source word has two *senses*; a sense is a choice among target words that are synonyms. Where both senses
are the same, the word is not ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, TypeVar

from l2s_nmt.data.embedded import difficulty
from l2s_nmt.data.embedded.function_words import (
    PARTICLES,
    PERSON,
    PLACE,
    PLURAL_COLUMN,
    RESERVED,
    SOURCE_VERB_ENDINGS,
    THING,
)
from l2s_nmt.data.embedded.phonotactics import TAMARI, VORSK, Sounds, stem, syllables
from l2s_nmt.data.embedded.randomness import Choice, Draw, below, percent, pick, stream, weighted, zipf

T = TypeVar("T")
Senses: TypeAlias = tuple[Choice[T], Choice[T]]

FIELDS: Final = 2
"""Verbs belong to one of two fields; a noun that is ambiguous takes the sense of the field of its verb."""

INTRANSITIVE, TRANSITIVE, DITRANSITIVE, CLAUSAL = range(4)

CONCORD_ENDINGS = ("a", "o", "ani", "oni")
"""Tamari: singular of gender 0 and 1, plural of gender 0 and 1."""
VERB_ENDINGS = ("mi", "shi", "numi", "ra", "ro", "rai", "roi")
"""Tamari: I, you, we, then the third person by concord."""


class TargetNoun(NamedTuple):
    """A noun of Tamari."""

    forms: tuple[str, str]
    """Singular and plural."""
    gender: int


class TargetVerb(NamedTuple):
    """A verb of Tamari."""

    present: tuple[str, ...]
    """By agreement."""
    past: tuple[str, ...]


class TargetAdjective(NamedTuple):
    """An adjective of Tamari."""

    forms: tuple[str, ...]
    """By concord."""
    precedes: bool
    """Whether it stands before the noun; most stand after it."""


class Noun(NamedTuple):
    """A noun of Vorsk and what it means."""

    forms: tuple[str, str]
    """Singular and plural."""
    noun_class: int
    linked: str
    """The form as the first part of a compound."""
    kind: int
    senses: Senses[TargetNoun]
    """By the field of the verb that governs the noun."""


class Verb(NamedTuple):
    """A verb of Vorsk and what it means."""

    particle: str
    """Split off in main clauses; empty for most verbs."""
    present: tuple[str, ...]
    """By person, without the particle."""
    participle: str
    """With the particle."""
    infinitive: str
    """With the particle."""
    field: int
    frame: int
    object_kinds: tuple[int, ...]
    senses: Senses[TargetVerb]
    """By whether the object is a person."""


class Adjective(NamedTuple):
    """An adjective of Vorsk and what it means."""

    stem: str
    senses: Senses[TargetAdjective]
    """By whether the noun is a person."""


class Adverb(NamedTuple):
    """An adverb of Vorsk and what it means."""

    form: str
    target: Choice[str]


class Lexicon(NamedTuple):
    """All words of the open classes, the frequent ones first."""

    nouns: tuple[Choice[Noun], ...]
    """By kind."""
    verbs: Choice[Verb]
    adjectives: Choice[Adjective]
    adverbs: Choice[Adverb]


_SYNONYM = percent(difficulty.SYNONYM_PERCENT)
_KIND_SHARES = {PERSON: 35, THING: 45, PLACE: 20}
"""Of 100 nouns."""
_LINKS = weighted(("s", "", "en"), (50, 30, 20))
_PLURALS = weighted(("er", "en", "sk"), (45, 35, 20))
_FRAMES = (
    TRANSITIVE,
    INTRANSITIVE,
    TRANSITIVE,
    DITRANSITIVE,
    TRANSITIVE,
    INTRANSITIVE,
    TRANSITIVE,
    CLAUSAL,
    TRANSITIVE,
)
"""Of the verbs of rank 0, 1, …, again and again: the most frequent verbs should not be left to chance."""
_OBJECT_KINDS = weighted(((PERSON, THING), (THING,), (PERSON,)), (60, 25, 15))
_INFINITIVE = "an"
NOUN_VOWELS = ("ae", "oi")
_NOUN_PLURALS = ("n", "ri")
"""Tamari, by gender."""


def _endings(root: str, endings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(root + ending for ending in endings)


class _Coiner:
    """Coins the words of one lemma, from a stream of its own: a larger lexicon starts with the same words."""

    def __init__(self, name: str, rank: int, size: int, taken: set[str]) -> None:
        self.draw = stream("lexicon", name, rank)
        self.rank = rank
        self.size = size
        self.taken = taken
        # Spread evenly over the ranks, for the same reason.
        share = difficulty.AMBIGUOUS_PERCENT
        self.ambiguous = (rank + 1) * share // 100 > rank * share // 100

    def coin(self, make: Callable[[int, Sounds, Draw], str], sounds: Sounds) -> str:
        """A word or stem that is not taken; the most frequent lemmas have the shortest."""
        count = 1 + (4 * self.rank >= self.size) + (below(8, self.draw) == 0)
        while (word := make(count, sounds, self.draw)) in self.taken:
            pass
        self.taken.add(word)
        return word

    def synonyms(self, make: Callable[[], T]) -> Choice[T]:
        """One to three target words for a sense."""
        count = 1 if self.draw() >= _SYNONYM else 2 + below(2, self.draw)
        return zipf([make() for _ in range(count)], shift=0)

    def senses(self, make: Callable[[], T]) -> Senses[T]:
        """The same sense for both cases, or one for each where the word is ambiguous."""
        first = self.synonyms(make)
        return first, self.synonyms(make) if self.ambiguous else first

    def noun(self, kind: int) -> Noun:
        word = self.coin(syllables, VORSK)
        forms = (word, word + pick(_PLURALS, self.draw))
        link = word + pick(_LINKS, self.draw)
        return Noun(forms, below(PLURAL_COLUMN, self.draw), link, kind, self.senses(self._target_noun))

    def verb(self, plain: Verb | None) -> Verb:
        """A verb; with a particle, it shares the stem of the verb `plain`."""
        particle = PARTICLES[below(len(PARTICLES), self.draw)] if plain else ""
        root = plain.infinitive[: -len(_INFINITIVE)] if plain else self.coin(syllables, VORSK)
        frame = TRANSITIVE if self.ambiguous else _FRAMES[self.rank % len(_FRAMES)]
        kinds = pick(_OBJECT_KINDS, self.draw) if frame == TRANSITIVE else (THING,)
        if self.ambiguous:
            kinds = (PERSON, THING)
        return Verb(
            particle,
            _endings(root, SOURCE_VERB_ENDINGS),
            f"{particle}ge{root}d",
            particle + root + _INFINITIVE,
            below(FIELDS, self.draw),
            frame,
            kinds,
            self.senses(self._target_verb),
        )

    def adjective(self) -> Adjective:
        return Adjective(self.coin(syllables, VORSK), self.senses(self._target_adjective))

    def adverb(self) -> Adverb:
        return Adverb(self.coin(syllables, VORSK), self.synonyms(self._target_adverb))

    def _target_noun(self) -> TargetNoun:
        gender = below(2, self.draw)
        form = self.coin(stem, TAMARI) + NOUN_VOWELS[gender][below(2, self.draw)]
        return TargetNoun((form, form + _NOUN_PLURALS[gender]), gender)

    def _target_verb(self) -> TargetVerb:
        root = self.coin(syllables, TAMARI)
        return TargetVerb(_endings(root, VERB_ENDINGS), _endings(root + "ve", VERB_ENDINGS))

    def _target_adjective(self) -> TargetAdjective:
        return TargetAdjective(_endings(self.coin(stem, TAMARI), CONCORD_ENDINGS), below(5, self.draw) == 0)

    def _target_adverb(self) -> str:
        word = self.coin(syllables, TAMARI) + "ki"
        return "ti " + word if below(8, self.draw) == 0 else word


def _nouns(kind: int, taken: set[str]) -> list[Noun]:
    size = difficulty.NOUNS * _KIND_SHARES[kind] // 100
    return [_Coiner(f"noun {kind}", rank, size, taken).noun(kind) for rank in range(size)]


def _verbs(taken: set[str]) -> list[Verb]:
    """Every fourth verb is an earlier one with a particle, which changes what it means."""
    verbs: list[Verb] = []
    for rank in range(difficulty.VERBS):
        coiner = _Coiner("verb", rank, difficulty.VERBS, taken)
        plain = [verb for verb in verbs if not verb.particle]
        while True:
            verb = coiner.verb(plain[below(len(plain), coiner.draw)] if rank % 4 == 3 else None)
            if all(verb.infinitive != other.infinitive for other in verbs):
                break
        verbs.append(verb)
    return verbs


def _build() -> Lexicon:
    taken = set(RESERVED)
    nouns = tuple(zipf(_nouns(kind, taken)) for kind in _KIND_SHARES)
    verbs = zipf(_verbs(taken))
    size = difficulty.ADJECTIVES
    adjectives = zipf([_Coiner("adjective", rank, size, taken).adjective() for rank in range(size)])
    size = difficulty.ADVERBS
    adverbs = zipf([_Coiner("adverb", rank, size, taken).adverb() for rank in range(size)])
    return Lexicon(nouns, verbs, adjectives, adverbs)


LEXICON: Final = _build()
