"""The probabilistic grammar: draws what a sentence says.

    Sentence  → Clause [Adjunct]
    Adjunct   → conjunction Clause
    Clause    → verb subject [object] [recipient] [adverb] [Place] [Clause]      as the frame of the verb asks
    Nominal   → Thing | Name | Pronoun | Nominal "and" Nominal
    Thing     → noun [determiner | numeral] adjective* [compound modifier] [owner] [relative: Clause]
    Place     → preposition Nominal

The verb is drawn first: it decides which kinds of nouns can go with it, and which sense of an ambiguous noun
is meant.
"""

from __future__ import annotations

from l2s_nmt.data.embedded.function_words import (
    CONJUNCTIONS,
    OWNER_DETERMINERS,
    PERSON,
    PLACE,
    PLURAL_DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    SINGULAR_DETERMINERS,
    THING,
    Determiner,
)
from l2s_nmt.data.embedded.lexicon import (
    CLAUSAL,
    DITRANSITIVE,
    INTRANSITIVE,
    LEXICON,
    TRANSITIVE,
    Adjective,
    Verb,
)
from l2s_nmt.data.embedded.meaning import (
    FUTURE,
    PAST,
    PRESENT,
    Adjunct,
    Clause,
    Name,
    Nominal,
    Pair,
    Place,
    Pronoun,
    Relative,
    Sentence,
    Thing,
)
from l2s_nmt.data.embedded.phonotactics import NAMES
from l2s_nmt.data.embedded.randomness import Draw, below, percent, pick, weighted, zipf

