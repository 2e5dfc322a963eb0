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
    """Return the mean over pairs of ``(v(b) - v(a)) log(1 + exp(s(b) - s(a)))``, a being the cheaper of the two.

    ``v(b)`` is the integral of ``1 / L(t)`` from 0 to ``c(b)``, L(t) being the number of actions that cost t or
    less: what parts an action from a cheaper one counts less, the more others are as cheap. By these weights the
    regret of the pairs bounds that of the costs.

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
    values = _values(table, mask)
    weights = (values[:, None] - values[:, :, None]).clamp(min=0)
    weights = weights.masked_fill(~(mask[:, None] & mask[:, :, None]), 0)
    count = mask.sum(1)
    pairs = (count * (count - 1) // 2).clamp(min=1)
    return (weights * F.softplus(scores[:, None] - scores[:, :, None])).sum((1, 2)) / pairs


def _values(costs: Tensor, mask: Tensor) -> Tensor:
    """(N, K) the integral of ``1 / L(t)`` up to each cost, from the smallest on; 0 where masked."""
    ordered, order = costs.masked_fill(~mask, torch.inf).sort(1)
    # Between the cost of the n-th and that of the next, n actions cost as much or less.
    rank = torch.arange(1, costs.shape[1], device=costs.device)
    steps = (ordered.diff(dim=1) / rank).nan_to_num(posinf=0.0)
    values = F.pad(steps.cumsum(1), (1, 0))
    return torch.zeros_like(costs).scatter(1, order, values).masked_fill(~mask, 0)
