from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from l2s_nmt.evaluation.breakdown import (
    PLACES,
    by_frequency,
    by_length,
    by_position,
    count_words,
    empty,
    repetition,
    score_groups,
    words,
)
from l2s_nmt.evaluation.score import new_metrics
from l2s_nmt.evaluation.significance import sentence_statistics


def corpus(sentences: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices("abcdef", k=rng.randint(1, 12))) for _ in range(sentences)]


def test_words_are_runs_of_letters_and_digits_in_any_script() -> None:
    assert words("Ein Hund, 3 Katzen – «мир»!") == ["Ein", "Hund", "3", "Katzen", "мир"]
    assert words("…") == []
    assert words("हिन्दी में लिखना") == ["हिन्दी", "में", "लिखना"]
    assert words("cafe\u0301, na\u0308chster") == ["cafe\u0301", "na\u0308chster"]
    assert words("می\u200cروم پس") == ["می\u200cروم", "پس"]
    assert words("ฉัน ก") == [*"ฉัน", "ก"]
    assert words("他看 BBC 新闻。") == ["他", "看", "BBC", "新", "闻"]


def test_sentences_are_grouped_by_length() -> None:
    sources = ["a", "a " * 9, "b " * 10, "...", "c " * 49, "d " * 50, "e " * 300]
    groups = by_length(sources)
    assert groups.labels == ("1\u20139", "10\u201319", "40\u201349", "50 or more")
    assert [rows.tolist() for rows in groups.members] == [[0, 1, 3], [2], [4], [5, 6]]


def test_sentences_are_grouped_by_their_rarest_word() -> None:
    counts = {"common": 5000, "rare": 9, "ten": 10}
    sources = ["common", "common rare", "rare ten", "unseen common", "ten, common", "!!"]
    groups = by_frequency(sources, counts)
    assert groups.labels == ("0", "1\u20139", "10\u201399", "1,000 or more")
    assert [rows.tolist() for rows in groups.members] == [[3], [1, 2], [4], [0]]


def test_words_are_counted_where_they_are_wanted() -> None:
    counts = count_words(["a b a", "c, a!", "d"], ["a c", "e"])
    assert counts == {"a": 3, "c": 1}


def test_groups_have_the_scores_of_their_sentences_alone() -> None:
    references = corpus(40, seed=1)
    runs = [corpus(40, seed=2), [text[2:] for text in references]]
    metrics = new_metrics()
    given = [[text] for text in references]
    statistics = {
        name: [sentence_statistics(metric, run, given) for run in runs] for name, metric in metrics.items()
    }
    groups = by_length(references)
    found = score_groups(groups, metrics, statistics)
    assert [bucket.label for bucket in found] == list(groups.labels)
    for bucket, rows in zip(found, groups.members, strict=True):
        assert bucket.sentences == len(rows)
        for name, metric in new_metrics().items():
            if name == "ter":
                continue
            expected = [
                metric.corpus_score([run[row] for row in rows], [[references[row] for row in rows]]).score
                for run in runs
            ]
            assert getattr(bucket, name) == pytest.approx(np.mean(expected))


def test_precisions_by_position_add_up_to_bleu_s() -> None:
    references = list(zip(corpus(60, seed=1), corpus(60, seed=2), strict=True))
    translations = corpus(60, seed=3)
    found = by_position([translations], references, str.split)
    bleu = BLEU(tokenize="none").corpus_score(
        translations, [list(stream) for stream in zip(*references, strict=True)]
    )
    assert sum(bucket.pairs for bucket in found) == bleu.totals[1]
    right = sum(bucket.pairs * bucket.precision / 100 for bucket in found)
    assert right == pytest.approx(bleu.counts[1])


def test_positions_are_fifths_of_the_translation() -> None:
    reference = "a b c d e f g h i j k"  # ten pairs
    found = by_position([["a b c d e x x x x x x"]], [[reference]], str.split)
    assert [bucket.label for bucket in found] == list(PLACES)
    assert [bucket.pairs for bucket in found] == [2, 2, 2, 2, 2]
    assert [bucket.precision for bucket in found] == [100, 100, 0, 0, 0]
    assert [bucket.precision for bucket in by_position([["a", ""]], [["a"], ["b"]], str.split)] == [0] * 5


def test_pairs_at_a_position_are_those_of_one_seed() -> None:
    """However many seeds there are: their mean."""
    runs, references = [["a b c d e f"]] * 3, [["a b c d e f"]]
    assert by_position(runs, references, str.split) == by_position(runs[:1], references, str.split)


def test_a_pair_counts_as_often_as_a_reference_has_it_from_the_left() -> None:
    found = by_position([["a b a b a b"]], [["a b a b", "b a"]], str.split)
    # a b, b a, a b are right; the second b a and the third a b are too many.
    assert sum(bucket.pairs * bucket.precision / 100 for bucket in found) == pytest.approx(3)
    assert [bucket.precision for bucket in found] == [100, 100, 100, 0, 0]


def test_repetition_is_what_no_reference_repeats() -> None:
    assert repetition([["a b a b a b"]], [["a b c"]], str.split) == pytest.approx(
        3 / 5
    )  # a b twice, b a once
    assert repetition([["a b a b"]], [["x a b", "a b a b"]], str.split) == 0
    assert repetition([["a b c d"]], [["x"]], str.split) == 0, "wrong is not repeated"
    assert repetition([["the the the the"], ["a b c"]], [["the"]], str.split) == pytest.approx(2 / 5)
    assert repetition([["", "a"]], [["b"], ["c"]], str.split) == 0


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8).map(" ".join), min_size=1, max_size=4))
def test_a_reference_repeats_nothing_beyond_itself(texts: list[str]) -> None:
    references = [[text] for text in texts]
    assert repetition([texts], references, str.split) == 0
    assert all(bucket.precision in (0.0, 100.0) for bucket in by_position([texts], references, str.split))


def test_empty_translations_of_all_seeds_are_counted() -> None:
    assert empty([["", "a"], [" ", "\t"]]) == 0.75
