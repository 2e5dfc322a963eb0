from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.evaluation.types import WordBucket
from l2s_nmt.evaluation.word_accuracy import by_word

COUNTS = {"the": 5000, "dog": 40, "cat": 10, "axolotl": 3}
TEXTS = st.lists(st.sampled_from([*COUNTS, "unseen", "!"]), max_size=8).map(" ".join)


def test_words_are_right_as_often_as_the_reference_has_them() -> None:
    runs = [["the the dog ran", "the cat, the axolotl"], ["the cat", "a cat"]]
    references = [["the dog and the cat"], ["an axolotl"]]
    assert by_word(runs, references, COUNTS) == (
        WordBucket("0", 2, 0.0, 0.0),  # and, an; ran, a
        WordBucket("1\u20139", 1, 100.0, 50.0),
        # Two words in each of two runs' references; of dog, cat, cat, cat two are right.
        WordBucket("10\u201399", 2, 50.0, 50.0),
        WordBucket("1,000 or more", 2, 60.0, 75.0),
    )


def test_each_of_several_references_is_held_against_the_translation() -> None:
    (found,) = by_word([["the the"]], [["the", "the the the"]], COUNTS)
    assert found.words == 4
    assert found.precision == found.recall == pytest.approx(75.0)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_all_groups_together_count_the_words_of_all_references(pairs: list[tuple[str, str]]) -> None:
    translations, references = [text for text, _ in pairs], [[text] for _, text in pairs]
    buckets = by_word([translations], references, COUNTS)
    names = {"0": "unseen", "1\u20139": "axolotl", "1,000 or more": "the"}
    for bucket in buckets:
        members = {names[bucket.label]} if bucket.label in names else {"dog", "cat"}
        wanted = written = right = 0
        for text, (reference,) in zip(translations, references, strict=True):
            mine, theirs = Counter(text.split()), Counter(reference.split())
            wanted += sum(theirs[word] for word in members)
            written += sum(mine[word] for word in members)
            right += sum(min(mine[word], theirs[word]) for word in members)
        assert bucket.words == wanted > 0
        assert bucket.recall == pytest.approx(100 * right / wanted)
        assert bucket.precision == pytest.approx(100 * right / written if written else 0)
    assert sum(bucket.words for bucket in buckets) == sum(
        word != "!" for text in references for word in text[0].split()
    )


def test_the_same_translation_twice_changes_nothing() -> None:
    once = by_word([["the dog", "cat"]], [["dog"], ["the cat"]], COUNTS)
    assert by_word([["the dog", "cat"]] * 2, [["dog"], ["the cat"]], COUNTS) == once
