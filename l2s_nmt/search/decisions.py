"""Decisions: at which states of the roll-in the search looks, and which next tokens it tries there."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.types import Decisions, Trajectories


def uniform_states(
    trajectories: Trajectories, sentences: Tensor, count: int, draws: Draws
) -> tuple[Tensor, Tensor]:
    """``count`` positions of each trajectory, drawn uniformly without replacement (all, where it is shorter).

    Args:
        trajectories: of B sentences.
        sentences: (B,) ids to which the draws belong.
        count: states a sentence.
        draws: the source of randomness.

    Returns:
        sentence (N,) and position (N,), ordered by sentence and position.
    """
    width = trajectories.tokens.shape[1]
    keys = draws.uniform("states", sentences, width)
    inside = torch.arange(width, device=keys.device) < trajectories.lengths[:, None]
    keys = keys.masked_fill(~inside, 2.0)
    chosen = keys.argsort(dim=1, stable=True)[:, :count]
    keep = torch.zeros_like(inside).scatter_(1, chosen, True) & inside
    sentence, position = keep.nonzero(as_tuple=True)
    return sentence, position


def all_states(trajectories: Trajectories) -> tuple[Tensor, Tensor]:
    """Every position of every trajectory: sentence (N,) and position (N,)."""
    width = trajectories.tokens.shape[1]
    positions = torch.arange(width, device=trajectories.lengths.device)
    sentence, position = (positions < trajectories.lengths[:, None]).nonzero(as_tuple=True)
    return sentence, position


def top_k_candidates(
    scores: Tensor, sentence: Tensor, position: Tensor, k: int, batch: Batch, eos: int
) -> Decisions:
    """The policy's k best tokens at each state, the reference's token at that position, and EOS.

    Args:
        scores: (N, V) of the policy at the states.
        sentence: (N,).
        position: (N,).
        k: number of best tokens; the first of them is the policy's own choice.
        batch: with the targets.
        eos: id of EOS.

    Returns:
        Decisions with K = k + 2 actions, those that repeat masked.
    """
    best = scores.topk(k, dim=-1).indices
    at = position.clamp(max=batch.target.shape[1] - 1)
    reference = batch.target[sentence, at]
    reference = torch.where(position < batch.target_lengths[sentence], reference, eos)
    actions = torch.cat([best, reference[:, None], torch.full_like(reference, eos)[:, None]], dim=1)
    repeated = (actions[:, :, None] == actions[:, None, :]).tril(-1).any(-1)
    return Decisions(sentence, position, actions, ~repeated)
