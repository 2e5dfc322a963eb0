"""What a roll-out hands over: where it looked, and what each choice there costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories


@dataclass(frozen=True)
class Outcome:
    """Decisions over trajectories and their cost vectors."""

    decisions: Decisions
    costs: CostVectors
    roll_outs: int
    """Branches that were finished for them."""
    observed: Tensor | None = None
    """(O,) the losses that were observed, where they are all that is known (bandit feedback)."""


class RollOut(Protocol):
    """Where to look, and what each choice there costs: the part in which algorithms differ most."""

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Decide where to deviate, and find out what the deviations cost."""
        ...


def advantages(losses: Tensor, decisions: Decisions) -> Tensor:
    """(N, K) losses minus the smallest of each state's listed actions; 0 where the mask is false."""
    smallest = losses.masked_fill(~decisions.mask, float("inf")).amin(-1, keepdim=True)
    return (losses - smallest).masked_fill(~decisions.mask, 0.0)
