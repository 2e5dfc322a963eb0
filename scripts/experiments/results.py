"""Compare what was trained and scored, and keep of it what belongs into the repository: figures, no sentences.

``results/PLAN/`` beside the plan's recipes holds a comparison for each split and beam as ``SPLIT.beamN.json`` (in the
format of ``l2s-nmt compare``, without examples), the ``environment.json`` of the first run, and for each run its
``recipe.yaml`` and ``metrics.jsonl``; ``start`` is the run that the systems start from, and those that they learn with
stand under their names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.systems import Group, Options, compare_prepared, prepare
from l2s_nmt.files import write_json, write_text
from l2s_nmt.recipe_yaml import dump_yaml
from l2s_nmt.run import Run
from scripts.experiments.plan import START, Study, Training

_ELSEWHERE = ("command", "seed")
"""What differs between the runs, or names places of one machine."""


def keep_results(study: Study) -> None:
    """Compare and write.

    Raises:
        UserError: a run is missing, damaged, or not scored.
    """
    trainings = study.trainings()
    groups = _groups(study, trainings)
    for beam in study.plan.beams:
        for split in study.plan.splits:
            exposure = study.plan.exposure if beam == study.plan.beams[0] else None  # which is of no beam
            prepared = prepare(groups, Options((split,), beam, exposure=exposure))
            found = compare_prepared(prepared).to_json()
            write_json(comparison_path(study, split, beam), without_sentences(found))
            print(f"compared on {split} with beam {beam}", flush=True)
    for training in trainings:
        _keep_run(training, study.results / training.name / training.run.name)
    for other in study.others():
        _keep_run(other, study.results / other.name)
    start = study.start()
    if start is not None:
        _keep_run(start, study.results / "start")
    write_json(study.results / "environment.json", _environment(trainings[0].run / "environment.json"))


def _environment(path: Path) -> dict[str, Any]:
    try:
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: value for key, value in made.items() if key not in _ELSEWHERE}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); it says on what the run was trained: bring it back, or train it again"
        ) from error


def comparison_path(study: Study, split: str, beam: int) -> Path:
    """Where a comparison is kept."""
    return study.results / f"{split}.beam{beam}.json"


def without_sentences(comparison: dict[str, Any]) -> dict[str, Any]:
    """A comparison without the examples, which are other people's text."""
    systems = [
        {key: value for key, value in system.items() if key not in ("wins", "losses")}
        for system in comparison["systems"]
    ]
    return {**comparison, "systems": systems}


def _groups(study: Study, trainings: Sequence[Training]) -> list[Group]:
    groups = [
        Group(shown, tuple(each.run for each in trainings if each.name == name))
        for name, shown in study.plan.names.items()
    ]
    start = study.start()
    # The first one is what the others are compared with.
    return groups if start is None else [groups[0], Group(START, (start.run,)), *groups[1:]]


def _keep_run(training: Training, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.yaml", dump_yaml(training.settings))
    shutil.copyfile(Run(training.run).metrics, folder / "metrics.jsonl")
