"""The closed classes of both languages: written out, not drawn.

Vorsk declines determiners by case and noun class (three in the singular, one plural). Tamari has two genders
and two numbers; the four combinations are called concord.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from l2s_nmt.data.embedded.randomness import weighted

NOMINATIVE, ACCUSATIVE, DATIVE, GENITIVE = range(4)
PLURAL_COLUMN: Final = 3
"""The noun classes of Vorsk are the columns 0, 1, 2 of its tables; the plural is the last."""

# A row for each case; columns: class 0, 1, 2, plural.
CASE_ENDINGS = (
    ("ar", "a", "at", "i"),
    ("an", "e", "ot", "in"),
    ("om", "er", "um", "en"),
    ("os", "ir", "us", "ur"),
)

WEAK_ENDINGS = (("u", "u", "u", "un"), ("un", "u", "u", "un"), ("un",) * 4, ("un",) * 4)
STRONG_ENDINGS = (
    ("ur", "u", "us", "u"),
    ("un", "u", "us", "u"),
    ("um", "ur", "um", "un"),
    ("un", "ur", "un", "ur"),
)
"""The endings of adjectives after a definite determiner, and everywhere else."""

PERSON, THING, PLACE = range(3)
"""Kinds of nouns; they decide the translation of prepositions and of ambiguous verbs and adjectives."""


class Determiner(NamedTuple):
    """An article or the like."""

    source: tuple[tuple[str, ...], ...]
    """By case, then by column."""
    target: tuple[str, ...]
    """By concord."""
    weak: bool
    """Which endings the adjectives of Vorsk take after it."""
    follows: bool
    """Whether it stands after the noun in Tamari."""


def _determiner(stem: str, target: str, *, weak: bool = True, follows: bool = False) -> Determiner:
    forms = tuple(tuple(stem + ending for ending in row) for row in CASE_ENDINGS)
    return Determiner(forms, tuple(target.split()), weak, follows)


THE = _determiner("v", "ka ko kani koni")
A = _determiner("enk", "ida ido idani idoni", weak=False)
THIS = _determiner("dosk", "teva tevo tevani tevoni")
MY = _determiner("mul", "mira miro mirani mironi", weak=False, follows=True)
YOUR = _determiner("dur", "shira shiro shirani shironi", weak=False, follows=True)
EVERY = _determiner("jeg", "chaka chako chakani chakoni")
SOME = _determiner("wolk", "peila peilo peilani peiloni", weak=False)

SINGULAR_DETERMINERS = weighted((THE, A, THIS, MY, EVERY, YOUR), (46, 30, 8, 7, 5, 4))
PLURAL_DETERMINERS = weighted((THE, None, SOME, THIS, MY, YOUR), (42, 22, 15, 10, 7, 4))
OWNER_DETERMINERS = weighted((THE, MY, THIS, YOUR), (60, 18, 12, 10))

RELATIVE_PRONOUN = tuple(tuple("h" + ending for ending in row) for row in CASE_ENDINGS)


class Person(NamedTuple):
    """A personal pronoun."""

    nominative: str
    accusative: str
    ending: int
    """Column of the verb endings of Vorsk: I, you, he or she, they."""
    target: str
    clitic: str
    """As an object, before the verb."""
    agreement: int
    """Index of the verb endings of Tamari."""


FIRST_SINGULAR, SECOND_SINGULAR, THIRD_SINGULAR, PLURAL = range(4)
PRONOUNS = weighted(
    (
        Person("jom", "jem", FIRST_SINGULAR, "mua", "mi", 0),
        Person("hov", "hev", THIRD_SINGULAR, "oru", "ru", 4),
        Person("siv", "sev", THIRD_SINGULAR, "ara", "ri", 3),
        Person("wob", "web", PLURAL, "nuvi", "nu", 2),
        Person("dul", "del", SECOND_SINGULAR, "shua", "shi", 1),
        Person("zir", "zer", PLURAL, "oruni", "runi", 6),
    ),
    (26, 20, 20, 13, 11, 10),
)


class Preposition(NamedTuple):
    """A preposition."""

    source: str
    case: int
    target: tuple[str, str, str]
    """By the kind of the noun that follows: PERSON, THING, PLACE."""


PREPOSITIONS = weighted(
    (
        Preposition("af", DATIVE, ("vesa", "sul", "ni")),
        Preposition("mig", DATIVE, ("kol", "pir", "pir")),
        Preposition("ub", ACCUSATIVE, ("dim", "sopa", "tara")),
        Preposition("fro", DATIVE, ("lue", "lue", "desha")),
        Preposition("tuk", ACCUSATIVE, ("e", "ver", "ver")),
        Preposition("ondar", DATIVE, ("rena", "suto", "suto")),
        Preposition("olk", ACCUSATIVE, ("sen", "sen", "sen")),
        Preposition("hulst", DATIVE, ("pora", "retu", "retu")),
    ),
    (24, 18, 14, 12, 12, 8, 6, 6),
)


class Conjunction(NamedTuple):
    """A conjunction that opens an adjunct clause."""

    source: str
    target: tuple[str, str, str]
    """By the tense of the clause: PRESENT, PAST, FUTURE."""


CONJUNCTIONS = weighted(
    (
        Conjunction("olz", ("shen", "kuvan", "shen")),
        Conjunction("brek", ("poreki", "poreki", "poreki")),
        Conjunction("umst", ("ameni", "ameni", "ameni")),
        Conjunction("fild", ("tasha", "tue", "tasha")),
    ),
    (40, 30, 18, 12),
)

_SOURCE_UNITS = ("unk", "twol", "dråg", "vim", "fösk", "seg", "zov", "akt", "nonk")
_SOURCE_TENS = ("zand", "twolz", "drågz", "vimz", "fösz", "segz", "zovz", "aktz", "nonz")
_TARGET_UNITS = ("oni", "dovi", "teri", "kuri", "pini", "sesi", "sevi", "tochi", "novi")
_TARGET_TENS = ("deku", "doveku", "tereku", "kureku", "pineku", "seseku", "seveku", "tocheku", "noveku")


def _numeral(number: int) -> tuple[str, tuple[str, ...]]:
    """Vorsk writes units before tens in one word, Tamari tens before units in several."""
    tens, units = divmod(number, 10)
    if not tens:
        return _SOURCE_UNITS[units - 1], (_TARGET_UNITS[units - 1],)
    if not units:
        return _SOURCE_TENS[tens - 1], (_TARGET_TENS[tens - 1],)
    return (
        f"{_SOURCE_UNITS[units - 1]}un{_SOURCE_TENS[tens - 1]}",
        (_TARGET_TENS[tens - 1], "i", _TARGET_UNITS[units - 1]),
    )


NUMERALS: Final = {number: _numeral(number) for number in range(1, 100)}
"""From 100 on, numbers are written in digits in both languages."""

NEGATION, THAT, AND, OWNED_BY = "nek", "tås", "und", "fon"
"""Vorsk."""
SOURCE_VERB_ENDINGS = ("o", "ist", "et", "en")
"""Vorsk: I, you, he or she, they (and we)."""
PARTICLES = ("ap", "gur", "osk", "dör", "nit")
"""Vorsk: parts of verbs."""
HAVE = tuple("hav" + ending for ending in SOURCE_VERB_ENDINGS)
SHALL = tuple("zul" + ending for ending in SOURCE_VERB_ENDINGS)
"""Vorsk: for the past, with a participle, and the future, with an infinitive."""

QUESTION, NOT, NOT_AFTER, WILL = "cha", "na", "mai", "ve"
"""Tamari; negation stands on both sides of the verb."""
ALSO, OF, COMPOUND_OF, TO = "i", "de", "di", "e"
"""Tamari: "and", owners, compounds, and before objects that are persons and recipients."""
CONTENT = weighted(("kua", "ke kua"), (80, 20))
SUBJECT_RELATIVE = weighted(("kir", "el kir"), (75, 25))
OBJECT_RELATIVE = weighted(("kon", "el kon"), (75, 25))
"""Tamari: what opens a clause that is said, and a relative clause."""


def _forms() -> Iterator[str]:
    for determiner in (THE, A, THIS, MY, YOUR, EVERY, SOME):
        yield from (form for row in determiner.source for form in row)
        yield from determiner.target
    for person in PRONOUNS.items:
        yield from (person.nominative, person.accusative, person.target, person.clitic)
    for preposition in PREPOSITIONS.items:
        yield from (preposition.source, *preposition.target)
    for conjunction in CONJUNCTIONS.items:
        yield from (conjunction.source, *conjunction.target)
    for source, target in NUMERALS.values():
        yield from (source, *target)
    yield from (form for row in RELATIVE_PRONOUN for form in row)
    yield from PARTICLES
    yield from (
        NEGATION,
        THAT,
        AND,
        OWNED_BY,
        "zul",
        "hav",
        QUESTION,
        NOT,
        NOT_AFTER,
        WILL,
        ALSO,
        OF,
        COMPOUND_OF,
        TO,
    )
    yield from (form for choice in (CONTENT, SUBJECT_RELATIVE, OBJECT_RELATIVE) for form in choice.items)


RESERVED = frozenset(stem for form in _forms() for stem in (form, form[:-1]))
"""Words and stems that no noun, verb, adjective or adverb may have."""
