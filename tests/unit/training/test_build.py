"""What a recipe says of training reaches what is built from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import make_recipe
from l2s_nmt.training.build import (
    build_accelerator,
    build_averager,
    build_limits,
    build_optimizer,
    build_schedule,
)
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.schedule import Schedule
from tests.searches import DATA
from tests.tiny import new_policy


def recipe_of(**training: Any) -> Recipe:
    return make_recipe({"data": DATA, "training": {"max_updates": 9, **training}})


def test_the_optimiser_is_that_of_the_recipe_and_decays_matrices_alone() -> None:
    policy = new_policy()
    built = build_optimizer(recipe_of(learning_rate=0.3, weight_decay=0.02, adam_beta2=0.95), policy)
    assert isinstance(built, torch.optim.AdamW)
    decays = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    for parameter in policy.parameters():
        expected = (0.02 if parameter.dim() > 1 else 0.0) if parameter.requires_grad else None
        assert decays.get(id(parameter)) == expected
    assert {group["lr"] for group in built.param_groups} == {0.3}
    assert {group["betas"] for group in built.param_groups} == {(0.9, 0.95)}


def test_the_launcher_does_not_divide_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its accumulation would, by as much; the recipe's is of the loop."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert build_accelerator(recipe_of(), "run").gradient_accumulation_steps == 1


def test_attention_is_none_that_is_planned_anew_for_each_shape() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    build_accelerator(recipe_of(), "run")
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]


def test_schedule_average_and_limits_are_those_of_the_recipe() -> None:
    falling = recipe_of(schedule="linear", warmup_updates=7, final_rate=0.25)
    assert build_schedule(falling) == Schedule("linear", 7, 0.25)
    averaging = {"kind": "ema", "decay": 0.75, "last": 4, "starts": 3}
    averager = build_averager(recipe_of(averaging=averaging), new_policy())
    assert (averager.kind, averager.decay, averager.last, averager.starts) == ("ema", 0.75, 4, 3)
    numbers = {
        "max_updates": 1,
        "max_epochs": 2,
        "max_minutes": 3.0,
        "patience": 4,
        "validate_every": 5,
        "checkpoint_every": 6,
        "log_every": 7,
        "max_roll_outs": 8,
        "max_skipped": 9,
    }
    assert build_limits(recipe_of(**numbers)) == Limits(**numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("precisions", [("no", "bf16"), ("bf16", "no")])
def test_each_training_of_a_process_has_its_own_precision(precisions: tuple[str, str], tmp_path: Any) -> None:
    for precision in precisions:
        accelerator = build_accelerator(recipe_of(mixed_precision=precision), str(tmp_path))
        assert accelerator.mixed_precision == precision
    AcceleratorState._reset_state(reset_partial_state=True)
