"""COMET (Rei et al. 2020), by its own program where that is installed.

Its package asks for other versions of transformers, numpy and the hub's client than this project, so it lives in an
environment of its own, whose ``comet-score`` is on the path. It downloads the model that it is told, unless it has it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.significance import Floats
from l2s_nmt.evaluation.types import System

PROGRAM = "comet-score"


@dataclass(frozen=True)
class LearnedScores:
    """What a learned metric gives every translation, times 100."""

    scores: list[list[Floats]]
    """Of each seed of each system, (sentences,)."""
    signature: str
    """What anybody needs to compute them again."""


@dataclass(frozen=True)
class _Total:
    score: float


class MeanMetric:
    """A metric whose corpus score is the mean of the sentences', to be tested as sacrebleu's metrics are."""

    @staticmethod
    def rows(scores: Floats) -> Floats:
        """(sentences, 2) statistics from the scores (sentences,)."""
        return np.stack([scores, np.ones_like(scores)], axis=1)

    def _compute_score_from_stats(self, total: Floats) -> _Total:
        return _Total(float(total[0] / total[1]))


def find_program() -> str:
    """Where COMET's own program is.

    Raises:
        UserError: it is not on the path.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(
            f"--comet: there is no {PROGRAM} on the path; install unbabel-comet into an environment of its own "
            f"(it needs older libraries than l2s-nmt) and put that environment's {PROGRAM} on the path"
        )
    return program


def score_by_comet(
    model: str, systems: Sequence[System], sources: Sequence[str], references: Sequence[Sequence[str]]
) -> LearnedScores:
    """Let COMET score all translations; of several references it sees the first.

    Args:
        model: its name on the hub, or a checkpoint.
        systems: with their translations.
        sources: the source sentences.
        references: of each sentence.

    Raises:
        UserError: COMET is not installed, or fails.
    """
    program = find_program()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = [[_write(folder, run.hypotheses) for run in system.replicates] for system in systems]
        every = [str(path) for paths in runs for path in paths]
        given = [
            "-s",
            str(_write(folder, sources)),
            "-r",
            str(_write(folder, [texts[0] for texts in references])),
        ]
        found = folder / "scores.json"
        gpus = "1" if torch.cuda.is_available() else "0"
        command = [
            program,
            *given,
            "-t",
            *every,
            "--model",
            model,
            "--gpus",
            gpus,
            "--only_system",
            "--quiet",
        ]
        _run([*command, "--to_json", str(found)])
        scores = _read(found, model)
        return LearnedScores(
            [[_column(scores, path, len(sources)) for path in paths] for paths in runs],
            f"{PROGRAM}|model:{model}|reference:first|times:100",
        )


def _write(folder: Path, lines: Sequence[str]) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.txt"
    path.write_text("".join(f"{' '.join(line.splitlines())}\n" for line in lines), encoding="utf-8")
    return path


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise UserError(f"--comet: {command[0]} ended with status {error.returncode}: {said[-1]}") from error
    except OSError as error:
        raise UserError(f"--comet: {command[0]} cannot be run: {error.strerror}") from error


def _read(path: Path, model: str) -> dict[str, Any]:
    try:
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--comet {model}: {PROGRAM} wrote no scores ({error})") from error
    return scores


def _column(scores: dict[str, Any], path: Path, sentences: int) -> Floats:
    try:
        column = 100 * np.array([float(row["COMET"]) for row in scores[str(path)]])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--comet: {PROGRAM} wrote something else than scores ({error!r})") from error
    if len(column) != sentences or not np.isfinite(column).all():
        raise UserError(
            f"--comet: {PROGRAM} scored {len(column)} translations of {sentences}, or not with numbers"
        )
    return column
