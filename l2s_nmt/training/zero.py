"""The optimiser's state dealt out to the processes by DeepSpeed (ZeRO stages 1 and 2, Rajbhandari et al. 2020).

DeepSpeed reduces gradients in the order in which a backward pass comes to the weights, and has to find the same order
on all processes. Here the parts of an update are of other sentences on each process, of other numbers, and now and then
of none. So each process sums up the gradients of its parts by itself, and hands DeepSpeed the sum, in one order.

Of DeepSpeed's configuration the stage alone is taken: clipping, accumulation, precision, optimiser and schedule are
the recipe's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.training.stepper import set_rates

_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""
_BUCKET = 500_000_000
"""Numbers that DeepSpeed reduces at a time by itself."""


def wanted() -> int | None:
    """ZeRO's stage, as the launcher was told; None if it was not.

    Raises:
        UserError: it was told what would not work here.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
        return None
    told = {
        "deepspeed_config_file": os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none"),
        "offload_optimizer_device": os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none"),
        "offload_param_device": os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none"),
    }
    for key, value in told.items():
        if value != "none":
            raise _unfit(key, "none")
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if stage not in ("1", "2"):
        raise _unfit("zero_stage", "1 or 2")
    return int(stage)


def _unfit(key: str, value: str) -> UserError:
    return UserError(
        f"{key} of DeepSpeed's configuration: only {value} works, since the model writes sentences of its own between "
        "the updates and the recipe says everything else; see recipes/accelerate/deepspeed.yaml, or fsdp.yaml for "
        "weights that are dealt out as well"
    )


class ZeroStepper:
    """Several processes with all weights on each, and a share of the optimiser's state.

    Args:
        accelerator: of this process, one of several.
        policy: the policy, on its device.
        optimizer: AdamW over its parameters; in DeepSpeed's hands from now on.
        clip_norm: largest norm of the gradient.
        stage: 1, or 2 to deal out the reduced gradients too.

    Raises:
        UserError: DeepSpeed is not installed, or not for this precision.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        stage: int,
    ) -> None:
        if accelerator.mixed_precision == "fp16":
            raise UserError("training.mixed_precision: fp16 does not go with DeepSpeed; use bf16 or no")
        self.module = policy
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.groups = [list(group["params"]) for group in optimizer.param_groups]
        self.weights = [weight for group in self.groups for weight in group]
        self.gradients: list[Tensor] | None = None
        self.engine, self.zero = _initialize(accelerator, policy, optimizer, clip_norm, stage)
        self.optimizer = optimizer
        # DeepSpeed looks for the state of all groups after the first step of the first group.
        for share in self._shares():
            self.optimizer.state[share] = {
                "step": torch.zeros((), device=share.device),
                **{name: torch.zeros_like(share) for name in _MOMENTS},
            }
        self._link()

    def _shares(self) -> list[Tensor]:
        """This process's share of the weights, in full precision: a flat tensor for each group."""
        return [group["params"][0] for group in self.optimizer.param_groups]

    def _link(self) -> None:
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        for weights, share in zip(self.groups, self._shares(), strict=True):
            lazy_init_hp_params_optimizer_state(weights, share, self.optimizer.state)

    @property
    def rate(self) -> float:
        """The learning rate of the last update."""
        return float(self.optimizer.param_groups[0]["lr"])

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Each process works for itself; the parts meet in ``step``."""
        yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to those of this process."""
        found = torch.autograd.grad(loss, self.weights, materialize_grads=True, allow_unused=True)
        if self.gradients is None:
            self.gradients = list(found)
        else:
            torch._foreach_add_(self.gradients, found)

    def step(self, factor: float) -> float:
        """Reduce, clip, and make the optimiser's step; return the gradient's norm."""
        if self.gradients is None:
            self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        if not self._all_finite(self.gradients):
            return math.inf
        set_rates(self.optimizer, self.rates, factor)
        self.engine.backward(_Given.apply(self.gradients, *self.weights))  # type: ignore[no-untyped-call]
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def _all_finite(self, gradients: list[Tensor]) -> bool:
        """Whether the gradients of all processes are: not every version of DeepSpeed looks, but for fp16."""
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(gradients)])
        faults = (~norms.isfinite().all()).float()
        return not float(self.accelerator.reduce(faults, reduction="sum"))

    def clear(self) -> None:
        """Forget the gradient."""
        self.gradients = None

    def start_again(self) -> None:
        """Forget what the optimiser knows of earlier gradients, and take up the weights."""
        self.zero.refresh_fp32_params()
        for share in self._shares():
            for kept in self.optimizer.state[share].values():
                kept.zero_()

    def state(self) -> dict[str, Any]:
        """That of the optimiser, as if it were not dealt out."""
        from deepspeed.utils import safe_get_full_optimizer_state

        step = self.optimizer.state[self._shares()[0]]["step"].cpu()
        kept: dict[int, dict[str, Tensor]] = {}
        for number, weight in enumerate(self.weights if step else []):
            moments = {name: safe_get_full_optimizer_state(weight, name) for name in _MOMENTS}
            if self.main:
                kept[number] = {"step": step.clone(), **{name: m.cpu() for name, m in moments.items()}}
        groups, first = [], 0
        for group, weights in zip(self.optimizer.param_groups, self.groups, strict=True):
            groups.append({**group, "params": list(range(first, first + len(weights)))})
            first += len(weights)
        return {"optimizer": {"state": kept, "param_groups": groups}, "scaler": {}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept, with the weights that were loaded before."""
        from deepspeed.utils import safe_set_full_optimizer_state

        self.zero.refresh_fp32_params()
        kept = state["optimizer"]["state"]
        for number, weight in enumerate(self.weights if kept else []):
            for name in _MOMENTS:
                if kept[number][name].shape != weight.shape:
                    raise ValueError(
                        f"weight {number}: {tuple(kept[number][name].shape)}, not {tuple(weight.shape)}"
                    )
                safe_set_full_optimizer_state(weight, kept[number][name].to(weight), name)
        for share in self._shares() if kept else []:
            self.optimizer.state[share]["step"].copy_(kept[0]["step"])


def _initialize(
    accelerator: Accelerator, policy: Policy, optimizer: torch.optim.Optimizer, clip_norm: float, stage: int
) -> tuple[Any, Any]:
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
        from deepspeed.utils import logger
    except ImportError as error:
        raise UserError(f"DeepSpeed cannot be used ({error}); pip install 'l2s-nmt[deepspeed]'") from error
    logger.setLevel("WARNING")
    if on_cpu:  # its own reduction in shared memory would be compiled first
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        "train_micro_batch_size_per_gpu": 1,  # of which nothing follows
        "gradient_clipping": clip_norm,
        # A buffer of so many numbers is there in every step, and need not be larger than all gradients.
        "zero_optimization": {"stage": stage, "reduce_bucket_size": min(_BUCKET, _numbers(optimizer))},
        "steps_per_print": 1 << 62,
    }
    engine, zero, _, _ = deepspeed.initialize(
        model=policy, optimizer=optimizer, config=settings, dist_init_required=False
    )
    return engine, zero


def _numbers(optimizer: torch.optim.Optimizer) -> int:
    return sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])


class _Given(torch.autograd.Function):
    """A zero with given gradients."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return weights[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        return None, *(gradient * outer[0] for gradient in ctx.gradients)
