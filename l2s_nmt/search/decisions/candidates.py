"""Which next tokens the search tries at a state.

SEARNN (Leblond et al. 2018) compares samplings: uniform, from the policy, its top k, biased toward the reference, and
the reference's neighbours. The reference's action and EOS are always among the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, row_blocks
from l2s_nmt.search.randomness import PLACES
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.sampling import sample_distinct
from l2s_nmt.search.types import Decisions, Trajectories

CandidatesName = Literal["full", "top_k", "sampled", "biased", "uniform", "neighbours", "taken"]

NEIGHBOURS = 5
"""How many tokens on either side of the position are tried by ``neighbours``."""


@dataclass(frozen=True)
class CandidateChoice:
    """Chooses candidate tokens.

    Args:
        name: ``top_k``: the policy's most probable tokens; ``sampled``: drawn from the policy without replacement;
            ``biased``: drawn from an even mixture of the policy and the target's tokens; ``uniform``: any tokens;
            ``neighbours``: the target's tokens around the position; ``taken``: the trajectory's own token alone.
        k: how many of the first four.
        reference: whose action is added; None: there is none.
    """

    name: Literal["top_k", "sampled", "biased", "uniform", "neighbours", "taken"]
    k: int
    reference: Reference | None

    def __call__(
        self, context: Context, trajectories: Trajectories, sentence: Tensor, position: Tensor, scores: Tensor
    ) -> Decisions:
        """Candidates at N states, repeated ones masked.

        Args:
            context: of B sentences.
            trajectories: of them.
            sentence: (N,) row of each state.
            position: (N,)
            scores: (N, V) of the policy there.
        """
        if self.name == "taken":
            actions = trajectories.tokens[sentence, position][:, None]
            return Decisions(sentence, position, actions, torch.ones_like(actions, dtype=torch.bool))
        parts = [self._chosen(context, sentence, position, scores)]
        if self.reference is not None:
            prefixes = trajectories.prefixes(sentence, position)
            whole = self.reference.complete(context, prefixes, position, sentence)
            parts.append(whole.next_tokens(position)[:, None])
        parts.append(torch.full_like(position, context.policy.eos)[:, None])
        actions = torch.cat(parts, 1)
        repeated = (actions[:, :, None] == actions[:, None, :]).tril(-1).any(-1)
        return Decisions(sentence, position, actions, ~(repeated | (actions == context.policy.pad)))

    def _chosen(self, context: Context, sentence: Tensor, position: Tensor, scores: Tensor) -> Tensor:
        if self.name == "neighbours":
            return _neighbours(context, sentence, position)
        if self.name == "top_k":
            return scores.topk(min(self.k, scores.shape[1]), dim=-1).indices
        rows = context.batch.rows[sentence] * PLACES + position
        uniform = context.draws.uniform("tokens", rows, min(self.k, scores.shape[1]))
        if self.name == "uniform":
            return (uniform * scores.shape[1]).long()
        blocks = row_blocks(len(scores), scores.shape[1], MAX_ELEMENTS)
        return torch.cat(
            [sample_distinct(self._drawn_from(context, sentence[b], scores[b]), uniform[b]) for b in blocks]
        )

    def _drawn_from(self, context: Context, sentence: Tensor, scores: Tensor) -> Tensor:
        probabilities = scores.float().softmax(-1)
        if self.name == "biased":
            probabilities = (probabilities + _target_tokens(context, sentence, scores.shape[1])) / 2
        return probabilities


def _neighbours(context: Context, sentence: Tensor, position: Tensor) -> Tensor:
    around = position[:, None] + torch.arange(-NEIGHBOURS, NEIGHBOURS + 1, device=position.device)
    last = context.batch.target_lengths[sentence, None] - 1
    return context.batch.target[sentence[:, None], around.clamp(min=0).minimum(last)]


def _target_tokens(context: Context, sentence: Tensor, vocabulary: int) -> Tensor:
    """(N, V) the uniform distribution over the places of each target."""
    batch = context.batch
    inside = torch.arange(batch.target.shape[1], device=sentence.device) < batch.target_lengths[:, None]
    share = inside.float() / batch.target_lengths[:, None]
    table = torch.zeros(len(batch.rows), vocabulary, device=sentence.device)
    return table.scatter_add_(1, batch.target, share)[sentence]
