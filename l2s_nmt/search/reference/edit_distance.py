"""The exact reference under edit distance: what every next token costs, at every position, in closed form.

This is a dynamic oracle (Goldberg and Nivre 2012), by the dynamic programme of optimal completion
distillation (Sabour et al. 2019). The best completion of a prefix is what follows in the target after one of
the target's prefixes that are nearest to it. So the tokens that follow a nearest prefix lose nothing, and
every other token costs exactly one edit more than the best; ending at once leaves the distance to the whole
target. No roll-out. With several references, the nearest of all their prefixes count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.costs.edit_distance import prefix_distances
from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, row_blocks
from l2s_nmt.search.reference.copy import append
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.reference.vocabulary import reference_places, target_actions
from l2s_nmt.search.types import CostVectors, Decisions


@dataclass(frozen=True)
class EditDistance:
    """Continue a prefix with as few edits as possible.

    Args:
        cost: of a finished sentence: what the losses of `complete` are. The costs of tokens are in edits always.
    """

    cost: Cost

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """See `Reference`; where several suffixes are best, `nearest_prefixes` says which is taken."""
        references, reference_lengths = context.batch.references, context.batch.reference_lengths
        which, starts = nearest_prefixes(prefixes, lengths, references[sentence], reference_lengths[sentence])
        tokens, whole = append(context, prefixes, lengths, sentence, which, starts)
        return Completions(tokens, whole, lambda: self.cost(tokens, whole - 1, sentence, context.batch))

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`; in edits, and exact over the vocabulary."""
        references, reference_lengths = context.batch.references, context.batch.reference_lengths
        return edit_distance_costs(
            tokens, sentence, position, references, reference_lengths, context.policy.eos
        )


def edit_distance_costs(
    tokens: Tensor,
    sentence: Tensor,
    position: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    eos: int,
) -> tuple[Decisions, CostVectors]:
    """Compute the exact cost of every next token at some states.

    The listed actions are those of `target_actions`. Costs are in edits, not divided by the length: 0 or 1 for
    each token, 1 for all that are not listed; only EOS can cost more.

    Args:
        tokens: (B, T) trajectories, padded with anything.
        sentence: (N,) row of each state.
        position: (N,) the state is the prefix ``tokens[sentence, :position]``; below T.
        references: (B, M, R) each ending with EOS; padded with an id of the vocabulary.
        reference_lengths: (B, M) their lengths, EOS included; 0 where there is none.
        eos: id of EOS.

    Returns:
        N decisions and their costs.
    """
    distances = reference_distances(tokens[:, :-1], references)
    values = optimal_values(distances, reference_lengths)
    actions, mask = target_actions(references, reference_lengths)
    # A token is optimal if any of its occurrences follows a nearest prefix: a product counts these.
    nearest = (distances == values[:, None, :, None]).transpose(1, 2).flatten(2)
    inside = reference_places(references, reference_lengths)
    same = (references.flatten(1)[:, :, None] == actions[:, None, :]) & inside[:, :, None]
    occurrences = torch.bmm(nearest.float(), same.float())
    stop = (final_values(distances, reference_lengths) - values)[:, :, None]
    advantages = torch.where((actions == eos)[:, None], stop, (occurrences == 0).to(stop.dtype))
    listed = mask[sentence]
    costs = advantages[sentence, position].masked_fill_(~listed, 0).float()
    other = costs.new_ones(len(costs))
    return Decisions(sentence, position, actions[sentence], listed), CostVectors(costs, other)


def nearest_prefixes(
    prefixes: Tensor,
    lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[Tensor, Tensor]:
    """Find the prefix of a reference that each prefix is the fewest edits away from.

    Several may be equally near: after one wrong word, that word may replace the reference's, or stand before it.
    The one whose length is nearest to that of the prefix is taken, so that the finished sentence is about as
    long as the reference; of two, the shorter one, which leaves more to be said; of several references, the first.

    Args:
        prefixes: (M, P) words, padded with anything; P may be 0.
        lengths: (M,) their lengths.
        references: (M, m, R) those of each prefix's sentence, each ending with EOS; padded with anything.
        reference_lengths: (M, m) their lengths, EOS included; 0 where there is none.
        max_elements: entries of the largest temporary; more rows are computed in blocks.

    Returns:
        Which reference (M,), and the length (M,) of its prefix.
    """
    count, width = references.shape[1:]
    length = prefixes.shape[1] + 1
    column = torch.arange(width, device=prefixes.device)
    found = []
    for rows in row_blocks(len(prefixes), length * count * width, max_elements):
        table = reference_distances(prefixes[rows], references[rows])
        words = lengths[rows, None, None]
        distance = table[torch.arange(len(table), device=table.device), :, lengths[rows]].long()
        keys = distance * (length + width) + (column - words).abs()
        outside = column >= reference_lengths[rows, :, None]
        found.append(keys.masked_fill(outside, torch.iinfo(keys.dtype).max).flatten(1).argmin(1))
    best = torch.cat(found)
    return best // width, best % width


def reference_distances(tokens: Tensor, references: Tensor) -> Tensor:
    """Compute the edit distance between every prefix of each sentence and every prefix of its references.

    Args:
        tokens: (B, T) words; what stands behind a prefix has no influence on its distances.
        references: (B, M, R), EOS included, likewise.

    Returns:
        (B, M, T + 1, R) integers: the distance between the first t words and the first j of the reference.
    """
    rows, count = references.shape[:2]
    repeated = tokens[:, None].expand(-1, count, -1).flatten(0, 1)
    table = prefix_distances(repeated, references[:, :, :-1].flatten(0, 1))
    return table.view(rows, count, *table.shape[1:])


def optimal_values(distances: Tensor, reference_lengths: Tensor) -> Tensor:
    """Return the loss of the best completion of each prefix: the distance to the nearest prefix of a reference.

    Args:
        distances: (B, M, T, R) as from `reference_distances`.
        reference_lengths: (B, M) lengths of the references, EOS included; 0 where there is none.

    Returns:
        (B, T), of the dtype of the distances: the value V* of the prefix of length t, in edits.
    """
    outside = torch.arange(distances.shape[3], device=distances.device) >= reference_lengths[:, :, None]
    return distances.masked_fill(outside[:, :, None], torch.iinfo(distances.dtype).max).amin((1, 3))


def final_values(distances: Tensor, reference_lengths: Tensor) -> Tensor:
    """Return the loss of each prefix as it is: the distance to the nearest whole reference.

    Args:
        distances: (B, M, T, R) as from `reference_distances`.
        reference_lengths: (B, M) lengths of the references, EOS included; 0 where there is none.

    Returns:
        (B, T), of the dtype of the distances: the value Q* of EOS after the prefix of length t, in edits.
    """
    ends = (reference_lengths - 1).clamp(min=0)[:, :, None, None].expand(-1, -1, distances.shape[2], -1)
    whole = distances.gather(3, ends)[..., 0]
    return whole.masked_fill((reference_lengths == 0)[:, :, None], torch.iinfo(distances.dtype).max).amin(1)
