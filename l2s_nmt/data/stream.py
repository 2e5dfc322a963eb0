"""A corpus read as it is trained on, a block at a time, with nothing prepared on disk.

The corpus is a sequence of blocks of so many rows, in its own order. A block is filtered, encoded, shuffled and cut
into batches of similar length, which follows from its rows, the seed, the epoch and its number alone; so a run goes
on at a batch of a block of an epoch. What comes before it is skipped without being looked at.

Of several processes, each filters and encodes its share of the rows of a block, while the block before is trained
on; then they exchange what they have, and all know the whole block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Event

import pyarrow as pa
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.batches import Batch, Rows, TokenBatches, lengths_of, load_batch, split_batch
from l2s_nmt.data.encode import EncodingReport, drop_long, encoding_report, nothing_short_enough
from l2s_nmt.data.encoder import SCHEMA, Encoder
from l2s_nmt.data.filters import FilterReport, Reason, filter_report, first_references, why_dropped
from l2s_nmt.data.rows import Row
from l2s_nmt.data.ticker import Say
from l2s_nmt.data.tokenizer import copied
from l2s_nmt.errors import UserError
from l2s_nmt.processes import Processes

Opened = Callable[[int], Iterator[Row]]
"""Gives the rows of a corpus after so many that are skipped, as `open_split` does."""

_CHUNK = 10_000  # rows encoded at a time


@dataclass(frozen=True)
class _Outcome:
    """What became of some rows."""

    dropped: Counter[Reason] = field(default_factory=Counter)
    """By the filters."""
    counts: Counter[str] = field(default_factory=Counter)
    """As `drop_long` counts."""

    def __add__(self, other: _Outcome) -> _Outcome:
        return _Outcome(self.dropped + other.dropped, self.counts + other.counts)


@dataclass(frozen=True)
class _Share:
    """What one process makes of its share of a block."""

    rows: int
    """Of the whole block, before the filters."""
    encoded: list[pa.RecordBatch] = field(default_factory=list)
    outcome: _Outcome = field(default_factory=_Outcome)
    problem: str | None = None
    """What is unsound in the corpus."""


@dataclass(frozen=True)
class _Block:
    """A block as all processes know it."""

    rows: int
    """Before the filters."""
    encoded: Dataset
    numbers: Rows
    """(N,) of the rows, from the head of the corpus."""
    batches: TokenBatches
    outcome: _Outcome


class Stream:
    """The batches of a corpus that is read as it is trained on.

    Args:
        opened: the corpus.
        tokenizer: of the model; copied, so that others may use it at the same time.
        block_rows: rows of a block, before the filters.
        max_ratio: as for `apply_filters`.
        max_tokens: pairs with more on a side are dropped; EOS counts.
        batch_tokens: as for `TokenBatches`.
        seed: of the order.
        pad: id of padding.
        sources_alone: the corpus has no references.
        processes: among which the work is shared; the result does not depend on their number.
        say: is told what was dropped, at the end of the first epoch.
    """

    def __init__(
        self,
        opened: Opened,
        tokenizer: PreTrainedTokenizerBase,
        *,
        block_rows: int,
        max_ratio: float | None,
        max_tokens: int,
        batch_tokens: int,
        seed: int,
        pad: int,
        sources_alone: bool,
        processes: Processes,
        say: Say,
    ) -> None:
        self._reader = _Reader(opened, block_rows)
        self._encoder = Encoder(copied(tokenizer), threads=1)
        self._block_rows = block_rows
        self._max_ratio = max_ratio
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._pad = pad
        self._processes = processes
        self._say = say
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._closed = Event()
        self._coming: tuple[int, Future[_Share]] | None = None
        self._number = -1
        self._block: _Block | None = None
        self._seen: dict[int, _Outcome] = {}
        self._reported = False
        self._sources_alone = sources_alone
        self.blocks: int | None = None
        """Number of blocks of the corpus; None until its end was reached."""

    def block(self, epoch: int, number: int) -> list[Rows] | None:
        """The batches of a block in order, as `TokenBatches.epoch` returns them; from then on `load` is of this block.

        All processes call this at the same time.

        Returns:
            The batches, none where all of the block was dropped; None behind the last block.

        Raises:
            UserError: the corpus is unsound, or nothing is left of all of it.
        """
        if number != self._number and number != self.blocks:
            self._take(number)
            if len(self._seen) == 1 and self.blocks is None:  # its end may be days away, or never come
                for report in self._reports():
                    self._say(f"training data, block {number + 1}: {report}")
        if number == self.blocks:
            self._report()
            return None
        return self._current().batches.epoch(epoch, number)

    def split(self, rows: Rows, parts: int) -> list[Rows]:
        """The rows of a batch in so many parts, as `split_batch` deals them."""
        return split_batch(rows, self._current().batches.widths[rows], parts)

    def load(self, rows: Rows) -> Batch:
        """The batch of some rows of the block; its own `rows` are counted from the head of the corpus."""
        block = self._current()
        batch = load_batch(block.encoded, rows, self._pad)
        return replace(batch, rows=torch.from_numpy(block.numbers[rows]))

    def close(self) -> None:
        """End what is being prepared, for which the process would wait at its end."""
        self._closed.set()
        self._worker.shutdown(cancel_futures=True)

    def _current(self) -> _Block:
        if self._block is None:
            raise RuntimeError("no block has been asked for yet")
        return self._block

    def _take(self, number: int) -> None:
        """Make a block the current one, and begin the next; or learn that there is none."""
        if self._coming is None or self._coming[0] != number:
            self._begin(number)
        assert self._coming is not None
        block = self._join(self._processes.gather(self._coming[1].result()))
        if block.rows < self._block_rows:
            self.blocks = number + 1 if block.rows else number
        if block.rows:
            self._number, self._block = number, block
            self._seen[number] = block.outcome
        following = 0 if self.blocks is not None and number + 1 >= self.blocks else number + 1
        if following != self._number:
            self._begin(following)

    def _begin(self, number: int) -> None:
        self._coming = number, self._worker.submit(self._share, number)

    def _share(self, number: int) -> _Share:
        try:
            rows = self._reader.read(number)
            index, count = self._processes.index, self._processes.count
            begin, end = len(rows) * index // count, len(rows) * (index + 1) // count
            share = _Share(len(rows))
            first = number * self._block_rows
            for start in range(begin, end, _CHUNK):
                if self._closed.is_set():
                    break
                chunk = rows[start : min(start + _CHUNK, end)]
                share.encoded.append(self._encode(chunk, first + start, share.outcome))
            return share
        except UserError as error:
            return _Share(0, problem=str(error))

    def _encode(self, rows: Sequence[Row], first: int, outcome: _Outcome) -> pa.RecordBatch:
        sources, references, _ = (list(column) for column in zip(*rows, strict=True))
        reasons = [
            why_dropped(source, reference, self._max_ratio)
            for source, reference in first_references(sources, references)
        ]
        outcome.dropped.update(reason for reason in reasons if reason is not None)
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        encoded = self._encoder([sources[i] for i in kept], [references[i] for i in kept], 0)
        lines = pa.array([first + index for index in kept], pa.int64())
        encoded = encoded.set_column(SCHEMA.get_field_index("row"), SCHEMA.field("row"), lines)
        return drop_long(encoded, self._max_tokens, outcome.counts)

    def _join(self, shares: list[_Share]) -> _Block:
        problem = next((share.problem for share in shares if share.problem is not None), None)
        if problem is not None:
            raise UserError(problem)
        table = pa.Table.from_batches([batch for share in shares for batch in share.encoded], SCHEMA)
        encoded = Dataset(table, fingerprint="block")  # its own would be a hash of the whole table
        return _Block(
            shares[0].rows,
            encoded,
            table["row"].to_numpy(),
            TokenBatches(*lengths_of(encoded), self._batch_tokens, self._seed),
            sum((share.outcome for share in shares), _Outcome()),
        )

    def _reports(self) -> tuple[FilterReport, EncodingReport]:
        """What became of the blocks that were seen."""
        outcome = sum(self._seen.values(), _Outcome())
        encoding = encoding_report(outcome.counts)
        rows = encoding.total + outcome.dropped.total()
        return filter_report(rows, outcome.dropped, self._sources_alone), encoding

    def _report(self) -> None:
        """Say once what became of the corpus, if all of it was seen."""
        if self._reported or len(self._seen) != self.blocks:
            return
        report, encoding = self._reports()
        if not report.kept:
            raise UserError(f"the filters leave no training data: {report}; loosen them or check the corpus")
        if not encoding.kept:
            raise UserError(f"training data: {nothing_short_enough(self._max_tokens)}")
        self._reported = True
        self._say(f"training data: {report}")
        self._say(f"training data: {encoding}")


class _Reader:
    """Reads the blocks of a corpus; without a pause where they are asked for in their order."""

    def __init__(self, opened: Opened, block_rows: int) -> None:
        self._opened = opened
        self._block_rows = block_rows
        self._rows: Iterator[Row] = iter(())
        self._next = -1

    def read(self, number: int) -> list[Row]:
        if number != self._next:
            self._rows = self._opened(number * self._block_rows)
        self._next = number + 1
        return list(islice(self._rows, self._block_rows))
