"""Batches of similar length within a budget of tokens, in an order that follows from seed and epoch alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
Lengths = NDArray[np.integer[Any]]

_POOL = 100  # batches that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """B sentence pairs of one batch, padded on the right.

    Of sources without references, the target is EOS alone and `reference_lengths` is 0.
    """

    source: Tensor
    """(B, S) long: source tokens with EOS, padded with pad."""
    source_mask: Tensor
    """(B, S) bool: True where `source` is a token and not padding."""
    target: Tensor
    """(B, T) long: tokens of the first reference with EOS, padded with pad."""
    target_lengths: Tensor
    """(B,) long: tokens of each target, EOS included."""
    references: Tensor
    """(B, M, R) long: tokens of all references with EOS, padded with pad; M >= 1, R >= T. The first is `target`."""
    reference_lengths: Tensor
    """(B, M) long: tokens of each reference, EOS included; 0 where a sentence has fewer than M."""
    rows: Tensor
    """(B,) long: row of each pair in the encoded dataset."""

    def __len__(self) -> int:
        return int(self.rows.numel())

    @property
    def target_tokens(self) -> int:
        """Number of target tokens in the batch, EOS included, padding not."""
        return int(self.target_lengths.sum())

    @property
    def has_target(self) -> Tensor:
        """(B,) bool: where there is one; EOS alone stands for a target that is not there."""
        return self.target_lengths > 1

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def select(self, indices: Tensor) -> Batch:
        """The pairs at these positions (M,) long of the batch, in this order; the padded widths stay."""
        return self._map(lambda tensor: tensor[indices])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def collate(
    source_ids: Sequence[Sequence[int]],
    target_ids: Sequence[Sequence[int]],
    rows: Rows,
    pad: int,
    reference_ids: Sequence[Sequence[Sequence[int]]] | None = None,
) -> Batch:
    """Pad ids (ragged) to a batch.

    Args:
        source_ids: of each of B sentences, EOS included.
        target_ids: of the first reference of each sentence; EOS alone where it has none.
        rows: (B,) rows of the sentences in the encoded dataset.
        pad: id of padding.
        reference_ids: of all references of each sentence, the first of them its target; None: of each the
            target alone.
    """
    references = None if reference_ids is None else _References.of(reference_ids)
    return _batch(_Ragged.of(source_ids), _Ragged.of(target_ids), references, rows, pad)


def load_batch(dataset: Dataset, rows: Rows, pad: int) -> Batch:
    """Read rows (B,) of a dataset from `encode_split` as a batch."""
    names = ["source_ids", "target_ids", "reference_ids"]
    table = dataset.select_columns(names).with_format("arrow")[rows]
    source, target = (_Ragged.of_arrow(table[name].combine_chunks()) for name in names[:2])
    nested = table["reference_ids"].combine_chunks()
    references = _References(_Ragged.of_arrow(nested.flatten()), _list_lengths(nested))
    return _batch(source, target, references, rows, pad)


def lengths_of(dataset: Dataset) -> tuple[Lengths, Lengths]:
    """Source and target lengths (N,) of a dataset from `encode_split`, EOS included."""
    names = ["source_length", "target_length"]
    tables = list(dataset.select_columns(names).with_format("arrow").iter(100_000))
    none = np.zeros(0, dtype=np.int32)
    source, target = (np.concatenate([none, *(table[name].to_numpy() for table in tables)]) for name in names)
    return source, target


def longest_first(rows: Iterable[int], widths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Rows in batches of similar width, the longest first so that memory runs out early or never.

    Args:
        rows: numbers into the widths.
        widths: tokens of each row.
        tokens_per_batch: most of rows * widest row. A longer row is a batch alone.
    """
    ordered = sorted(rows, key=lambda row: -widths[row])
    while ordered:
        count = max(1, tokens_per_batch // max(1, widths[ordered[0]]))
        yield ordered[:count]
        ordered = ordered[count:]


class TokenBatches:
    """Cuts a corpus into batches of at most `tokens_per_batch` padded tokens, anew in each epoch.

    The rows are shuffled, cut into pools of about a hundred batches, and sorted by length within each pool;
    so a batch holds sentences of similar length but other ones in each epoch. The order of the batches is
    shuffled too. Epoch e depends on (seed, e) and the lengths alone: a run resumes at batch b of epoch e by
    skipping b batches. Where the rows are one block of a larger corpus, the number of the block counts, too.

    Args:
        source_lengths: (N,) tokens of each source, EOS included.
        target_lengths: (N,) tokens of each target, EOS included.
        tokens_per_batch: most of rows * longest sentence of either side. A longer sentence is a batch alone.
        seed: of the order.
    """

    def __init__(
        self, source_lengths: Lengths, target_lengths: Lengths, tokens_per_batch: int, seed: int
    ) -> None:
        self.widths = np.maximum(source_lengths, target_lengths).astype(np.int32)
        """(N,) tokens of the longer side."""
        # Shorter sides break ties, so that the other side is padded little as well.
        self._shorter = np.minimum(source_lengths, target_lengths).astype(np.int32)
        self._budget = tokens_per_batch
        self._seed = seed

    def epoch(self, epoch: int, block: int = 0) -> list[Rows]:
        """The batches of one epoch (counted from 0) in order: each the rows (B,) of its sentences.

        Every row is in exactly one batch. The number of batches may differ a little from epoch to epoch.
        """
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch, block]))
        order = generator.permutation(len(self.widths))
        pools = self._number_of_pools()
        borders = [-(-number * len(order) // pools) for number in range(pools + 1)]
        batches: list[Rows] = []
        for begin, end in pairwise(borders):
            pool = order[begin:end]
            batches += self._cut(pool[np.lexsort((self._shorter[pool], self.widths[pool]))])
        return [batches[index] for index in generator.permutation(len(batches))]

    def _number_of_pools(self) -> int:
        return max(1, round(int(self.widths.sum(dtype=np.int64)) / (self._budget * _POOL)))

    def _cut(self, rows: Rows) -> list[Rows]:
        """Cut rows in ascending order of width greedily: rows * last width <= budget, one row at least."""
        widths = self.widths[rows].tolist()
        batches = []
        begin = 0
        while begin < len(widths):
            # The padded size grows with every row, so the last row that fits is found by bisection.
            fits = range(begin, min(len(widths), begin + self._budget // max(widths[begin], 1)))
            size = bisect_right(fits, self._budget, key=lambda last: (last - begin + 1) * widths[last])
            end = begin + max(size, 1)
            batches.append(rows[begin:end])
            begin = end
        return batches


def split_batch(indices: Rows, lengths: Lengths, parts: int) -> list[Rows]:
    """Deal the rows of one update out to `parts` = processes * accumulation steps.

    The rows are dealt from the longest to the shortest, back and forth (0, 1, 2, 2, 1, 0, ...): the numbers
    of rows differ by one at most, and every part has nearly the same lengths. Contiguous chunks of the
    sorted rows would be padded a little less, but processes wait for each other in every step, so the one
    with the longest chunk would set the pace and the memory; a batch has been bucketed by length before, so
    there is little padding to save. How rows are dealt changes nothing in the sum of their losses.

    Args:
        indices: (B,) rows of the batch.
        lengths: (B,) length of each of them, in the order of `indices`.
        parts: at least 1.

    Returns:
        `parts` arrays that hold each of `indices` once; some are empty only if B < `parts`.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    round_, place = np.divmod(np.arange(len(order)), parts)
    part = np.where(round_ % 2 == 0, place, parts - 1 - place)
    dealt = np.asarray(indices, dtype=np.int64)[order]
    return [dealt[part == number] for number in range(parts)]


@dataclass(frozen=True)
class _Ragged:
    """Sequences laid end to end."""

    values: Rows
    lengths: Rows

    @staticmethod
    def of(sequences: Sequence[Sequence[int]]) -> _Ragged:
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        return _Ragged(np.fromiter(chain.from_iterable(sequences), np.int64, int(lengths.sum())), lengths)

    @staticmethod
    def of_arrow(array: Any) -> _Ragged:
        """From an array of lists."""
        return _Ragged(array.flatten().to_numpy().astype(np.int64), _list_lengths(array))


@dataclass(frozen=True)
class _References:
    """References of sentences laid end to end."""

    ids: _Ragged
    counts: Rows  # of each sentence

    @staticmethod
    def of(references: Sequence[Sequence[Sequence[int]]]) -> _References:
        counts = np.fromiter(map(len, references), dtype=np.int64, count=len(references))
        return _References(_Ragged.of(list(chain.from_iterable(references))), counts)


def _list_lengths(array: Any) -> Rows:
    lengths: Rows = pc.list_value_length(array).to_numpy().astype(np.int64)
    return lengths


def _batch(source: _Ragged, target: _Ragged, references: _References | None, rows: Rows, pad: int) -> Batch:
    source_tokens = _padded(source.values, source.lengths, pad)
    target_tokens = _padded(target.values, target.lengths, pad)
    target_lengths = torch.from_numpy(target.lengths)
    if references is None or bool((references.counts == 1).all()):
        all_tokens, all_lengths = target_tokens[:, None], target_lengths[:, None]
    else:
        lengths = _reference_lengths(references)
        all_tokens = _padded(references.ids.values, lengths, pad, width=target_tokens.shape[1])
        all_lengths = torch.from_numpy(lengths)
    return Batch(
        source=source_tokens,
        source_mask=torch.arange(source_tokens.shape[1]) < torch.from_numpy(source.lengths)[:, None],
        target=target_tokens,
        target_lengths=target_lengths,
        references=all_tokens,
        reference_lengths=all_lengths,
        rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
    )


def _reference_lengths(references: _References) -> Rows:
    """(B, M) lengths, 0 where a sentence has fewer than M references; M >= 1."""
    counts = references.counts
    lengths = np.zeros((len(counts), int(counts.max(initial=1))), dtype=np.int64)
    lengths[np.arange(lengths.shape[1]) < counts[:, None]] = references.ids.lengths
    return lengths


def _padded(values: Rows, lengths: Rows, pad: int, width: int = 0) -> Tensor:
    """(*lengths.shape, W) with the values in order; W is the greatest length, and at least `width`."""
    padded = np.full((*lengths.shape, int(lengths.max(initial=width))), pad, dtype=np.int64)
    padded[np.arange(padded.shape[-1]) < lengths[..., None]] = values
    return torch.from_numpy(padded)
