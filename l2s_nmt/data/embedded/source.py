"""Vorsk, the source language: says a meaning with the verb in second place, or last in a subordinate clause.

main clause:         one phrase, finite verb, other phrases, "nek", participle or infinitive or particle
subordinate clause:  opening word, all phrases, "nek", participle or infinitive, finite verb
noun phrase:         determiner or numeral, adjectives, compound noun, owner (genitive), relative clause
"""

from __future__ import annotations

from l2s_nmt.data.embedded.function_words import (
    ACCUSATIVE,
    AND,
    DATIVE,
    GENITIVE,
    HAVE,
    NEGATION,
    NOMINATIVE,
    NUMERALS,
    OWNED_BY,
    PLURAL,
    PLURAL_COLUMN,
    RELATIVE_PRONOUN,
    SHALL,
    STRONG_ENDINGS,
    THAT,
    THIRD_SINGULAR,
    WEAK_ENDINGS,
)
from l2s_nmt.data.embedded.meaning import (
    PAST,
    PRESENT,
    Clause,
    Name,
    Nominal,
    Pair,
    Pronoun,
    Relative,
    Sentence,
    Thing,
)
from l2s_nmt.data.embedded.randomness import Draw, percent

Words = list[str]

_FRONT_ADVERB, _FRONT_PLACE, _FRONT_OBJECT = percent(45), percent(30), percent(16)


def realise_source(sentence: Sentence, draw: Draw) -> Words:
    """The sentence in Vorsk, word by word; commas and the final mark are words of their own."""
    mark = "?" if sentence.question else "."
    if sentence.question:
        return [*_question(sentence.main), mark]
    if sentence.adjunct is None:
        return [*_statement(sentence.main, draw), mark]
    adjunct = [sentence.adjunct.conjunction.source, *_verb_last(sentence.adjunct.clause)]
    if sentence.adjunct_first:
        return [*adjunct, ",", *_question(sentence.main), mark]
    return [*_statement(sentence.main, draw), ",", *adjunct, mark]


def _statement(clause: Clause, draw: Draw) -> Words:
    """The subject comes first, or another phrase does and the subject follows the verb."""
    finite, closing = _split_verb(clause)
    subject = _nominal(clause.subject, NOMINATIVE)
    adverb, recipient, place, obj = _phrases(clause)
    if adverb and draw() < _FRONT_ADVERB:
        front, rest = adverb, [*subject, *recipient, *place, *obj]
    elif place and draw() < _FRONT_PLACE:
        front, rest = place, [*subject, *adverb, *recipient, *obj]
    elif _shows_case(clause.object) and draw() < _FRONT_OBJECT:
        front, rest = obj, [*subject, *adverb, *recipient, *place]
    else:
        front, rest = subject, [*adverb, *recipient, *place, *obj]
    return [*front, finite, *rest, *_negation(clause), *closing, *_content(clause)]


def _question(clause: Clause) -> Words:
    """The finite verb comes first: in questions, and where a subordinate clause takes the first place."""
    finite, closing = _split_verb(clause)
    adverb, recipient, place, obj = _phrases(clause)
    subject = _nominal(clause.subject, NOMINATIVE)
    middle = [*subject, *adverb, *recipient, *place, *obj, *_negation(clause)]
    return [finite, *middle, *closing, *_content(clause)]


def _verb_last(clause: Clause, ending: int = THIRD_SINGULAR) -> Words:
    """A subordinate clause without its opening word; `ending` is for the verb where the subject is a gap."""
    adverb, recipient, place, obj = _phrases(clause)
    subject = _nominal(clause.subject, NOMINATIVE) if clause.subject else []
    middle = [*subject, *adverb, *recipient, *place, *obj, *_negation(clause)]
    if clause.subject:
        ending = _ending(clause.subject)
    return [*middle, *_joined_verb(clause, ending), *_content(clause)]


