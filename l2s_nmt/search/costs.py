"""The loss of finished sentences, on token ids, for whole batches at once.

Lengths count words only: EOS is not a word, and neither it nor the padding behind it is looked at. A caller
whose sequences end with EOS passes their lengths less one. The costs are exact, and each depends on its own
row alone: not on the padding, nor the order of the rows, nor on how many are computed at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Smoothing = Literal["exp", "add_k", "floor", "none"]

MAX_ORDER = 4
"""The longest n-grams that BLEU counts."""
MAX_ELEMENTS = 1 << 22
"""Entries of the largest temporary: a few of them fit into a cache of some megabytes."""
_DEFAULT_VALUES: dict[str, float] = {"add_k": 1.0, "floor": 0.1}
_NO_HYPOTHESIS, _NO_REFERENCE = -1, -2
"""What stands for padding: token ids are not negative, so these equal no token and not each other."""


class Cost(Protocol):
    """The signature that all costs share."""

    def __call__(
        self, hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor, /
    ) -> Tensor:
        """Compute the cost of each hypothesis.

        Args:
            hypotheses: (M, T) token ids, padded with anything.
            hypothesis_lengths: (M,) words in each, without EOS.
            references: (M, R) token ids, padded with anything.
            reference_lengths: (M,) words in each, without EOS.

        Returns:
            (M,) float32, 0 for a perfect sentence.
        """
        ...


def sentence_bleu_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    smoothing: Smoothing = "exp",
    smoothing_value: float | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return 1 - smoothed sentence BLEU, as sacrebleu's ``sentence_bleu`` has it (divided by 100).

    That is with n-grams up to 4, up to the longest that the hypothesis is long enough for ("effective
    order"), and a BLEU of 0 where no word matches.

    Args:
        hypotheses: (M, T) token ids.
        hypothesis_lengths: (M,) words in each, without EOS.
        references: (M, R) token ids.
        reference_lengths: (M,) words in each, without EOS.
        smoothing: what an order without a match counts for; the methods of Chen and Cherry (2014).
        smoothing_value: the constant of ``add_k`` (by default 1) and ``floor`` (0.1).
        max_elements: entries of the largest temporary; more rows are computed in blocks.

    Returns:
        (M,) float32 from 0 to 1.
    """
    longest, width = hypotheses.shape[1], references.shape[1]
    matches = []
    for rows in row_blocks(len(hypotheses), longest * max(longest, width), max_elements):
        ours = positions_first(hypotheses[rows], hypothesis_lengths[rows], _NO_HYPOTHESIS)
        theirs = positions_first(references[rows], reference_lengths[rows], _NO_REFERENCE)
        matches.append(_clipped_matches(ours, theirs))
    return bleu_cost(
        torch.cat(matches, 1),
        hypothesis_lengths,
        reference_lengths,
        smoothing=smoothing,
        smoothing_value=smoothing_value,
    )


def bleu_cost(
    matches: Tensor,
    hypothesis_lengths: Tensor,
    reference_lengths: Tensor,
    *,
    smoothing: Smoothing,
    smoothing_value: float | None = None,
) -> Tensor:
    """Return 1 - smoothed sentence BLEU from its statistics.

    Args:
        matches: (4, ...) clipped n-gram matches of each order.
        hypothesis_lengths: (...) words in the hypotheses.
        reference_lengths: (...) words in the references, broadcast against the former.
        smoothing: as for `sentence_bleu_cost`.
        smoothing_value: as for `sentence_bleu_cost`.

    Returns:
        (...) float32 from 0 to 1.
    """
    value = _DEFAULT_VALUES.get(smoothing, 0.0) if smoothing_value is None else smoothing_value
    orders = torch.arange(MAX_ORDER, device=matches.device).view(-1, *[1] * hypothesis_lengths.dim())
    totals = (hypothesis_lengths - orders).clamp_(min=0).float()
    found = matches.float()
    missing = matches == 0
    if smoothing == "add_k":
        found, totals = found + value * (orders > 0), totals + value * (orders > 0)
    elif smoothing == "floor":
        found = found.masked_fill(missing, value)
    elif smoothing == "exp":
        # The first order without a match counts 1/2, the second 1/4, and so on.
        found = torch.where(missing, torch.exp2(-missing.cumsum(0).float()), found)
    exists = totals > 0
    log_precisions = (found / totals).log_().masked_fill_(~exists, 0)
    mean = log_precisions.sum(0) / exists.sum(0).clamp_(min=1)
    brevity = (1 - reference_lengths / hypothesis_lengths.clamp(min=1)).clamp_(max=0)
    return 1 - (mean + brevity).exp_().masked_fill_(missing[0], 0)


