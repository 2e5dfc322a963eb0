"""Tamari, the target language: subject, verb, object, with everything agreeing.

    clause:       [adverb,] subject, verb group, [adverb,] object, recipient, place [, adverb]
    verb group:   ["na",] [object pronoun,] ["ve" for the future,] verb [, "mai"]
    noun phrase:  determiner or numeral, adjective, noun, "di" modifier, adjectives, possessive, "de" owner,
                  relative clause

The gender of a noun phrase is that of the synonym chosen for its noun: determiner, adjectives and verb agree.
"""

from __future__ import annotations

from typing import Final

from l2s_nmt.data.embedded.function_words import (
    ALSO,
    COMPOUND_OF,
    CONTENT,
    NOT,
    NOT_AFTER,
    NUMERALS,
    OBJECT_RELATIVE,
    OF,
    PERSON,
    PLACE,
    QUESTION,
    SUBJECT_RELATIVE,
    TO,
    WILL,
)
from l2s_nmt.data.embedded.meaning import (
    FUTURE,
    PAST,
    Adjunct,
    Clause,
    Name,
    Nominal,
    Pair,
    Place,
    Pronoun,
    Sentence,
    Thing,
)
from l2s_nmt.data.embedded.randomness import Draw, percent, pick

Words = list[str]

THIRD_PERSON: Final = 3
"""The verb endings of the third person start here; add the concord."""
_PLURAL_CONCORD: Final = 2
"""Added to a gender, gives the concord of the plural."""

_DROP_PRONOUN, _ADVERB_AFTER_VERB, _ADVERB_FIRST = percent(70), percent(70), percent(60)


def realise_target(sentence: Sentence, draw: Draw) -> Words:
    """The sentence in Tamari, word by word; commas and the final mark are words of their own."""
    main = _clause(sentence.main, draw)
    if sentence.question:
        return [QUESTION, *main, "?"]
    if sentence.adjunct is None:
        return [*main, "."]
    adjunct = _adjunct(sentence.adjunct, draw)
    return [*adjunct, ",", *main, "."] if sentence.adjunct_first else [*main, *adjunct, "."]


def _adjunct(adjunct: Adjunct, draw: Draw) -> Words:
    return [adjunct.conjunction.target[adjunct.clause.tense], *_clause(adjunct.clause, draw)]


def _clause(clause: Clause, draw: Draw, agreement: int = THIRD_PERSON) -> Words:
    """Any clause, without what opens it; `agreement` is for the verb where the subject is a gap."""
    subject: Words = []
    if clause.subject:
        subject, agreement = nominal(clause.subject, draw)
        if isinstance(clause.subject, Pronoun) and draw() < _DROP_PRONOUN:
            subject = []
    first, after, last = _adverb(clause, draw)
    verb = _verb(clause, agreement, draw)
    obj = _object(clause.object, clause.object_is_person, draw)
    recipient = [TO, *nominal(clause.recipient, draw)[0]] if clause.recipient else []
    place = _place(clause.place, draw) if clause.place else []
    content = [pick(CONTENT, draw), *_clause(clause.content, draw)] if clause.content else []
    return [*first, *subject, *verb, *after, *obj, *recipient, *place, *last, *content]


def _adverb(clause: Clause, draw: Draw) -> tuple[Words, Words, Words]:
    """The adverb in one of its three places: before the clause, after the verb, at the end."""
    if clause.adverb is None:
        return [], [], []
    words = [pick(clause.adverb.target, draw)]
    if draw() < _ADVERB_AFTER_VERB:
        return [], words, []
    return (words, [], []) if draw() < _ADVERB_FIRST and clause.subject else ([], [], words)


def _verb(clause: Clause, agreement: int, draw: Draw) -> Words:
    """Negation embraces the verb; a pronoun that is the object stands before it."""
    word = pick(clause.verb.senses[clause.object_is_person], draw)
    form = word.past[agreement] if clause.tense == PAST else word.present[agreement]
    clitic = [clause.object.person.clitic] if isinstance(clause.object, Pronoun) else []
    future = [WILL] if clause.tense == FUTURE else []
    if clause.negated:
        return [NOT, *clitic, *future, form, NOT_AFTER]
    return [*clitic, *future, form]


def _object(obj: Nominal | None, is_person: bool, draw: Draw) -> Words:
    """The object after the verb, marked if it is a person."""
    if obj is None or isinstance(obj, Pronoun):
        return []
    words = nominal(obj, draw)[0]
    return [TO, *words] if is_person else words


def _place(place: Place, draw: Draw) -> Words:
    kind = place.nominal.noun.kind if isinstance(place.nominal, Thing) else PLACE
    return [place.preposition.target[kind], *nominal(place.nominal, draw)[0]]


def nominal(nominal_: Nominal, draw: Draw) -> tuple[Words, int]:
    """The words of a subject or object, and how the verb agrees with it."""
    if isinstance(nominal_, Thing):
        return _noun_phrase(nominal_, draw)
    if isinstance(nominal_, Name):
        return [nominal_.form], THIRD_PERSON + (not nominal_.feminine)
    if isinstance(nominal_, Pronoun):
        return [nominal_.person.target], nominal_.person.agreement
    return _pair(nominal_, draw)


def _pair(pair: Pair, draw: Draw) -> tuple[Words, int]:
    """Two together are plural, and of the first gender only if both are."""
    first, first_agreement = nominal(pair.first, draw)
    second, second_agreement = nominal(pair.second, draw)
    gender = (first_agreement - THIRD_PERSON) % 2 | (second_agreement - THIRD_PERSON) % 2
    return [*first, ALSO, *second], THIRD_PERSON + _PLURAL_CONCORD + gender


def _noun_phrase(thing: Thing, draw: Draw) -> tuple[Words, int]:
    noun = pick(thing.noun.senses[thing.sense], draw)
    concord = noun.gender + _PLURAL_CONCORD * thing.plural
    before, after = _adjectives(thing, concord, draw)
    if thing.determiner and thing.determiner.follows:
        after.append(thing.determiner.target[concord])
    elif thing.determiner:
        before.insert(0, thing.determiner.target[concord])
    elif thing.number:
        before[:0] = NUMERALS[thing.number][1] if thing.number in NUMERALS else [str(thing.number)]
    if thing.modifier:
        after[:0] = [COMPOUND_OF, pick(thing.modifier.senses[thing.sense], draw).forms[0]]
    if thing.owner:
        after += [OF, *nominal(thing.owner, draw)[0]]
    if thing.relative:
        opening = pick(SUBJECT_RELATIVE if thing.relative.gap_is_subject else OBJECT_RELATIVE, draw)
        after += [opening, *_clause(thing.relative.clause, draw, THIRD_PERSON + concord)]
    return [*before, noun.forms[thing.plural], *after], THIRD_PERSON + concord


def _adjectives(thing: Thing, concord: int, draw: Draw) -> tuple[Words, Words]:
    """Those before the noun, and those after it, where the one nearest the noun in Vorsk stays nearest."""
    before: Words = []
    after: Words = []
    for adjective in thing.adjectives:
        word = pick(adjective.senses[thing.noun.kind == PERSON], draw)
        if word.precedes:
            before.append(word.forms[concord])
        else:
            after.insert(0, word.forms[concord])
    return before, after
