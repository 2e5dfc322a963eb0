"""Cost-sensitive losses: how the costs of the actions at a state become a gradient for the policy.

Every loss takes the logits of N states over the whole vocabulary, the decisions and their cost vectors, and
returns one value a state, for the caller to sum. Where ``CostVectors.other`` is known, it is the loss over
the full vocabulary, exactly: all actions that are not listed share one cost, so that only the sum of their
probabilities, or of their log-probabilities, matters. Besides one pass over the logits for their normaliser
and one to write their gradient, all work is on the (N, K) listed actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2s_nmt.search.types import CostVectors, Decisions

_CPU_ELEMENTS = 1 << 18
"""Logits handled at once on a CPU: temporaries that stay in its cache are three times as fast."""
_DEVICE_ELEMENTS = 1 << 27
"""Logits handled at once on an accelerator, which prefers few large kernels; bounds the temporary memory."""


class LossFunction(Protocol):
    """The signature that all losses share."""

    def __call__(self, logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float) -> Tensor:
        """Compute the loss of each state.

        Args:
            logits: (N, V) scores of all next tokens, normalised (log-probabilities) or not; finite.
            decisions: the N states and their (N, K) listed actions; masked entries must be valid ids, too.
            costs: the costs of these actions, the smallest over all actions being 0.
            alpha: inverse temperature of the costs, per unit of cost; no effect on losses without a scale.

        Returns:
            (N,) loss in the precision of the logits, but at least float32.
        """
        ...


def expected_cost(logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float) -> Tensor:
    """Return ``sum_a pi(a) c(a)``, the cost that the policy expects to pay (AggreVaTeD; Sun et al. 2017).

    It ranges over the full vocabulary where ``costs.other`` is known. Where it is not, ``pi`` is renormalised
    over the listed actions, or else the loss would fall by moving probability to actions of unknown cost.
    ``alpha`` has no effect. Arguments and result as in `LossFunction`.
    """
    if costs.other is None:
        listed = logits.gather(1, decisions.actions)
        listed = listed.to(_precision(logits)).masked_fill(~decisions.mask, -math.inf)
        return _masked_sum(listed.softmax(1) * costs.costs, decisions)
    log_probs, _ = _log_probs(logits, decisions, with_total=False)
    return costs.other + _masked_sum(log_probs.exp() * (costs.costs - costs.other[:, None]), decisions)


def kl_to_cost_softmax(logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float) -> Tensor:
    """Return ``KL(softmax(-alpha c) || pi)`` (the KL loss of SEARNN; Leblond et al. 2018).

    The softmax ranges over the full vocabulary where ``costs.other`` is known, each unlisted action weighing
    ``exp(-alpha other)``; else over the listed actions, and the others are targets of mass 0. The policy
    ``pi`` is normalised over the full vocabulary in both cases: over the listed actions alone (a sampled
    softmax), the scores of all others would be free to rise. Arguments and result as in `LossFunction`.
    """
    log_probs, total = _log_probs(logits, decisions, with_total=costs.other is not None)
    scores = (-alpha * costs.costs.to(log_probs.dtype)).masked_fill(~decisions.mask, -math.inf)
    log_mass = scores.logsumexp(1)
    rest = torch.zeros_like(log_mass)
    if costs.other is not None:
        count = _count_unlisted(logits, decisions)
        score = -alpha * costs.other.to(log_probs.dtype)
        log_mass = torch.logaddexp(log_mass, score + count.log())
        log_target = score - log_mass
        rest = log_target.exp() * (count * log_target - (total - _masked_sum(log_probs, decisions)))
    log_targets = scores.masked_fill(~decisions.mask, 0) - log_mass[:, None]
    return _masked_sum(log_targets.exp() * (log_targets - log_probs), decisions) + rest


def target_learning(logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float) -> Tensor:
    """Return ``-log pi`` of the cheapest action (the log-loss of SEARNN; Leblond et al. 2018).

    Where several actions are cheapest, the target is uniform over all of them (the hard targets of optimal
    completion distillation; Sabour et al. 2019) and the loss is the cross-entropy with it, that is the mean
    of their ``-log pi``. If ``costs.other`` is the smallest cost, the unlisted actions are among them. The
    policy ``pi`` is normalised over the full vocabulary. ``alpha`` has no effect: this is the limit of the KL
    loss, but for the entropy of the target, when it goes to infinity. Arguments and result as in
    `LossFunction`.
    """
    log_probs, total = _log_probs(logits, decisions, with_total=costs.other is not None)
    listed = costs.costs.masked_fill(~decisions.mask, math.inf)
    cheapest = listed.amin(1)
    unlisted = _count_unlisted(logits, decisions)
    if costs.other is not None:
        cheapest = torch.minimum(cheapest, costs.other.masked_fill(unlisted == 0, math.inf))
    optimal = listed == cheapest[:, None]
    log_sum, count = log_probs.masked_fill(~optimal, 0).sum(1), optimal.sum(1)
    if costs.other is not None:
        rest = total - _masked_sum(log_probs, decisions)
        tied = costs.other == cheapest
        log_sum, count = log_sum + rest.masked_fill(~tied, 0), count + unlisted * tied
    return -log_sum / count


LOSSES: dict[str, LossFunction] = {
    "expected_cost": expected_cost,
    "kl": kl_to_cost_softmax,
    "target_learning": target_learning,
}
"""The losses by their names in recipes."""


def _precision(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _masked_sum(values: Tensor, decisions: Decisions) -> Tensor:
    return values.masked_fill(~decisions.mask, 0).sum(1)


def _count_unlisted(logits: Tensor, decisions: Decisions) -> Tensor:
    return logits.shape[1] - decisions.mask.sum(1)


def _log_probs(logits: Tensor, decisions: Decisions, *, with_total: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, K) of the listed actions, and (N,) of all actions in sum (0 without
    `with_total`)."""
    log_probs, total = _LogProbs.apply(logits, decisions.actions, with_total)  # type: ignore[no-untyped-call]
    return log_probs, total