@dataclass(frozen=True)
class SentenceBleu:
    """`sentence_bleu_cost` with its settings: a cost that references can recognise and shortcut."""

    smoothing: Smoothing = "exp"
    """What an order without a match counts for."""
    smoothing_value: float | None = None
    """The constant of ``add_k`` and ``floor``; None for the usual one."""

    def __call__(
        self, hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor, /
    ) -> Tensor:
        """Compute the cost of each hypothesis; see `Cost`."""
        return sentence_bleu_cost(
            hypotheses,
            hypothesis_lengths,
            references,
            reference_lengths,
            smoothing=self.smoothing,
            smoothing_value=self.smoothing_value,
        )


def edit_distance_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return the Levenshtein distance divided by the length of the reference, which may exceed 1.

    An empty reference counts as one word long. Other arguments as for `sentence_bleu_cost`.
    """
    volume = (hypotheses.shape[1] + 1) * (references.shape[1] + 1)
    distances = []
    for rows in row_blocks(len(hypotheses), volume, max_elements):
        table = prefix_distances(hypotheses[rows], references[rows])
        index = torch.arange(len(table), device=table.device)
        distances.append(table[index, hypothesis_lengths[rows], reference_lengths[rows]])
    return torch.cat(distances) / reference_lengths.clamp(min=1)


def row_blocks(rows: int, volume: int, max_elements: int) -> Iterator[slice]:
    """Split rows of ``volume`` elements each into blocks of ``max_elements`` at most, or one row."""
    step = max(1, max_elements // max(1, volume))
    # One empty block stands for no rows, so that there is always something to concatenate.
    return (slice(start, start + step) for start in range(0, max(1, rows), step))


def prefix_distances(hypotheses: Tensor, references: Tensor) -> Tensor:
    """Compute the edit distance between every prefix of each hypothesis and every prefix of its reference.

    The usual dynamic programme, with one sequential step a hypothesis position. It runs on the alignment
    score ``i + j - distance``, to which a match adds 2, a substitution 1, an insertion or deletion nothing:
    a chain of insertions, the one thing that is sequential along the reference, is a running maximum.

    Args:
        hypotheses: (M, T) token ids; what stands behind a prefix has no influence on its distances.
        references: (M, R) token ids, likewise.

    Returns:
        (M, T + 1, R + 1) integers: entry i, j is the distance between the first i and the first j tokens.
    """
    rows, length = hypotheses.shape
    width = references.shape[1]
    dtype = torch.int16 if length + width < 32768 else torch.int32
    gains = (hypotheses.t()[:, :, None] == references).to(dtype).add_(1)
    scores = gains.new_zeros(length + 1, rows, width + 1)
    for i in range(length if width else 0):
        step = gains[i].add_(scores[i, :, :-1])
        torch.maximum(step, scores[i, :, 1:], out=step)
        scores[i + 1, :, 1:] = step.cummax(1).values
    steps = torch.arange(length + 1, dtype=dtype, device=gains.device)
    columns = torch.arange(width + 1, dtype=dtype, device=gains.device)
    return (steps[:, None, None] + columns).sub(scores).transpose(0, 1)


COSTS: dict[str, Cost] = {
    "bleu": SentenceBleu(),
    "edit_distance": edit_distance_cost,
}
"""The costs by their names in recipes."""


def positions_first(tokens: Tensor, lengths: Tensor, filler: int) -> Tensor:
    """Turn (M, T) tokens into (T, M), with the filler behind the lengths.

    Counting n-grams is many cheap operations on pairs of positions. With the sentences last they are
    contiguous and can be done in the widest instructions: up to ten times as fast on a CPU. 32 bits hold any
    token id.
    """
    outside = torch.arange(tokens.shape[1], device=tokens.device)[:, None] >= lengths
    return tokens.t().to(torch.int32).masked_fill(outside, filler).contiguous()


def count_type(elements: int) -> torch.dtype:
    """Return the narrowest integer type that can count so many elements."""
    return torch.int8 if elements < 128 else torch.int16 if elements < 32768 else torch.int32


def _clipped_matches(hypotheses: Tensor, references: Tensor) -> Tensor:
    """(4, m) matches of (T, m) and (R, m): an n-gram counts if it has fewer equals before than references."""
    dtype = count_type(max(len(hypotheses), len(references)))
    words = hypotheses[:, None] == references
    earlier = torch.ones(len(hypotheses), len(hypotheses), dtype=torch.bool, device=words.device).tril(-1)
    repeats = (hypotheses[:, None] == hypotheses) & earlier[:, :, None]
    matches = []
    in_reference, before = words, repeats
    for n in range(MAX_ORDER):
        if n > 0:
            in_reference = in_reference[:-1, :-1] & words[n:, n:]
            before = before[:-1, :-1] & repeats[n:, n:]
        rank, count = before.sum(1, dtype=dtype), in_reference.sum(1, dtype=dtype)
        matches.append((rank < count).sum(0, dtype=dtype))
    return torch.stack(matches)
