"""Learning-rate schedules: multipliers of the peak rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a curve.

    Args:
        kind: ``constant``; ``inverse_sqrt``: sqrt(warmup / update) (Vaswani et al. 2017); ``linear`` and
            ``cosine``: from 1 at the start to ``final`` when the run's budget is used up.
        warmup: updates of linear warm-up; the first update already learns.
        final: where linear and cosine end.
    """

    kind: Literal["constant", "inverse_sqrt", "linear", "cosine"]
    warmup: int
    final: float

    def __call__(self, update: int, used: float) -> float:
        """The multiplier for an update (counted from 1), with the used share of the run's budget in [0, 1]."""
        rising = min(1.0, update / self.warmup) if self.warmup else 1.0
        return rising * self._after(update, min(used, 1.0))

    def _after(self, update: int, used: float) -> float:
        match self.kind:
            case "constant":
                return 1.0
            case "inverse_sqrt":
                return math.sqrt(max(self.warmup, 1) / max(update, self.warmup, 1))
            case "linear":
                return self.final + (1 - self.final) * (1 - used)
            case "cosine":
                return self.final + (1 - self.final) * (1 + math.cos(math.pi * used)) / 2
