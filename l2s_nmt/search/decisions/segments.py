"""Hierarchical guidance: verify segments cheaply, and spend roll-outs only where one failed (Le et al. 2018).

A segment is right if a best completion exists after it that costs no more edits than before it: the value V* of the
edit-distance oracle did not rise. Within a trajectory whose segments so far were right, the first one that fails is
where guidance is worth its price; what comes after is the consequence of a mistake, and what came before is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.reference.edit_distance import final_values, optimal_values, reference_distances
from l2s_nmt.search.types import Trajectories


def failed_segments(batch: Batch, trajectories: Trajectories, size: int) -> Tensor:
    """Find the first segment of each trajectory that went wrong.

    Args:
        batch: of B sentences.
        trajectories: their roll-ins.
        size: tokens in a segment.

    Returns:
        (B, T) bool: the positions of that segment; none where the whole trajectory is right.
    """
    lost = _edits_lost(batch, trajectories)
    positions = torch.arange(lost.shape[1], device=lost.device)
    inside = positions < trajectories.lengths[:, None]
    # Behind the end the padding would count as mistakes.
    wrong = (lost > 0) & inside
    first = wrong.int().argmax(1)
    same = positions // size == (first // size)[:, None]
    return same & inside & wrong.any(1, keepdim=True)


def _edits_lost(batch: Batch, trajectories: Trajectories) -> Tensor:
    """(B, T) by how many edits each token of a trajectory makes the best reachable translation worse."""
    distances = reference_distances(trajectories.tokens, batch.references)
    values, finals = (
        value_of(distances, batch.reference_lengths).int() for value_of in (optimal_values, final_values)
    )
    # EOS ends the sentence: what is missing then is the distance to the whole reference.
    last = trajectories.lengths[:, None] - 1
    ended = values.scatter(1, last + 1, finals.gather(1, last))
    values = torch.where(trajectories.finished[:, None], ended, values)
    return values[:, 1:] - values[:, :-1]
