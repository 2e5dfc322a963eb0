"""The cost that a beam expects to pay: which prefixes stay in it is learned together with what follows each of them.

Beam search compares the scores of whole prefixes, which no loss of single states sees. Negrinho, Gormley & Gordon
(2018, Learning Beam Search Policies via Imitation Learning) train on the transitions of a beam, by surrogates of their
cost; Edunov et al. (2018) on its finished translations (`minimum_risk`). Here it is the expected cost of a step of the
beam, exact where the reference knows the cost of every token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.losses.expected_cost import expected, expected_cost
from l2s_nmt.search.losses.scope import Scope, Support, softmax_within
from l2s_nmt.search.losses.vocabulary import log_policy_with_path
from l2s_nmt.search.types import CostVectors, Decisions, cost_of


def beam_expected_cost(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return ``sum_b w(b) (regret(b) + sum_a pi(a | b) c(a | b))`` over the prefixes b of a beam, at each length.

    The prefixes are those of the same length of the trajectories of one sentence (``decisions.group``), each once;
    ``w = softmax(alpha log P)`` among them, and the regret of a prefix is what its tokens have cost, above that of
    the best of them. The rest is the `expected_cost` of the token that follows. The costs must be known for every
    token (``costs.other``), and no state of a trajectory may be missing.

    Each state carries its share times the number of prefixes that it competes with, so that a prefix alone has its
    expected cost, and so has each where it is not known how states follow each other (``decisions.parent``).
    ``support`` has no effect. Arguments and result as in `LossFunction`.

    Raises:
        ValueError: the costs of unlisted tokens are not known.
    """
    if costs.other is None:
        raise ValueError("beam_expected_cost needs the cost of every token")
    if decisions.parent is None or decisions.last is None or decisions.group is None:
        return expected_cost(logits, decisions, costs, alpha=alpha, support=support)
    later = (decisions.parent >= 0).nonzero()[:, 0]
    before, token = decisions.parent[later], decisions.last[later]
    log_probs, taken = log_policy_with_path(logits, decisions, before, token)
    ahead = expected(Scope.of(logits, decisions, costs, "vocabulary"), log_probs)
    price = cost_of(decisions.part(before), costs.part(before), token)
    steps = torch.stack([taken, price.to(taken.dtype)], 1)
    steps = taken.new_zeros(len(decisions), 2).index_copy(0, later, steps)
    log_prob, regret = _sum_of_ancestors(steps, decisions).unbind(1)
    regret = regret.detach()
    length = int(decisions.position.max()) + 1 if len(decisions) else 1
    beams, beam = torch.unique(decisions.group * length + decisions.position, return_inverse=True)
    least = regret.new_full((len(beams),), torch.inf).scatter_reduce(0, beam, regret, "amin")
    weight = softmax_within(alpha * log_prob, beam, len(beams))
    size = beam.bincount(minlength=len(beams))
    share: Tensor = size[beam] * weight * (regret - least[beam] + ahead)
    return share


def _sum_of_ancestors(steps: Tensor, decisions: Decisions) -> Tensor:
    """(N, C) sums of each state's steps and those of all states before it."""
    assert decisions.parent is not None
    order = decisions.position.argsort(stable=True)
    place = order.argsort()
    sums: list[Tensor] = []
    first = 0  # of the states one token shorter, in that order
    for states in torch.split(order, decisions.position.bincount().tolist()):
        of_length = steps[states]
        if sums:
            of_length = of_length + sums[-1][place[decisions.parent[states]] - first]
            first += len(sums[-1])
        sums.append(of_length)
    return torch.cat(sums)[place] if sums else steps
