from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from l2s_nmt.data.batches import Batch, Rows, TokenBatches, collate, lengths_of, load_batch, split_batch
from l2s_nmt.data.encoder import SCHEMA

DATA = os.environ.get("L2S_NMT_DATA")

lengths = arrays.arrays(np.int64, st.integers(0, 60), elements=st.integers(1, 40))


def small() -> Batch:
    return collate([[5, 6, 1], [7, 1]], [[8, 1], [9, 10, 11, 1]], np.array([4, 2]), pad=0)


def test_collate() -> None:
    batch = small()
    assert batch.source.tolist() == [[5, 6, 1], [7, 1, 0]]
    assert batch.source_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.target.tolist() == [[8, 1, 0, 0], [9, 10, 11, 1]]
    assert batch.target_lengths.tolist() == [2, 4]
    assert batch.rows.tolist() == [4, 2]
    assert (len(batch), batch.target_tokens) == (2, 6)
    assert {batch.source.dtype, batch.target.dtype, batch.rows.dtype, batch.target_lengths.dtype} == {
        torch.int64
    }
    assert batch.source_mask.dtype == torch.bool


def test_the_target_is_the_only_reference() -> None:
    sources, targets = [[5, 6, 1], [7, 1]], [[8, 1], [9, 10, 11, 1]]
    batches = [
        collate(sources, targets, np.array([4, 2]), 0, references)
        for references in (None, [[target] for target in targets])
    ]
    for batch in batches:
        assert batch.references.shape == (2, 1, 4)
        assert batch.references[:, 0].equal(batch.target)
        assert batch.reference_lengths.tolist() == [[2], [4]]
        assert batch.references.data_ptr() == batch.target.data_ptr(), "not a copy"


def several() -> Batch:
    references = [[[8, 1], [8, 0, 8, 1], [1]], [], [[9, 10, 1]]]
    targets = [[8, 1], [1], [9, 10, 1]]
    return collate([[5, 1], [6, 1], [7, 1]], targets, np.array([4, 2, 7]), 0, references)


