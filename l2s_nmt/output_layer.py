"""Losses of the scores over the vocabulary, part by part, so that there never are many of them.

Each part's scores are made, looked at, differentiated and forgotten in the forward pass; what is kept are the gradients
by the output layer and by what it was given, which the backward pass only scales (as in Hsu et al. 2024, Liger Kernel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""A scalar from the scores (n, V) of a part."""


class Part(NamedTuple):
    """Some states, one after the other, whose scores are made at once."""

    size: int
    """Their number n."""
    loss: Loss
    """Of their scores."""
    left_out: int | None = None
    """A token that cannot be, whose scores are minus infinity."""


def loss_in_parts(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    parts: Sequence[Part],
) -> Tensor:
    """The sum of the losses of all parts' scores, ``hidden @ weight.T + bias``; it can be differentiated once.

    Args:
        hidden: (N, D) what the output layer is given.
        weight: (V, D) of the output layer.
        bias: (V,) of it, which is not learned; None: no bias.
        parts: of N states in all.
    """
    learns = torch.is_grad_enabled()
    wanted = learns and hidden.requires_grad, learns and weight.requires_grad
    total: Tensor = _LossInParts.apply(hidden, weight, bias, parts, wanted)  # type: ignore[no-untyped-call]
    return total


class _LossInParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        parts: Sequence[Part],
        wanted: tuple[bool, bool],
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        by_hidden = torch.zeros_like(hidden) if any(wanted) else None
        by_weight = torch.zeros_like(weight) if wanted[1] else None
        start = 0
        for size, loss, left_out in parts:
            part = slice(start, start + size)
            start += size
            scores = F.linear(hidden[part], weight, bias)
            if left_out is not None:
                scores[:, left_out] = -torch.inf
            with torch.set_grad_enabled(by_hidden is not None):
                value = loss(scores.requires_grad_(by_hidden is not None))
            total += value.detach()
            if by_hidden is not None and value.requires_grad:
                (by_scores,) = torch.autograd.grad(value, scores)
                by_hidden[part] = by_scores @ weight
                if by_weight is not None:
                    _add_product(by_weight, by_scores, hidden[part])
                del by_scores
            del scores, value  # before the next part's come
        ctx.save_for_backward(by_hidden, by_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *factors: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = factors
        return (
            *(None if g is None else g * factor.to(g.dtype) for g in ctx.saved_tensors),
            None,
            None,
            None,
        )


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left.T @ right`` to the total, in place where all are of one type."""
    if left.dtype == right.dtype == total.dtype:
        total.addmm_(left.T, right)
    else:
        total += left.T @ right
