"""What turns losses into an update of the weights: gradients, their reduction over processes, the optimiser's step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from l2s_nmt.model import Policy
from l2s_nmt.training.sharding import gathered, reduce_after_backward, set_optimizer_state


class Stepper(Protocol):
    """Makes updates; all processes call it at the same time."""

    @property
    def module(self) -> nn.Module:
        """The policy as losses are to be computed with."""
        ...

    @property
    def rate(self) -> float:
        """The learning rate of the last update."""
        ...

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Within this context the gradient of a part of an update is made; with the last one it is whole."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, which is divided by the number of processes."""
        ...

    def step(self, factor: float) -> float:
        """Make the update, unless its gradient is not finite.

        Args:
            factor: of the learning rate.

        Returns:
            The gradient's norm before it was clipped.
        """
        ...

    def clear(self) -> None:
        """Forget the gradient."""
        ...

    def start_again(self) -> None:
        """Forget all gradients that there were, and take up weights that something else has changed."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, the same whoever makes the updates; on the main process."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept, after the weights.

        Raises:
            KeyError, IndexError, ValueError: it is of other weights.
        """
        ...


class AccelerateStepper:
    """One process, or several with all weights on each (DDP) or with a share on each (FSDP).

    Args:
        accelerator: of this process.
        policy: the unwrapped policy, on its device.
        optimizer: over its parameters.
        clip_norm: largest norm of the gradient.
    """

    def __init__(
        self, accelerator: Accelerator, policy: Policy, optimizer: torch.optim.Optimizer, clip_norm: float
    ) -> None:
        self.accelerator = accelerator
        weights = [list(group["params"]) for group in optimizer.param_groups]
        self.module, self.optimizer = accelerator.prepare(policy, optimizer)
        # Of weights that are dealt out accelerate looks for their shares by address, and empty ones have none.
        for group, own in zip(optimizer.param_groups, weights, strict=True):
            group["params"] = own
        if isinstance(self.module, DistributedDataParallel):
            self.module.broadcast_buffers = False  # no buffer of the model changes
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.clip_norm = clip_norm

    @property
    def rate(self) -> float:
        """The learning rate of the last update."""
        return float(self.optimizer.param_groups[0]["lr"])

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Within this context gradients are reduced only if the part is the last one."""
        with nullcontext() if last else self.accelerator.no_sync(self.module):
            reduce_after_backward(self.module, last)
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        self.accelerator.backward(loss)

    def step(self, factor: float) -> float:
        """Clip, and make the optimiser's step; return the gradient's norm."""
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        norm = float(norm) if norm is not None else 0.0
        set_rates(self.optimizer, self.rates, factor)
        if math.isfinite(norm) or self.accelerator.scaler is not None:
            self.optimizer.step()  # the scaler skips by itself, and lowers its scale
        return norm

    def clear(self) -> None:
        """Forget the gradient."""
        self.optimizer.zero_grad(set_to_none=True)

    def start_again(self) -> None:
        """Forget what the optimiser knows of earlier gradients."""
        self.optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """Those of the optimiser and of the gradient scaler."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": gathered(self.optimizer.state_dict()),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        set_optimizer_state(self.optimizer, state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def set_rates(optimizer: torch.optim.Optimizer, rates: list[float], factor: float) -> None:
    """Set the learning rate of each group of parameters."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
