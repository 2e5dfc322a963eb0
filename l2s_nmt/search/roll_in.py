"""Roll-in: which policy writes the prefixes on which the model will learn.

Learning on the model's own prefixes is what separates learning to search from teacher forcing (Ross, Gordon &
Bagnell 2011, DAgger; Bengio et al. 2015 for sequence models).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Choose, Memory, Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.types import Trajectories


@dataclass(frozen=True)
class LengthLimit:
    """The longest sentence a policy may write, from the source alone: factor · source tokens + constant."""

    factor: float
    constant: int
    longest: int | None = None
    """What the model has positions for; None: any length."""

    def __call__(self, source_mask: Tensor) -> Tensor:
        """(B,) most tokens, EOS included, at least 1, for (B, S) source masks."""
        return ((source_mask.sum(1) * self.factor).long() + self.constant).clamp(min=1, max=self.longest)


@dataclass(frozen=True)
class RollIn:
    """Write a trajectory for every sentence of a batch.

    Args:
        policy: ``reference`` copies the target, ``learned`` decodes with the model.
        decoding: ``greedy``, or ``sample`` from softmax(scores / temperature).
        temperature: of sampling.
        limit: where a learned trajectory is cut.
    """

    policy: Literal["reference", "learned"]
    decoding: Literal["greedy", "sample"]
    temperature: float
    limit: LengthLimit

    def __call__(self, policy: Policy, memory: Memory, batch: Batch, draws: Draws) -> Trajectories:
        """Roll in; the draws of a sentence depend on nothing but the sentence."""
        if self.policy == "reference":
            finished = torch.ones_like(batch.target_lengths, dtype=torch.bool)
            return Trajectories(batch.target, batch.target_lengths, finished)
        limits = self.limit(batch.source_mask)
        tokens, lengths = policy.roll(memory, limits, self._choose(batch, limits, draws))
        last = tokens.gather(1, (lengths - 1)[:, None]).squeeze(1)
        return Trajectories(tokens, lengths, last == policy.eos)

    def _choose(self, batch: Batch, limits: Tensor, draws: Draws) -> Choose:
        if self.decoding == "greedy":
            return greedy
        uniform = draws.uniform("roll_in", batch.rows, int(limits.max()))
        return lambda scores, step, rows: sample(scores / self.temperature, uniform[rows, step])


def greedy(scores: Tensor, step: int, rows: Tensor) -> Tensor:
    """The most probable token of each row."""
    return scores.argmax(-1)


def sample(scores: Tensor, uniform: Tensor) -> Tensor:
    """Tokens drawn from softmax(scores) by inverting the cumulative distribution.

    Args:
        scores: (R, V).
        uniform: (R,) in [0, 1): one number a row decides its token.

    Returns:
        (R,) tokens.
    """
    cumulative = torch.softmax(scores.float(), dim=-1).cumsum(-1)
    # The sum may fall short of 1 by rounding; scaling keeps the last index from being out of reach or range.
    threshold = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)
