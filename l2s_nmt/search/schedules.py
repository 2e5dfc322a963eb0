"""How the probability of the reference changes while the model learns.

Scheduled sampling (Bengio et al. 2015) lets it fall linearly, exponentially or as an inverse sigmoid; DAgger (Ross,
Gordon & Bagnell 2011) asks for a mean that vanishes; LOLS (Chang et al. 2015) keeps it constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["constant", "linear", "exponential", "inverse_sigmoid"]

_STEEPNESS = 12.0
"""Of the inverse sigmoid: it begins within 0.3 % of its start and ends as near to its end."""

SHAPES: dict[ScheduleName, Callable[[float], float]] = {
    "constant": lambda x: 1.0,
    "linear": lambda x: max(0.0, 1.0 - x),
    "exponential": lambda x: 0.01**x,
    # k / (k + exp(i / k)) of the paper is a logistic curve; here its middle lies at half the way.
    "inverse_sigmoid": lambda x: 1.0 / (1.0 + math.exp(min(_STEEPNESS * (x - 0.5), 700.0))),
}
"""What is left of the way from start to end after x times the given number of updates."""


@dataclass(frozen=True)
class Schedule:
    """``end + (start - end) * shape(update / updates)``.

    Args:
        name: of the shape. ``linear`` arrives after ``updates``; ``exponential`` has a hundredth of the way left by
            then; ``inverse_sigmoid`` is half-way after half of them; ``constant`` stays at the start.
        start: value at update 0.
        end: value it goes to.
        updates: how long it takes.
    """

    name: ScheduleName
    start: float
    end: float = 0.0
    updates: int = 1

    def __call__(self, update: int) -> float:
        """The value at an update, counted from 0."""
        left = SHAPES[self.name](update / self.updates)
        # Start and end stay exact: a probability of 1 means always.
        return left * self.start + (1 - left) * self.end


HALF = Schedule("constant", 0.5)
"""Even chances at every update."""
