"""chrF2, the F-score of character n-grams (Popović 2015), as sacrebleu defines it.

The kernel counts n-grams of any numbers; given the characters of a text without its spaces (`characters`), it is
chrF. An n-gram is packed into one integer, so that counting is sorting: NumPy sorts integers with vector
instructions, several times as fast as strings are counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, row_blocks

ORDERS = 6
"""The longest n-grams counted."""
_BETA = 2.0
_NO_HYPOTHESIS, _NO_REFERENCE, _FIRST = 0, 1, 2
"""What stands for padding equals no character and not each other; characters are numbered behind them."""
_LARGEST = 1 << 62
"""N-grams are numbered below it: there is one bit left to tell the two sides apart."""

Numbers = NDArray[np.int64]


def characters(text: str) -> list[str]:
    """The characters of a text, spaces left out."""
    return list("".join(text.split()))


def chrf_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return 1 - chrF2 (divided by 100), with no smoothing: orders that either side is too short for do not count.

    Args:
        hypotheses: (M, T) characters as numbers from 0.
        hypothesis_lengths: (M,) characters in each.
        references: (M, R) characters.
        reference_lengths: (M,) characters in each.
        max_elements: entries of the largest temporary; more rows are computed in blocks.

    Returns:
        (M,) float32 from 0 to 1; 1 where one of the two is empty.
    """
    ours = _numbered(hypotheses, hypothesis_lengths, _NO_HYPOTHESIS)
    theirs = _numbered(references, reference_lengths, _NO_REFERENCE)
    blocks = row_blocks(len(ours), ours.shape[1] + theirs.shape[1], max_elements)
    found = np.concatenate([_clipped_matches(ours[rows], theirs[rows]) for rows in blocks], axis=1)
    matches = torch.from_numpy(found).to(hypotheses.device)
    orders = torch.arange(ORDERS, device=hypotheses.device)[:, None]
    our_count, their_count = (
        (lengths - orders).clamp(min=0).double() for lengths in (hypothesis_lengths, reference_lengths)
    )
    exists = (our_count > 0) & (their_count > 0)
    precision, recall = (
        torch.where(exists, matches / count, 0).sum(0) / exists.sum(0).clamp(min=1)
        for count in (our_count, their_count)
    )
    score = (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)
    return torch.where(precision > 0, 1 - score, 1).float()


def _numbered(tokens: Tensor, lengths: Tensor, filler: int) -> Numbers:
    """(M, T) numbers from `_FIRST`, the filler behind the lengths."""
    outside = torch.arange(tokens.shape[1], device=tokens.device) >= lengths[:, None]
    numbers: Numbers = (tokens.long() + _FIRST).masked_fill(outside, filler).cpu().numpy()
    return numbers


def _clipped_matches(ours: Numbers, theirs: Numbers) -> NDArray[np.float64]:
    """(6, m) matches of (m, T) and (m, R)."""
    base = 1 + max(int(side.max(initial=0)) for side in (ours, theirs))
    our_grams, their_grams, largest = ours, theirs, base
    matches = []
    for n in range(ORDERS):
        if n > 0:
            if largest > _LARGEST // base:
                our_grams, their_grams, largest = _renumbered(our_grams, their_grams)
            our_grams = our_grams[:, :-1] * base + ours[:, n:]
            their_grams = their_grams[:, :-1] * base + theirs[:, n:]
            largest *= base
        matches.append(_common(our_grams, their_grams))
    return np.stack(matches)


def _renumbered(ours: Numbers, theirs: Numbers) -> tuple[Numbers, Numbers, int]:
    """The n-grams of both sides, numbered without gaps, and how many different ones there are."""
    values, places = np.unique(np.concatenate([ours.ravel(), theirs.ravel()]), return_inverse=True)
    our_places, their_places = np.split(places, [ours.size])
    return our_places.reshape(ours.shape), their_places.reshape(theirs.shape), len(values)


def _common(ours: Numbers, theirs: Numbers) -> NDArray[Any]:
    """(m,) how many numbers the two sides of each row have in common, each as often as both have it.

    After sorting, equal numbers stand together, and those of the hypothesis right before those of the reference.
    """
    keys = np.concatenate([ours * 2, theirs * 2 + 1], axis=1)
    keys.sort(axis=1)
    starts_run = np.ones(keys.shape, dtype=bool)
    np.not_equal(keys[:, 1:], keys[:, :-1], out=starts_run[:, 1:])
    start = np.flatnonzero(starts_run)
    count = np.diff(start, append=keys.size)
    number, row = keys.ravel()[start] >> 1, start // max(1, keys.shape[1])
    both = (number[1:] == number[:-1]) & (row[1:] == row[:-1])
    shared = np.minimum(count[1:], count[:-1])[both]
    return np.bincount(row[1:][both], weights=shared, minlength=len(keys))
