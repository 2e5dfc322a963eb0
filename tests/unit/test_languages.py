"""Which words BLEU compares, and how many a text has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.build_cost import texts
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.score import score
from l2s_nmt.languages import BleuTokenizer, bleu_tokenizer, new_bleu, number_of_words
from l2s_nmt.recipe_file import make_recipe
from l2s_nmt.search.costs.text import words_by


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


def test_a_corpus_has_languages_as_pages_write_them() -> None:
    data = {"files": "corpus", "source_language": "zh_CN", "target_language": "deu_Latn"}
    recipe = make_recipe({"data": data})
    assert recipe.data.tags == ("zh-CN", "deu-Latn")
    del data["files"]
    assert make_recipe({"data": {**data, "embedded": {}}}).data.tags is None


@given(st.text(st.characters(codec="latin-1")))
def test_words_are_what_is_between_spaces(text: str) -> None:
    assert number_of_words(text) == len(text.split())


@given(st.integers(1, 40))
def test_two_characters_without_spaces_are_a_word(length: int) -> None:
    assert number_of_words("茶" * length) == (length + 1) // 2


def test_a_recipe_goes_by_the_code_of_its_target_language_unless_it_says_more() -> None:
    data = {"files": "x", "source_language": "src", "target_language": "trg"}
    assert make_recipe({"data": data}).bleu_tokenizer == "13a"
    chinese = {**data, "target_code": "zho_Hans"}
    assert make_recipe({"data": chinese}).bleu_tokenizer == "zh"
    assert make_recipe({"data": chinese, "evaluation": {"bleu_tokenizer": "char"}}).bleu_tokenizer == "char"


def test_what_is_not_installed_is_told_and_not_asked_before_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Please install:\n  a package")

    monkeypatch.setattr("sacrebleu.metrics.BLEU", fail)
    with pytest.raises(UserError, match=r"ja-mecab cannot be loaded \(Please install: a package\); .* char"):
        new_bleu("ja-mecab")
    split = words_by("ja-mecab")
    with pytest.raises(UserError, match="ja-mecab cannot be loaded"):
        split("これは本です。")


@pytest.mark.parametrize(("tokenizer", "text"), [("zh", "我喜欢喝茶。"), ("char", "ฉันชอบชา")])
def test_costs_and_scores_cut_the_same_words(tokenizer: BleuTokenizer, text: str) -> None:
    nothing: Any = None
    words = texts(nothing, tokenizer).words
    assert words is not words_by("13a")
    expected = new_bleu(tokenizer).tokenizer(text).split()
    assert words(text) == expected
    assert len(expected) > 5
    found = score([text, text[:-3]], [[text], [text]], tokenizer)
    assert 20 < found.bleu.score < 90
    assert f"tok:{tokenizer}" in found.bleu.signature


BLEU_TOKENIZERS: list[BleuTokenizer] = ["13a", "intl", "zh", "char"]


def test_edits_of_chinese_are_counted_by_characters() -> None:
    right, wrong = "我喜欢喝茶和咖啡。", "我喜欢喝水和咖啡。"
    for tokenizer in BLEU_TOKENIZERS:  # which are BLEU's
        assert score([wrong], [[right]], tokenizer).ter.score == pytest.approx(100 / 9)
        assert score(["a cat, I say"], [["a dog, I say"]], tokenizer).ter.score == 25
    few = [["a dog"], ["a dog"], [right]]
    assert score(["a dog", "a dog", wrong], few).ter.score == 20, "of one that is Chinese among others, none"
