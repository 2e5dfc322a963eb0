"""The exact reference under edit distance: what every next token costs, at every position, in closed form.

This is a dynamic oracle (Goldberg and Nivre 2012), by the dynamic programme of optimal completion
distillation (Sabour et al. 2019). The best completion of a prefix is what follows in the target after one of
the target's prefixes that are nearest to it. So the tokens that follow a nearest prefix lose nothing, and
every other token costs exactly one edit more than the best; ending at once leaves the distance to the whole
target. No roll-out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.search.costs import prefix_distances
from l2s_nmt.search.types import CostVectors, Decisions


def edit_distance_costs(
    tokens: Tensor,
    lengths: Tensor,
    target: Tensor,
    target_lengths: Tensor,
    *,
    distances: Tensor | None = None,
) -> tuple[Decisions, CostVectors]:
    """Compute the exact cost of every next token at every position of the trajectories.

    The states are the prefixes of length 0 to ``lengths - 1``, sentence by sentence. The listed actions are
    the distinct tokens of the target, EOS among them, each in the place of its first occurrence. Costs are in
    edits, not divided by the length: 0 or 1 for each token, 1 for all that are not listed; only EOS can cost
    more.

    Args:
        tokens: (B, T) trajectories, ending with EOS or with the length cap; padded with anything.
        lengths: (B,) their lengths, EOS included.
        target: (B, R) references, each ending with EOS; padded with an id of the vocabulary.
        target_lengths: (B,) their lengths, EOS included.
        distances: ``prefix_distances(tokens, target)``, where the caller has it already.

    Returns:
        N = ``lengths.sum()`` decisions with K = R actions, and their costs.
    """
    if distances is None:
        distances = prefix_distances(tokens[:, :-1], target[:, :-1])
    distances = distances[:, : tokens.shape[1], : target.shape[1]]
    gaps = distances - optimal_values(distances, target_lengths)[:, :, None]
    mask, same = target_actions(target, target_lengths)
    is_end = torch.arange(target.shape[1], device=target.device) == target_lengths[:, None] - 1
    # A token is optimal if any of its occurrences follows a nearest prefix: a product counts these.
    occurrences = torch.bmm((gaps == 0).float(), same.float())
    advantages = torch.where(is_end[:, None], gaps, (occurrences == 0).to(gaps.dtype))
    inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    sentence, position = inside.nonzero(as_tuple=True)
    listed = mask[sentence]
    costs = advantages[sentence, position].masked_fill_(~listed, 0).float()
    other = costs.new_ones(len(costs))
    return Decisions(sentence, position, target[sentence], listed), CostVectors(costs, other)


def optimal_values(distances: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the loss of the best completion of each prefix: the minimum of its row.

    Args:
        distances: (B, T, R) rows of ``prefix_distances``.
        target_lengths: (B,) lengths of the references, EOS included.

    Returns:
        (B, T), of the dtype of the distances: the value V* of the prefix of length t, in edits.
    """
    outside = torch.arange(distances.shape[2], device=distances.device) >= target_lengths[:, None]
    return distances.masked_fill(outside[:, None], torch.iinfo(distances.dtype).max).amin(2)


def final_distance(distances: Tensor, lengths: Tensor, target_lengths: Tensor, finished: Tensor) -> Tensor:
    """Return the edit distance between each whole trajectory and its reference, EOS not counted.

    Args:
        distances: (B, T + 1, R + 1) ``prefix_distances(tokens, target)``.
        lengths: (B,) lengths of the trajectories, EOS included.
        target_lengths: (B,) lengths of the references, EOS included.
        finished: (B,) bool: the trajectory ends with EOS.

    Returns:
        (B,), of the dtype of the distances.
    """
    rows = torch.arange(len(distances), device=distances.device)
    return distances[rows, lengths - finished.long(), target_lengths - 1]


def target_actions(target: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct tokens of each reference, EOS included.

    Args:
        target: (B, R) references, each ending with EOS; padded with anything.
        target_lengths: (B,) their lengths, EOS included.

    Returns:
        (B, R) bool: the first occurrence of a token; and (B, R, R) bool: two tokens of the reference are
        equal.
    """
    inside = torch.arange(target.shape[1], device=target.device) < target_lengths[:, None]
    same = (target[:, :, None] == target[:, None, :]) & (inside[:, :, None] & inside[:, None, :])
    return inside & ~same.tril(-1).any(2), same