class _LogProbs(torch.autograd.Function):
    """Some of the log-probabilities, with no temporary of the size of the logits except their gradient.

    By autograd's own operations, normaliser, gather and sum would each write a full gradient, to be added up,
    and most of the time on a CPU would go into fetching memory for them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, actions: Tensor, with_total: bool) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the actions (N, K), and the sum over the vocabulary (N,) or
        zeros."""
        normaliser = logits.new_empty(len(logits), dtype=_precision(logits))
        total = torch.zeros_like(normaliser)
        for rows in _row_blocks(logits):
            block = logits[rows].to(normaliser.dtype)
            normaliser[rows] = block.logsumexp(1)
            if with_total:
                total[rows] = block.sum(1) - logits.shape[1] * normaliser[rows]
        ctx.save_for_backward(logits, actions, normaliser)
        return logits.gather(1, actions) - normaliser[:, None], total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_actions: Tensor, to_total: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient with respect to the logits (N, V), each block written while it is in the
        cache."""
        logits, actions, normaliser = ctx.saved_tensors
        mass = to_actions.sum(1) + logits.shape[1] * to_total
        gradient = torch.empty_like(logits)
        for rows in _row_blocks(logits):
            block = (logits[rows] - normaliser[rows, None]).exp_().mul_(-mass[rows, None])
            block.add_(to_total[rows, None]).scatter_add_(1, actions[rows], to_actions[rows])
            gradient[rows] = block
        return gradient, None, None


def _row_blocks(logits: Tensor) -> Iterator[slice]:
    elements = _CPU_ELEMENTS if logits.device.type == "cpu" else _DEVICE_ELEMENTS
    step = max(1, elements // logits.shape[1])
    for start in range(0, len(logits), step):
        yield slice(start, start + step)
