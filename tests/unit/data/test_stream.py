"""A streamed corpus: every sentence once an epoch, the same for any number of processes, and from anywhere on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.batches import Batch, Rows
from l2s_nmt.data.encode import encode_split
from l2s_nmt.data.filters import apply_filters
from l2s_nmt.data.rows import Row, build
from l2s_nmt.data.stream import Opened, Stream
from l2s_nmt.data.tokenizer import train_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.processes import ALONE, Processes
from tests.helpers import sentence_pairs

T = TypeVar("T")
BLOCK = 20
PAIRS = [(source, [target]) for source, target in sentence_pairs(90, seed=1, longest=12)]
"""Four blocks and a half; among them some that are dropped."""
for place, dropped in {
    3: ("", ["fixa"]),
    20: ("balu", [" "]),
    25: ("balu", ["fixa " * 9]),
    89: ("balu " * 30, ["fixa " * 30]),
}.items():
    PAIRS[place] = dropped
EMPTY = [("", [""])] * BLOCK


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    sources, targets = zip(*sentence_pairs(200, seed=2), strict=True)
    return train_tokenizer(
        sources,
        targets,
        algorithm="bpe",
        vocab_size=80,
        joint=True,
        byte_fallback=False,
        character_coverage=1.0,
        directory=tmp_path_factory.mktemp("tokenizer"),
        seed=0,
    )


@dataclass
class Source:
    """A corpus in memory that counts how often it is opened."""

    pairs: list[tuple[str, list[str]]]
    skips: list[int] = field(default_factory=list)

    def __call__(self, skip: int) -> Iterator[Row]:
        self.skips.append(skip)
        rows = ((source, references, line) for line, (source, references) in enumerate(self.pairs, 1))
        return islice(rows, skip, None)


def stream_of(opened: Opened, tokenizer: PreTrainedTokenizerBase, **changes: Any) -> Stream:
    settings: dict[str, Any] = {
        "block_rows": BLOCK,
        "max_ratio": 6.0,
        "max_tokens": 25,
        "batch_tokens": 60,
        "seed": 5,
        "pad": 0,
        "sources_alone": False,
        "processes": ALONE,
        "say": lambda text: None,
    }
    return Stream(opened, tokenizer, **{**settings, **changes})


def blocks_of(stream: Stream, epoch: int) -> Iterator[list[Rows]]:
    number = 0
    while (batches := stream.block(epoch, number)) is not None:
        yield batches
        number += 1


def same(one: Batch, other: Batch) -> bool:
    return one.rows.equal(other.rows) and one.source.equal(other.source) and one.target.equal(other.target)


def loaded(stream: Stream, epoch: int) -> list[list[Batch]]:
    return [[stream.load(rows) for rows in batches] for batches in blocks_of(stream, epoch)]


def sentences(batches: list[list[Batch]]) -> dict[int, tuple[list[int], list[int]]]:
    """Source and target of each row of the corpus; a row twice is an error."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for batch in (batch for block in batches for batch in block):
        for place, row in enumerate(batch.rows.tolist()):
            assert row not in found
            target = batch.target[place, : batch.target_lengths[place]].tolist()
            found[row] = batch.source[place][batch.source_mask[place]].tolist(), target
    return found


