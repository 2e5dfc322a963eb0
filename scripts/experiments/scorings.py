"""Translate and score what was trained, several runs side by side; what has been scored is not translated again."""

from __future__ import annotations

from l2s_nmt.evaluation.runs import decoding_of, read_test_set, scores_of
from l2s_nmt.run import Run
from scripts.experiments.jobs import command, side_by_side
from scripts.experiments.plan import Study, Training


def score_all(study: Study, jobs: int, threads: int) -> None:
    """Evaluate all runs on the splits and with the beams of the plan.

    Args:
        study: what was trained.
        jobs: runs side by side.
        threads: of each.

    Raises:
        UserError: a run is missing or damaged; the others have been scored.
    """
    splits = [part for split in study.plan.splits for part in ("--split", split)]

    def score(work: tuple[Training, int]) -> str | None:
        training, beam = work
        return command(["evaluate", str(training.run), *splits, "--beam", str(beam)], threads)

    start = study.start()
    trainings = [*([] if start is None else [start]), *study.trainings()]
    works = [
        (training, beam)
        for training in trainings
        for beam in study.plan.beams
        if not all(_is_scored(training, split, beam) for split in study.plan.splits)
    ]
    side_by_side(works, jobs, score, lambda work: f"{work[0].run}, beam {work[1]}", "scored")


def _is_scored(training: Training, split: str, beam: int) -> bool:
    run = Run(training.run)
    recipe = run.read_recipe()
    return scores_of(run, read_test_set(recipe, split), decoding_of(recipe, beam=beam)) is not None
