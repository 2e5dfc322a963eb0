"""Losses of an action that succeeds with probability ``exp(-alpha c)``, c being its cost above the cheapest's.

To these, unlike to the expected cost, all large costs are alike: an end that is far too early, which costs all the
words that are then missing, does not outweigh every other word. Guu et al. (2017) compare the two: expected reward
and maximum marginal likelihood.
"""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.losses.scope import Scope, Support, listed_log_policy
from l2s_nmt.search.types import CostVectors, Decisions


def expected_failure(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``sum_a pi(a) (1 - exp(-alpha c(a)))``, from 0 to 1: an expected cost that is bounded.

    When alpha goes to 0, this goes to alpha times `expected_cost`; as there, ``pi`` is renormalised over the listed
    actions where the cost of the others is not known, and ``support`` has no effect. Arguments and result as in
    `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, "vocabulary")
    listed = -torch.expm1(alpha * (scope.cheapest[:, None] - scope.costs))
    other = None if scope.other is None else -torch.expm1(alpha * (scope.cheapest - scope.other))
    return expected_cost(logits, decisions, CostVectors(listed, other), alpha=alpha, support=support)


def marginal_likelihood(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``-log sum_a pi(a) exp(-alpha c(a))``, the log-loss of success.

    Between cheap actions the policy is free to choose, as under `expected_failure`; but the gradient does not fade
    where all that is cheap is improbable. When alpha goes to infinity, this is the log-loss of all cheapest actions
    together (`target_learning` without ties). Unlisted actions of unknown cost never succeed. Arguments and result as
    in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    log_probs = listed_log_policy(logits, decisions, support)
    success = log_probs - alpha * (scope.costs - scope.cheapest[:, None])
    # Not minus infinity: of a state without a real action, the sum must still have a gradient.
    least = torch.finfo(success.dtype).min
    listed = success.masked_fill(~scope.mask, least).logsumexp(1)
    if scope.other is None:
        return -listed
    mass = (1 - scope.sum(log_probs.exp())).clamp(min=torch.finfo(success.dtype).tiny)
    unlisted = mass.log() - alpha * (scope.other - scope.cheapest)
    return -torch.logaddexp(listed, unlisted.masked_fill(scope.unlisted == 0, least))
