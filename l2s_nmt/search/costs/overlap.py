"""How many words are right: at their places (Hamming 1950), or anywhere (unigram F1; van Rijsbergen 1979)."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, clipped_matches


def hamming_cost(
    hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor
) -> Tensor:
    """Return the share of positions that differ, from 0 to 1.

    Positions are counted up to the end of the longer sentence; one that the shorter sentence lacks differs. Two
    empty sentences are equal. Arguments as for `sentence_bleu_cost`.
    """
    width = min(hypotheses.shape[1], references.shape[1])
    shared = torch.minimum(hypothesis_lengths, reference_lengths)
    inside = torch.arange(width, device=hypotheses.device) < shared[:, None]
    equal = ((hypotheses[:, :width] == references[:, :width]) & inside).sum(1)
    positions = torch.maximum(hypothesis_lengths, reference_lengths)
    return (positions - equal) / positions.clamp(min=1)


def unigram_f1_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Tensor:
    """Return 1 - F1 of the words, from 0 to 1, whatever their order.

    A word of the hypothesis is right if the reference has it, at most as often as the reference has it; F1 is the
    harmonic mean of the right words' shares in hypothesis and reference. Two empty sentences are equal. Arguments
    as for `sentence_bleu_cost`.
    """
    matches = clipped_matches(
        hypotheses, hypothesis_lengths, references, reference_lengths, orders=1, max_elements=max_elements
    )
    words = hypothesis_lengths + reference_lengths
    return (words - 2 * matches[0].long()) / words.clamp(min=1)
