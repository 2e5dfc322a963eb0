"""Costs on tokens against sacrebleu, rapidfuzz and plain Python."""

from __future__ import annotations

import os
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from random import Random

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from l2s_nmt.search.costs.bleu import SentenceBleu, Smoothing, sentence_bleu_cost
from l2s_nmt.search.costs.chrf import chrf_cost
from l2s_nmt.search.costs.cost import TokenCost
from l2s_nmt.search.costs.edit_distance import edit_distance_cost, prefix_distances
from l2s_nmt.search.costs.ngrams import count_type
from l2s_nmt.search.costs.overlap import hamming_cost, unigram_f1_cost
from l2s_nmt.search.costs.table import COSTS
from l2s_nmt.search.costs.ter import ter_cost

KERNELS: dict[str, TokenCost] = {name: row.kernel for name, row in COSTS.items() if row.kernel is not None}
IN_BLOCKS = (sentence_bleu_cost, edit_distance_cost, unigram_f1_cost, ter_cost, chrf_cost)
METHODS: dict[Smoothing, str] = {"exp": "exp", "add_k": "add-k", "floor": "floor"}

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


def sacrebleu_cost(hypotheses: Rows, references: Rows, smoothing: Smoothing) -> Tensor:
    metric = sacrebleu.BLEU(tokenize="none", effective_order=True, smooth_method=METHODS[smoothing])
    texts = ((" ".join(map(str, row)) for row in rows) for rows in (hypotheses, references))
    scores = [metric.sentence_score(ours, [theirs]).score for ours, theirs in zip(*texts, strict=True)]
    return 1 - torch.tensor(scores) / 100


@pytest.mark.parametrize("vocabulary", [1, 2, 4, 40])
@pytest.mark.parametrize("smoothing", METHODS)
def test_bleu_equals_sacrebleu(smoothing: Smoothing, vocabulary: int) -> None:
    hypotheses, references = random_rows(300, 9, vocabulary, 1), random_rows(300, 12, vocabulary, 2)
    # Copies with one word changed, too: longer n-grams than chance would match.
    changed = [[*row[:5], 0, *row[6:]] for row in references]
    hypotheses, references = hypotheses + changed, references + references
    cost = sentence_bleu_cost(*padded(hypotheses), *padded(references), smoothing=smoothing)
    expected = sacrebleu_cost(hypotheses, references, smoothing)
    torch.testing.assert_close(cost, expected, atol=1e-5, rtol=0)
    assert torch.equal(SentenceBleu(smoothing)(*padded(hypotheses), *padded(references)), cost)


@pytest.mark.parametrize("count", [0, 1, 127, 128, 32767, 32768, 100_000])
def test_counts_are_kept_in_the_narrowest_integers_that_hold_them(count: int) -> None:
    wide_enough = [
        dtype for dtype in (torch.int8, torch.int16, torch.int32) if torch.iinfo(dtype).max >= count
    ]
    assert count_type(count) == wide_enough[0]


