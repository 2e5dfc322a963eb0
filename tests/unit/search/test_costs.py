"""Costs against sacrebleu and rapidfuzz."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from l2s_nmt.search.costs import (
    COSTS,
    SentenceBleu,
    Smoothing,
    edit_distance_cost,
    prefix_distances,
    sentence_bleu_cost,
)

METHODS: dict[Smoothing, str] = {"exp": "exp", "add_k": "add-k", "floor": "floor", "none": "none"}

Rows = list[list[int]]
sentences = st.lists(st.integers(0, 3), max_size=12)
pairs = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=8)


def padded(rows: Rows, width: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The rows as a batch, with junk behind them, and their lengths."""
    width = max(width, *map(len, rows))
    junk = torch.randint(0, 4, (len(rows), width), generator=torch.Generator().manual_seed(seed))
    for row, values in zip(junk, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.long)
    return junk, torch.tensor([len(row) for row in rows])


def random_rows(count: int, longest: int, vocabulary: int, seed: int) -> Rows:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (count,), generator=draw).tolist()
    return [torch.randint(0, vocabulary, (n,), generator=draw).tolist() for n in lengths]


def sacrebleu_cost(hypotheses: Rows, references: Rows, smoothing: Smoothing, value: float | None) -> Tensor:
    metric = sacrebleu.BLEU(
        tokenize="none", effective_order=True, smooth_method=METHODS[smoothing], smooth_value=value
    )
    texts = ((" ".join(map(str, row)) for row in rows) for rows in (hypotheses, references))
    scores = [metric.sentence_score(ours, [theirs]).score for ours, theirs in zip(*texts, strict=True)]
    return 1 - torch.tensor(scores) / 100


@pytest.mark.parametrize("vocabulary", [1, 2, 4, 40])
@pytest.mark.parametrize(
    ("smoothing", "value"),
    [("exp", None), ("add_k", None), ("add_k", 0.3), ("floor", None), ("floor", 0.02), ("none", None)],
)
def test_bleu_equals_sacrebleu(smoothing: Smoothing, value: float | None, vocabulary: int) -> None:
    hypotheses, references = random_rows(300, 9, vocabulary, 1), random_rows(300, 12, vocabulary, 2)
    # Copies with one word changed, too: longer n-grams than chance would match.
    changed = [[*row[:5], 0, *row[6:]] for row in references]
    hypotheses, references = hypotheses + changed, references + references
    cost = sentence_bleu_cost(
        *padded(hypotheses), *padded(references), smoothing=smoothing, smoothing_value=value
    )
    expected = sacrebleu_cost(hypotheses, references, smoothing, value)
    torch.testing.assert_close(cost, expected, atol=1e-5, rtol=0)
    assert torch.equal(SentenceBleu(smoothing, value)(*padded(hypotheses), *padded(references)), cost)


@pytest.mark.parametrize("length", [126, 127, 128, 129, 256, 300])
def test_bleu_counts_beyond_the_range_of_narrow_integers(length: int) -> None:
    hypotheses, references = [[0] * length, [0, 1] * (length // 2)], [[0] * 128, [0, 1] * 70]
    cost = sentence_bleu_cost(*padded(hypotheses), *padded(references))
    torch.testing.assert_close(cost, sacrebleu_cost(hypotheses, references, "exp", None), atol=1e-5, rtol=0)


@pytest.mark.skipif("L2S_NMT_DATA" not in os.environ, reason="L2S_NMT_DATA names no folder of real text")
@pytest.mark.parametrize("smoothing", METHODS)
def test_bleu_equals_sacrebleu_on_real_text(smoothing: Smoothing) -> None:
    path = Path(os.environ["L2S_NMT_DATA"]) / "multi30k_de_en" / "test.en"
    if not path.exists():
        pytest.skip(f"no {path}")
    ids: dict[str, int] = {}
    lines = path.read_text(encoding="utf-8").splitlines()[:400]
    references = [[ids.setdefault(word, len(ids)) for word in line.split()] for line in lines]
    # A caption less its fourth word, followed by the start of the next one.
    following = references[1:] + references[:1]
    hypotheses = [row[:3] + row[4:] + after[:2] for row, after in zip(references, following, strict=True)]
    cost = sentence_bleu_cost(*padded(hypotheses), *padded(references), smoothing=smoothing)
    expected = sacrebleu_cost(hypotheses, references, smoothing, None)
    torch.testing.assert_close(cost, expected, atol=1e-5, rtol=0)


@given(pairs, st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_costs_do_not_depend_on_blocks_padding_or_order(
    batch: list[tuple[list[int], list[int]]], size: int
) -> None:
    hypotheses, references = [ours for ours, _ in batch], [theirs for _, theirs in batch]
    for cost in (sentence_bleu_cost, edit_distance_cost):
        whole = cost(*padded(hypotheses), *padded(references))
        assert torch.equal(cost(*padded(hypotheses), *padded(references), max_elements=size), whole)
        wider = cost(*padded(hypotheses, 17, seed=1), *padded(references, 15, seed=2))
        assert torch.equal(wider, whole)
        assert torch.equal(cost(*padded(hypotheses[::-1]), *padded(references[::-1])).flip(0), whole)


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_prefix_distances_equal_rapidfuzz(batch: list[tuple[list[int], list[int]]]) -> None:
    hypotheses, _ = padded([ours for ours, _ in batch])
    references, _ = padded([theirs for _, theirs in batch], seed=1)
    table = prefix_distances(hypotheses, references)
    assert table.shape == (len(batch), hypotheses.shape[1] + 1, references.shape[1] + 1)
    for row, ours, theirs in zip(table, hypotheses.tolist(), references.tolist(), strict=True):
        for i in range(len(ours) + 1):
            expected = [Levenshtein.distance(ours[:i], theirs[:j]) for j in range(len(theirs) + 1)]
            assert row[i].tolist() == expected


def test_edit_distance_cost_equals_rapidfuzz() -> None:
    hypotheses, references = random_rows(400, 30, 6, 3), random_rows(400, 25, 6, 4)
    cost = edit_distance_cost(*padded(hypotheses), *padded(references))
    rows = zip(hypotheses, references, strict=True)
    expected = [Levenshtein.distance(ours, theirs) / max(1, len(theirs)) for ours, theirs in rows]
    torch.testing.assert_close(cost, torch.tensor(expected))


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_is_zero_for_the_reference_only(name: str) -> None:
    rows = [[3, 1, 2, 1], [2], [1, 1, 1, 1, 1, 1]]
    cost = COSTS[name]
    assert cost(*padded(rows), *padded(rows)).tolist() == [0, 0, 0]
    worse = [[3, 1, 2], [2, 2], [1, 1, 1, 0, 1, 1]]
    assert (cost(*padded(worse), *padded(rows)) > 0).all()
    assert (cost(*padded([[], [], []], 3), *padded(rows)) == 1).all()


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_takes_no_rows(name: str) -> None:
    empty, none = torch.zeros(0, 5, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    assert COSTS[name](empty, none, empty, none).shape == (0,)
