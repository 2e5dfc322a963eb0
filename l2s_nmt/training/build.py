"""From a recipe to the parts of a training run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, patch_environment

from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.processes import TIMEOUT
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_search import Search as SearchSettings
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.costs.own import load_function
from l2s_nmt.search.losses.table import LOSS_TAKES, LOSSES
from l2s_nmt.training import sharding, zero
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.objective import Objective
from l2s_nmt.training.schedule import Schedule
from l2s_nmt.training.stepper import AccelerateStepper, Stepper


def build_limit(settings: SearchSettings, policy: Policy) -> LengthLimit:
    """Where the policy's own sentences are cut."""
    limit = settings.length_limit
    return LengthLimit(limit.factor, limit.constant, policy.positions)


def build_objective(recipe: Recipe) -> Objective:
    """What an update minimises."""
    loss = recipe.search.loss
    row = LOSSES[loss.name] if loss.function is None else None
    function = load_function(loss.function or "", *LOSS_TAKES) if row is None else row.function
    return Objective(
        loss=function if loss.weight else None,
        weight=loss.weight,
        cross_entropy=loss.cross_entropy,
        label_smoothing=recipe.training.label_smoothing,
        alpha=loss.alpha or 1.0,
        support=loss.support,
        consistency=recipe.training.consistency,
        # Nobody knows what a loss of one's own looks at.
        whole=row is None or row.compares_states,
        as_written=row is not None and row.of_trajectories,
    )


def build_aggregate(recipe: Recipe, folder: Path, accelerator: Accelerator) -> Aggregate | None:
    """The aggregated data; None where the recipe has no aggregation."""
    settings = recipe.search.aggregation
    if settings is None:
        return None
    return Aggregate(
        folder / "aggregated",
        settings.replay,
        settings.capacity,
        recipe.seed,
        accelerator.process_index,
        accelerator.num_processes,
    )


def build_optimizer(recipe: Recipe, policy: Policy) -> torch.optim.Optimizer:
    """AdamW; weight decay spares biases and layer norms."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": recipe.training.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    training = recipe.training
    return torch.optim.AdamW(
        groups, lr=training.learning_rate, betas=(0.9, training.adam_beta2), eps=1e-9, fused=True
    )


def build_stepper(
    recipe: Recipe, policy: Policy, accelerator: Accelerator, say: Callable[[str], None]
) -> Stepper:
    """What makes the updates: DeepSpeed where the launcher was told so, else accelerate."""
    optimizer, clip_norm = build_optimizer(recipe, policy), recipe.training.clip_norm
    stage = zero.wanted()
    if stage is None or accelerator.num_processes == 1:
        return AccelerateStepper(accelerator, policy, optimizer, clip_norm)
    say(f"the optimiser's state is dealt out to {accelerator.num_processes} processes (ZeRO stage {stage})")
    return zero.ZeroStepper(accelerator, policy, optimizer, clip_norm, stage)


def build_schedule(recipe: Recipe) -> Schedule:
    """The learning-rate schedule."""
    training = recipe.training
    return Schedule(training.schedule, training.warmup_updates, training.final_rate)


def build_averager(recipe: Recipe, policy: Policy) -> Averager:
    """The average of the weights."""
    averaging = recipe.training.averaging
    return Averager(policy, averaging.kind, averaging.decay, averaging.last, averaging.starts)


def build_limits(recipe: Recipe) -> Limits:
    """When training ends, and what happens on the way."""
    training = recipe.training
    return Limits(
        max_updates=training.max_updates,
        max_epochs=training.max_epochs,
        max_minutes=training.max_minutes,
        patience=training.patience,
        validate_every=training.validate_every,
        checkpoint_every=training.checkpoint_every,
        log_every=training.log_every,
        max_roll_outs=training.max_roll_outs,
        max_skipped=training.max_skipped,
    )


def _forget_earlier_trainings() -> None:
    """Accelerate keeps what the first in a process was set to, such as its precision, for all that follow."""
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    GradientState._reset_state()


def build_accelerator(recipe: Recipe, folder: str) -> Accelerator:
    """Accelerate's view of this process; with no GPU it uses the CPU."""
    training = recipe.training
    zero.wanted()  # says now what would not work
    if training.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("training.mixed_precision: fp16 needs a GPU; use bf16 or no")
    plugin = sharding.wanted()
    _forget_earlier_trainings()
    # On newer GPUs half precision would take cuDNN's attention, which plans anew, in tens of milliseconds, for each
    # shape that it has not seen; decoding has one at every token.
    torch.backends.cuda.enable_cudnn_sdp(False)
    own = {
        "accelerate_use_deepspeed": "false",  # whose part is that of zero.py
        "accelerate_gradient_accumulation_steps": "1",  # by more it would divide: the recipe's is the loop's
    }
    with patch_environment(**own):
        accelerator = Accelerator(
            mixed_precision=training.mixed_precision,
            log_with=list(training.trackers) or None,
            project_dir=folder,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=TIMEOUT),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
            fsdp_plugin=plugin,
        )
    if plugin is not None and accelerator.use_distributed:
        sharding.insist(accelerator, plugin)
    return accelerator
