"""What a sentence says, as a tree that belongs to neither language.

The nodes are tuples with names rather than dataclasses: immutable too, and several times as fast to make.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from l2s_nmt.data.embedded.function_words import Conjunction, Determiner, Person, Preposition
from l2s_nmt.data.embedded.lexicon import Adjective, Adverb, Noun, Verb

PRESENT, PAST, FUTURE = range(3)


class Pronoun(NamedTuple):
    """I, you, she, …"""

    person: Person


class Name(NamedTuple):
    """A person or a place, called the same in both languages."""

    form: str
    feminine: bool


class Relative(NamedTuple):
    """A relative clause; the noun that it belongs to fills the gap in its clause."""

    clause: Clause
    """Its subject is None (the gap is the subject) or its object is None although the verb has one."""
    gap_is_subject: bool


class Thing(NamedTuple):
    """A noun with all that hangs on it: "the three old wooden doors of the house that …"."""

    noun: Noun
    sense: int
    """Which of the senses of an ambiguous noun is meant: the field of the verb that governs it."""
    plural: bool
    determiner: Determiner | None
    number: int
    """The numeral, or 0 for none."""
    adjectives: tuple[Adjective, ...]
    modifier: Noun | None
    """The first part of a compound: the door of a house door."""
    owner: Nominal | None
    relative: Relative | None


class Pair(NamedTuple):
    """Two joined by "and"."""

    first: Nominal
    second: Nominal


Nominal: TypeAlias = Thing | Name | Pronoun | Pair


class Place(NamedTuple):
    """A prepositional phrase."""

    preposition: Preposition
    nominal: Nominal


class Clause(NamedTuple):
    """A verb and those who take part."""

    verb: Verb
    tense: int
    negated: bool
    subject: Nominal | None
    object: Nominal | None
    object_is_person: bool
    """Decides the translation of an ambiguous verb, also when the object is the gap of a relative clause."""
    recipient: Nominal | None
    adverb: Adverb | None
    place: Place | None
    content: Clause | None
    """What is said or thought: the clause after "that"."""


class Adjunct(NamedTuple):
    """A subordinate clause with its conjunction: "because …"."""

    conjunction: Conjunction
    clause: Clause


class Sentence(NamedTuple):
    """A main clause, perhaps with an adjunct before or after it, or a question."""

    main: Clause
    adjunct: Adjunct | None
    adjunct_first: bool
    question: bool
