"""Training on a corpus that is streamed."""

from __future__ import annotations

import gzip
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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
    write_corpus,
    write_recipe,
)
from tests.integration.test_resume import assert_as_if_nothing_had_happened, updates_done, wait_for_update
from tests.processes import ends, start_copy, together
from tests.same_training import assert_same_training

UPDATES = 60


def streamed(corpus: Path, folder: Path, *, block: int = 40, **training: Any) -> Path:
    """A recipe of 300 pairs an epoch; dropout, sampling and an average, so that all there is to restore matters."""
    settings: dict[str, Any] = tiny_recipe(
        corpus,
        data={"streaming": True, "block": block},
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
            **training,
        },
    )
    return write_recipe(folder / "recipe.yaml", settings)


@pytest.fixture(scope="module")
def recipe(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return streamed(corpus, tmp_path_factory.mktemp("streaming"))


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path) -> Path:
    outcome = done(command("train", recipe, "--output", recipe.parent / "uninterrupted"))
    assert "read in blocks of 40 rows while training" in outcome.err
    assert outcome.err.count("training data: kept 300 of 300 sentence pairs") == 1
    return recipe.parent / "uninterrupted"


def test_a_stopped_run_goes_on_in_the_middle_of_a_block(
    recipe: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    training = start_copy("train", recipe, "--output", run)
    wait_for_update(training.runs, run, 21)
    training.send(signal.SIGTERM)
    (outcome,) = ends([training], within=PATIENCE)
    assert outcome.status == 128 + signal.SIGTERM
    assert "Traceback" not in outcome.err
    assert 21 <= updates_done(run) < UPDATES
    done(command("train", recipe, "--output", run))
    assert_as_if_nothing_had_happened(run, uninterrupted)


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on(recipe: Path, uninterrupted: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    for _ in range(12):
        training = start("train", recipe, "--output", tmp_path / "run")
        time.sleep(draw.uniform(4, 12))
        training.kill()
        training.communicate(timeout=PATIENCE)
    done(command("train", recipe, "--output", tmp_path / "run"))
    assert_as_if_nothing_had_happened(tmp_path / "run", uninterrupted)


def progress_of(run: Path) -> dict[str, Any]:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    progress: dict[str, Any] = json.loads((newest / "state.json").read_text())["progress"]
    return progress


def test_an_epoch_ends_with_its_last_block(corpus: Path, tmp_path: Path) -> None:
    recipe = streamed(corpus, tmp_path, block=100, max_updates=None, max_epochs=2)
    done(command("train", recipe, "--output", tmp_path / "run"))
    progress = progress_of(tmp_path / "run")
    assert (progress["epoch"], progress["block"], progress["batch"]) == (2, 0, 0)
    assert progress["sentences"] == 600


def rewrite(folder: Path, kind: str) -> None:
    """Put the training pairs into files of another kind."""
    paths = [folder / f"train.{language}" for language in ("xa", "xb")]
    contents = [path.read_bytes() for path in paths]
    pairs = list(zip(*(content.decode().splitlines() for content in contents), strict=True))
    records = [{"xa": source, "xb": target} for source, target in pairs]
    for path, content in zip(paths, contents, strict=True):
        path.unlink()
        if kind == "gz":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    if kind == "tsv":
        (folder / "train.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    elif kind == "jsonl":
        (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), folder / "train.parquet", row_group_size=70)


def test_every_kind_of_file_gives_the_same_run(tmp_path: Path) -> None:
    lines = {}
    for kind in ("text", "gz", "tsv", "jsonl", "parquet"):
        corpus = write_corpus(tmp_path / kind)
        if kind != "text":
            rewrite(corpus, kind)
        recipe = streamed(corpus, tmp_path / kind, max_updates=12, log_every=1, validate_every=12)
        done(command("train", recipe, "--output", tmp_path / kind / "run"))
        lines[kind] = without_times(read_lines(tmp_path / kind / "run" / "metrics.jsonl"))
    assert len(lines["text"]) == 14
    assert all(found == lines["text"] for found in lines.values())


def test_two_processes_train_as_one(corpus: Path, tmp_path: Path) -> None:
    settings = tiny_recipe(
        corpus,
        data={"streaming": True, "block": 25},
        model={"dropout": 0.0},
        training={"learning_rate": 0.01, "max_updates": 6, "log_every": 1, "validate_every": 6},
    )
    recipe = write_recipe(tmp_path / "recipe.yaml", settings)
    done(command("train", recipe, "--output", tmp_path / "one"))
    together(2, "train", recipe, "--output", tmp_path / "two")
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_nothing_is_kept_of_the_training_data(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L2S_NMT_CACHE", str(tmp_path / "encoded"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    done(command("train", streamed(corpus, tmp_path, max_updates=3), "--output", tmp_path / "run"))
    assert not (tmp_path / "encoded").exists()
    tables = [path for path in files_below(tmp_path / "datasets") if path.endswith(".arrow")]
    assert len(tables) == 1, "that of the validation data"


def test_dry_run_looks_at_the_first_block(corpus: Path, tmp_path: Path) -> None:
    outcome = done(command("train", streamed(corpus, tmp_path), "--dry-run"))
    assert "streaming: true" in outcome.out
    _, _, summary = outcome.out.rpartition("# ")
    assert summary.endswith(" updates in the first block of 40 rows\n")
    assert 1 < int(summary.split(", ")[1].split()[0]) < 10


def test_an_unsound_line_ends_training_and_is_named(corpus: Path, tmp_path: Path) -> None:
    first = write_recipe(tmp_path / "first.yaml", tiny_recipe(corpus, training={"max_updates": 1}))
    done(command("train", first, "--output", tmp_path / "first"))
    unsound = write_corpus(tmp_path / "corpus")
    for language, line in (("xa", b"balu\n"), ("xb", b"\xff\n")):
        path = unsound / f"train.{language}"
        path.write_bytes(path.read_bytes() + line)
    settings = tiny_recipe(
        unsound, data={"streaming": True, "block": 100}, model={"from_run": str(tmp_path / "first")}
    )
    recipe = write_recipe(tmp_path / "recipe.yaml", {**settings, "training": {"max_epochs": 1}})
    error = command("train", recipe, "--output", tmp_path / "run").error()
    assert f"{unsound / 'train.xb'}, line 301: byte 1 (0xff) is not UTF-8" in error
