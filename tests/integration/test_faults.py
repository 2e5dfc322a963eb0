"""What goes wrong while a run trains ends it with one clear message, on all processes, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from l2s_nmt.run import Run
from l2s_nmt.training.watch import _why
from tests.helpers import (
    PATIENCE,
    ROOT,
    command,
    done,
    files_below,
    read_lines,
    tiny_recipe,
    without_times,
    write_recipe,
)
from tests.processes import ends, lines_of, start_copy, start_together, wait_until

UPDATES = 30


def recipe(corpus: Path, folder: Path, **training: Any) -> Path:
    settings = tiny_recipe(
        corpus,
        model={"dropout": 0.1},
        search={"algorithm": "aggrevated", "loss": {"weight": 0.1, "cross_entropy": 1.0}},
        training={
            "max_updates": UPDATES,
            "checkpoint_every": 5,
            "validate_every": 10,
            "log_every": 3,
            **training,
        },
    )
    return write_recipe(folder / "recipe.yaml", settings)


def test_a_model_that_diverged_is_validated_and_ends_as_it_should(corpus: Path, tmp_path: Path) -> None:
    path = recipe(corpus, tmp_path, learning_rate=1e30, validate_every=5, log_every=1, max_updates=200)
    outcome = command("train", path, "search.loss.cross_entropy=0", "--output", tmp_path / "run")
    assert outcome.status == 3
    assert "training.max_skipped" in outcome.err
    assert "Traceback" not in outcome.err
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    validated = [line for line in lines if line["kind"] == "validation"]
    assert validated
    assert all(line["perplexity"] is None for line in validated)
    assert all("cross_entropy" not in line for line in lines), "which nothing was learned from"
    run, last = Run(tmp_path / "run"), lines[-1]["update"]
    assert _why(run, last).startswith(" (the loss or its gradient is not finite: see ")
    (fault,) = (tmp_path / "run" / "faults").glob("*.json")
    stopped = json.loads(fault.read_text())["update"]
    assert _why(run, stopped).startswith(" (the loss or its gradient is not finite: see ")
    assert _why(run, stopped + 1) == "", "it has gone on since"
    fault.write_text("{}")
    assert _why(run, last) == ""


@pytest.mark.parametrize("reader", ["a full disk", "a reader that has gone"])
def test_a_log_that_takes_nothing_stops_no_training(reader: str, corpus: Path, tmp_path: Path) -> None:
    path = recipe(corpus, tmp_path, max_updates=12, validate_every=4, checkpoint_every=100)
    if reader == "a full disk":
        log = os.open("/dev/full", os.O_WRONLY)
    else:
        behind, log = os.pipe()
        os.close(behind)
    found = subprocess.run(
        [sys.executable, "-m", "l2s_nmt", "train", str(path), "--output", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT, check=False,
    )  # fmt: skip
    os.close(log)
    assert found.returncode == 0
    assert read_lines(tmp_path / "run" / "metrics.jsonl")[-1]["kind"] == "end"
    assert load_file(tmp_path / "run" / "last" / "model.safetensors")


@pytest.fixture(scope="module")
def straight(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to which nothing happened."""
    folder = tmp_path_factory.mktemp("straight")
    done(command("train", recipe(corpus, folder), "--output", folder / "run"))
    return folder / "run"


def assert_same_run(run: Path, straight: Path) -> None:
    for name in ("last", "best"):
        weights = f"{name}/model.safetensors"
        assert (run / weights).read_bytes() == (straight / weights).read_bytes()
    lines, expected = (without_times(read_lines(folder / "metrics.jsonl")) for folder in (run, straight))
    assert lines == expected


def back_to(run: Path, straight: Path) -> None:
    """A copy of a run as it was before its last checkpoint but one."""
    shutil.copytree(straight, run)
    for name in ("last", "average"):
        shutil.rmtree(run / name, ignore_errors=True)
    shutil.rmtree(sorted((run / "checkpoints").iterdir())[-1])


