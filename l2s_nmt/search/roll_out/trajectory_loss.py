"""The loss of the trajectory itself, at each of its tokens: reinforcement learning.

REINFORCE (Williams 1992; Ranzato et al. 2016) multiplies the log-probability of what was sampled by its loss minus
a baseline; minimum risk training (Shen et al. 2016) samples several translations and renormalises over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.roll_out.outcome import Outcome
from l2s_nmt.search.sampling import greedy
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories

Baseline = Literal["none", "greedy", "others"]


@dataclass(frozen=True)
class TrajectoryLoss:
    """Each token of a trajectory costs what the whole trajectory does, less the baseline; no other token is tried.

    Args:
        cost: of a finished sentence.
        samples: trajectories of each sentence, one after the other.
        baseline: ``none``; ``greedy``: the loss of greedy decoding (self-critical training; Rennie et al. 2017);
            ``others``: the mean loss of the sentence's other trajectories (Kool, van Hoof & Welling 2019).
    """

    cost: Cost
    samples: int
    baseline: Baseline

    def __call__(self, context: Context, trajectories: Trajectories) -> Outcome:
        """Score the trajectories."""
        sentence, position = StateChoice("all")(context, trajectories)
        if context.policy.first is not None:  # that token was not drawn; it stands where it is all there is
            drawn = (position > 0) | (trajectories.lengths[sentence] == 1)
            sentence, position = sentence[drawn], position[drawn]
        losses = _losses(context, trajectories.tokens, trajectories.lengths, self.cost)
        actions = trajectories.tokens[sentence, position][:, None]
        group = torch.arange(len(losses), device=losses.device) // self.samples
        decisions = Decisions(
            sentence, position, actions, torch.ones_like(actions, dtype=torch.bool), group=group[sentence]
        )
        costs = (losses - self._baseline(context, losses))[sentence, None]
        return Outcome(decisions, CostVectors(costs), len(losses))

    def _baseline(self, context: Context, losses: Tensor) -> Tensor:
        if self.baseline == "none":
            return torch.zeros_like(losses)
        if self.baseline == "others":
            table = losses.view(-1, self.samples)
            return ((table.sum(1, keepdim=True) - table) / (self.samples - 1)).flatten()
        first = context.select(torch.arange(0, len(losses), self.samples, device=losses.device))
        tokens, lengths = first.policy.roll(first.memory, first.limits, greedy)
        return _losses(first, tokens, lengths, self.cost).repeat_interleave(self.samples)


def _losses(context: Context, tokens: Tensor, lengths: Tensor, cost: Cost) -> Tensor:
    """(B,) the loss of each row of the batch."""
    rows = torch.arange(len(lengths), device=lengths.device)
    finished = tokens[rows, lengths - 1] == context.policy.eos
    return cost(tokens, lengths - finished.long(), rows, context.batch)
