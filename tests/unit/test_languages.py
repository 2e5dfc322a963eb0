"""Which words BLEU compares, and how many a text has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.languages import bleu_tokenizer, number_of_words


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("en", "13a"),
        ("de_DE", "13a"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zho_Hant", "zh"),
        ("ja", "char"),
        ("th_TH", "char"),
        ("ko", "13a"),
        ("thx", "13a"),
    ],
)
def test_the_tokenizer_of_a_language(language: str, tokenizer: str) -> None:
    assert bleu_tokenizer(language) == tokenizer


@given(st.text(st.characters(codec="latin-1")))
def test_words_are_what_is_between_spaces(text: str) -> None:
    assert number_of_words(text) == len(text.split())


@given(st.integers(1, 40))
def test_two_characters_without_spaces_are_a_word(length: int) -> None:
    assert number_of_words("茶" * length) == (length + 1) // 2
