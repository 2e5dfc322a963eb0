"""What one update minimises: cross-entropy on the reference, and a cost-sensitive loss on what the search found.

Both are global sums over global counts: target tokens for the one, searched states for the other. Splitting a
batch over processes or accumulation steps therefore changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.losses.table import LossFunction, Support
from l2s_nmt.search.search import Experience


@dataclass(frozen=True)
class Counts:
    """What the sums of an update are divided by, over all its parts."""

    tokens: float
    """Target tokens, EOS included."""
    states: float
    """States the search looked at."""


@dataclass(frozen=True)
class Losses:
    """The terms of one part of an update, as sums; detached, for the log."""

    cross_entropy: Tensor
    search: Tensor


@dataclass(frozen=True)
class Objective:
    """weight · cost-sensitive loss + cross_entropy · cross-entropy.

    Args:
        loss: cost-sensitive loss; None without search.
        weight: of it.
        cross_entropy: weight of the cross-entropy on the reference.
        label_smoothing: of the cross-entropy.
        alpha: scale of the costs, for losses that have one.
        support: over what the loss normalises the policy.
    """

    loss: LossFunction | None
    weight: float
    cross_entropy: float
    label_smoothing: float
    alpha: float
    support: Support

    def __call__(
        self, policy: nn.Module, batch: Batch, experience: Experience | None, counts: Counts
    ) -> tuple[Tensor, Losses, Tensor]:
        """One forward of the policy, for both terms.

        Args:
            policy: the (wrapped) policy.
            batch: B sentences.
            experience: what the search found on them; None without search.
            counts: of the whole update.

        Returns:
            the part's share of the update's loss, its terms as sums, and the (N, V) scores at the searched states.
        """
        rows, sentence = self._rows(batch, experience)
        golden = _golden_states(batch, rows.shape[1]) if self.cross_entropy else batch.rows.new_empty(0)
        searched = batch.rows.new_empty(0)
        if experience is not None:
            first = len(batch) if self.cross_entropy else 0
            searched = (first + experience.decisions.sentence) * rows.shape[1] + experience.decisions.position
        scores = policy(batch.source, batch.source_mask, rows, sentence, torch.cat([golden, searched]))
        entropy = self._cross_entropy(scores[: len(golden)], batch)
        total, search = self.cross_entropy * entropy / counts.tokens, scores.new_zeros(())
        scores = scores[len(golden) :]
        if experience is not None and self.loss is not None:
            decisions, costs = experience.decisions, experience.costs
            search = self.loss(scores, decisions, costs, alpha=self.alpha, support=self.support).sum()
            total = total + self.weight * search / max(counts.states, 1.0)
        return total, Losses(entropy.detach(), search.detach()), scores

    def _rows(self, batch: Batch, experience: Experience | None) -> tuple[Tensor, Tensor]:
        """Target rows, of the reference and of the roll-in, and the sentence of each."""
        index = torch.arange(len(batch), device=batch.target.device)
        if experience is None:
            return batch.target, index
        tokens = experience.trajectories.tokens
        if not self.cross_entropy:
            return tokens, experience.owner
        width = max(batch.target.shape[1], tokens.shape[1])
        rows = torch.cat([_widen(batch.target, width), _widen(tokens, width)])
        return rows, torch.cat([index, experience.owner])

    def _cross_entropy(self, scores: Tensor, batch: Batch) -> Tensor:
        if not len(scores):
            return scores.new_zeros(())
        target = batch.target.flatten()[_golden_states(batch, batch.target.shape[1])]
        return F.cross_entropy(scores, target, reduction="sum", label_smoothing=self.label_smoothing)


def _golden_states(batch: Batch, width: int) -> Tensor:
    """The states before each token of the references, in rows of that width."""
    positions = torch.arange(batch.target.shape[1], device=batch.target.device)
    row, position = (positions < batch.target_lengths[:, None]).nonzero(as_tuple=True)
    return row * width + position


def _widen(tokens: Tensor, width: int) -> Tensor:
    # What fills the rest is never looked at: attention is causal and the states lie before it.
    return F.pad(tokens, (0, width - tokens.shape[1]))
