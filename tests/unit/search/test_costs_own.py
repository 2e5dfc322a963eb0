"""Costs by functions of one's own, and the table that builds costs."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.errors import UserError
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.chrf import characters, chrf_cost
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.costs.own import load_function
from l2s_nmt.search.costs.table import build_cost
from l2s_nmt.search.costs.text import OnText, OnWords, words_13a, words_by

PAD, EOS = 0, 1
PIECES = ["", "", " the", " cat", " Cat", "s", " and", ",", " 3", ".5", " sat", " on", " mat", "!", ".", "5"]

Rows = list[list[int]]


def decode(ids: Rows) -> list[str]:
    return ["".join(PIECES[token] for token in row).lstrip() for row in ids]


def decode_source(ids: Rows) -> list[str]:
    return [f"source {[token for token in row if token != EOS]}" for row in ids]


def make_batch(references: list[Rows]) -> Batch:
    """Sentences with these references, whose sources are [2], [3], …; EOS is added."""
    ended = [[[*row, EOS] for row in rows] for rows in references]
    return collate(
        [[2 + row, EOS] for row in range(len(ended))],
        [rows[0] if rows else [EOS] for rows in ended],
        np.arange(len(ended)),
        PAD,
        ended,
    )


def score(cost: Cost, hypotheses: Rows, sentence: list[int], batch: Batch, width: int = 0) -> Tensor:
    """The cost of rows with junk behind them."""
    width = max(width, *map(len, hypotheses))
    tokens = torch.tensor([row + [3] * (width - len(row)) for row in hypotheses], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in hypotheses])
    return cost(tokens.view(len(hypotheses), width), lengths, torch.tensor(sentence), batch)


def build(name: str, **settings: Any) -> Cost:
    return build_cost(name, decode_target=decode, decode_source=decode_source, **settings)


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, torch.tensor, partial(torch.tensor, dtype=torch.bfloat16)]
)
def test_an_own_function_sees_all_texts_in_one_call(kind: Callable[[list[float]], Any]) -> None:
    calls = []

    def function(sources: list[str], translations: list[str], references: list[list[str]]) -> Any:
        calls.append((sources, translations, references))
        return kind([len(text) + 0.5 for text in translations])

    cost = OnText(function, decode, decode_source)
    batch = make_batch([[[2]], [[3], [3, 4]], [], [[5]]])
    found = score(cost, [[10], [3, 4], [10], [8, 9], [8, 14, 15], [10]], [1, 2, 0, 1, 1, 1], batch)
    sources, translations, references = calls.pop()
    assert not calls
    assert sources == ["source [3]", "source [4]", "source [2]", "source [3]"]
    assert translations == ["sat", "cat Cat", "sat", "3.5"]
    assert references == [["cat", "cat Cat"], [], ["the"], ["cat", "cat Cat"]]
    assert found.dtype == torch.float32
    assert found.tolist() == [3.5, 7.5, 3.5, 3.5, 3.5, 3.5]


def test_an_own_function_is_not_called_for_no_rows() -> None:
    def function(*texts: list[Any]) -> list[float]:
        raise AssertionError

    none = torch.zeros(0, dtype=torch.long)
    cost = OnText(function, decode, decode_source)
    assert cost(none.view(0, 3), none, none, make_batch([[]])).shape == (0,)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], "mine:loss returned 1 for 2 translations"),
        ([1.0, 2.0, 3.0], "returned 3 for 2 translations"),
        ([], "returned 0 for 2 translations"),
        (np.zeros((2, 1)), r"an array of shape \(2, 1\) for 2 translations"),
        (["0.5", "1"], "returned a list of str; it must return a list of numbers"),
        ([None, 1.0], "a list of NoneType, float"),
        ([[1.0], [1.0, 2.0]], "a list of list"),
        (None, "something of type NoneType"),
        (0.5, "something of type float"),
        ((value for value in (0.5, 1.0)), "something of type generator"),
    ],
)
def test_what_an_own_function_returns_is_checked(returned: Any, message: str) -> None:
    cost = OnText(lambda sources, translations, references: returned, decode, decode_source, "mine:loss")
    with pytest.raises(UserError, match=message):
        score(cost, [[2], [3]], [0, 0], make_batch([[[2]]]))


def test_numbers_that_are_not_finite_are_left_to_the_training_loop() -> None:
    values = [0.5, math.nan, math.inf, 1e300]
    cost = OnText(lambda sources, translations, references: values, decode, decode_source, "mine:loss")
    found = score(cost, [[2], [3], [4], [5]], [0, 0, 0, 0], make_batch([[[2]]])).tolist()
    assert found[0] == 0.5
    assert math.isnan(found[1])
    assert found[2:] == [math.inf, math.inf]


def test_own_functions_are_found_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    Path("costs_of_my_own.py").write_text(
        "def loss(sources, translations, references):\n    return [len(text) for text in translations]\nLIMIT = 3\n"
    )
    Path("costs_with_import.py").write_text("import a_module_that_is_not_there\n")
    Path("costs_that_fail.py").write_text("1 / 0\n")
    cost = build("own", function="costs_of_my_own:loss")
    assert score(cost, [[2], [3, 4]], [0, 0], make_batch([[]])).tolist() == [3, 7]
    for name, message in (
        ("costs_of_my_own:lost", "costs_of_my_own.py has no lost"),
        ("costs_of_my_own:LIMIT", "LIMIT is of type int and cannot be called"),
        ("costs_of_nobody:loss", f"no module costs_of_nobody, neither in {tmp_path} nor installed"),
        ("costs_of_nobody.inner:loss", "no module costs_of_nobody, neither"),
        ("costs_with_import:loss", "imports a_module_that_is_not_there, which is not installed"),
        ("sys:nothing", "sys has no nothing"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load_function(name, [])
        assert str(caught.value).startswith(name)
    with pytest.raises(ZeroDivisionError):
        load_function("costs_that_fail:loss", [])
    assert sys.path == path


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ("one", "is called as loss(a, b, *, c), but: too many positional arguments"),
        ("a, b", "got an unexpected keyword argument 'c'"),
        ("a, b, c, d", "missing a required argument: 'd'"),
    ],
)
def test_a_function_that_takes_other_arguments_is_told_so(
    taken: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "taking", raising=False)
    Path("taking.py").write_text(f"def loss({taken}):\n    return 0\ndef any(*all, **named):\n    return 1\n")
    importlib.invalidate_caches()
    with pytest.raises(UserError) as caught:
        load_function("taking:loss", ["a", "b"], ["c"])
    assert str(caught.value).startswith("taking:loss: ")
    assert message in str(caught.value)
    assert load_function("taking:any", ["a", "b"], ["c"])() == 1
    assert load_function("math:hypot", ["x", "y"]) is math.hypot  # which does not say what it takes


def test_a_module_of_the_current_directory_comes_before_an_installed_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    Path("this.py").write_text("def loss(*texts):\n    return [0.5]\n")
    assert load_function("this:loss", [])() == [0.5]


@pytest.mark.parametrize(
    "name", ["loss", "module:", ":loss", "a b:c", "costs.py:loss", "module:a.b", "..m:loss"]
)
def test_names_that_are_no_functions(name: str) -> None:
    with pytest.raises(UserError, match="write module:function, such as"):
        load_function(name, [])


def test_the_table_builds_what_it_says() -> None:
    assert build("bleu", smoothing="floor") == OnTokens(SentenceBleu("floor"))
    assert build("edit_distance") == OnTokens(edit_distance_cost)
    assert build("bleu", smoothing="exp", unit="words") == OnWords(SentenceBleu("exp"), decode, words_13a)
    assert build("chrf") == OnWords(chrf_cost, decode, characters)


def test_the_words_of_another_language_are_those_of_every_cost_but_the_one_on_characters() -> None:
    words = words_by("zh")
    assert build("bleu", unit="words", words=words) == OnWords(SentenceBleu("add_k"), decode, words)
    assert build("chrf", words=words) == OnWords(chrf_cost, decode, characters)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("chrf", {"unit": "tokens"}, "search.cost.unit: chrf has no unit to choose"),
        ("own", {"unit": "words", "function": "math:fsum"}, "search.cost.unit: own has no unit to choose"),
        ("own", {}, "search.cost.function is missing"),
        ("bleu", {"function": "math:fsum"}, "search.cost.function is not used by bleu"),
    ],
)
def test_the_table_refuses_settings_that_do_nothing(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **settings)
