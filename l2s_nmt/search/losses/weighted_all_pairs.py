"""Weighted all pairs (Beygelzimer, Langford & Zadrozny 2008): cost-sensitive classification by ranking pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.search.losses.scope import Scope, Support, listed_scores
from l2s_nmt.search.losses.vocabulary import log_mass_of_unlisted
from l2s_nmt.search.types import CostVectors, Decisions


def weighted_all_pairs(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return the mean over pairs of ``(c(b) - c(a)) log(1 + exp(s(b) - s(a)))``, a being the cheaper of the two.

    The pairs are those of the listed actions and, where ``costs.other`` is known and the support is the
    vocabulary, of each listed action with all unlisted ones as if they were one action, of the score
    ``logsumexp s``. As this is at least the highest of their scores, a listed action that is cheaper learns to
    beat them all, and one that is dearer to be beaten by some. Where the cost of the unlisted actions is not
    known, they are left out, and free to rise, for either support. ``alpha`` has no effect. Takes memory of
    (N, K, K). Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    scores, table, mask = listed_scores(logits, decisions), scope.costs, scope.mask
    if scope.other is not None:
        scores = torch.cat([scores, log_mass_of_unlisted(logits, decisions)[:, None]], 1)
        table = torch.cat([table, scope.other[:, None]], 1)
        mask = torch.cat([mask, scope.unlisted[:, None] > 0], 1)
    # Positive where the second of a pair is the dearer one; its mirror image counts no more.
    weights = (table[:, None] - table[:, :, None]).clamp(min=0)
    weights = weights.masked_fill(~(mask[:, None] & mask[:, :, None]), 0)
    count = mask.sum(1)
    pairs = (count * (count - 1) // 2).clamp(min=1)
    return (weights * F.softplus(scores[:, None] - scores[:, :, None])).sum((1, 2)) / pairs