def _phrases(clause: Clause) -> tuple[Words, Words, Words, Words]:
    """Adverb, recipient, place and object, in their usual order."""
    return (
        [clause.adverb.form] if clause.adverb else [],
        _nominal(clause.recipient, DATIVE) if clause.recipient else [],
        [clause.place.preposition.source, *_nominal(clause.place.nominal, clause.place.preposition.case)]
        if clause.place
        else [],
        _nominal(clause.object, ACCUSATIVE) if clause.object else [],
    )


def _negation(clause: Clause) -> Words:
    return [NEGATION] if clause.negated else []


def _content(clause: Clause) -> Words:
    return [",", THAT, *_verb_last(clause.content)] if clause.content else []


def _split_verb(clause: Clause) -> tuple[str, Words]:
    """The finite verb, and what of the verb closes the main clause."""
    verb, ending = clause.verb, _ending(clause.subject)
    if clause.tense == PRESENT:
        return verb.present[ending], [verb.particle] if verb.particle else []
    if clause.tense == PAST:
        return HAVE[ending], [verb.participle]
    return SHALL[ending], [verb.infinitive]


def _joined_verb(clause: Clause, ending: int) -> Words:
    """All of the verb, at the end of a subordinate clause."""
    verb = clause.verb
    if clause.tense == PRESENT:
        return [verb.particle + verb.present[ending]]
    if clause.tense == PAST:
        return [verb.participle, HAVE[ending]]
    return [verb.infinitive, SHALL[ending]]


def _ending(subject: Nominal | None) -> int:
    """The person in which the finite verb stands."""
    if isinstance(subject, Pronoun):
        return subject.person.ending
    if isinstance(subject, Pair) or (isinstance(subject, Thing) and subject.plural):
        return PLURAL
    return THIRD_SINGULAR


def _shows_case(nominal: Nominal | None) -> bool:
    """Whether one hears that it is an object, so that it can go to the front."""
    return isinstance(nominal, Pronoun) or (isinstance(nominal, Thing) and nominal.determiner is not None)


def _nominal(nominal: Nominal | None, case: int) -> Words:
    if isinstance(nominal, Thing):
        return _noun_phrase(nominal, case)
    if isinstance(nominal, Name):
        return [nominal.form]
    if isinstance(nominal, Pronoun):
        return [nominal.person.nominative if case == NOMINATIVE else nominal.person.accusative]
    if isinstance(nominal, Pair):
        return [*_nominal(nominal.first, case), AND, *_nominal(nominal.second, case)]
    return []


def _noun_phrase(thing: Thing, case: int) -> Words:
    column = PLURAL_COLUMN if thing.plural else thing.noun.noun_class
    determiner = thing.determiner
    endings = WEAK_ENDINGS if determiner and determiner.weak else STRONG_ENDINGS
    words = [determiner.source[case][column]] if determiner else _numeral(thing.number)
    words += [adjective.stem + endings[case][column] for adjective in thing.adjectives]
    noun = thing.noun.forms[thing.plural]
    words.append(thing.modifier.linked + noun if thing.modifier else noun)
    if thing.owner:
        words += _owner(thing.owner)
    if thing.relative:
        words += _relative(thing.relative, column)
    return words


def _numeral(number: int) -> Words:
    """The numeral, if there is one."""
    if not number:
        return []
    return [NUMERALS[number][0] if number in NUMERALS else str(number)]


def _owner(owner: Nominal) -> Words:
    """Owners stand in the genitive; names have none and take a preposition."""
    return [OWNED_BY, owner.form] if isinstance(owner, Name) else _nominal(owner, GENITIVE)


def _relative(relative: Relative, column: int) -> Words:
    """Between commas; the relative pronoun agrees with the noun and shows what it is in the clause."""
    case = NOMINATIVE if relative.gap_is_subject else ACCUSATIVE
    ending = PLURAL if column == PLURAL_COLUMN else THIRD_SINGULAR
    return [",", RELATIVE_PRONOUN[case][column], *_verb_last(relative.clause, ending), ","]
