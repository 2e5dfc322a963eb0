"""What an update learns from the references: their cross-entropy, and that two readings of them agree."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Term


class References:
    """The loss of a batch's references, with what their cross-entropy comes to.

    With a consistency each sentence is read twice, by encoder and decoder, each time with a dropout of its own. The
    cross-entropy is then the mean of both readings, and to it comes, weighted, half of what the distributions over the
    next token diverge in both directions (Liang et al. 2021, R-Drop: Regularized Dropout for Neural Networks).

    Args:
        batch: B sentences.
        weight: of the whole.
        label_smoothing: of the cross-entropy.
        consistency: weight of the divergence; 0: each sentence is read once.

    Attributes:
        source: (readings · B, S) the sources, as often as they are read.
        source_mask: (readings · B, S)
        rows: (readings · B, T) the references: row r is of source row r.
    """

    def __init__(self, batch: Batch, weight: float, label_smoothing: float, consistency: float) -> None:
        self.batch = batch
        self.weight = weight
        self.label_smoothing = label_smoothing
        self.consistency = consistency
        self.readings = 2 if consistency else 1
        self.sum: Tensor | float = 0.0
        self.source, self.source_mask, self.rows = (
            torch.cat([tensor] * self.readings) for tensor in (batch.source, batch.source_mask, batch.target)
        )
        positions = torch.arange(batch.target.shape[1], device=batch.target.device)
        self.row, self.position = (positions < batch.target_lengths[:, None]).nonzero(as_tuple=True)
        self.target = batch.target[self.row, self.position]

    def term(self, width: int) -> Term:
        """The loss at the states before each token of the references, which stand first among rows of that width."""
        states = self.row * width + self.position
        if self.readings == 2:  # both readings of a state next to each other
            states = torch.stack([states, states + len(self.batch) * width], 1).flatten()
        return Term(states, self._loss, together=self.readings)

    def _loss(self, states: slice, scores: Tensor) -> Tensor:
        target = self.target.repeat_interleave(self.readings)[states]
        entropy = F.cross_entropy(scores, target, reduction="sum", label_smoothing=self.label_smoothing)
        loss = entropy = entropy / self.readings
        if self.consistency:
            loss = loss + self.consistency * _divergence(scores[0::2], scores[1::2])
        self.sum = self.sum + entropy.detach()
        return self.weight * loss


def _divergence(some: Tensor, other: Tensor) -> Tensor:
    """The mean of both Kullback-Leibler divergences, summed over states, of scores (n, V)."""
    precision = torch.promote_types(some.dtype, torch.float32)
    p, q = (F.log_softmax(scores, 1, dtype=precision) for scores in (some, other))
    return ((p.exp() - q.exp()) * (p - q)).sum() / 2