def read_plainly(tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[int, tuple[list[int], list[int]]]:
    """The same corpus prepared on disk."""
    text = build(lambda: Source(PAIRS)(0), "whatever")
    kept, _ = apply_filters(text, max_ratio=6.0, drop_duplicates=False, cache_directory=folder)
    encoded, _ = encode_split(
        kept,
        tokenizer,
        max_tokens=25,
        cache_directory=folder,
        origin="corpus",
    )
    lines = kept["line"][:]
    return {lines[row["row"]] - 1: (row["source_ids"], row["target_ids"]) for row in encoded}


def test_every_sentence_once_an_epoch_as_in_a_plain_read(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    expected = read_plainly(tokenizer, tmp_path)
    assert set(range(90)) - set(expected) == {3, 20, 25, 89}
    stream = stream_of(Source(PAIRS), tokenizer)
    for epoch in range(3):
        assert sentences(loaded(stream, epoch)) == expected


def test_a_block_holds_its_own_rows_in_another_order_each_epoch(tokenizer: PreTrainedTokenizerBase) -> None:
    stream = stream_of(Source(PAIRS), tokenizer)
    epochs = [loaded(stream, epoch) for epoch in range(2)]
    assert [len(blocks) for blocks in epochs] == [5, 5]
    for blocks in epochs:
        for number, batches in enumerate(blocks):
            rows = [row for batch in batches for row in batch.rows.tolist()]
            assert {row // BLOCK for row in rows} == {number}
            assert all(batch.source.numel() <= 60 and batch.target.numel() <= 60 for batch in batches)
    orders = {
        tuple(row % BLOCK for batch in batches for row in batch.rows.tolist())
        for blocks in epochs
        for batches in blocks
    }
    assert len(orders) == 10


def test_blocks_of_the_same_sentences_have_orders_of_their_own(tokenizer: PreTrainedTokenizerBase) -> None:
    stream = stream_of(Source(PAIRS[40:60] * 2), tokenizer)
    first, second = (
        [[row % BLOCK for row in batch.rows.tolist()] for batch in batches] for batches in loaded(stream, 0)
    )
    assert first != second


@pytest.mark.parametrize(("epoch", "number"), [(0, 0), (0, 3), (1, 2), (2, 4)])
def test_from_anywhere_on_it_is_as_from_the_beginning(
    tokenizer: PreTrainedTokenizerBase, epoch: int, number: int
) -> None:
    through = stream_of(Source(PAIRS), tokenizer)
    for past in range(epoch):
        list(blocks_of(through, past))
    expected = loaded(through, epoch)[number:]
    source = Source(PAIRS)
    resumed = stream_of(source, tokenizer)
    found = []
    while (batches := resumed.block(epoch, number)) is not None:
        found.append([resumed.load(rows) for rows in batches])
        number += 1
    assert source.skips[0] == (5 - len(expected)) * BLOCK
    for mine, theirs in zip(found, expected, strict=True):
        assert all(same(a, b) for a, b in zip(mine, theirs, strict=True))


def test_it_is_read_in_one_go_and_a_corpus_of_one_block_once(tokenizer: PreTrainedTokenizerBase) -> None:
    source = Source(PAIRS)
    stream = stream_of(source, tokenizer)
    for epoch in range(2):
        list(blocks_of(stream, epoch))
    stream.block(2, 0)
    assert source.skips == [0, 0, 0], "once an epoch"
    small = Source(PAIRS[:BLOCK])
    stream = stream_of(small, tokenizer, block_rows=BLOCK + 1)
    for epoch in range(3):
        assert len(list(blocks_of(stream, epoch))) == 1
    assert small.skips == [0]


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_the_number_of_blocks(tokenizer: PreTrainedTokenizerBase, count: int) -> None:
    stream = stream_of(Source(PAIRS[30 : 30 + count]), tokenizer)
    assert stream.blocks is None
    for epoch in range(2):
        assert len(list(blocks_of(stream, epoch))) == -(-count // BLOCK)
        assert stream.blocks == -(-count // BLOCK)


class Meeting:
    """Where processes that are threads meet."""

    def __init__(self, count: int) -> None:
        self.given: list[Any] = [None] * count
        self.barrier = threading.Barrier(count, timeout=20)


@dataclass(frozen=True)
class Threads(Processes):
    """One of several threads that take each other for processes."""

    meeting: Meeting = field(kw_only=True)

    def gather(self, value: T) -> list[T]:
        self.meeting.given[self.index] = value
        self.meeting.barrier.wait()
        everything = list(self.meeting.given)
        self.meeting.barrier.wait()
        return everything


def in_processes(count: int, task: Callable[[Processes], Any]) -> list[Any]:
    meeting = Meeting(count)
    results: list[Any] = [None] * count

    def run(rank: int) -> None:
        try:
            results[rank] = task(Threads(rank, count, meeting=meeting))
        except UserError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("count", [2, 3])
def test_the_updates_do_not_depend_on_the_number_of_processes(
    tokenizer: PreTrainedTokenizerBase, count: int
) -> None:
    expected = [
        loaded(stream_of(Source(PAIRS), tokenizer), 0),
        loaded(stream_of(Source(PAIRS), tokenizer), 1),
    ]

    def task(processes: Processes) -> list[list[list[Batch]]]:
        stream = stream_of(Source(PAIRS), tokenizer, processes=processes)
        return [loaded(stream, epoch) for epoch in range(2)]

    for found in in_processes(count, task):
        for mine, theirs in zip(found, expected, strict=True):
            for block, other in zip(mine, theirs, strict=True):
                assert all(same(a, b) for a, b in zip(block, other, strict=True))


def test_each_process_encodes_its_share_alone(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[int, list[int]]] = []
    original = Stream._encode

    def noted(self: Stream, rows: list[Row], first: int, share: Any) -> Any:
        shares.append((self._processes.index, list(range(first, first + len(rows)))))
        return original(self, rows, first, share)

    monkeypatch.setattr(Stream, "_encode", noted)
    in_processes(
        2, lambda processes: stream_of(Source(PAIRS[:39]), tokenizer, processes=processes).block(0, 1)
    )
    seen = {rank: [rows for other, rows in shares if other == rank and rows[0] >= BLOCK] for rank in range(2)}
    assert seen == {0: [list(range(20, 29))], 1: [list(range(29, 39))]}


def test_what_is_unsound_ends_all_processes(tokenizer: PreTrainedTokenizerBase) -> None:
    def opened(skip: int) -> Iterator[Row]:
        yield from islice(Source(PAIRS)(0), skip, 30)
        raise UserError("corpus, line 31: no text")

    def task(processes: Processes) -> None:
        list(blocks_of(stream_of(opened, tokenizer, processes=processes), 0))

    assert [str(error) for error in in_processes(2, task)] == ["corpus, line 31: no text"] * 2


def test_blocks_of_which_nothing_is_left(tokenizer: PreTrainedTokenizerBase) -> None:
    pairs = [*PAIRS[40:60], *EMPTY, *PAIRS[60:80], *EMPTY]
    assert [len(batches) > 0 for batches in blocks_of(stream_of(Source(pairs), tokenizer), 0)] == [
        True,
        False,
        True,
        False,
    ]


def test_nothing_left_of_the_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match="the filters leave no training data: kept 0 of 40"):
        list(blocks_of(stream_of(Source(EMPTY * 2), tokenizer), 0))
    with pytest.raises(UserError, match="kept 0 of 0"):
        list(blocks_of(stream_of(Source([]), tokenizer), 0))
    with pytest.raises(
        UserError, match="training data: every sentence pair has more than 1 tokens on a side"
    ):
        list(blocks_of(stream_of(Source(PAIRS[40:60]), tokenizer, max_tokens=1), 0))


def test_what_was_dropped_is_said_once_at_the_end_of_the_first_whole_epoch(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    said: list[str] = []
    stream = stream_of(Source(PAIRS), tokenizer, say=said.append)
    stream.block(0, 3)
    assert [line.partition(": ")[0] for line in said] == ["training data, block 4"] * 2, (
        "the end may never come"
    )
    assert "kept 20 of 20 sentence pairs" in said[0]
    list(blocks_of(stream, 1))
    list(blocks_of(stream, 2))
    first, second = said[2:]
    assert first == "training data: kept 87 of 90 sentence pairs; dropped 2 empty, 1 unequal"
    assert second.startswith("training data: 86 sentence pairs, ")
    assert second.endswith("; dropped 1 long sources and 0 long targets")


def test_of_an_epoch_that_was_joined_on_the_way_nothing_is_said_of_the_whole(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    said: list[str] = []
    stream = stream_of(Source(PAIRS), tokenizer, say=said.append)
    for number in (3, 4, 5):
        stream.block(0, number)
    assert stream.blocks == 5
    assert not [line for line in said if line.startswith("training data: ")]


def test_several_references_and_none(tokenizer: PreTrainedTokenizerBase) -> None:
    pairs = [("balu", ["fixa", "gordu"]), ("keri", ["tepil"])]
    stream = stream_of(Source(pairs), tokenizer)
    (rows,) = stream.block(0, 0) or []
    batch = stream.load(rows)
    order = [batch.rows.tolist().index(row) for row in (0, 1)]
    assert [int((batch.reference_lengths[place] > 0).sum()) for place in order] == [2, 1]
    alone = stream_of(Source([(source, []) for source, _ in pairs]), tokenizer)
    (rows,) = alone.block(0, 0) or []
    assert alone.load(rows).reference_lengths.tolist() == [[0], [0]]
    assert torch.equal(alone.load(rows).target_lengths, torch.tensor([1, 1]))


def test_nothing_is_prepared_any_more_once_it_is_closed(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2s_nmt.data.stream._CHUNK", 1)
    encoded: list[int] = []
    stream = stream_of(Source(PAIRS), tokenizer)
    original = Stream._encode

    def slowly(self: Stream, rows: list[Row], first: int, outcome: Any) -> Any:
        encoded.append(first)
        if first >= BLOCK:
            time.sleep(0.05)
        return original(self, rows, first, outcome)

    monkeypatch.setattr(Stream, "_encode", slowly)
    stream.block(0, 0)
    stream.close()
    assert len(encoded) < BLOCK + 5
