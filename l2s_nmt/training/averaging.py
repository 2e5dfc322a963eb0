"""Averages of the weights over training: exponential, of all updates alike, or of the last snapshots."""

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
    """

    def __init__(
        self, module: nn.Module, kind: Literal["none", "ema", "mean", "last"], decay: float, last: int
    ) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.kind = kind
        self.decay = decay
        self.last = last
        self.updates = 0
        self.snapshots: list[list[Tensor]] = [self._copy()] if kind in ("ema", "mean") else []

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

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the module holds the average."""
        if not self.snapshots:
            yield
            return
        raw = self._copy()
        self._load([torch.stack(group).mean(0) for group in zip(*self.snapshots, strict=True)])
        try:
            yield
        finally:
            self._load(raw)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; all processes call it."""
        names = {
            f"{s}.{p}": gathered(undealt(tensor, self.parameters[p]))
            for s, group in enumerate(self.snapshots)
            for p, tensor in enumerate(group)
        }
        return {"updates": torch.tensor(self.updates), **names}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what a checkpoint kept."""
        self.updates = int(state["updates"])
        count = (len(state) - 1) // max(len(self.parameters), 1)
        self.snapshots = [
            [
                local(dealt(state[f"{s}.{p}"].to(parameter.device), parameter))
                for p, parameter in enumerate(self.parameters)
            ]
            for s in range(count)
        ]

    def _copy(self) -> list[Tensor]:
        return [local(p.detach()).clone() for p in self.parameters]

    def _load(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                local(parameter.detach()).copy_(weight)