# --- Files


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json", "checksums.json"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    name: str, corpus: Path, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    older, newest = sorted((run / "checkpoints").iterdir())
    (newest / name).write_bytes((newest / name).read_bytes()[:-7])
    outcome = done(command("train", recipe(corpus, tmp_path), "--output", run))
    assert f"{newest}: damaged (" in outcome.err
    assert f"goes on from update {UPDATES - 5} ({older})" in outcome.err
    assert_same_run(run, straight)


def test_where_every_checkpoint_is_damaged_nothing_is_begun_again_unasked(
    corpus: Path, straight: Path, tmp_path: Path
) -> None:
    run, path = tmp_path / "run", recipe(corpus, tmp_path)
    shutil.copytree(straight, run)
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "average.safetensors").unlink()
    best = (run / "best" / "model.safetensors").read_bytes()
    for _ in range(2):
        assert "every checkpoint is damaged" in command("train", path, "--output", run).error()
    assert (run / "best" / "model.safetensors").read_bytes() == best
    shutil.rmtree(run / "checkpoints")  # as the message says
    (run / "metrics.jsonl").unlink()
    done(command("train", path, "--output", run))
    assert_same_run(run, straight)


def test_a_metrics_file_that_lost_lines_is_told(corpus: Path, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    back_to(run, straight)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]))
    message = command("train", recipe(corpus, tmp_path), "--output", run).error()
    assert "metrics.jsonl: has " in message


def full_disk(size: int) -> None:
    """No file of this process can grow beyond that size, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


METRICS = 0


@pytest.mark.parametrize("size", [METRICS, 9_000, 60_000])
def test_a_full_disk_ends_training_and_the_last_checkpoint_is_intact(
    size: int, corpus: Path, straight: Path, tmp_path: Path
) -> None:
    """It is full while metrics, the optimiser's state, or weights are written."""
    run, path = tmp_path / "run", recipe(corpus, tmp_path)
    back_to(run, straight)
    if size == METRICS:
        size = (run / "metrics.jsonl").stat().st_size + 100
    before = files_below(run / "checkpoints")
    outcome = start_copy("train", path, "--output", run, prepare=partial(full_disk, size)).outcome()
    assert outcome.status == 3, outcome.err
    assert "cannot be written (File too large). What was saved before is intact: make room" in outcome.err
    assert "Traceback" not in outcome.err
    assert files_below(run / "checkpoints") == before
    done(command("train", path, "--output", run))
    assert_same_run(run, straight)
    assert files_below(run) == files_below(straight)


@pytest.mark.parametrize("size", [500, 2_000])
def test_a_disk_that_is_full_from_the_start_is_named(
    size: int, corpus: Path, straight: Path, tmp_path: Path
) -> None:
    """It is full while it is noted what the run is made on, and while its recipe is written."""
    run, path = tmp_path / "run", recipe(corpus, tmp_path)
    outcome = start_copy("train", path, "--output", run, prepare=partial(full_disk, size)).outcome()
    assert outcome.status == 3, outcome.err
    assert f"{run}: cannot be written (File too large)" in outcome.err
    assert "Traceback" not in outcome.err
    done(command("train", path, "--output", run))
    assert_same_run(run, straight)


def test_a_folder_that_cannot_be_written_ends_training(corpus: Path, straight: Path, tmp_path: Path) -> None:
    """A file in the place of the folder, since an administrator may write anywhere."""
    run, path = tmp_path / "run", recipe(corpus, tmp_path)
    back_to(run, straight)
    (run / ".last.new").touch()
    outcome = command("train", path, "--output", run)
    assert outcome.status == 3, outcome.err
    assert f"{run}: cannot be written (" in outcome.err
    (run / ".last.new").unlink()
    done(command("train", path, "--output", run))
    assert_same_run(run, straight)


# --- Processes


