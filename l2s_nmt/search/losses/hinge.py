"""Structured hinge loss (Taskar et al. 2003; Tsochantaridis et al. 2005) of a single action, as in SEARNN."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.losses.scope import Scope, Support, listed_scores
from l2s_nmt.search.losses.vocabulary import precision, row_blocks, shifted_block
from l2s_nmt.search.types import CostVectors, Decisions


def hinge(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``max_a (s(a) + alpha c(a)) - s(y)`` of the cheapest action y: margins in proportion to the costs.

    The costs c are those above the cheapest, so that the loss is at least 0. Of several that are cheapest, y is
    the policy's best scored. Unlisted actions of unknown cost take part without a margin. The normaliser of
    the policy cancels out; ``support`` is what the maximum ranges over. Arguments and result as in
    `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    excess, rest = scope.margins(alpha)
    optimal, unlisted_too = scope.optimal()
    if support == "candidates":
        scores = listed_scores(logits, decisions)
        return _highest(scores + excess, decisions.mask) - _highest(scores, optimal)
    dearest = _argmax(logits, decisions.actions, excess)
    excluded = torch.zeros_like(excess).masked_fill(scope.mask & ~optimal, -torch.inf)
    target = decisions.actions.gather(1, _best_slot(logits, decisions, optimal))
    tied = unlisted_too.nonzero().squeeze(1)
    if len(tied):
        target[tied] = _argmax(logits[tied], decisions.actions[tied], excluded[tied])
    # In one gather, since each would write a full gradient.
    scores = logits.gather(1, torch.cat([dearest, target], 1)).to(precision(logits))
    margin = excess.masked_fill(decisions.actions != dearest, 0).sum(1) + rest
    return scores[:, 0] + margin - scores[:, 1]


def _highest(scores: Tensor, among: Tensor) -> Tensor:
    """(N,) the highest of (N, K) scores; a tie, or nothing to choose from, is the first's gradient."""
    slot = scores.detach().masked_fill(~among, -torch.inf).argmax(1, keepdim=True)
    return scores.gather(1, slot).squeeze(1)


def _best_slot(logits: Tensor, decisions: Decisions, among: Tensor) -> Tensor:
    """(N, 1) which of the listed actions the policy scores highest."""
    scores = listed_scores(logits.detach(), decisions)
    return scores.masked_fill(~among, -torch.inf).argmax(1, keepdim=True)


def _argmax(logits: Tensor, actions: Tensor, offsets: Tensor) -> Tensor:
    """(N, 1) the action of the highest score plus offset."""
    logits = logits.detach()
    best = actions.new_empty(len(logits), 1)
    for rows in row_blocks(logits):
        best[rows] = shifted_block(logits, actions, offsets, rows).argmax(1, keepdim=True)
    return best
