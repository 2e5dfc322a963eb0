"""Maximum marginal likelihood: the probability that the policy's action turns out well (Guu et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.losses.scope import Scope, Support, listed_log_policy
from l2s_nmt.search.types import CostVectors, Decisions


def marginal_likelihood(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``-log sum_a pi(a) exp(-alpha c(a))``, the costs c being those above the cheapest.

    An action succeeds with probability ``exp(-alpha c)``, and this is the log-loss of success. Between cheap actions
    the policy is free to choose, as under `expected_cost`, of which ``alpha`` times is the limit when alpha goes to 0;
    but the gradient does not fade where all that is cheap is improbable, as that of the log-loss does not: when alpha
    goes to infinity, this is that of all cheapest actions together (`target_learning` without ties). Unlisted actions
    of unknown cost never succeed. Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    log_probs = listed_log_policy(logits, decisions, support)
    success = log_probs - alpha * (scope.costs - scope.cheapest[:, None])
    # Not minus infinity: of a state without a real action, the sum must still have a gradient.
    listed = success.masked_fill(~scope.mask, torch.finfo(success.dtype).min).logsumexp(1)
    if scope.other is None:
        return -listed
    mass = (1 - scope.sum(log_probs.exp())).clamp(min=torch.finfo(success.dtype).tiny)
    unlisted = mass.log() - alpha * (scope.other - scope.cheapest)
    none_left = scope.unlisted == 0
    return -torch.logaddexp(listed, unlisted.masked_fill(none_left, torch.finfo(success.dtype).min))
