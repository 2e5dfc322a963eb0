"""Policy gradient: REINFORCE (Williams 1992; for sequences, Ranzato et al. 2016)."""

from __future__ import annotations

from torch import Tensor

from l2s_nmt.search.losses.scope import Support, listed_log_policy
from l2s_nmt.search.types import CostVectors, Decisions


def policy_gradient(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``sum_a c(a) log pi(a)`` over the listed actions, those that were drawn from the policy.

    Its gradient, but not its value, estimates that of the expected cost. With the one action that a trajectory
    took, c is the loss of the finished sentence minus a baseline, negative where the sentence was better than
    that. The policy is normalised over the vocabulary: over one action alone it would always be sure.
    ``costs.other``, ``alpha`` and ``support`` have no effect. Arguments and result as in `LossFunction`.
    """
    log_probs = listed_log_policy(logits, decisions, "vocabulary")
    # Masked entries have a log-probability of 0.
    return (costs.costs.to(log_probs.dtype) * log_probs).sum(1)
