"""What flows between the stages of learning to search: trajectories, decisions, cost vectors.

B sentences in a batch, T target positions, N states at which the search looked, K listed actions a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.decoder_state import Trunk


@dataclass(frozen=True)
class Trajectories:
    """What the roll-in policy wrote for each sentence."""

    tokens: Tensor
    """(B, T) target tokens, EOS included, padded with the pad id."""
    lengths: Tensor
    """(B,) number of tokens, EOS included."""
    finished: Tensor
    """(B,) bool: ended by EOS, not by the length cap."""
    by_reference: Tensor
    """(B, T) bool: which tokens the reference chose; the policy chose the others."""
    trunk: Trunk | None = None
    """What the policy's decoding left behind, to branch from; None: not kept, or not written by a decoding."""

    def inside(self) -> Tensor:
        """(B, T) bool: where there is a token, not padding."""
        positions = torch.arange(self.tokens.shape[1], device=self.lengths.device)
        return positions < self.lengths[:, None]

    def prefixes(self, sentence: Tensor, position: Tensor) -> Tensor:
        """(N, P) the prefixes ``tokens[sentence, :position]`` of N states, as wide as the longest; behind a shorter one
        stand the tokens that followed it."""
        return self.tokens[sentence, : int(position.max()) if len(position) else 0]


@dataclass(frozen=True)
class Decisions:
    """The states at which the search looked, and the actions it tried there; flat over N, never padded per sentence."""

    sentence: Tensor
    """(N,) row of the batch."""
    position: Tensor
    """(N,) the state is the prefix ``tokens[sentence, :position]``."""
    actions: Tensor
    """(N, K) candidate next tokens, distinct within a row where the mask is true."""
    mask: Tensor
    """(N, K) bool: which entries of ``actions`` are real."""
    group: Tensor | None = None
    """(N,) the source sentence of each state's trajectory, where a sentence has several; None: every trajectory is a
    sentence of its own."""
    visits: Tensor | None = None
    """(N,) float: how many of the sentence's trajectories came through each state; None: one through each."""
    parent: Tensor | None = None
    """(N,) the state one token before each, -1 at the beginning, for losses that compare prefixes; None: not known."""
    last: Tensor | None = None
    """(N,) the token that leads from the parent to each state; of no meaning at the beginning."""

    def __len__(self) -> int:
        return int(self.sentence.numel())

    def part(self, states: slice | Tensor) -> Decisions:
        """Some of the states."""
        return Decisions(
            self.sentence[states],
            self.position[states],
            self.actions[states],
            self.mask[states],
            None if self.group is None else self.group[states],
            None if self.visits is None else self.visits[states],
            None if self.parent is None else self.parent[states],
            None if self.last is None else self.last[states],
        )

    def weigh(self, values: Tensor) -> Tensor:
        """(N,) values, each as often as its state was visited."""
        return values if self.visits is None else values * self.visits

    def total_visits(self) -> float:
        """The states, each counted as often as it was visited."""
        return float(len(self)) if self.visits is None else float(self.visits.sum())


@dataclass(frozen=True)
class CostVectors:
    """The cost of each action: the loss of the finished sentence, or its estimate, minus the smallest over all actions.

    Where whole trajectories are scored there is one action a state, and a baseline is subtracted in place of the
    smallest; such costs may be negative.
    """

    costs: Tensor
    """(N, K) float; 0 where the action is masked."""
    other: Tensor | None = None
    """(N,) the one cost shared by every action that is not listed; None where only the listed ones are known."""

    def part(self, states: slice | Tensor) -> CostVectors:
        """Of some of the states."""
        return CostVectors(self.costs[states], None if self.other is None else self.other[states])


def cost_of(decisions: Decisions, costs: CostVectors, actions: Tensor) -> Tensor:
    """(N,) the cost of one action at each state; NaN where it is not known."""
    match = (decisions.actions == actions[:, None]) & decisions.mask
    listed = costs.costs.masked_fill(~match, 0).sum(-1)
    unlisted = torch.full_like(listed, torch.nan) if costs.other is None else costs.other
    return torch.where(match.any(-1), listed, unlisted)