def test_a_second_run_in_the_same_directory_is_refused(corpus: Path, tmp_path: Path) -> None:
    run, path = tmp_path / "run", recipe(corpus, tmp_path, max_updates=100_000)
    first = start_copy("train", path, "--output", run)
    wait_until((run / "metrics.jsonl").exists, first)
    message = command("train", path, "--output", run).error()
    assert f"{run}: another process is writing this run" in message
    first.send(signal.SIGTERM)
    assert first.outcome().status == 128 + signal.SIGTERM


@pytest.mark.parametrize("victim", [0, 2])
def test_when_one_process_is_killed_all_end(victim: int, corpus: Path, tmp_path: Path) -> None:
    run, path = tmp_path / "run", recipe(corpus, tmp_path, max_updates=100_000)
    processes = start_together(3, "train", path, "--output", run)
    wait_until((run / "metrics.jsonl").exists, *processes)
    processes[victim].send(signal.SIGKILL)
    for rank, outcome in enumerate(ends(processes, within=PATIENCE)):
        if rank == victim:
            continue
        assert outcome.status == 3, outcome.err
        assert f"stopped: process {victim} failed: it died" in outcome.err
        assert "Traceback" not in outcome.err


def test_a_run_goes_on_with_another_number_of_processes(corpus: Path, tmp_path: Path) -> None:
    """From one to two, and back to one; without dropout, which alone depends on the process."""
    path = recipe(corpus, tmp_path, max_updates=60, learning_rate=0.001)
    arguments = ("train", path, "model.dropout=0", "--output")
    run, straight = tmp_path / "run", tmp_path / "straight"
    done(command(*arguments, straight))

    alone = start_copy(*arguments, run)
    wait_until(lambda: lines_of(run / "metrics.jsonl") >= 3, alone)
    alone.send(signal.SIGTERM)
    assert alone.outcome().status == 128 + signal.SIGTERM

    two = start_together(2, *arguments, run)
    wait_until(lambda: lines_of(run / "metrics.jsonl") >= 10, *two)
    two[0].send(signal.SIGTERM)  # all stop where one is asked to
    first, second = ends(two, within=PATIENCE)
    assert (first.status, second.status) == (128 + signal.SIGTERM,) * 2
    assert "processes: 2 instead of 1. The sentences and their order" in first.err

    assert "processes: 1 instead of 2." in done(command(*arguments, run)).err
    assert_same_to_rounding(run, straight)


def assert_same_to_rounding(run: Path, straight: Path) -> None:
    lines, expected = (without_times(read_lines(folder / "metrics.jsonl")) for folder in (run, straight))
    assert [list(line) for line in lines] == [list(line) for line in expected]
    for line, other in zip(lines, expected, strict=True):
        numbers = {k: v for k, v in line.items() if k != "kind"}
        assert numbers == pytest.approx({k: other[k] for k in numbers}, rel=1e-3, abs=1e-3)
    weights, others = (load_file(folder / "last" / "model.safetensors") for folder in (run, straight))
    for name, value in weights.items():
        if "k_proj.bias" not in name:  # whose gradient is zero: Adam makes steps of its rounding
            assert torch.allclose(value, others[name], rtol=1e-3, atol=3e-4), name


FAILING = """
import os

calls = 0


def cost(sources, translations, references):
    global calls
    calls += 1
    if calls > 4 and os.environ["RANK"] == "1":
        return [0.0]
    return [float(len(text)) for text in translations]
"""


def test_an_error_of_one_process_ends_all_and_is_shown(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    settings = ("search.algorithm=lols", "search.cost={name: own, function: failing:cost}")
    path = recipe(corpus, tmp_path, max_updates=100_000)
    processes = start_together(3, "train", path, *settings, "--output", tmp_path / "run", folder=tmp_path)
    first, second, third = ends(processes, within=PATIENCE)
    assert second.status == 2
    assert "error: failing:cost returned 1 for" in second.err
    for other in (first, third):
        assert other.status == 3, other.err
        assert "stopped: process 1 failed: failing:cost returned 1 for" in other.err
        assert "Traceback" not in other.err
