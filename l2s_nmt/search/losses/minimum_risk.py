"""Minimum risk training (Shen et al. 2016): the expected cost over several translations."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.losses.scope import Support, listed_log_policy, softmax_within
from l2s_nmt.search.types import CostVectors, Decisions


def minimum_risk(
    logits: Tensor, decisions: Decisions, costs: CostVectors, *, alpha: float, support: Support
) -> Tensor:
    """Return the risk ``sum_y Q(y) c(y)`` over several translations y of each source sentence.

    They are samples, or the best of a beam (Edunov et al. 2018); not the reference, and a translation that was drawn
    twice counts twice: with a small alpha, Q is near to how often each was drawn.
    ``Q = softmax(alpha log P)`` among the translations of one sentence, the trajectories of one
    ``decisions.group``; ``log P`` is the sum of the trajectory's log-probabilities over its states, of which none
    may be missing. Each state lists the one action that was taken, and its cost is that of the whole
    trajectory, the same at all of its states. ``costs.other`` and ``support`` have no effect.

    Each state of a group carries its risk divided by its number of trajectories: they add up to the risk times
    the mean length of its trajectories. Divided by the number of all states that is the risk over the number of
    trajectories; so twice as many need twice the weight beside the cross-entropy. Arguments and result as in
    `LossFunction`.

    Raises:
        ValueError: if a state lists several actions.
    """
    if decisions.actions.shape[1] != 1:
        raise ValueError("minimum_risk takes one action a state: the one that the trajectory took")
    log_probs = listed_log_policy(logits, decisions, "vocabulary").squeeze(1)
    names, trajectory = torch.unique(decisions.sentence, return_inverse=True)
    log_likelihood = log_probs.new_zeros(len(names)).index_add(0, trajectory, log_probs)
    group = decisions.sentence if decisions.group is None else decisions.group
    groups, group_of_state = torch.unique(group, return_inverse=True)
    # All states of a trajectory write the same.
    group_of = group_of_state.new_zeros(len(names)).scatter(0, trajectory, group_of_state)
    cost = log_probs.new_zeros(len(names)).scatter(0, trajectory, costs.costs.squeeze(1).to(log_probs.dtype))
    weight = softmax_within(alpha * log_likelihood, group_of, len(groups))
    risk = log_probs.new_zeros(len(groups)).index_add(0, group_of, weight * cost)
    share: Tensor = risk / group_of.bincount(minlength=len(groups))
    return share[group_of_state]