@pytest.mark.parametrize("length", [126, 127, 128, 129, 256, 300])
def test_bleu_counts_beyond_the_range_of_narrow_integers(length: int) -> None:
    hypotheses, references = [[0] * length, [0, 1] * (length // 2)], [[0] * 128, [0, 1] * 70]
    # One at a time, since the longest of a batch decides on the integers.
    for ours, theirs in zip(hypotheses, references, strict=True):
        cost = sentence_bleu_cost(*padded([ours]), *padded([theirs]))
        torch.testing.assert_close(cost, sacrebleu_cost([ours], [theirs], "exp"), atol=1e-5, rtol=0)


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
    expected = sacrebleu_cost(hypotheses, references, smoothing)
    torch.testing.assert_close(cost, expected, atol=1e-5, rtol=0)


@given(pairs, st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_costs_do_not_depend_on_blocks_padding_or_order(
    batch: list[tuple[list[int], list[int]]], size: int
) -> None:
    hypotheses, references = [ours for ours, _ in batch], [theirs for _, theirs in batch]
    for cost in KERNELS.values():
        whole = cost(*padded(hypotheses), *padded(references))
        wider = cost(*padded(hypotheses, 17, seed=1), *padded(references, 15, seed=2))
        assert torch.equal(wider, whole)
        assert torch.equal(cost(*padded(hypotheses[::-1]), *padded(references[::-1])).flip(0), whole)
        alone = [cost(*padded([ours]), *padded([theirs])) for ours, theirs in batch]
        assert torch.equal(torch.cat(alone), whole)
    for blocked in IN_BLOCKS:
        whole = blocked(*padded(hypotheses), *padded(references))
        assert torch.equal(blocked(*padded(hypotheses), *padded(references), max_elements=size), whole)


@pytest.mark.parametrize("name", [name for name, row in COSTS.items() if row.compares_tokens])
@given(pairs, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_tokens_that_no_reference_has_are_alike(
    name: str, batch: list[tuple[list[int], list[int]]], random: Random
) -> None:
    references = [[token % 2 for token in theirs] for _, theirs in batch]
    cost, costs = KERNELS[name], []
    for _ in range(2):
        renamed = [[token if token < 2 else random.randrange(2, 9) for token in ours] for ours, _ in batch]
        costs.append(cost(*padded(renamed), *padded(references)))
    assert torch.equal(*costs)


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


def test_edit_distance_counts_beyond_the_range_of_narrow_integers() -> None:
    assert edit_distance_cost(*padded([[0] * 33_000]), *padded([[1]])).tolist() == [33_000]


def plain_hamming(ours: list[int], theirs: list[int]) -> float:
    places = list(zip_longest(ours, theirs, fillvalue=-1))
    return sum(left != right for left, right in places) / max(1, len(places))


def plain_f1(ours: list[int], theirs: list[int]) -> float:
    right = (Counter(ours) & Counter(theirs)).total()
    if not right:
        return float(bool(ours or theirs))
    precision, recall = right / len(ours), right / len(theirs)
    return 1 - 2 * precision * recall / (precision + recall)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_hamming_and_unigram_f1_equal_plain_python(batch: list[tuple[list[int], list[int]]]) -> None:
    hypotheses, references = padded([ours for ours, _ in batch]), padded([theirs for _, theirs in batch])
    for cost, plain in ((hamming_cost, plain_hamming), (unigram_f1_cost, plain_f1)):
        found = cost(*hypotheses, *references)
        torch.testing.assert_close(found, torch.tensor([plain(*pair) for pair in batch]))


def test_unigram_f1_counts_beyond_the_range_of_narrow_integers() -> None:
    for ours, theirs in (([0] * 300, [0] * 129), ([0, 1] * 100, [0, 1] * 70), ([0] * 100, [0] * 90)):
        cost = unigram_f1_cost(*padded([ours]), *padded([theirs]))
        torch.testing.assert_close(cost, torch.tensor([plain_f1(ours, theirs)]))


def sacrebleu_ter(hypotheses: Rows, references: Rows) -> Tensor:
    metric = sacrebleu.TER()
    texts = ((" ".join(map(str, row)) for row in rows) for rows in (hypotheses, references))
    scores = [metric.sentence_score(ours, [theirs]).score for ours, theirs in zip(*texts, strict=True)]
    return torch.tensor(scores) / 100


@pytest.mark.parametrize("vocabulary", [1, 2, 4, 40])
def test_ter_equals_sacrebleu(vocabulary: int) -> None:
    hypotheses, references = random_rows(60, 9, vocabulary, 1), random_rows(60, 12, vocabulary, 2)
    # Where the halves are exchanged, and a word is missing, shifts are what is cheapest.
    moved = [row[5:] + row[1:5] for row in references]
    hypotheses, references = hypotheses + moved, references + references
    cost = ter_cost(*padded(hypotheses), *padded(references))
    torch.testing.assert_close(cost, sacrebleu_ter(hypotheses, references))
    if vocabulary > 2:
        assert (cost < edit_distance_cost(*padded(hypotheses), *padded(references))).any()


def test_ter_keeps_to_the_beam_of_sacrebleu() -> None:
    reference = list(range(40))
    # A word may stand so far from its place that sacrebleu, within its beam, counts more edits than there are.
    hypotheses = [reference[30:], reference[:5], [*range(50, 70), *reference[:9]]]
    references = [reference] * 3
    cost = ter_cost(*padded(hypotheses), *padded(references))
    expected = sacrebleu_ter(hypotheses, references)
    torch.testing.assert_close(cost, expected)
    assert (expected > edit_distance_cost(*padded(hypotheses), *padded(references))).any()


def sacrebleu_chrf(hypotheses: Rows, references: Rows) -> Tensor:
    metric = sacrebleu.CHRF()
    texts = (
        ("".join(chr(0x4E00 + token) for token in row) for row in rows) for rows in (hypotheses, references)
    )
    scores = [metric.sentence_score(ours, [theirs]).score for ours, theirs in zip(*texts, strict=True)]
    return 1 - torch.tensor(scores) / 100


@pytest.mark.parametrize("vocabulary", [1, 2, 5, 3000])
def test_chrf_equals_sacrebleu(vocabulary: int) -> None:
    hypotheses, references = random_rows(150, 12, vocabulary, 1), random_rows(150, 15, vocabulary, 2)
    changed = [[*row[:7], 0, *row[8:]] for row in references]
    hypotheses, references = hypotheses + changed, references + references
    cost = chrf_cost(*padded(hypotheses), *padded(references))
    torch.testing.assert_close(cost, sacrebleu_chrf(hypotheses, references), atol=1e-6, rtol=0)
    assert len(set(cost.tolist())) > 20 or vocabulary == 1


@given(pairs, st.integers(1, 2**31 - 5))
@settings(max_examples=30, deadline=None)
def test_chrf_does_not_depend_on_the_numbers_of_characters(
    batch: list[tuple[list[int], list[int]]], first: int
) -> None:
    (ours, our_lengths), (theirs, their_lengths) = (padded([pair[side] for pair in batch]) for side in (0, 1))
    cost = chrf_cost(ours, our_lengths, theirs, their_lengths)
    assert torch.equal(chrf_cost(ours + first, our_lengths, theirs + first, their_lengths), cost)


def test_chrf_tells_ngrams_apart_that_do_not_fit_into_one_integer() -> None:
    ours, theirs = torch.tensor([[0, 1, 2, 3, 1, 2]]), torch.tensor([[3, 1, 2, 3, 1, 2]])
    length = torch.tensor([6])
    cost = chrf_cost(ours, length, theirs, length)
    # With 2^16 numbers, padding included, the first of five has no bit left.
    first = 2**16 - 3 - 3
    assert torch.equal(chrf_cost(ours + first, length, theirs + first, length), cost)


@pytest.mark.parametrize("name", KERNELS)
def test_every_cost_is_zero_for_the_reference_only(name: str) -> None:
    rows = [[3, 1, 2, 1], [2], [1, 1, 1, 1, 1, 1]]
    cost = KERNELS[name]
    assert cost(*padded(rows), *padded(rows)).tolist() == [0, 0, 0]
    worse = [[3, 1, 2], [2, 2], [1, 1, 1, 0, 1, 1]]
    assert (cost(*padded(worse), *padded(rows)) > 0).all()
    assert (cost(*padded([[], [], []], 3), *padded(rows)) == 1).all()


@pytest.mark.parametrize("name", KERNELS)
def test_every_cost_takes_no_rows(name: str) -> None:
    empty, none = torch.zeros(0, 5, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    assert KERNELS[name](empty, none, empty, none).shape == (0,)
