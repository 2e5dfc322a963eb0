"""The generated corpus: the same everywhere, and as hard to translate as it promises."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from itertools import combinations
from struct import unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.data import embedded
from l2s_nmt.data.embedded import generate
from l2s_nmt.data.embedded.function_words import (
    CONJUNCTIONS,
    MY,
    PERSON,
    PLACE,
    PREPOSITIONS,
    RESERVED,
    THE,
    THING,
)
from l2s_nmt.data.embedded.grammar import sentence
from l2s_nmt.data.embedded.lexicon import CLAUSAL, INTRANSITIVE, LEXICON, TRANSITIVE, Noun, Verb
from l2s_nmt.data.embedded.meaning import (
    FUTURE,
    PAST,
    PRESENT,
    Adjunct,
    Clause,
    Nominal,
    Place,
    Relative,
    Sentence,
    Thing,
)
from l2s_nmt.data.embedded.randomness import percent, pick, stream, weighted, zipf
from l2s_nmt.data.embedded.source import realise_source
from l2s_nmt.data.embedded.target import realise_target

NOUNS = [noun for kind in LEXICON.nouns for noun in kind.items]
PERSONS = LEXICON.nouns[PERSON].items
THINGS = LEXICON.nouns[THING].items
PLACES = LEXICON.nouns[PLACE].items
SPLITS = ("train", "valid", "test")
DIGESTS = {
    "train": "e79cdc0a8a6910c7e8506928594825bf",
    "valid": "1d888dde4e0b490f6194984b4cbac9e7",
    "test": "a00896e110e719d16591b7afd54bab19",
}
"""Of the first 200 pairs with two references. They change when, and only when, the corpus does."""


def first() -> int:
    """A draw that always chooses the first, likeliest item."""
    return 0


def last() -> int:
    """A draw that always chooses the last item."""
    return (1 << 32) - 1


def digest(split: str, size: int = 200) -> str:
    text = "".join(
        "\t".join([source, *targets]) + "\n" for source, targets in generate(split, size, references=2)
    )
    return blake2b(text.encode(), digest_size=16).hexdigest()


def thing(noun: Noun, verb: Verb, *, plural: bool = False, relative: Relative | None = None) -> Thing:
    return Thing(noun, verb.field, plural, THE, 0, (), None, None, relative)


def clause(
    verb: Verb, subject: Nominal | None, obj: Nominal | None = None, *, tense: int = PRESENT
) -> Clause:
    is_person = isinstance(obj, Thing) and obj.noun.kind == PERSON
    return Clause(verb, tense, False, subject, obj, is_person or obj is None, None, None, None, None)


def verbs(frame: int, *, particle: bool = False) -> list[Verb]:
    return [verb for verb in LEXICON.verbs.items if verb.frame == frame and bool(verb.particle) == particle]


def source_of(main: Clause) -> list[str]:
    return realise_source(Sentence(main, None, False, False), last)


def target_of(main: Clause) -> list[str]:
    return realise_target(Sentence(main, None, False, False), first)


def gender_of(noun: str) -> int:
    """The gender that one hears from the singular of a Tamari noun."""
    return int(noun[-1] in "oi")


# ---- the same everywhere ----------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_the_corpus_never_changes(split: str) -> None:
    assert digest(split) == DIGESTS[split]


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_corpus_does_not_depend_on_the_seed_of_hashes(hash_seed: str) -> None:
    code = (
        "from l2s_nmt.data.embedded import generate; import sys;"
        "sys.stdout.buffer.write(''.join(s + ''.join(r) for s, r in generate('valid', 100)).encode())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True
    ).stdout
    assert output.decode() == "".join(source + "".join(targets) for source, targets in generate("valid", 100))


@settings(max_examples=25, deadline=None)
@given(
    split=st.sampled_from(SPLITS), seed=st.integers(0, 3), start=st.integers(0, 30), size=st.integers(0, 30)
)
def test_a_pair_depends_on_its_number_alone(split: str, seed: int, start: int, size: int) -> None:
    whole = list(generate(split, 60, seed=seed))
    assert list(generate(split, size, seed=seed, start=start)) == whole[start : start + size]


def test_far_pairs_are_as_near_as_the_first() -> None:
    assert len(list(generate("train", 3, start=10**15))) == 3


def test_splits_and_seeds_differ() -> None:
    keys = [(split, seed) for split in SPLITS for seed in (1, 2)]
    texts = [{source for source, _ in generate(split, 50, seed=seed)} for split, seed in keys]
    assert all(len(one & other) <= 2 for one, other in combinations(texts, 2))


@pytest.mark.parametrize("wrong", [{"size": -1}, {"size": 1, "start": -1}, {"size": 1, "references": 0}])
def test_impossible_numbers_are_refused_at_once(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="too small"):
        generate("train", **wrong)


def test_the_numbers_are_those_of_the_hash() -> None:
    blocks = [unpack("<16I", blake2b(b"%d/1/train/5" % block).digest()) for block in range(2)]
    draw = stream(1, "train", 5)
    assert [draw() for _ in range(32)] == [*blocks[0], *blocks[1]]


def test_choices_follow_their_weights() -> None:
    draw = stream("weights")
    counts = Counter(pick(weighted("abc", (5, 3, 2)), draw) for _ in range(20_000))
    assert [round(counts[item] / 20_000, 1) for item in "abc"] == [0.5, 0.3, 0.2]
    counts = Counter(pick(zipf("abc", shift=0), draw) for _ in range(20_000))
    assert counts["a"] / counts["b"] == pytest.approx(2, rel=0.1)
    assert counts["a"] / counts["c"] == pytest.approx(3, rel=0.1)
    assert sum(draw() < percent(30) for _ in range(20_000)) / 20_000 == pytest.approx(0.3, abs=0.02)


# ---- references -------------------------------------------------------------------------------


def senses_of(text: str) -> Counter[int]:
    """Which noun and verb senses the words of a translation belong to."""
    return Counter(
        SENSE_OF_FORM[word]
        for word in text.lower().strip(".?").replace(",", "").split()
        if word in SENSE_OF_FORM
    )


def _sense_of_form() -> dict[str, int]:
    """From a form to what it means, without the senses that have a form in common with another."""
    forms = [
        (form, id(sense))
        for noun in NOUNS
        for sense in noun.senses
        for word in sense.items
        for form in word.forms
    ]
    forms += [
        (form, id(sense))
        for verb in LEXICON.verbs.items
        for sense in verb.senses
        for word in sense.items
        for form in (*word.present, *word.past)
    ]
    meaning = dict(forms)
    unclear = {sense for form, sense in forms if meaning[form] != sense}
    unclear |= {meaning[form] for form, sense in forms if sense in unclear}
    return {form: sense for form, sense in forms if sense not in unclear}


SENSE_OF_FORM = _sense_of_form()


def test_references_are_distinct_and_say_the_same() -> None:
    several = 0
    for _, references in generate("valid", 500, references=4):
        assert len({frozenset(senses_of(reference).items()) for reference in references}) == 1
        several += len(set(references)) == 4
    assert several > 300


def test_the_first_reference_does_not_depend_on_how_many_there_are() -> None:
    one, four = generate("test", 100), generate("test", 100, references=4)
    assert [(source, targets[0]) for source, targets in one] == [
        (source, targets[0]) for source, targets in four
    ]


# ---- agreement at a distance ------------------------------------------------------------------


@pytest.mark.parametrize("plural", [False, True])
def test_the_target_verb_agrees_with_its_subject_across_a_relative_clause(plural: bool) -> None:
    verb, inner = verbs(INTRANSITIVE)[0], verbs(TRANSITIVE)[0]
    for noun in PERSONS:
        for other in THINGS[:6]:
            relative = Relative(
                clause(inner, None, thing(other, inner, plural=not plural)), gap_is_subject=True
            )
            words = target_of(clause(verb, thing(noun, verb, plural=plural, relative=relative)))
            gender = (
                "f" if words[1].removesuffix("n" * plural).removesuffix("ri" * plural)[-1] in "ae" else "m"
            )
            determiner, ending = {
                ("f", False): ("ka", "ra"),
                ("m", False): ("ko", "ro"),
                ("f", True): ("kani", "rai"),
                ("m", True): ("koni", "roi"),
            }[gender, plural]
            assert words[0] == determiner
            assert words[-2].endswith(ending)
            assert words[3].endswith(ending), "the verb of the relative clause has the same subject"
            assert len(words) == 8


def test_synonyms_of_another_gender_change_what_agrees_with_them() -> None:
    noun = next(noun for noun in PERSONS if len({word.gender for word in noun.senses[0].items}) == 2)
    verb = verbs(INTRANSITIVE)[0]._replace(field=0)
    likely = target_of(clause(verb, thing(noun, verb)))
    draws = iter([last(), 0, 0])
    unlikely = realise_target(Sentence(clause(verb, thing(noun, verb)), None, False, False), draws.__next__)
    assert {likely[0], unlikely[0]} == {"ka", "ko"}
    assert {likely[2][-2:], unlikely[2][-2:]} == {"ra", "ro"}


def test_source_determiners_show_case_and_class() -> None:
    verb = verbs(TRANSITIVE)[0]
    subject = thing(PERSONS[0], verb)
    determiners = {0: "van", 1: "ve", 2: "vot"}
    for noun in THINGS:
        words = realise_source(Sentence(clause(verb, subject, thing(noun, verb)), None, False, False), last)
        assert words[3:5] == [determiners[noun.noun_class], noun.forms[0]]


# ---- word order -------------------------------------------------------------------------------


def test_the_source_verb_is_second_or_last_and_the_target_verb_after_its_subject() -> None:
    verb = verbs(TRANSITIVE)[0]
    main = clause(verb, thing(PERSONS[0], verb), thing(THINGS[0], verb))
    for tense, last_word in (
        (PRESENT, THINGS[0].forms[0]),
        (PAST, verb.participle),
        (FUTURE, verb.infinitive),
    ):
        words = source_of(main._replace(tense=tense))
        assert words[2] == {PRESENT: verb.present[2], PAST: "havet", FUTURE: "zulet"}[tense]
        assert words[-2] == last_word
    because = Adjunct(CONJUNCTIONS.items[1], main)
    words = realise_source(Sentence(main, because, False, False), last)
    assert words[-2] == verb.present[2], "the verb of the adjunct comes last"
    target = realise_target(Sentence(main, because, False, False), first)
    assert target[2] == target[8] == verb.senses[0].items[0].present[3 + gender_of(target[1])]


def test_an_object_can_open_the_source_and_stays_behind_the_verb_in_the_target() -> None:
    verb = verbs(TRANSITIVE)[0]
    main = clause(verb, thing(PERSONS[0], verb), thing(THINGS[0], verb))
    usual, fronted = source_of(main), realise_source(Sentence(main, None, False, False), first)
    assert fronted == [*usual[3:5], usual[2], *usual[:2], "."]


def test_a_particle_leaves_its_verb_in_main_clauses_and_changes_what_it_means() -> None:
    verb = verbs(INTRANSITIVE, particle=True)[0]
    plain = next(
        other for other in LEXICON.verbs.items if other.present == verb.present and not other.particle
    )
    subject = thing(PERSONS[0], verb)
    words = source_of(clause(verb, subject))
    assert words[2] == plain.present[2]
    assert words[-2] == verb.particle
    content = next(other for other in LEXICON.verbs.items if other.frame == CLAUSAL)
    words = source_of(clause(content, subject)._replace(content=clause(verb, subject)))
    assert words[-2] == verb.particle + plain.present[2]
    assert not set(verb.senses[0].items) & set(plain.senses[0].items)


def test_negation_follows_the_source_phrases_and_embraces_the_target_verb() -> None:
    verb = verbs(TRANSITIVE)[0]
    main = clause(verb, thing(PERSONS[0], verb), thing(THINGS[0], verb), tense=FUTURE)._replace(negated=True)
    assert source_of(main)[-3:] == ["nek", verb.infinitive, "."]
    words = target_of(main)
    assert words[2:4] == ["na", "ve"]
    assert words[5] == "mai"


def test_compounds_are_one_source_word_and_a_phrase_in_reverse_order() -> None:
    verb, head, modifier = verbs(INTRANSITIVE)[0], THINGS[0], THINGS[1]
    subject = thing(head, verb, plural=True)._replace(modifier=modifier, determiner=MY)
    assert source_of(clause(verb, subject))[1] == modifier.linked + head.forms[1]
    words = target_of(clause(verb, subject))
    nouns = [noun.senses[verb.field].items[0] for noun in (head, modifier)]
    assert words[:3] == [nouns[0].forms[1], "di", nouns[1].forms[0]]
    assert words[3] == MY.target[2 + nouns[0].gender], (
        "the possessive agrees with the head, not with its neighbour"
    )


@pytest.mark.parametrize(
    ("number", "source", "target"),
    [
        (2, ["twol"], ["dovi"]),
        (20, ["twolz"], ["doveku"]),
        (34, ["vimundrågz"], ["tereku", "i", "kuri"]),
        (150, ["150"], ["150"]),
    ],
)
def test_numerals(number: int, source: list[str], target: list[str]) -> None:
    verb = verbs(INTRANSITIVE)[0]
    subject = thing(THINGS[0], verb, plural=True)._replace(determiner=None, number=number)
    assert source_of(clause(verb, subject))[0 : len(source)] == source
    assert target_of(clause(verb, subject))[0 : len(target)] == target


# ---- ambiguity --------------------------------------------------------------------------------


def test_the_verb_decides_what_an_ambiguous_noun_means() -> None:
    one, other = (next(verb for verb in verbs(INTRANSITIVE) if verb.field == field) for field in (0, 1))
    ambiguous = [noun for noun in NOUNS if noun.senses[0] is not noun.senses[1]]
    assert len(ambiguous) > len(NOUNS) / 20
    for noun in ambiguous:
        sources = [source_of(clause(verb, thing(noun, verb)))[1] for verb in (one, other)]
        targets = [target_of(clause(verb, thing(noun, verb)))[1] for verb in (one, other)]
        assert sources[0] == sources[1]
        assert targets[0] != targets[1]


def test_the_object_decides_what_an_ambiguous_verb_means() -> None:
    ambiguous = [verb for verb in LEXICON.verbs.items if verb.senses[0] is not verb.senses[1]]
    assert len(ambiguous) > len(LEXICON.verbs.items) / 20
    for verb in ambiguous:
        assert set(verb.object_kinds) == {PERSON, THING}
        mains = [clause(verb, thing(PERSONS[0], verb), thing(noun, verb)) for noun in (PERSONS[1], THINGS[1])]
        assert source_of(mains[0])[2] == source_of(mains[1])[2]
        assert target_of(mains[0])[2] != target_of(mains[1])[2]


def test_the_object_decides_also_where_it_is_the_gap_of_a_relative_clause() -> None:
    verb = next(verb for verb in LEXICON.verbs.items if verb.senses[0] is not verb.senses[1])
    outer = verbs(INTRANSITIVE)[0]
    forms = []
    for noun in (PERSONS[1], THINGS[1]):
        inner = clause(verb, thing(PERSONS[0], verb))._replace(object_is_person=noun.kind == PERSON)
        forms.append(
            target_of(clause(outer, thing(noun, outer, relative=Relative(inner, gap_is_subject=False))))[5]
        )
    assert forms[0] != forms[1]


def test_the_grammar_tells_the_verb_whether_its_object_is_a_person() -> None:
    for number in range(2_000):
        main = sentence(stream("objects", number)).main
        if isinstance(main.object, Thing):
            assert main.object_is_person == (main.object.noun.kind == PERSON)


def test_the_noun_decides_what_adjectives_and_prepositions_mean() -> None:
    verb = verbs(INTRANSITIVE)[0]
    adjective = next(word for word in LEXICON.adjectives.items if word.senses[0] is not word.senses[1])
    stems = set()
    for noun in (PERSONS[0], THINGS[0]):
        words = target_of(clause(verb, thing(noun, verb)._replace(adjectives=(adjective,))))
        stems |= {
            form
            for form in words
            if any(form in word.forms for sense in adjective.senses for word in sense.items)
        }
    assert len({stem.rstrip("ao") for stem in stems}) == 2
    preposition = PREPOSITIONS.items[0]
    words = [
        target_of(
            clause(verb, thing(PERSONS[0], verb))._replace(place=Place(preposition, thing(noun, verb)))
        )[3]
        for noun in (PERSONS[0], THINGS[0], PLACES[0])
    ]
    assert words == list(preposition.target)
    assert len(set(words)) == 3


def test_the_tense_decides_what_a_conjunction_means() -> None:
    verb = verbs(INTRANSITIVE)[0]
    main = clause(verb, thing(PERSONS[0], verb))
    words = []
    for tense in (PRESENT, PAST):
        adjunct = Adjunct(CONJUNCTIONS.items[0], main._replace(tense=tense))
        assert realise_source(Sentence(main, adjunct, True, False), first)[0] == "olz"
        words.append(realise_target(Sentence(main, adjunct, True, False), first)[0])
    assert words[0] != words[1]


# ---- statistics -------------------------------------------------------------------------------


def test_lengths() -> None:
    pairs = list(generate("train", 5_000))
    for lengths in (
        [len(source.split()) for source, _ in pairs],
        [len(targets[0].split()) for _, targets in pairs],
    ):
        assert 11 < sum(lengths) / len(lengths) < 14
        assert max(lengths) < 45
    assert min(len(source.split()) for source, _ in pairs) == 4


def test_train_and_test_hardly_overlap() -> None:
    seen = {source for source, _ in generate("train", 20_000)}
    assert sum(source in seen for source, _ in generate("test", 1_000)) < 30


def test_names_and_digits_are_carried_over() -> None:
    found = 0
    for source, (target,) in generate("valid", 1_000):
        kept = [word.strip(",.?") for word in source.split()[1:] if word[0].isupper() or word[0].isdigit()]
        assert set(kept) <= {word.strip(",.?") for word in target.split()}
        found += len(kept)
    assert found > 100


def test_text_is_written_as_people_write() -> None:
    for source, (target,) in generate("valid", 1_000):
        for text in (source, target):
            assert text[0].isupper() or text[0].isdigit()
            assert text[-1] in ".?"
            assert text == " ".join(text.split())
            assert not any(mistake in text for mistake in (" ,", " .", " ?", ",,", ",.", ",?"))


def test_no_word_of_the_lexicon_is_a_function_word() -> None:
    for noun in NOUNS:
        assert (
            not {*noun.forms, *(form for sense in noun.senses for word in sense.items for form in word.forms)}
            & RESERVED
        )


def test_the_example_of_the_documentation_is_true() -> None:
    result = doctest.testmod(embedded)
    assert result.attempted
    assert not result.failed
