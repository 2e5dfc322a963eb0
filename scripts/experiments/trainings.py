"""Train what is not trained yet, several runs side by side, each on its share of the cores."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from l2s_nmt.errors import UserError
from l2s_nmt.files import whole_folder, write_text
from l2s_nmt.own_code import changed_code
from l2s_nmt.recipe_file import as_settings, dump_recipe, with_absolute_paths
from l2s_nmt.run import Run, flatten, read_metrics, read_stamps
from l2s_nmt.training.other_models import START, stamp_of_start
from scripts.experiments.jobs import command, side_by_side
from scripts.experiments.plan import Study, Training


def is_trained(training: Training) -> bool:
    """Whether a run is there, finished, and of the plan's recipe and start, wherever the corpus and the start were."""
    return (
        _is_finished(training.run)
        and not _is_of_another_recipe(training)
        and not _is_of_another_start(training.run, training)
        and not changed_code(Run(training.run), training.recipe().search)
    )


def train_all(study: Study, jobs: int, threads: int) -> None:
    """Train the start, what systems learn with, and the systems; what was interrupted goes on.

    Args:
        study: what to train.
        jobs: runs side by side.
        threads: of each.

    Raises:
        UserError: a training failed; those beside it have been done.
    """
    start, others, systems = study.start(), study.others(), study.trainings()
    if start is not None:
        _train([start], 1, jobs * threads)
    _train(others, jobs, threads)
    _train(systems, jobs, threads)


def _train(trainings: Sequence[Training], jobs: int, threads: int) -> None:
    waiting = [training for training in trainings if not is_trained(training)]
    side_by_side(waiting, jobs, lambda training: _one(training, threads), lambda one: str(one.run), "trained")


def _one(training: Training, threads: int) -> str | None:
    if _is_finished(training.run) and _is_of_another_start(training.run, training):
        return (
            f"was trained from other weights than {training.recipe().model.from_run} has now; remove it, and give the "
            "same command again"
        )
    recipe = training.run.with_name(f"{training.run.name}.yaml")
    write_text(recipe, dump_recipe(training.recipe()))
    twin = _twin(training)
    if twin is not None:
        with whole_folder(training.run) as folder:
            shutil.copytree(twin, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoints"))
        return None
    return command(["train", str(recipe), "--output", str(training.run)], threads)


def _twin(training: Training) -> Path | None:
    """A finished run of the same recipe in another plan: what stands in several tables is trained once."""
    if training.run.exists():  # it was begun, and goes on
        return None
    plan = training.run.parents[1]
    recipe = with_absolute_paths(training.recipe())  # as a run keeps it
    for other in sorted(plan.parent.glob("*/*/seed*/recipe.yaml")):
        run = Run(other.parent)
        with contextlib.suppress(UserError):  # a damaged run is nobody's twin
            same = plan not in other.parents and _is_finished(run.path) and run.read_recipe() == recipe
            if same and not changed_code(run, recipe.search) and not _is_of_another_start(run.path, training):
                return run.path
    return None


def _is_of_another_recipe(training: Training) -> bool:
    """Then `l2s-nmt train` refuses to go on, or goes on to limits that were raised."""
    recipes = Run(training.run).read_recipe(), with_absolute_paths(training.recipe())
    there, wanted = (flatten(as_settings(recipe)) for recipe in recipes)
    keys = (there.keys() | wanted.keys()) - flatten(training.place).keys()
    return any(there.get(key) != wanted.get(key) for key in keys)


def _is_of_another_start(run: Path, training: Training) -> bool:
    """Whether a run has begun from other weights than the start has now, as far as it has noted which."""
    noted = read_stamps(Run(run)).get(START)
    return noted is not None and noted != stamp_of_start(training.recipe()).get(START)


def _is_finished(run: Path) -> bool:
    return run.exists() and any(line["kind"] == "end" for line in read_metrics(Run(run))[-1:])
