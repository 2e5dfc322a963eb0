"""Branches: candidate tokens after prefixes of trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.search.types import Decisions, Trajectories


@dataclass(frozen=True)
class Branches:
    """M candidate tokens after prefixes of trajectories."""

    tokens: Tensor
    """(B, T) the trajectories."""
    sentence: Tensor
    """(M,)"""
    position: Tensor
    """(M,) tokens before the candidate."""
    action: Tensor
    """(M,) the candidate."""

    def select(self, rows: Tensor) -> Branches:
        """Some of the branches."""
        return Branches(self.tokens, self.sentence[rows], self.position[rows], self.action[rows])

    def is_own(self) -> Tensor:
        """(M,) bool: the candidate is the trajectory's own token."""
        return self.tokens[self.sentence, self.position] == self.action

    def prefixes(self, pad: int) -> tuple[Tensor, Tensor]:
        """The prefixes with the candidate at their end, (M, P), padded, and their lengths (M,)."""
        width = int(self.position.max()) + 1 if len(self.position) else 0
        whole = self.followed_by(self.action[:, None], torch.ones_like(self.action), width, pad)
        return whole, self.position + 1

    def followed_by(self, written: Tensor, lengths: Tensor, width: int, pad: int) -> Tensor:
        """(M, width) the prefix without the candidate, then ``written`` (M, L), which begins with it; padded."""
        index = torch.arange(width, device=written.device).expand(len(self.sentence), -1)
        before = self.tokens[self.sentence[:, None], index.clamp(max=self.tokens.shape[1] - 1)]
        offset = index - self.position[:, None]
        if not written.shape[1]:
            return torch.where(offset < 0, before, pad)
        after = written.gather(1, offset.clamp(0, written.shape[1] - 1))
        inside = offset < lengths[:, None]
        return torch.where(offset < 0, before, torch.where(inside, after, pad))


def branches_of(trajectories: Trajectories, decisions: Decisions) -> tuple[Branches, Tensor, Tensor]:
    """One branch for each listed action, in their order; and the state (M,) and slot (M,) it stands in."""
    state, slot = decisions.mask.nonzero(as_tuple=True)
    branches = Branches(
        trajectories.tokens,
        decisions.sentence[state],
        decisions.position[state],
        decisions.actions[state, slot],
    )
    return branches, state, slot
