"""Divergences between the policy and the softmax of the costs, ``softmax(-alpha c)``.

KL is the loss of SEARNN (Leblond et al. 2018) and, with alpha as inverse temperature, of optimal completion
distillation (Sabour et al. 2019); inverse KL and Jensen-Shannon are among the losses in the software of SEARNN.
KL spreads the policy over all that is cheap; inverse KL lets it settle on a part of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.search.losses.scope import Scope, Support, listed_log_policy
from l2s_nmt.search.losses.vocabulary import NegativeEntropy, SumOfLogs, log_policy
from l2s_nmt.search.types import CostVectors, Decisions


def kl(logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support) -> Tensor:
    """Return ``KL(softmax(-alpha c) || pi)``.

    Unlisted actions of unknown cost are targets of mass 0. Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    log_targets, log_other = scope.log_targets(alpha)
    if log_other is None:
        log_probs = listed_log_policy(logits, decisions, support)
        return scope.sum(log_targets.exp() * (log_targets - log_probs))
    log_probs, total = log_policy(logits, decisions, reduction=SumOfLogs())
    rest = log_other.exp() * (scope.unlisted * log_other - (total - log_probs.sum(1)))
    return scope.sum(log_targets.exp() * (log_targets - log_probs)) + rest


def inverse_kl(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``KL(pi || softmax(-alpha c))``: ``alpha`` times the expected cost, minus the policy's entropy.

    Where the cost of the unlisted actions is not known, the policy is renormalised over the listed ones for
    either support, as in `expected_cost`: any mass beyond them would make this infinite. Arguments and result
    as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    log_targets, log_other = scope.log_targets(alpha)
    if log_other is None:
        log_probs = listed_log_policy(logits, decisions, "candidates")
        return scope.sum(log_probs.exp() * (log_probs - log_targets))
    log_probs, negative_entropy = log_policy(logits, decisions, reduction=NegativeEntropy())
    # The unlisted actions' part of the expectation is log_other times what mass the listed ones leave.
    listed = scope.sum(log_probs.exp() * (log_targets - log_other[:, None]))
    return negative_entropy - log_other - listed


def js(logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support) -> Tensor:
    """Return the Jensen-Shannon divergence of ``softmax(-alpha c)`` and ``pi``, from 0 to ``log 2``.

    That is the mean of their KL divergences from the distribution midway between them. Unlisted actions of
    unknown cost are targets of mass 0. Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    log_targets, log_other = scope.log_targets(alpha)
    if log_other is None:
        log_probs = listed_log_policy(logits, decisions, support)
        inside = scope.sum(_js_terms(log_probs, log_targets))
        # A target of mass 0 leaves pi log(pi / (pi/2)) / 2. Over the listed actions alone no mass is left.
        beyond = 1 - scope.sum(log_probs.exp()) if support == "vocabulary" else torch.zeros_like(inside)
        return inside + math.log(2) / 2 * beyond
    log_probs, as_unlisted = log_policy(logits, decisions, reduction=_JensenShannon(log_other))
    correction = _js_terms(log_probs, log_targets) - _js_terms(log_probs, log_other[:, None])
    return as_unlisted + scope.sum(correction)


@dataclass(frozen=True)
class _JensenShannon:
    """Sum over the vocabulary of the divergence's terms, as if every action had the same target."""

    log_target: Tensor
    """(N,) logarithm of that target."""

    def sums(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Sum up; see `Reduction`."""
        return _js_terms(log_probs, self.log_target[rows, None]).sum(1)

    def slopes(self, log_probs: Tensor, rows: slice) -> Tensor:
        """Return ``p log(p / m) / 2``, m being midway between p and the target; see `Reduction`."""
        return log_probs.exp() * (log_probs - _log_middle(log_probs, self.log_target[rows, None])) / 2


def _js_terms(log_probs: Tensor, log_targets: Tensor) -> Tensor:
    middle = _log_middle(log_probs, log_targets)
    ours, theirs = log_probs.exp() * (log_probs - middle), log_targets.exp() * (log_targets - middle)
    return (ours + theirs) / 2


def _log_middle(log_probs: Tensor, log_targets: Tensor) -> Tensor:
    return torch.logaddexp(log_probs, log_targets) - math.log(2)
