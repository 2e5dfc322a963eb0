"""Train what is not trained yet, several runs side by side, each on its share of the cores."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_nmt.files import write_text
from l2s_nmt.recipe_file import dump_recipe
from l2s_nmt.run import Run, read_metrics
from scripts.experiments.jobs import command, side_by_side
from scripts.experiments.plan import Study, Training


def is_trained(training: Training) -> bool:
    """Whether a run is there, and finished."""
    if not training.run.exists():
        return False
    return any(line["kind"] == "end" for line in read_metrics(Run(training.run))[-1:])


def train_all(study: Study, jobs: int, threads: int) -> None:
    """Train the start, then all others; what was interrupted goes on.

    Args:
        study: what to train.
        jobs: runs side by side.
        threads: of each.

    Raises:
        UserError: a training failed; the others have been done.
    """
    start, others = study.start(), study.trainings()
    if start is not None:
        _train([start], 1, jobs * threads)
    _train(others, jobs, threads)


def _train(trainings: Sequence[Training], jobs: int, threads: int) -> None:
    waiting = [training for training in trainings if not is_trained(training)]
    side_by_side(waiting, jobs, lambda training: _one(training, threads), lambda one: str(one.run), "trained")


def _one(training: Training, threads: int) -> str | None:
    recipe = training.run.with_name(f"{training.run.name}.yaml")
    write_text(recipe, dump_recipe(training.recipe()))
    return command(["train", str(recipe), "--output", str(training.run)], threads)
