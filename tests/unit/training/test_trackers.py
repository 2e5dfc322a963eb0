"""Trackers that are missing, that do not start, and that fail on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from accelerate import Accelerator

from l2s_nmt.errors import UserError
from l2s_nmt.recipe_file import make_recipe
from l2s_nmt.training import trackers
from l2s_nmt.training.trackers import check_trackers, start_trackers, tell_trackers

DATA = {"embedded": {}, "source_language": "vo", "target_language": "ta"}


class Failing:
    """An accelerator whose trackers are out of reach."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.started: dict[str, Any] = {}

    def init_trackers(self, project: str, config: dict[str, Any], init_kwargs: dict[str, Any]) -> None:
        self.started = {"project": project, "config": config, "options": init_kwargs}
        raise self.error

    def log(self, numbers: dict[str, float], step: int) -> None:
        raise self.error


def failing(error: Exception) -> Accelerator:
    return cast(Accelerator, Failing(error))


def test_what_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [SimpleNamespace(value="tensorboard")]
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: installed)
    check_trackers([])
    check_trackers(["tensorboard"])
    with pytest.raises(UserError, match=r"training\.trackers: wandb, comet_ml .* install wandb comet-ml"):
        check_trackers(["tensorboard", "wandb", "comet_ml"])


def test_what_does_not_start_is_an_error_of_the_user(tmp_path: Path) -> None:
    accelerator = failing(OSError("no server at this address"))
    recipe = make_recipe({"data": DATA, "training": {"trackers": ["wandb"], "max_updates": 1}})
    with pytest.raises(UserError, match="wandb cannot be started: no server at this address"):
        start_trackers(accelerator, recipe, tmp_path / "my_run")
    told = cast(Any, accelerator).started
    assert told["options"] == {"wandb": {"name": "my_run", "dir": str(tmp_path / "my_run")}}
    assert told["config"]["training.learning_rate"] == recipe.training.learning_rate
    assert all(isinstance(value, int | float | str) for value in told["config"].values())


def test_none_is_started_where_none_is_asked_for(tmp_path: Path) -> None:
    start_trackers(failing(OSError()), make_recipe({"data": DATA, "training": {"max_updates": 1}}), tmp_path)


def test_training_goes_on_without_them() -> None:
    said = tell_trackers(failing(TimeoutError()), {"train/loss": 1.0}, 7)
    assert said is not None
    assert "update 7" in said
    assert "TimeoutError" in said