_QUESTION, _ADJUNCT, _ADJUNCT_FIRST = percent(10), percent(17), percent(40)
_NEGATED, _ADVERB, _PLACE = percent(14), percent(36), percent(42)
_PRONOUN, _NAME, _PAIR = percent(28), percent(7), percent(7)
_PLURAL, _NUMERAL, _DIGITS = percent(32), percent(28), percent(25)
_ADJECTIVE, _MODIFIER, _OWNER, _RELATIVE = percent(32), percent(14), percent(9), percent(15)
_GAP_IS_SUBJECT, _THING_ACTS, _FEMININE = percent(60), percent(20), percent(50)
_TENSES = weighted((PRESENT, PAST, FUTURE), (45, 40, 15))
_PLACE_KINDS = weighted((PLACE, THING, PERSON), (55, 28, 17))
_SMALL_NUMBERS = weighted(range(2, 100), [(1 << 32) // number for number in range(2, 100)])

_PLAIN_VERBS = zipf([verb for verb in LEXICON.verbs.items if verb.frame != CLAUSAL])
_VERBS_OF_THINGS = zipf([verb for verb in LEXICON.verbs.items if verb.frame in (INTRANSITIVE, TRANSITIVE)])
_VERBS_WITH_OBJECT = tuple(
    zipf([verb for verb in LEXICON.verbs.items if verb.frame == TRANSITIVE and kind in verb.object_kinds])
    for kind in (PERSON, THING, THING)
)
"""By the kind of the object, PERSON, THING or PLACE: a place can be the object of what a thing can be."""


def sentence(draw: Draw) -> Sentence:
    """Draw the meaning of a sentence."""
    question = draw() < _QUESTION
    main = _clause(draw, depth=0)
    if question or main.content is not None or draw() >= _ADJUNCT:
        return Sentence(main, None, False, question)
    adjunct = Adjunct(pick(CONJUNCTIONS, draw), _clause(draw, depth=1))
    return Sentence(main, adjunct, draw() < _ADJUNCT_FIRST, False)


def _clause(draw: Draw, depth: int) -> Clause:
    verb = pick(_PLAIN_VERBS if depth > 1 else LEXICON.verbs, draw)
    kind = THING if verb.frame in (INTRANSITIVE, TRANSITIVE) and draw() < _THING_ACTS else PERSON
    return _complete(verb, _nominal(kind, verb, draw, depth), draw, depth)


def _complete(verb: Verb, subject: Nominal | None, draw: Draw, depth: int, gap: int | None = None) -> Clause:
    """A clause with this subject. Where the gap of a relative clause is the object, `gap` is its kind."""
    kind, obj, recipient, content = PERSON if gap is None else gap, None, None, None
    if verb.frame in (TRANSITIVE, DITRANSITIVE) and gap is None:
        kind = verb.object_kinds[below(len(verb.object_kinds), draw)]
        obj = _nominal(kind, verb, draw, depth)
    if verb.frame == DITRANSITIVE:
        recipient = _named_or_thing(PERSON, verb, draw, depth)
    if verb.frame == CLAUSAL:
        content = _clause(draw, depth + 1)
    return Clause(
        verb,
        pick(_TENSES, draw),
        draw() < _NEGATED,
        subject,
        obj,
        kind == PERSON,
        recipient,
        pick(LEXICON.adverbs, draw) if draw() < _ADVERB else None,
        _place(verb, draw, depth) if content is None and draw() < _PLACE else None,
        content,
    )


def _place(verb: Verb, draw: Draw, depth: int) -> Place:
    return Place(pick(PREPOSITIONS, draw), _named_or_thing(pick(_PLACE_KINDS, draw), verb, draw, depth + 1))


def _nominal(kind: int, verb: Verb, draw: Draw, depth: int) -> Nominal:
    """A subject or an object."""
    if kind == PERSON:
        if draw() < _PRONOUN:
            return Pronoun(pick(PRONOUNS, draw))
        if draw() < _PAIR:
            return Pair(_named_or_thing(kind, verb, draw, 2), _named_or_thing(kind, verb, draw, 2))
    return _named_or_thing(kind, verb, draw, depth)


def _named_or_thing(kind: int, verb: Verb, draw: Draw, depth: int) -> Thing | Name:
    if kind != THING and draw() < _NAME:
        return _name(draw)
    return _thing(kind, verb, draw, depth)


def _name(draw: Draw) -> Name:
    """An open class: most names of a text occur nowhere else. Those that end in a vowel are feminine."""
    onsets, nuclei, codas = NAMES
    parts = [onsets[below(len(onsets), draw)]]
    for _ in range(1 + below(2, draw)):
        parts += nuclei[below(len(nuclei), draw)], codas[below(len(codas), draw)]
    feminine = draw() < _FEMININE
    if feminine:
        parts.append("a")
    return Name("".join(parts), feminine)


def _thing(kind: int, verb: Verb, draw: Draw, depth: int) -> Thing:
    """A noun phrase; the deeper it stands, the plainer it is."""
    noun = pick(LEXICON.nouns[kind], draw)
    plural = draw() < _PLURAL
    number = _number(draw) if plural and draw() < _NUMERAL else 0
    determiner = None if number else _determiner(plural, draw)
    adjectives = _adjectives(draw)
    modifier = pick(LEXICON.nouns[THING], draw) if draw() < _MODIFIER else None
    if depth > 1:
        return Thing(noun, verb.field, plural, determiner, number, adjectives, modifier, None, None)
    owner = _owner(verb, draw) if draw() < _OWNER else None
    relative = _relative(kind, draw) if owner is None and draw() < _RELATIVE else None
    return Thing(noun, verb.field, plural, determiner, number, adjectives, modifier, owner, relative)


def _determiner(plural: bool, draw: Draw) -> Determiner | None:
    return pick(PLURAL_DETERMINERS, draw) if plural else pick(SINGULAR_DETERMINERS, draw)


def _number(draw: Draw) -> int:
    if draw() < _DIGITS:
        return 100 + below(2500, draw)
    return pick(_SMALL_NUMBERS, draw)


def _adjectives(draw: Draw) -> tuple[Adjective, ...]:
    adjectives: list[Adjective] = []
    while draw() < _ADJECTIVE and len(adjectives) < 2:
        adjectives.append(pick(LEXICON.adjectives, draw))
    return tuple(adjectives)


def _owner(verb: Verb, draw: Draw) -> Nominal:
    if draw() < _NAME:
        return _name(draw)
    noun, plural = pick(LEXICON.nouns[PERSON], draw), draw() < _PLURAL
    determiner = pick(OWNER_DETERMINERS, draw)
    return Thing(noun, verb.field, plural, determiner, 0, _adjectives(draw), None, None, None)


def _relative(kind: int, draw: Draw) -> Relative:
    """A relative clause to a noun of this kind, which fills the place of its subject or its object."""
    if draw() < _GAP_IS_SUBJECT:
        verb = pick(_PLAIN_VERBS if kind == PERSON else _VERBS_OF_THINGS, draw)
        return Relative(_complete(verb, None, draw, depth=2), True)
    verb = pick(_VERBS_WITH_OBJECT[kind], draw)
    return Relative(_complete(verb, _nominal(PERSON, verb, draw, depth=2), draw, depth=2, gap=kind), False)
