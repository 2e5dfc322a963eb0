"""Averages of the weights: exponential, of all updates alike, or of the last snapshots; and over several starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from l2s_nmt.training.sharding import dealt, gathered, local, undealt


class Averager:
    """Keeps an average of a module's trainable weights beside them.

    Args:
        module: the unwrapped model; of weights that are dealt out each process averages its share.
        kind: ``none``, ``ema`` (average ← decay·average + (1−decay)·weights after every update, with the decay
            rising from 0 as (1 + n) / (10 + n) so that the start is forgotten), ``mean`` (of the weights after
            every update: in place of the average policy that LOLS returns, Chang et al. 2015, which would draw one
            of them for each sentence), or ``last`` (mean of the weights at the last validations;
            Junczys-Dowmunt et al. 2016).
        decay: of the moving average.
        last: number of snapshots.
        starts: times that training starts from the weights as they are now; with several, the average is the mean of
            those of all starts.
    """

    def __init__(
        self,
        module: nn.Module,
        kind: Literal["none", "ema", "mean", "last"],
        decay: float,
        last: int,
        starts: int = 1,
    ) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.kind = kind
        self.decay = decay
        self.last = last
        self.starts = starts
        self.averages = kind != "none" or starts > 1
        self.updates = 0
        self.snapshots = self._begin()
        self.first = self._copy() if starts > 1 else []
        self.ended: list[Tensor] = []
        """Mean of the averages of those starts that are over."""
        self.starts_ended = 0

    def _begin(self) -> list[list[Tensor]]:
        return [self._copy()] if self.kind in ("ema", "mean") else []

    def after_update(self) -> None:
        """Take in the weights after an update of the optimiser."""
        if self.kind not in ("ema", "mean"):
            return
        self.updates += 1
        if self.kind == "mean":
            decay = 1 - 1 / self.updates
        else:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.snapshots[0], [local(p.detach()) for p in self.parameters], 1 - decay)

    def before_validation(self) -> None:
        """Take a snapshot of the weights that are about to be validated."""
        if self.kind == "last":
            self.snapshots = [*self.snapshots, self._copy()][-self.last :]

    def start_again(self) -> None:
        """End a start: its average joins those of the starts before, and the module has its first weights again."""
        average = self._average()
        self.starts_ended += 1
        if self.ended:
            torch._foreach_lerp_(self.ended, average, 1 / self.starts_ended)
        else:
            self.ended = average
        self._load(self.first)
        self.updates = 0
        self.snapshots = self._begin()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the module holds the average."""
        if not self.snapshots and not self.ended:
            yield
            return
        raw, average = self._copy(), self._average()
        if self.ended:
            torch._foreach_lerp_(average, self.ended, 1 - 1 / (self.starts_ended + 1))
        self._load(average)
        try:
            yield
        finally:
            self._load(raw)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; all processes call it."""
        groups = {str(number): group for number, group in enumerate(self.snapshots)}
        groups |= {"first": self.first, "ended": self.ended}
        kept = {
            f"{name}.{p}": gathered(undealt(tensor, self.parameters[p]))
            for name, group in groups.items()
            for p, tensor in enumerate(group)
        }
        counts = {"updates": torch.tensor(self.updates)}
        if self.first:
            counts["starts_ended"] = torch.tensor(self.starts_ended)
        return {**counts, **kept}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what a checkpoint kept."""
        self.updates = int(state["updates"])
        numbers = sorted({int(name) for key in state if (name := key.partition(".")[0]).isdecimal()})
        self.snapshots = [self._group(state, str(number)) for number in numbers]
        if not self.first:
            return
        self.first = self._group(state, "first")
        self.starts_ended = int(state["starts_ended"])
        self.ended = self._group(state, "ended") if self.starts_ended else []

    def _group(self, state: dict[str, Tensor], name: str) -> list[Tensor]:
        """One copy of all weights."""
        return [
            local(dealt(state[f"{name}.{p}"].to(parameter.device), parameter))
            for p, parameter in enumerate(self.parameters)
        ]

    def _average(self) -> list[Tensor]:
        """Of the start that goes on; of no snapshot, the weights themselves."""
        if not self.snapshots:
            return self._copy()
        return [torch.stack(group).mean(0) for group in zip(*self.snapshots, strict=True)]

    def _copy(self) -> list[Tensor]:
        return [local(p.detach()).clone() for p in self.parameters]

    def _load(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                local(parameter.detach()).copy_(weight)
