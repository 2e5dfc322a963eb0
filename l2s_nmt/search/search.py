"""Learning to search on one batch: roll in, decide, roll out, and hand over what each choice would have cost.

    trajectories     = roll_in(policy)              # with the model's own decoding
    decisions, costs = roll_out(trajectories)       # states × candidates, and the loss of the sentence that the
                                                    # roll-out policy finishes after each

Everything here runs without gradient; the update that follows looks only at the experience.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Policy
from l2s_nmt.search.context import SCORING, SIMULATED, Context, LengthLimit, see
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.randomness import SENTENCES, Draws
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.outcome import RollOut
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories

Flat = TypeVar("Flat", Trajectories, Decisions, CostVectors)


@dataclass(frozen=True)
class Experience:
    """What the search found on a batch of B sentences."""

    trajectories: Trajectories
    """R rows: one or several for each sentence."""
    owner: Tensor
    """(R,) the sentence of each trajectory, as a row of the batch."""
    decisions: Decisions
    costs: CostVectors
    roll_outs: int
    """Branches that were finished."""
    observed: Tensor | None
    """(O,) the losses observed, under bandit feedback."""
    seconds: dict[str, float]
    """Time in "roll_in", in "scoring" what roll-outs wrote, and in all else of the "roll_out"."""
    notes: dict[str, float] = field(default_factory=dict)
    """Sums that the stages left for the log."""

    def to(self, device: torch.device) -> Experience:
        """The same on another device."""
        return replace(
            self,
            trajectories=_moved(self.trajectories, device),
            owner=self.owner.to(device),
            decisions=_moved(self.decisions, device),
            costs=_moved(self.costs, device),
            observed=None if self.observed is None else self.observed.to(device),
        )


@dataclass(frozen=True)
class Search:
    """The stages that need the policy.

    Args:
        roll_in: writes the trajectories.
        roll_out: finds out what the choices along them cost.
        cost: of a finished sentence; None where there is no reference to compare it with.
        limit: where the policy's own sentences are cut.
        samples: trajectories of each sentence.
    """

    roll_in: RollIn
    roll_out: RollOut
    cost: Cost | None
    limit: LengthLimit
    samples: int = 1

    def __call__(self, policy: Policy, batch: Batch, draws: Draws, level: float = 0.0) -> Experience:
        """Search on a batch with the policy as it is; draws belong to sentences, so batching changes nothing.

        Args:
            policy: in evaluation mode.
            batch: B sentences.
            draws: of this update.
            level: running mean of the losses observed so far, for bandit feedback.
        """
        started = time.monotonic()
        context, owner = self._context(policy, batch, draws, level)
        trajectories = self.roll_in(context)
        rolled_in = time.monotonic()
        outcome = self.roll_out(context, trajectories)
        scoring = context.notes.pop(SCORING, 0.0)
        seconds = {
            "roll_in": rolled_in - started,
            "roll_out": time.monotonic() - rolled_in - scoring,
            "scoring": scoring,
        }
        return Experience(
            replace(trajectories, trunk=None),  # which would keep much memory busy
            owner,
            outcome.decisions,
            outcome.costs,
            outcome.roll_outs + int(context.notes.pop(SIMULATED, 0)),
            outcome.observed,
            seconds,
            dict(context.notes),
        )

    def _context(self, policy: Policy, batch: Batch, draws: Draws, level: float) -> tuple[Context, Tensor]:
        context = see(policy, batch, draws, self.limit, level)
        owner = torch.arange(len(batch), device=batch.rows.device).repeat_interleave(self.samples)
        if self.samples == 1:
            return context, owner
        copy = torch.arange(self.samples, device=owner.device).repeat(len(batch))
        context = context.select(owner)
        apart = replace(context.batch, rows=context.batch.rows + copy * SENTENCES)
        return replace(context, batch=apart, source=owner), owner

    def roll_in_costs(self, experience: Experience, batch: Batch) -> Tensor | None:
        """(R,) the cost of each trajectory; None where nothing can tell it."""
        if self.cost is None:
            return None
        trajectories = experience.trajectories
        words = trajectories.lengths - trajectories.finished.long()
        return self.cost(trajectories.tokens, words, experience.owner, batch)


def _moved(values: Flat, device: torch.device) -> Flat:
    moved: dict[str, Any] = {n: v.to(device) for n, v in vars(values).items() if isinstance(v, Tensor)}
    return replace(values, **moved)
