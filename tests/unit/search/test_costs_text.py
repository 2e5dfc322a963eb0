"""Costs on batches: several references, words of the text, weighted sums."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.errors import UserError
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.chrf import characters, chrf_cost
from l2s_nmt.search.costs.combined import WeightedSum
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.costs.table import COSTS, build_cost
from l2s_nmt.search.costs.text import OnWords, words_13a

PAD, EOS = 0, 1
PIECES = [
    "",
    "",
    " the",
    " cat",
    " Cat",
    "s",
    ",",
    ".",
    " 3",
    ".5",
    " sat",
    " on",
    " mat",
    "!",
    " -",
    "5",
    " «",
    "é",
]
NAMES = [name for name in COSTS if name != "own"]

Rows = list[list[int]]
sentences = st.lists(st.integers(2, len(PIECES) - 1), max_size=9)
cases = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=6)


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


ALL_COSTS = [build(name, unit=unit) for name in NAMES for unit in COSTS[name].units or (None,)]


@pytest.mark.parametrize("cost", ALL_COSTS)
@given(cases)
@settings(max_examples=15, deadline=None)
def test_of_several_references_the_nearest_counts(cost: Cost, batch: list[tuple[list[int], Rows]]) -> None:
    hypotheses, references = [ours for ours, _ in batch], [theirs for _, theirs in batch]
    found = score(cost, hypotheses, list(range(len(batch))), make_batch(references))
    alone = [
        [float(score(cost, [ours], [0], make_batch([[theirs]]))) for theirs in rows] for ours, rows in batch
    ]
    assert found.dtype == torch.float32
    assert found.tolist() == [min(costs) for costs in alone]


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_costs_do_not_depend_on_padding_order_or_company(cost: Cost) -> None:
    random = Random(1)
    rows = [[random.randrange(2, len(PIECES)) for _ in range(random.randrange(9))] for _ in range(60)]
    references = [rows[0:2], rows[2:3], rows[3:6]]
    hypotheses, sentence = rows[6:], [random.randrange(3) for _ in rows[6:]]
    hypotheses, sentence = hypotheses + hypotheses[:20], sentence + sentence[:20]
    batch = make_batch(references)
    whole = score(cost, hypotheses, sentence, batch)
    assert len(set(whole.tolist())) > 3
    assert torch.equal(score(cost, hypotheses, sentence, batch, width=15), whole)
    assert torch.equal(score(cost, hypotheses[::-1], sentence[::-1], batch).flip(0), whole)
    parts = [score(cost, hypotheses[part], sentence[part], batch) for part in (slice(0, 13), slice(13, None))]
    assert torch.equal(torch.cat(parts), whole)
    turned = score(cost, hypotheses, [2 - row for row in sentence], batch.select(torch.tensor([2, 1, 0])))
    assert torch.equal(turned, whole)


@pytest.mark.parametrize("cost", ALL_COSTS)
def test_costs_of_no_rows(cost: Cost) -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert cost(none.view(0, 4), none, none, make_batch([[[2]]])).shape == (0,)


@pytest.mark.parametrize("cost", ALL_COSTS)
@pytest.mark.parametrize("references", [[[], []], [[[2]], []]])
def test_costs_that_compare_refuse_a_sentence_without_reference(cost: Cost, references: list[Rows]) -> None:
    with pytest.raises(UserError, match="without a target"):
        score(cost, [[2], [3]], [0, 1], make_batch(references))


def word_distance(ours: str, theirs: str) -> float:
    right = words_13a(theirs)
    return float(Levenshtein.distance(words_13a(ours), right)) / max(1, len(right))


Oracle = Callable[[str, str], float]
ORACLES: dict[str, tuple[Cost, Oracle]] = {
    "bleu": (
        OnWords(SentenceBleu(), decode),
        lambda ours, theirs: 1 - sacrebleu.sentence_bleu(ours, [theirs]).score / 100,
    ),
    "bleu_add_k": (
        build("bleu", unit="words"),
        lambda ours, theirs: (
            1 - sacrebleu.sentence_bleu(ours, [theirs], smooth_method="add-k", smooth_value=1).score / 100
        ),
    ),
    "chrf": (build("chrf"), lambda ours, theirs: 1 - sacrebleu.sentence_chrf(ours, [theirs]).score / 100),
    "ter": (
        build("ter", unit="words"),
        lambda ours, theirs: float(sacrebleu.sentence_ter(ours, [theirs]).score / 100),
    ),
    "edit_distance": (build("edit_distance", unit="words"), word_distance),
}


@pytest.mark.parametrize("name", ORACLES)
@given(cases)
@settings(max_examples=15, deadline=None)
def test_costs_on_words_are_those_of_the_text(name: str, batch: list[tuple[list[int], Rows]]) -> None:
    cost, oracle = ORACLES[name]
    hypotheses, references = [ours for ours, _ in batch], [theirs for _, theirs in batch]
    found = score(cost, hypotheses, list(range(len(batch))), make_batch(references))
    expected = [
        min(oracle(*decode([ours, theirs])) for theirs in rows)
        for ours, rows in zip(hypotheses, references, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_hyphen_joins_lines_within_a_text_and_not_at_its_end() -> None:
    assert words_13a("a well-\nknown well-\n") == ["a", "wellknown", "well-"]
    assert sacrebleu.sentence_bleu("well-\n", ["well-"], use_effective_order=True).score == pytest.approx(100)


def test_words_differ_from_tokens() -> None:
    batch = make_batch([[[2, 3, 5, 7]]])
    assert score(build("edit_distance"), [[2, 3, 7]], [0], batch).tolist() == [0.25]
    # "the cat." against "the cats.": one of three words.
    words = score(build("edit_distance", unit="words"), [[2, 3, 7]], [0], batch)
    torch.testing.assert_close(words, torch.tensor([1 / 3]))


def corrupted(line: str, other: str, random: Random) -> str:
    """A line less a word, with one of another line, and at times with its halves exchanged."""
    words, others = line.split(), other.split()
    words[random.randrange(len(words))] = random.choice(others)
    del words[random.randrange(len(words))]
    half = random.randrange(len(words)) if words and random.random() < 0.5 else 0
    return " ".join(words[half:] + words[:half] + others[: random.randrange(3)])


def real_pairs(count: int) -> list[tuple[str, str]]:
    path = Path(os.environ["L2S_NMT_DATA"]) / "multi30k_de_en" / "valid.en"
    if not path.exists():
        pytest.skip(f"no {path}")
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    random = Random(1)
    return [(corrupted(line, random.choice(lines), random), line) for line in lines]


@pytest.mark.skipif("L2S_NMT_DATA" not in os.environ, reason="L2S_NMT_DATA names no folder of real text")
@pytest.mark.parametrize("name", ["bleu", "chrf", "ter", "edit_distance"])
def test_costs_on_words_are_those_of_real_text(name: str) -> None:
    pairs = real_pairs(200)
    pieces: dict[str, int] = {}

    def encode(line: str) -> list[int]:
        """Pieces of three characters: tokens that are no words."""
        return [pieces.setdefault(line[i : i + 3], 2 + len(pieces)) for i in range(0, len(line), 3)]

    def join(ids: Rows) -> list[str]:
        spelled = {token: piece for piece, token in pieces.items()}
        return ["".join(spelled[token] for token in row) for row in ids]

    hypotheses, references = [encode(ours) for ours, _ in pairs], [[encode(theirs)] for _, theirs in pairs]
    cost = build_cost(
        name,
        decode_target=join,
        decode_source=join,
        smoothing="exp",
        unit="words" if COSTS[name].units else None,
    )
    found = score(cost, hypotheses, list(range(len(pairs))), make_batch(references))
    expected = torch.tensor([ORACLES[name][1](*pair) for pair in pairs])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_equal_sequences_are_decoded_once_and_equal_texts_scored_once() -> None:
    decoded: Rows = []
    rows = []

    def spy(ids: Rows) -> list[str]:
        decoded.extend(ids)
        return decode(ids)

    def kernel(ours: Tensor, lengths: Tensor, theirs: Tensor, their_lengths: Tensor) -> Tensor:
        rows.append(len(ours))
        return chrf_cost(ours, lengths, theirs, their_lengths)

    # "the" and "3.5" each in two spellings; the first is a reference, too.
    hypotheses = [[2], [8, 9], [2], [8, 7, 15], [2], [2]]
    found = score(
        OnWords(kernel, spy, characters), hypotheses, [0, 0, 0, 0, 1, 1], make_batch([[[2]], [[3], [3, 4]]])
    )
    assert sorted(decoded) == sorted([[2], [8, 9], [8, 7, 15], [3], [3, 4]])
    assert rows == [3, 3]
    assert found[0] == found[2] == 0
    assert found[1] == found[3]
    assert found[4] == found[5] > 0


def test_weighted_sum() -> None:
    batch = make_batch([[[2, 3, 4]], [[5, 6]]])
    parts = OnTokens(edit_distance_cost), build("chrf")
    costs = [score(part, [[2, 3], [5, 2]], [0, 1], batch) for part in parts]
    total = score(WeightedSum(((0.25, parts[0]), (2.0, parts[1]))), [[2, 3], [5, 2]], [0, 1], batch)
    torch.testing.assert_close(total, 0.25 * costs[0] + 2 * costs[1])
