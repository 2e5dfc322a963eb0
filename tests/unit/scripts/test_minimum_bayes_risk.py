"""The utility of minimum Bayes risk decoding, against sacrebleu."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from scripts.minimum_bayes_risk import utilities

TEXTS = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=4
)


@given(TEXTS, TEXTS)
def test_the_utility_is_sentence_bleu(translations: list[str], references: list[str]) -> None:
    found = utilities(translations, references)
    assert found.shape == (len(translations), len(references))
    for translation, row in zip(translations, found, strict=True):
        for reference, value in zip(references, row, strict=True):
            expected = sacrebleu.sentence_bleu(
                translation,
                [reference],
                smooth_method="add-k",
                smooth_value=1,
                tokenize="none",
                use_effective_order=False,
            )
            assert value * 100 == pytest.approx(expected.score, abs=1e-6)


def test_an_empty_translation_is_worth_nothing() -> None:
    assert utilities(["", "a b"], ["a b", ""]).tolist() == [[0.0, 0.0], [1.0, 0.0]]
