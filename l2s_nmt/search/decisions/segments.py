"""Hierarchical guidance: verify segments cheaply, and spend roll-outs only where one failed (Le et al. 2018).

A segment is right if a best completion exists after it that costs no more edits than before it: the value V* of the
edit-distance oracle did not rise. Within a trajectory whose segments so far were right, the first one that fails is
where guidance is worth its price; what comes after is the consequence of a mistake, and what came before is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.costs.edit_distance import prefix_distances
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
    values = []
    for index in range(batch.references.shape[1]):
        lengths = batch.reference_lengths[:, index]
        table = prefix_distances(trajectories.tokens, batch.references[:, index, :-1]).int()
        outside = torch.arange(table.shape[2], device=table.device) >= lengths[:, None]
        table = table.masked_fill(outside[:, None], 1 << 20)
        value = table.amin(2)
        # EOS ends the sentence: what is missing then is the distance to the whole reference.
        last = trajectories.lengths[:, None] - 1
        before = table.gather(1, last[:, :, None].expand(-1, -1, table.shape[2]))
        final = before.gather(2, (lengths - 1).clamp(min=0)[:, None, None])[:, 0]
        ended = value.scatter(1, last + 1, final)
        values.append(torch.where(trajectories.finished[:, None], ended, value))
    best = torch.stack(values).amin(0)
    return best[:, 1:] - best[:, :-1]
