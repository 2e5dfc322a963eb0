"""Train what is not trained yet, several runs side by side, each on its share of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from l2s_nmt.errors import UserError
from l2s_nmt.files import write_text
from l2s_nmt.recipe_file import dump_recipe
from l2s_nmt.run import Run, read_metrics
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
    problems: list[str] = []
    with _pool(jobs) as pool:
        running = {pool.submit(_one, training, threads): training for training in waiting}
        for number, done in enumerate(as_completed(running), start=1):
            run = running[done].run
            problem = done.result()
            print(f"{number} of {len(waiting)}  {run}  {problem or 'trained'}", flush=True)
            if problem:
                problems.append(f"{run}: {problem}")
    if problems:
        raise UserError("\n".join(problems))


@contextmanager
def _pool(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """On Ctrl-C, which the trainings get as well and save themselves, nothing more is begun."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


def _one(training: Training, threads: int) -> str | None:
    """Train one run; what went wrong, if something did."""
    recipe = training.run.with_name(f"{training.run.name}.yaml")
    write_text(recipe, dump_recipe(training.recipe()))
    ended = subprocess.run(
        [sys.executable, "-m", "l2s_nmt", "train", str(recipe), "--output", str(training.run)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return (ended.stderr.strip().splitlines() or ["failed"])[-1] if ended.returncode else None
