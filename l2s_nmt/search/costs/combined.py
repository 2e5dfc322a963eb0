"""Several costs as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.costs.cost import Cost


@dataclass(frozen=True)
class WeightedSum:
    """A weighted sum of costs.

    Args:
        parts: at least one weight and cost.
    """

    parts: tuple[tuple[float, Cost], ...]

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        """See `Cost`."""
        terms = [weight * cost(hypotheses, lengths, sentence, batch) for weight, cost in self.parts]
        return torch.stack(terms).sum(0)
