"""Learning to search on one batch: roll in, decide, roll out, and hand over what each choice would have cost.

    trajectories     = roll_in(policy)              # with the model's own decoding
    decisions, costs = roll_out(trajectories)       # states × candidates, and the loss of the sentence that the
                                                    # roll-out policy finishes after each

Everything here runs without gradient; the update that follows looks only at the experience.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Memory, Policy
from l2s_nmt.search.costs import Cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories


class RollOut(Protocol):
    """Where to look, and what each choice there costs: the part in which algorithms differ most."""

    def __call__(
        self, policy: Policy, memory: Memory, batch: Batch, trajectories: Trajectories, draws: Draws
    ) -> tuple[Decisions, CostVectors, int]:
        """Decisions over the trajectories, their cost vectors, and the number of branches finished for them."""
        ...


@dataclass(frozen=True)
class Experience:
    """What the search found on a batch of B sentences."""

    trajectories: Trajectories
    decisions: Decisions
    costs: CostVectors
    roll_in_costs: Tensor
    """(B,) cost of each trajectory."""
    roll_outs: int
    """Branches that were finished."""
    seconds: dict[str, float]
    """Time in "roll_in" and "roll_out", deciding and scoring included."""


@dataclass(frozen=True)
class Search:
    """The two stages that need the policy.

    Args:
        roll_in: writes the trajectories.
        roll_out: finds out what the choices along them cost.
        cost: of a finished sentence.
    """

    roll_in: RollIn
    roll_out: RollOut
    cost: Cost

    def __call__(self, policy: Policy, batch: Batch, draws: Draws) -> Experience:
        """Search on a batch with the policy as it is; draws belong to sentences, so batching changes nothing."""
        started = time.monotonic()
        memory = policy.encode(batch.source, batch.source_mask)
        trajectories = self.roll_in(policy, memory, batch, draws)
        rolled_in = time.monotonic()
        decisions, costs, branches = self.roll_out(policy, memory, batch, trajectories, draws)
        seconds = {"roll_in": rolled_in - started, "roll_out": time.monotonic() - rolled_in}
        words = trajectories.lengths - trajectories.finished.long()
        whole = self.cost(trajectories.tokens, words, batch.target, batch.target_lengths - 1)
        return Experience(trajectories, decisions, costs, whole, branches, seconds)
