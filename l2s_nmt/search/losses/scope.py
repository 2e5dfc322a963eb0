"""The actions that a loss ranges over, and the policy and the targets over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.search.losses.vocabulary import log_policy, precision
from l2s_nmt.search.types import CostVectors, Decisions

Support = Literal["vocabulary", "candidates"]
"""What the policy is normalised over: all actions, or the listed ones alone (a sampled softmax)."""


@dataclass(frozen=True)
class Scope:
    """Actions of known cost that a loss ranges over, at N states: K listed ones and those that share one cost."""

    mask: Tensor
    """(N, K) bool: which of the listed actions are real."""
    costs: Tensor
    """(N, K) their costs in the precision to compute in; 0 where masked."""
    other: Tensor | None
    """(N,) cost of each action that is not listed (where all are listed, that of the cheapest, so that it changes
    nothing); None where unlisted actions take no part: their costs are unknown, or the support is the candidates."""
    unlisted: Tensor
    """(N,) number of actions that are not listed."""
    cheapest: Tensor
    """(N,) the smallest cost."""

    @classmethod
    def of(cls, logits: Tensor, decisions: Decisions, costs: CostVectors, support: Support) -> Scope:
        """Find the scope; ``costs.other`` counts where the support is the vocabulary."""
        mask, dtype = decisions.mask, precision(logits)
        listed = costs.costs.to(dtype)
        cheapest = listed.masked_fill(~mask, math.inf).amin(1)
        unlisted = logits.shape[1] - mask.sum(1)
        other = None
        if costs.other is not None and support == "vocabulary":
            # What no action can cost must not matter, least of all if it is not a number.
            other = torch.where(unlisted > 0, costs.other.to(dtype), cheapest)
            cheapest = torch.minimum(cheapest, other)
        return cls(mask, listed.masked_fill(~mask, 0), other, unlisted, cheapest)

    def optimal(self) -> tuple[Tensor, Tensor]:
        """Which actions cost least: (N, K) bool of the listed ones, (N,) bool whether the unlisted do."""
        listed = self.mask & (self.costs == self.cheapest[:, None])
        if self.other is None:
            return listed, torch.zeros_like(self.cheapest, dtype=torch.bool)
        return listed, (self.other == self.cheapest) & (self.unlisted > 0)

    def margins(self, alpha: float) -> tuple[Tensor, Tensor]:
        """What the costs add to the scores, ``alpha`` times their distance to the smallest.

        Returns:
            (N, K) for the listed actions in excess of what is added to the unlisted ones, 0 where masked, and
            (N,) for these: 0 where their cost is not known.
        """
        base = self.cheapest if self.other is None else self.other
        excess = (alpha * (self.costs - base[:, None])).masked_fill(~self.mask, 0)
        return excess, alpha * (base - self.cheapest)

    def log_targets(self, alpha: float) -> tuple[Tensor, Tensor | None]:
        """Logarithms of ``softmax(-alpha c)``: (N, K), 0 where masked, and (N,) of each unlisted action."""
        scores = (alpha * (self.cheapest[:, None] - self.costs)).masked_fill(~self.mask, -math.inf)
        log_mass = scores.logsumexp(1)
        log_other = None
        if self.other is not None:
            log_other = alpha * (self.cheapest - self.other)
            log_mass = torch.logaddexp(log_mass, log_other + self.unlisted.to(log_mass.dtype).log())
            log_other = log_other - log_mass
        return (scores - log_mass[:, None]).masked_fill(~self.mask, 0), log_other

    def sum(self, values: Tensor) -> Tensor:
        """Sum (N, K) values over the real actions: (N,)."""
        return values.masked_fill(~self.mask, 0).sum(1)


def listed_scores(logits: Tensor, decisions: Decisions) -> Tensor:
    """Return (N, K) logits of the listed actions in the precision to compute in, 0 where masked."""
    return logits.gather(1, decisions.actions).to(precision(logits)).masked_fill(~decisions.mask, 0)


def listed_log_policy(
    logits: Tensor, decisions: Decisions, support: Support, *, offsets: Tensor | None = None
) -> Tensor:
    """Log-probabilities of the listed actions.

    Args:
        logits: (N, V) scores.
        decisions: N states with K listed actions.
        support: what they are normalised over.
        offsets: (N, K) added to the logits of the listed actions, 0 where masked.

    Returns:
        (N, K), 0 where masked.
    """
    if support == "vocabulary":
        return log_policy(logits, decisions, offsets=offsets)[0]
    scores = listed_scores(logits, decisions)
    if offsets is not None:
        scores = scores + offsets
    # Not minus infinity: of a state without a real action, the softmax must still have a gradient.
    scores = scores.masked_fill(~decisions.mask, torch.finfo(scores.dtype).min)
    return scores.log_softmax(1).masked_fill(~decisions.mask, 0)


def softmax_within(scores: Tensor, group: Tensor, groups: int) -> Tensor:
    """Softmax of (M,) scores among those of the same group (M,), out of so many groups."""
    highest = scores.new_full((groups,), -torch.inf).scatter_reduce(0, group, scores.detach(), "amax")
    weights = (scores - highest[group]).exp()
    return weights / weights.new_zeros(groups).index_add(0, group, weights)[group]