def test_several_references_of_some_sentences() -> None:
    batch = several()
    assert batch.references.tolist() == [
        [[8, 1, 0, 0], [8, 0, 8, 1], [1, 0, 0, 0]],
        [[0, 0, 0, 0]] * 3,
        [[9, 10, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert batch.reference_lengths.tolist() == [[2, 4, 1], [0, 0, 0], [3, 0, 0]]
    assert batch.target.tolist() == [[8, 1, 0], [1, 0, 0], [9, 10, 1]]
    assert batch.target_lengths.tolist() == [2, 1, 3]
    assert batch.has_target.tolist() == [True, False, True]
    assert (batch.references.dtype, batch.reference_lengths.dtype) == (torch.int64, torch.int64)


def test_select_and_to_take_the_references_along() -> None:
    chosen = several().select(torch.tensor([2, 0, 2])).to("cpu")
    assert chosen.reference_lengths.tolist() == [[3, 0, 0], [2, 4, 1], [3, 0, 0]]
    assert chosen.references[1, 1].tolist() == [8, 0, 8, 1]
    assert chosen.references[0].equal(chosen.references[2])
    assert several().to("meta").references.device.type == "meta"


def test_without_references() -> None:
    batch = collate([[5, 1], [6, 1]], [[1], [1]], np.array([0, 1]), 3, [[], []])
    assert batch.references.tolist() == [[[3]], [[3]]]
    assert batch.reference_lengths.tolist() == [[0], [0]]
    assert batch.target.tolist() == [[1], [1]]


sequences = st.lists(st.integers(2, 9), max_size=6).map(lambda ids: [*ids, 1])
PAD = 0


def encoded(sources: list[list[int]], references: list[list[list[int]]]) -> Dataset:
    """As `encode_split` returns it."""
    targets = [texts[0] if texts else [1] for texts in references]
    columns = {
        "source_ids": sources,
        "target_ids": targets,
        "reference_ids": references,
        "source_length": list(map(len, sources)),
        "target_length": list(map(len, targets)),
        "row": list(range(len(sources))),
    }
    return Dataset(pa.table(columns, schema=SCHEMA))


@settings(max_examples=60, deadline=None)
@given(
    sentences=st.lists(st.tuples(sequences, st.lists(sequences, max_size=4)), min_size=1, max_size=6),
    data=st.data(),
)
def test_every_token_is_where_it_belongs(
    sentences: list[tuple[list[int], list[list[int]]]], data: Any
) -> None:
    sources, references = [source for source, _ in sentences], [texts for _, texts in sentences]
    rows = data.draw(st.lists(st.integers(0, len(sentences) - 1), max_size=8))
    chosen = [references[row] for row in rows]
    targets = [texts[0] if texts else [1] for texts in chosen]
    given_ids = ([sources[row] for row in rows], targets, np.array(rows, dtype=np.int64), PAD, chosen)
    loaded = load_batch(encoded(sources, references), np.array(rows, dtype=np.int64), PAD)
    for batch in (collate(*given_ids), loaded):
        count, most, width = batch.references.shape
        assert (count, most) == (len(rows), max([1, *map(len, chosen)]))
        assert width == max([0, *map(len, targets), *(len(text) for texts in chosen for text in texts)])
        assert batch.rows.tolist() == rows
        for place, row in enumerate(rows):
            source, target = batch.source[place], batch.target[place]
            assert source[batch.source_mask[place]].tolist() == sources[row]
            assert target[: batch.target_lengths[place]].tolist() == targets[place]
            absent: list[list[int]] = [[]] * (most - len(chosen[place]))
            for reference, tokens, length in zip(
                [*chosen[place], *absent],
                batch.references[place].tolist(),
                batch.reference_lengths[place].tolist(),
                strict=True,
            ):
                assert length == len(reference)
                assert tokens == [*reference, *[PAD] * (width - length)]


def test_pad_id_within_a_sentence_is_a_token() -> None:
    batch = collate([[5, 0, 1], [7]], [[1], [1]], np.array([0, 1]), pad=0)
    assert batch.source_mask.tolist() == [[True, True, True], [True, False, False]]


def test_select_and_to() -> None:
    batch = small().select(torch.tensor([1])).to("cpu")
    assert batch.source.tolist() == [[7, 1, 0]]
    assert batch.rows.tolist() == [2]
    assert len(batch) == 1
    assert small().to("meta").target.device.type == "meta"


def test_load_batch_reads_the_rows_in_order() -> None:
    dataset = encoded([[i] * i + [1] for i in range(5)], [[[i, i, 1], [i] * i + [1]] for i in range(5)])
    batch = load_batch(dataset, np.array([3, 0]), pad=0)
    assert batch.source.tolist() == [[3, 3, 3, 1], [1, 0, 0, 0]]
    assert batch.target.tolist() == [[3, 3, 1], [0, 0, 1]]
    assert batch.references.tolist() == [[[3, 3, 1, 0], [3, 3, 3, 1]], [[0, 0, 1, 0], [1, 0, 0, 0]]]
    assert batch.reference_lengths.tolist() == [[3, 4], [3, 1]]
    assert batch.rows.tolist() == [3, 0]
    assert load_batch(dataset.with_format("numpy"), np.array([3, 0]), pad=0).source.equal(batch.source)
    assert load_batch(dataset.with_format("numpy"), np.array([3]), pad=0).source.tolist() == [[3, 3, 3, 1]]
    for chosen in (dataset, dataset.select([0, 1, 2, 3, 4])):
        source, target = lengths_of(chosen)
        assert (source.tolist(), target.tolist()) == ([1, 2, 3, 4, 5], [3] * 5)
    assert lengths_of(dataset.select([4, 1]))[0].tolist() == [5, 2]


def padded(rows: Rows, source: Rows, target: Rows) -> int:
    return len(rows) * int(max(source[rows].max(), target[rows].max()))


@settings(max_examples=200, deadline=None)
@given(
    source=lengths,
    data=st.data(),
    budget=st.integers(1, 120),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_nothing_is_lost_or_doubled_and_the_budget_holds(
    source: Rows, data: Any, budget: int, seed: int, epoch: int
) -> None:
    target = data.draw(arrays.arrays(np.int64, len(source), elements=st.integers(1, 40)))
    batches = TokenBatches(source, target, budget, seed).epoch(epoch)
    assert sorted(row for rows in batches for row in rows.tolist()) == list(range(len(source)))
    for rows in batches:
        assert len(rows) == 1 or padded(rows, source, target) <= budget
    assert all(rows.dtype == np.int64 for rows in batches)


def random_lengths(count: int) -> tuple[Rows, Rows]:
    generator = np.random.default_rng(0)
    source = generator.integers(2, 100, count)
    return source, np.maximum(1, source + generator.integers(-3, 4, count))


def as_lists(batches: list[Rows]) -> list[list[int]]:
    return [rows.tolist() for rows in batches]


def test_order_follows_from_seed_epoch_and_block() -> None:
    source, target = random_lengths(2_000)
    first = as_lists(TokenBatches(source, target, 500, seed=3).epoch(1))
    sampler = TokenBatches(source, target, 500, seed=3)
    assert as_lists(sampler.epoch(0)) != first
    assert as_lists(sampler.epoch(1)) == first, "earlier epochs must not matter"
    assert as_lists(sampler.epoch(1, 0)) == first != as_lists(sampler.epoch(1, 1))
    assert as_lists(TokenBatches(source, target, 500, seed=4).epoch(1)) != first


def test_order_is_the_same_on_every_machine() -> None:
    source = np.array([3, 9, 4, 4, 8, 2, 7, 3])
    assert as_lists(TokenBatches(source, source[::-1].copy(), 18, seed=1).epoch(0)) == [
        [1, 6],
        [4, 3],
        [0, 7, 5, 2],
    ]


def test_batches_are_well_filled_and_change_with_the_epoch() -> None:
    source, target = random_lengths(60_000)
    sampler = TokenBatches(source, target, 2_000, seed=0)
    batches = sampler.epoch(0)
    real = sum(int(np.maximum(source, target)[rows].sum()) for rows in batches)
    assert real > 0.95 * sum(padded(rows, source, target) for rows in batches), "little padding"
    assert real > 0.9 * 2_000 * len(batches), "full batches"
    other = {frozenset(rows.tolist()) for rows in sampler.epoch(1)}
    assert not other & {frozenset(rows.tolist()) for rows in batches}, "other companions in each epoch"
    widths = [float(source[rows].mean()) for rows in batches]
    assert abs(float(np.corrcoef(widths[:-1], widths[1:])[0, 1])) < 0.1, "lengths come in no order"


def test_where_the_longer_sides_are_alike_the_shorter_ones_are_padded_little() -> None:
    shorter = np.random.default_rng(0).integers(1, 21, 2_000)
    batches = TokenBatches(np.full(2_000, 20), shorter, 200, seed=0).epoch(0)
    assert shorter.sum() > 0.9 * sum(len(rows) * shorter[rows].max() for rows in batches)


def test_a_million_rows_take_seconds() -> None:
    source, target = random_lengths(1_000_000)
    start = time.process_time()
    TokenBatches(source, target, 8_000, seed=0).epoch(0)
    assert time.process_time() - start < 10


@settings(max_examples=200, deadline=None)
@given(values=lengths, parts=st.integers(1, 9))
def test_split_deals_evenly(values: Rows, parts: int) -> None:
    rows = np.arange(100, 100 + len(values))
    dealt = split_batch(rows, values, parts)
    assert len(dealt) == parts
    assert sorted(row for part in dealt for row in part.tolist()) == rows.tolist()
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1
    if len(values) >= parts:
        assert min(sizes) >= 1
    # Dealing back and forth: k-th longest rows of two parts lie within one round of each other.
    ordered = np.sort(values)[::-1]
    for part in dealt:
        mine = np.sort(values[part - 100])[::-1]
        for rank, value in enumerate(mine.tolist()):
            one_round = ordered[rank * parts : (rank + 1) * parts]
            assert one_round.min() <= value <= one_round.max()


def test_split_by_hand() -> None:
    dealt = split_batch(np.array([10, 11, 12, 13, 14]), np.array([1, 5, 3, 4, 2]), 2)
    assert as_lists(dealt) == [[11, 14, 10], [13, 12]]


def test_rows_of_like_length_are_dealt_in_their_order() -> None:
    """However a machine sorts."""
    lengths = np.arange(400) % 3
    by_length = [row for length in (2, 1, 0) for row in range(400) if lengths[row] == length]
    dealt = split_batch(np.arange(400), lengths, 2)
    assert as_lists(dealt) == [
        [row for place, row in enumerate(by_length) if place % 4 in places] for places in ((0, 3), (1, 2))
    ]


@pytest.mark.skipif(DATA is None, reason="L2S_NMT_DATA names no folder of real corpora")
def test_real_lengths_are_packed_well() -> None:
    folder = Path(DATA or "") / "multi30k_de_en"
    counts = [
        np.array([len(line.split()) + 1 for line in (folder / f"train.{language}").open(encoding="utf-8")])
        for language in ("de", "en")
    ]
    batches = TokenBatches(counts[0], counts[1], 1_000, seed=0).epoch(0)
    for side in counts:
        assert side.sum() > 0.85 * sum(len(rows) * side[rows].max() for rows in batches)
