"""What every stage of the search sees: the policy as it is, one encoded batch, and the draws of one update."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.decoder_state import DecoderState, Memory
from l2s_nmt.model import Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.types import Trajectories
from l2s_nmt.shared_prefixes import first_of_each

SCORING = "seconds_scoring"
"""Note of the time in the costs of finished branches."""
SIMULATED = "simulated"
"""Note of the sentences that a tree search has finished, which are roll-outs as well."""


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
class Context:
    """One batch of B sentences at one update."""

    policy: Policy
    """The model, in evaluation mode."""
    memory: Memory
    """Its encoder states of the B sources."""
    batch: Batch
    draws: Draws
    """Random numbers that belong to (seed, update, sentence)."""
    limits: Tensor
    """(B,) most tokens of a translation, EOS included."""
    level: float = 0.0
    """Running mean of the losses observed so far; what is predicted before anything is known about a sentence."""
    notes: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Sums that stages leave for the log."""
    source: Tensor | None = None
    """(B,) the same number for the rows of one sentence, where several trajectories are written of each; None: every
    row is a sentence of its own."""

    def uniform(self, purpose: str, count: int) -> Tensor:
        """(B, count) uniform numbers in [0, 1) for a purpose of at most eight letters."""
        return self.draws.uniform(purpose, self.batch.rows, count)

    def score(self, tokens: Tensor, sentence: Tensor, position: Tensor) -> tuple[Tensor, DecoderState]:
        """The policy at some states of trajectories.

        Args:
            tokens: (B, T) trajectories.
            sentence: (N,) row of each state.
            position: (N,) the state is the prefix ``tokens[sentence, :position]``.

        Returns:
            (N, V) scores of the next token, and the decoder state of the trajectories, from which to branch.
        """
        return self.policy.prefill(self.memory, tokens, sentence * tokens.shape[1] + position)

    def score_roll_in(
        self, trajectories: Trajectories, sentence: Tensor, position: Tensor
    ) -> tuple[Tensor, DecoderState]:
        """As ``score``, at states of what the roll-in wrote, which need not be read again where it kept what it saw."""
        trunk = trajectories.trunk
        if trunk is None or trunk.state is None:
            return self.score(trajectories.tokens, sentence, position)
        return self.policy.next_scores(trunk.hidden[sentence, position]), trunk.state

    def seen_by(self, policy: Policy) -> Context:
        """The same with another policy, whose encoder reads the sources."""
        numbers = self.batch.rows if self.source is None else self.source
        first, place = first_of_each(numbers)
        batch = self.batch.select(first)
        with torch.no_grad():
            memory = policy.encode(batch.source, batch.source_mask).select(place)
        return replace(self, policy=policy, memory=memory)

    def select(self, sentence: Tensor) -> Context:
        """The context of the given rows (M,) of the batch, repeated where a row is."""
        return Context(
            self.policy,
            self.memory.select(sentence),
            self.batch.select(sentence),
            self.draws,
            self.limits[sentence],
            self.level,
            self.notes,
            None if self.source is None else self.source[sentence],
        )


def see(policy: Policy, batch: Batch, draws: Draws, limit: LengthLimit, level: float = 0.0) -> Context:
    """Encode a batch; everything that follows uses these encoder states."""
    with torch.no_grad():
        memory = policy.encode(batch.source, batch.source_mask)
    return Context(policy, memory, batch, draws, limit(batch.source_mask), level)
