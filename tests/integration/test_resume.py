"""A run that was stopped or killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    PATIENCE,
    command,
    done,
    files_below,
    read_lines,
    start,
    tiny_recipe,
    without_times,
    write_recipe,
)
from tests.processes import copied, start_copy

UPDATES = 100


@pytest.fixture(scope="module")
def recipe(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dropout, draws, aggregated data and an average: all there is to restore; nothing in step with another."""
    settings: dict[str, Any] = tiny_recipe(
        corpus,
        model={"dropout": 0.1},
        search={"algorithm": "dagger", "aggregation": {"replay": 1, "capacity": 20}},
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


def wait_for_update(runs: Callable[[], bool], run: Path, update: int) -> None:
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b'"train"') * 7 < update:
        assert runs(), "it was over before it could be stopped"
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
    wait_for_update(lambda: training.poll() is None, run, 21)
    training.send_signal(signal.SIGTERM)
    _, err = training.communicate(timeout=PATIENCE)
    assert training.returncode == 128 + signal.SIGTERM
    assert b"the same command goes on from here" in err
    assert b"Traceback" not in err
    stopped = updates_done(run)
    assert 21 <= stopped < UPDATES
    outcome = done(command("train", recipe, "--output", run))
    assert f"goes on from update {stopped} " in outcome.err
    assert_as_if_nothing_had_happened(run, uninterrupted)


def kill_after_file_operations(count: int) -> None:
    """End this process like SIGKILL at one of the operations that make files and folders last or take their place."""
    left = count

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return operation

    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_goes_on(
    kills: int, recipe: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """Every other time while it writes; else at a random moment."""
    run = tmp_path / "run"
    draw = random.Random(kills)
    arguments = ("train", recipe, "--output", run)
    killed = 0
    while killed < kills:
        if killed % 2:
            operations = draw.randint(1, 120)
            child = start_copy(*arguments, prepare=partial(kill_after_file_operations, operations))
        else:
            child = start_copy(*arguments)
            time.sleep(draw.uniform(0.2, 2.5))
            child.send(signal.SIGKILL)
        outcome = child.outcome()
        if outcome.status == -signal.SIGKILL:
            killed += 1
        else:  # it came to the end: once more from the beginning
            done(outcome)
            assert_as_if_nothing_had_happened(run, uninterrupted)
            shutil.rmtree(run)
    done(command(*arguments))
    assert_as_if_nothing_had_happened(run, uninterrupted)


@pytest.mark.slow
def test_a_run_of_real_processes_killed_anywhere_goes_on(
    recipe: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """Loading of libraries and data included."""
    run = tmp_path / "run"
    draw = random.Random(1)
    for _ in range(20):
        training = start("train", recipe, "--output", run)
        time.sleep(draw.uniform(1, 12))
        training.kill()
        training.communicate(timeout=PATIENCE)
        assert training.returncode in (-signal.SIGKILL, 0)
    done(command("train", recipe, "--output", run))
    assert_as_if_nothing_had_happened(run, uninterrupted)


@pytest.mark.parametrize("operations", [5, 10, 19])
def test_a_start_that_was_killed_while_it_wrote_leaves_nothing(
    operations: int, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("train", recipe, "training.max_updates=1", "--output", run)
    child = start_copy(*arguments, prepare=partial(kill_after_file_operations, operations))
    assert child.outcome().status == -signal.SIGKILL
    assert [path for path in run.iterdir() if path.name.endswith(".tmp")], "it was killed somewhere else"
    done(copied(*arguments))
    assert not list(run.rglob(".*.tmp"))
