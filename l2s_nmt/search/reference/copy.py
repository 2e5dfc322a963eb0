"""The reference that copies the target by position (Bengio et al. 2015; Leblond et al. 2018).

After t tokens, whatever they are, it goes on with the target from its place t. One word too many or too few, and all
that follows is out of step: it is the weakest of the references, and right for Hamming distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.overlap import hamming_cost
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.reference.vocabulary import less_the_smallest, target_actions, vocabulary_costs
from l2s_nmt.search.types import CostVectors, Decisions


@dataclass(frozen=True)
class Copy:
    """Continue a prefix of t tokens with ``target[t:]``, or with EOS where the target has ended before.

    Args:
        cost: of a finished sentence, against all its references, though the first alone is copied; no trials are needed
            for `hamming_cost` on tokens.
    """

    cost: Cost

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """See `Reference`."""
        which = torch.zeros_like(sentence)
        starts = torch.minimum(lengths, context.batch.reference_lengths[sentence, 0] - 1)
        tokens, whole = append(context, prefixes, lengths, sentence, which, starts)
        return Completions(tokens, whole, lambda: self.cost(tokens, whole - 1, sentence, context.batch))

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`; exact over the vocabulary for costs that compare tokens."""
        if isinstance(self.cost, OnTokens) and self.cost.kernel is hamming_cost:
            return hamming_costs(context, tokens, sentence, position)

        def losses(prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Tensor:
            return self.complete(context, prefixes, lengths, sentence).losses

        return vocabulary_costs(context, tokens, sentence, position, losses)


def hamming_costs(
    context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
) -> tuple[Decisions, CostVectors]:
    """Compute the costs of `Copy` under Hamming distance, by counting the places that are right.

    Those are places of the prefix, that of the token, and those behind it where target and reference agree: with
    one reference all of them, so that the target's own token is the only one that loses nothing.

    Args:
        context: of B sentences.
        tokens: (B, T) trajectories, padded with anything.
        sentence: (N,) row of each state.
        position: (N,) the state is the prefix ``tokens[sentence, :position]``; below T.
    """
    references, reference_lengths = context.batch.references, context.batch.reference_lengths
    words = (reference_lengths - 1).clamp(min=0)
    before, behind = _right_places(tokens, references, words)
    here = position[:, None]
    width = references.shape[2]
    right_before = before[sentence, :, position.clamp(max=before.shape[2] - 1)]
    right = right_before + behind[sentence, :, (position + 1).clamp(max=width)]
    size = words[sentence]
    longest = torch.maximum(torch.maximum(here + 1, size[:, :1]), size)
    actions, mask = target_actions(references, reference_lengths)
    decisions = Decisions(sentence, position, actions[sentence], mask[sentence])
    follower = references[sentence, :, position.clamp(max=width - 1)].masked_fill(here >= size, -1)
    hits = follower[:, :, None] == decisions.actions[:, None]

    def wrong(right: Tensor, longest: Tensor) -> Tensor:
        """(N,) or (N, K) the smallest share of wrong places, of (N, M) or (N, M, K) right ones."""
        shares = (longest - right) / longest.clamp(min=1)
        absent = (reference_lengths == 0)[sentence].view(*size.shape, *[1] * (right.dim() - 2))
        return shares.masked_fill(absent, torch.inf).amin(1)

    losses = wrong(right[:, :, None] + hits, longest[:, :, None])
    stop = wrong(right_before, torch.maximum(here, size))
    losses = torch.where(decisions.actions == context.policy.eos, stop[:, None], losses)
    return decisions, less_the_smallest(decisions, losses, wrong(right, longest))


def _right_places(tokens: Tensor, references: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the first t tokens are right, (B, M, t), and of the first reference's words from j on, (B, M, j)."""
    inside = torch.arange(references.shape[2], device=tokens.device) < words[:, :, None]
    width = min(tokens.shape[1], references.shape[2])
    right = (tokens[:, None, :width] == references[:, :, :width]) & inside[:, :, :width]
    agreed = (references[:, :1] == references) & inside & inside[:, :1]
    return F.pad(right.cumsum(2), (1, 0)), F.pad(agreed.flip(2).cumsum(2).flip(2), (0, 1))


def append(
    context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor, which: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Finish prefixes with the ends of references.

    Args:
        context: of B sentences.
        prefixes: (M, P) tokens, padded with anything; P may be 0. One that ends with EOS is left as it is.
        lengths: (M,) their lengths.
        sentence: (M,) the row of the batch each belongs to.
        which: (M,) which of the sentence's references to append.
        starts: (M,) the first token of it that is appended; the place of its EOS appends no word.

    Returns:
        The sentences (M, L), each ending with EOS, padded with the pad id; and their lengths (M,), EOS included.
    """
    references = context.batch.references[sentence, which]
    last = context.batch.reference_lengths[sentence, which] - 1
    ended = is_finished(prefixes, lengths, context.policy.eos)
    words = lengths - ended.long()
    starts = torch.where(ended, last, starts)
    whole = words + last + 1 - starts
    size, width = prefixes.shape[1], references.shape[1]
    index = torch.arange(int(whole.max()) if len(whole) else size + width, device=prefixes.device)
    behind = (index - words[:, None] + starts[:, None]).clamp(max=width - 1) + size
    places = torch.where(index < words[:, None], index, behind)
    tokens = torch.cat([prefixes, references], 1).gather(1, places)
    return tokens.masked_fill(index >= whole[:, None], context.policy.pad), whole


def is_finished(prefixes: Tensor, lengths: Tensor, eos: int) -> Tensor:
    """(M,) bool: which of the prefixes (M, P) of lengths (M,) end with EOS; P may be 0."""
    # A column before the first token stands for the end of an empty prefix.
    return F.pad(prefixes, (1, 0), value=-1).gather(1, lengths[:, None])[:, 0] == eos
