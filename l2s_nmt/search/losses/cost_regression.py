"""Cost regression: scores that predict the costs, the smallest of which is then picked.

AggreVaTe may regress the cost to go (Ross & Bagnell 2014); with one output per action this is the csoaa reduction
of cost-sensitive classification.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2s_nmt.search.losses.scope import Scope, Support, listed_scores
from l2s_nmt.search.losses.vocabulary import precision, row_blocks, shifted_block
from l2s_nmt.search.types import CostVectors, Decisions


def cost_regression(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``1/2 mean_a ((s(a) - mean s) + alpha (c(a) - mean c))^2``.

    The predicted cost of an action is ``-s(a) / alpha``, up to a constant that both means take away: what does
    not change the policy is not fitted. Means range over the vocabulary where ``costs.other`` is known and the
    support is the vocabulary, else over the listed actions: those of unknown cost are left out, and free to
    rise, for either support. Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    if scope.other is not None:
        result: Tensor = _HalfVariance.apply(logits, decisions.actions, scope.margins(alpha)[0])  # type: ignore[no-untyped-call]
        return result
    count = scope.mask.sum(1).clamp(min=1)
    sums = listed_scores(logits, decisions) + scope.margins(alpha)[0]
    centred = sums - (scope.sum(sums) / count)[:, None]
    return scope.sum(centred.square()) / (2 * count)


class _HalfVariance(torch.autograd.Function):
    """Half the variance over the vocabulary of scores plus offsets, by blocks; all else cancels out."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, actions: Tensor, offsets: Tensor) -> Tensor:
        """Return (N,) half the variance of the (N, V) logits, plus (N, K) offsets at the actions."""
        mean = logits.new_empty(len(logits), dtype=precision(logits))
        variance = torch.empty_like(mean)
        for rows in row_blocks(logits):
            block = shifted_block(logits, actions, offsets, rows)
            mean[rows] = block.mean(1)
            # Not `var_mean`, which takes four times as long on a CPU.
            variance[rows] = (block - mean[rows, None]).square_().mean(1)
        ctx.save_for_backward(logits, actions, offsets, mean)
        return variance / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        """Return the (N, V) gradient by the logits."""
        logits, actions, offsets, mean = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for rows in row_blocks(logits):
            block = shifted_block(logits, actions, offsets, rows) - mean[rows, None]
            gradient[rows] = block.mul_(upstream[rows, None] / logits.shape[1])
        return gradient, None, None
