"""Metrics for those who follow them elsewhere: TensorBoard, Weights & Biases, MLflow, Comet; through accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import as_settings
from l2s_nmt.run import flatten

_PACKAGES = {"comet_ml": "comet-ml"}
"""Where the name of the package is another."""


def check_trackers(trackers: Sequence[str]) -> None:
    """Accelerate leaves out in silence what is not installed.

    Raises:
        UserError: one is not installed.
    """
    installed = {str(name.value) for name in get_available_trackers()}
    missing = [name for name in trackers if name not in installed]
    if missing:
        packages = " ".join(_PACKAGES.get(name, name) for name in missing)
        raise UserError(
            f"training.trackers: {', '.join(missing)} cannot be used: install {packages}, or take it out"
        )


def start_trackers(accelerator: Accelerator, recipe: Recipe, folder: Path) -> None:
    """Tell the trackers about a run, by the main process.

    Raises:
        UserError: one cannot be started: it finds no server, say, or nobody is logged in.
    """
    trackers = recipe.training.trackers
    if not trackers:
        return
    options = {"wandb": {"name": folder.name, "dir": str(folder)}}
    try:
        accelerator.init_trackers(
            "l2s_nmt",
            config=_plain(flatten(as_settings(recipe))),
            init_kwargs={name: values for name, values in options.items() if name in trackers},
        )
    except Exception as error:  # whatever the tracker's package raises
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"training.trackers: {', '.join(trackers)} cannot be started: {reason}") from error


def tell_trackers(accelerator: Accelerator, numbers: dict[str, float], update: int) -> str | None:
    """Pass numbers on.

    Returns:
        What to say if it failed: training goes on, since metrics.jsonl has them all.
    """
    try:
        accelerator.log(numbers, step=update)
    except Exception as error:  # whatever the tracker's package raises
        reason = str(error).strip() or type(error).__name__
        return f"the trackers could not be told of update {update}; metrics.jsonl has it: {reason}"
    return None


def end_trackers(accelerator: Accelerator) -> None:
    """Let them send what they have kept back."""
    for tracker in accelerator.trackers:
        tracker.finish()


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Trackers take numbers, text and truth values only."""
    return {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
