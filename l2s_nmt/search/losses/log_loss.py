"""Log-losses: the score of the cheapest action against those of all others.

LL and LLCAS of SEARNN (Leblond et al. 2018).
"""

from __future__ import annotations

from torch import Tensor

from l2s_nmt.search.losses.scope import Scope, Support, listed_log_policy
from l2s_nmt.search.losses.vocabulary import SumOfLogs, log_policy
from l2s_nmt.search.types import CostVectors, Decisions


def target_learning(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``-log pi`` of the cheapest action (LL).

    Where several actions are cheapest, the target is uniform over all of them (the hard targets of optimal
    completion distillation; Sabour et al. 2019) and the loss is the cross-entropy with it, that is the mean
    of their ``-log pi``. If ``costs.other`` is the smallest cost, the unlisted actions are among them.
    ``alpha`` has no effect: this is the limit of the KL loss, but for the entropy of the target, when it goes
    to infinity. Arguments and result as in `LossFunction`.
    """
    return _cross_entropy(logits, decisions, Scope.of(logits, decisions, costs, support), support, None)


def cost_augmented(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``-log( exp(s(y)) / sum_a exp(s(a) + alpha c(a)) )`` of the cheapest action y (LLCAS).

    That is the log-loss of the policy that ``alpha c`` draws to the dear actions: a soft margin by which they
    must be beaten. The costs c are those above the cheapest; ties are as in `target_learning`. Unlisted
    actions of unknown cost take part without a margin. Arguments and result as in `LossFunction`.
    """
    scope = Scope.of(logits, decisions, costs, support)
    return _cross_entropy(logits, decisions, scope, support, scope.margins(alpha)[0])


def _cross_entropy(
    logits: Tensor, decisions: Decisions, scope: Scope, support: Support, offsets: Tensor | None
) -> Tensor:
    """(N,) mean of the cheapest actions' negative log-probabilities, scores being shifted by the offsets."""
    optimal, unlisted_too = scope.optimal()
    if scope.other is None:
        log_probs = listed_log_policy(logits, decisions, support, offsets=offsets)
        return -log_probs.masked_fill(~optimal, 0).sum(1) / optimal.sum(1).clamp(min=1)
    log_probs, total = log_policy(logits, decisions, offsets=offsets, reduction=SumOfLogs())
    rest = (total - log_probs.sum(1)).masked_fill(~unlisted_too, 0)
    log_sum = log_probs.masked_fill(~optimal, 0).sum(1) + rest
    return -log_sum / (optimal.sum(1) + scope.unlisted * unlisted_too).clamp(min=1)
