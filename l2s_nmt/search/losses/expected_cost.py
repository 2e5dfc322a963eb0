"""The cost that the policy expects to pay: AggreVaTeD (Sun et al. 2017)."""

from __future__ import annotations

from torch import Tensor

from l2s_nmt.search.losses.scope import Scope, Support, listed_log_policy
from l2s_nmt.search.types import CostVectors, Decisions


def expected_cost(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``sum_a pi(a) c(a)``.

    It ranges over the full vocabulary where ``costs.other`` is known. Where it is not, ``pi`` is renormalised
    over the listed actions, or else the loss would fall by moving probability to actions of unknown cost.
    ``alpha`` and ``support`` have no effect. Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, "vocabulary")
    if scope.other is None:
        return scope.sum(listed_log_policy(logits, decisions, "candidates").exp() * scope.costs)
    return expected(scope, listed_log_policy(logits, decisions, "vocabulary"))


def expected(scope: Scope, log_probs: Tensor) -> Tensor:
    """Return (N,) expectations over the whole vocabulary.

    Args:
        scope: in which the cost of the actions that are not listed is known.
        log_probs: (N, K) of the listed actions.
    """
    assert scope.other is not None
    return scope.other + scope.sum(log_probs.exp() * (scope.costs - scope.other[:, None]))
