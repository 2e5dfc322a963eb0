"""A run that was stopped or killed goes on as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    command,
    done,
    files_below,
    read_lines,
    start,
    tiny_recipe,
    without_times,
    write_recipe,
)

UPDATES = 150


@pytest.fixture(scope="module")
def recipe(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dropout, sampling and an average, so that all there is to restore matters; nothing in step with another."""
    settings: dict[str, Any] = tiny_recipe(
        corpus,
        model={"dropout": 0.1},
        search={"algorithm": "aggrevated"},
        training={
            "batch_tokens": 128,
            "learning_rate": 0.002,
            "max_updates": UPDATES,
            "averaging": {"kind": "ema", "decay": 0.9},
            "log_every": 7,
            "validate_every": 30,
            "checkpoint_every": 11,
        },
    )
    return write_recipe(tmp_path_factory.mktemp("resume") / "recipe.yaml", settings)


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path) -> Path:
    done(command("train", recipe, "--output", recipe.parent / "uninterrupted"))
    return recipe.parent / "uninterrupted"


def wait_for_update(training: subprocess.Popen[bytes], run: Path, update: int) -> None:
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b'"train"') * 7 < update:
        assert training.poll() is None, "it was over before it could be stopped"
        time.sleep(0.005)


def updates_done(run: Path) -> int:
    return max(int(path.name.removeprefix("update-")) for path in (run / "checkpoints").glob("update-*"))


def assert_as_if_nothing_had_happened(run: Path, uninterrupted: Path) -> None:
    for name in ("last", "best"):
        weights = f"{name}/model.safetensors"
        assert (run / weights).read_bytes() == (uninterrupted / weights).read_bytes()
    lines, expected = (without_times(read_lines(folder / "metrics.jsonl")) for folder in (run, uninterrupted))
    assert lines == expected
    assert files_below(run) == files_below(uninterrupted)  # nothing half-written is left


def test_sigterm_stops_with_a_checkpoint_and_the_same_command_goes_on(
    recipe: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    training = start("train", recipe, "--output", run)
    wait_for_update(training, run, 21)
    training.send_signal(signal.SIGTERM)
    _, err = training.communicate(timeout=60)
    assert training.returncode == 128 + signal.SIGTERM
    assert b"the same command goes on from here" in err
    assert b"Traceback" not in err
    stopped = updates_done(run)
    assert 21 <= stopped < UPDATES
    outcome = done(command("train", recipe, "--output", run))
    assert f"goes on from update {stopped} " in outcome.err
    assert_as_if_nothing_had_happened(run, uninterrupted)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on(kills: int, recipe: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    draw = random.Random(kills)
    for _ in range(kills):
        training = start("train", recipe, "--output", run)
        if kills == 1:
            wait_for_update(training, run, 14)
            time.sleep(draw.uniform(0, 0.3))
        else:  # anywhere, loading of libraries and data included
            time.sleep(draw.uniform(1, 12))
        training.kill()
        training.communicate(timeout=60)
        assert training.returncode in (-signal.SIGKILL, 0)
    done(command("train", recipe, "--output", run))
    assert_as_if_nothing_had_happened(run, uninterrupted)
