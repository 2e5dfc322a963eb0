"""Passes over all the logits: the normaliser of the policy and sums over the vocabulary, in blocks of rows.

Where all actions that are not listed share one cost, a loss over the whole vocabulary needs no more than these,
and else works on the (N, K) listed actions. All is computed in float32 at least, whatever the logits are in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2s_nmt.search.types import Decisions

_CPU_ELEMENTS = 1 << 18
"""Logits handled at once on a CPU: temporaries that stay in its cache are three times as fast."""
_DEVICE_ELEMENTS = 1 << 27
"""Logits handled at once on an accelerator, which prefers few large kernels; bounds the temporary memory."""


class Reduction(Protocol):
    """A sum over the vocabulary of a function of each action's log-probability."""

    def sums(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Sum up a block of n of the N states: (n, V) to (n,)."""
        ...

    def slopes(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Derivative of each term by its log-probability: (n, V), or (n, 1) where all have the same."""
        ...


class SumOfLogs:
    """Sum of the log-probabilities."""

    def sums(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Sum them up; see `Reduction`."""
        return log_probs.sum(1)

    def slopes(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Return 1; see `Reduction`."""
        return log_probs.new_ones(len(log_probs), 1)


class NegativeEntropy:
    """Sum of ``p log p``."""

    def sums(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Sum up; see `Reduction`."""
        return (log_probs.exp() * log_probs).sum(1)

    def slopes(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Return ``p (log p + 1)``; see `Reduction`."""
        return log_probs.exp() * (log_probs + 1)


def precision(logits: Tensor) -> torch.dtype:
    """Return the type to compute in: that of the logits, but at least float32."""
    return torch.promote_types(logits.dtype, torch.float32)


def row_blocks(logits: Tensor) -> Iterator[slice]:
    """Cut (N, V) logits into blocks of rows, each a size that the device handles well at once."""
    elements = _CPU_ELEMENTS if logits.device.type == "cpu" else _DEVICE_ELEMENTS
    step = max(1, elements // logits.shape[1])
    for start in range(0, len(logits), step):
        yield slice(start, start + step)


def shifted_block(logits: Tensor, actions: Tensor, offsets: Tensor | None, rows: slice) -> Tensor:
    """Return a block of the logits, in the precision to compute in, plus offsets at some actions.

    Args:
        logits: (N, V) scores.
        actions: (N, K) ids, where offsets are added.
        offsets: (N, K), 0 at entries that are not to count (their ids may occur twice); None for no offsets.
        rows: which n of the N states.

    Returns:
        (n, V), the logits themselves where nothing had to change: not to be written to.
    """
    block = logits[rows].to(precision(logits))
    return block if offsets is None else block.scatter_add(1, actions[rows], offsets[rows])


def log_policy(
    logits: Tensor,
    decisions: Decisions,
    *,
    offsets: Tensor | None = None,
    reduction: Reduction | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the listed actions, normalised over the whole vocabulary.

    Args:
        logits: (N, V) scores.
        decisions: N states with K listed actions.
        offsets: (N, K) added to the logits of the listed actions, 0 where masked.
        reduction: what to sum over the vocabulary.

    Returns:
        (N, K) log-probabilities, 0 where masked, and (N,) sums of the reduction (0 without).
    """
    scores, normaliser, sums, _ = _Pass.apply(logits, decisions.actions, offsets, reduction)  # type: ignore[no-untyped-call]
    if offsets is not None:
        scores = scores + offsets
    return (scores - normaliser[:, None]).masked_fill(~decisions.mask, 0), sums


def log_policy_with_path(
    logits: Tensor, decisions: Decisions, states: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the listed actions, and of one more token at some states, over the whole vocabulary.

    Args:
        logits: (N, V) scores.
        decisions: N states with K listed actions.
        states: (M,) of the N states; may occur several times.
        tokens: (M,) one for each.

    Returns:
        (N, K) log-probabilities, 0 where masked, and (M,) those of the tokens.
    """
    scores, normaliser, _, path = _Pass.apply(logits, decisions.actions, None, None, states, tokens)  # type: ignore[no-untyped-call]
    listed = (scores - normaliser[:, None]).masked_fill(~decisions.mask, 0)
    return listed, path - normaliser[states]


def log_mass_of_unlisted(logits: Tensor, decisions: Decisions) -> Tensor:
    """Return (N,) ``logsumexp`` of the logits of the actions that are not listed.

    Where every action is listed there is no such number, and the ``logsumexp`` over all of them stands in for
    it: finite, as is its gradient, so that the caller can mask it.
    """
    listed = decisions.mask & (decisions.mask.sum(1, keepdim=True) < logits.shape[1])
    offsets = torch.zeros_like(listed, dtype=precision(logits)).masked_fill(listed, -torch.inf)
    _, normaliser, _, _ = _Pass.apply(logits, decisions.actions, offsets, None)  # type: ignore[no-untyped-call]
    mass: Tensor = normaliser
    return mass


class _Pass(torch.autograd.Function):
    """Scores, normaliser and a sum, with no temporary of the size of the logits except their gradient.

    By autograd's own operations, normaliser, gather and sum would each write a full gradient, to be added up,
    and most of the time on a CPU would go into fetching memory for them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        actions: Tensor,
        offsets: Tensor | None,
        reduction: Reduction | None,
        states: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (N, K) logits of the actions, without the offsets; the normaliser and the sums, both with.

        And (M,) the logits of more tokens at some states, without the offsets.
        """
        normaliser = logits.new_empty(len(logits), dtype=precision(logits))
        sums = torch.zeros_like(normaliser)
        for rows in row_blocks(logits):
            block = shifted_block(logits, actions, offsets, rows)
            normaliser[rows] = block.logsumexp(1)
            if reduction is not None:
                sums[rows] = reduction.sums(block - normaliser[rows, None], rows)
        ctx.save_for_backward(logits, actions, offsets, normaliser, states, tokens)
        ctx.reduction = reduction
        path = normaliser.new_empty(0) if states is None else logits[states, tokens].to(normaliser.dtype)
        return logits.gather(1, actions).to(normaliser.dtype), normaliser, sums, path

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_scores: Tensor, to_normaliser: Tensor, to_sums: Tensor, to_path: Tensor
    ) -> tuple[Tensor, None, None, None, None, None]:
        """Return the (N, V) gradient by the logits, each block written while it is in the cache."""
        logits, actions, offsets, normaliser, states, tokens = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for rows in row_blocks(logits):
            block = shifted_block(logits, actions, offsets, rows) - normaliser[rows, None]
            to_mass = to_normaliser[rows, None]
            if ctx.reduction is None:
                block.exp_().mul_(to_mass)
            else:
                slopes = ctx.reduction.slopes(block, rows) * to_sums[rows, None]
                # The mean times V is the sum, of one slope for all actions as well.
                to_mass = to_mass - slopes.mean(1, keepdim=True) * logits.shape[1]
                block.exp_().mul_(to_mass).add_(slopes)
            gradient[rows] = block.scatter_add_(1, actions[rows], to_scores[rows])
        if states is not None:
            gradient.view(-1).index_add_(0, states * logits.shape[1] + tokens, to_path.to(gradient.dtype))
        return gradient, None, None, None, None, None
