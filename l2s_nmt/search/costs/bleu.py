"""1 - smoothed sentence BLEU (Papineni et al. 2002; smoothings of Chen & Cherry 2014), as sacrebleu defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, clipped_matches

Smoothing = Literal["exp", "add_k", "floor"]

MAX_ORDER = 4
"""The longest n-grams that BLEU counts."""
ADDED, FLOOR = 1.0, 0.1
"""What sacrebleu adds (``add_k``), and puts in the place of no match (``floor``), where nothing else is said."""


def sentence_bleu_cost(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    smoothing: Smoothing = "exp",
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
        max_elements: entries of the largest temporary; more rows are computed in blocks.

    Returns:
        (M,) float32 from 0 to 1.
    """
    matches = clipped_matches(
        hypotheses,
        hypothesis_lengths,
        references,
        reference_lengths,
        orders=MAX_ORDER,
        max_elements=max_elements,
    )
    return bleu_cost(matches, hypothesis_lengths, reference_lengths, smoothing=smoothing)


def bleu_cost(
    matches: Tensor,
    hypothesis_lengths: Tensor,
    reference_lengths: Tensor,
    *,
    smoothing: Smoothing,
) -> Tensor:
    """Return 1 - smoothed sentence BLEU from its statistics.

    Args:
        matches: (4, ...) clipped n-gram matches of each order.
        hypothesis_lengths: (...) words in the hypotheses.
        reference_lengths: (...) words in the references, broadcast against the former.
        smoothing: as for `sentence_bleu_cost`.

    Returns:
        (...) float32 from 0 to 1.
    """
    orders = torch.arange(MAX_ORDER, device=matches.device).view(-1, *[1] * hypothesis_lengths.dim())
    totals = (hypothesis_lengths - orders).clamp_(min=0).float()
    found = matches.float()
    missing = matches == 0
    if smoothing == "add_k":
        found, totals = found + ADDED * (orders > 0), totals + ADDED * (orders > 0)
    elif smoothing == "floor":
        found = found.masked_fill(missing, FLOOR)
    else:
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

    def __call__(
        self, hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor, /
    ) -> Tensor:
        """Compute the cost of each hypothesis; see `TokenCost`."""
        return sentence_bleu_cost(
            hypotheses, hypothesis_lengths, references, reference_lengths, smoothing=self.smoothing
        )
