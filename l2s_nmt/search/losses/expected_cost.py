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
    probs = listed_log_policy(logits, decisions, "vocabulary").exp()
    return scope.other + scope.sum(probs * (scope.costs - scope.other[:, None]))
