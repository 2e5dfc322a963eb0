"""The commands as functions, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from l2s_nmt.evaluation import compare as comparing
from l2s_nmt.evaluation.runs import (
    common_test_set,
    decoding_of,
    evaluate_run,
    load_translator,
    short_names,
    system_of_run,
)
from l2s_nmt.evaluation.score import Scores
from l2s_nmt.recipe import Recipe
from l2s_nmt.run import Run, locked
from l2s_nmt.training.train import train as train_run


def open_run(path: str | Path) -> Run:
    """A run that has been trained.

    Raises:
        UserError: the path is no run directory.
    """
    run = Run(Path(path))
    run.read_recipe()
    return run


def train(recipe: Recipe, output: str | Path) -> Run:
    """Train a run, or go on where an interrupted one stopped.

    Raises:
        UserError: recipe, data, model or directory are unsound.
    """
    with locked(Path(output)):
        return train_run(recipe, output)


def translate(run: Run, sources: Sequence[str], *, beam: int | None = None) -> list[str]:
    """Translations of sentences with the best weights of a run, in their order."""
    return load_translator(run, decoding_of(run.read_recipe(), beam=beam))(sources)


def evaluate(run: Run, split: str = "test", *, beam: int | None = None) -> Scores:
    """BLEU, chrF and TER of a run on a split of its corpus; written to the run directory as well."""
    return evaluate_run(run, split, decoding_of(run.read_recipe(), beam=beam))[0]


def compare(
    runs: Sequence[Run], *, splits: Sequence[str] = ("test",), beam: int | None = None
) -> comparing.Comparison:
    """Runs on the same sentences, the first being the baseline."""
    test_set = common_test_set(runs, splits)
    names = short_names([run.path for run in runs])
    systems = []
    for run in runs:
        decoding = decoding_of(run.read_recipe(), beam=beam)
        for split in splits:
            evaluate_run(run, split, decoding)
        systems.append(system_of_run(run, splits, decoding, names[run.path]))
    return comparing.compare(systems, test_set.sources, test_set.references, splits=list(splits))
