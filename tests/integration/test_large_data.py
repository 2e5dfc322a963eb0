"""Corpora larger than memory: little memory, and a second start that does nothing again."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, environment, tiny_recipe, write_recipe
from tests.large import write_large_corpus

LIMIT = 3 << 30
UPDATES = 20


@dataclass(frozen=True)
class Sitting:
    """A run that was trained in a process of its own."""

    run: Path
    err: str
    seconds: float
    """Until its first update was over."""
    anonymous: int
    """The most memory that was not of a file, in bytes."""


def anonymous_memory(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def sitting(recipe: Path, run: Path, caches: Path, *overrides: str) -> Sitting:
    """Train under the limit of memory."""
    started = time.monotonic()
    training = subprocess.Popen(
        [sys.executable, "-m", "l2s_nmt", "train", recipe, *overrides, "--output", run],
        cwd=ROOT,
        env=environment(caches),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)),
    )
    metrics, seconds, most = run / "metrics.jsonl", 0.0, 0
    while training.poll() is None:
        most = max(most, anonymous_memory(training.pid))
        if not seconds and metrics.exists() and metrics.stat().st_size:
            seconds = time.monotonic() - started
        time.sleep(0.05)
    err = training.communicate()[1]
    assert training.returncode == 0, err
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["update"] for line in lines if line["kind"] == "train"] == list(range(1, UPDATES + 1))
    return Sitting(run, err, seconds, most)


def recipe_for(corpus: Path, **sections: Any) -> Path:
    settings = tiny_recipe(
        corpus,
        data={"source_language": "vo", "target_language": "ta"},
        tokenizer={"algorithm": "unigram", "vocabulary": 4_000, "byte_fallback": True},
        training={"batch_tokens": 2_048, "max_updates": UPDATES, "log_every": 1, "validate_every": UPDATES},
        **sections,
    )
    return write_recipe(corpus / "recipe.yaml", settings)


def told(err: str, doing: str) -> bool:
    return any(line.startswith(f"{doing}: ") for line in err.splitlines())


def files_with_times(folder: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


SIZES = [(20_000, 1 << 30), pytest.param(5_000_000, LIMIT, marks=pytest.mark.slow)]
"""Pairs, and the memory that may be used."""


@pytest.mark.parametrize(("pairs", "memory"), SIZES)
def test_training_within_three_gibibytes_starts_quickly_again(
    pairs: int, memory: int, tmp_path: Path
) -> None:
    recipe = recipe_for(write_large_corpus(tmp_path / "corpus", pairs))
    first = sitting(recipe, tmp_path / "first", tmp_path / "caches")
    assert f"{pairs:,} sentence pairs" in first.err
    written = files_with_times(tmp_path / "caches")
    second = sitting(recipe, tmp_path / "second", tmp_path / "caches")
    assert files_with_times(tmp_path / "caches") == written, "nothing is made again"
    for run in (first, second):
        assert run.anonymous < memory
    weights = "last/model.safetensors"
    assert (first.run / weights).read_bytes() == (second.run / weights).read_bytes()
    if pairs > 1_000_000:
        assert told(first.err, "reading")
        assert told(first.err, "encoding")
        assert second.seconds < min(60, first.seconds / 3), "30 on a machine that does nothing else"
    shutil.rmtree(tmp_path / "corpus")
    shutil.rmtree(tmp_path / "caches")


@pytest.mark.parametrize(("pairs", "memory"), SIZES)
def test_streaming_within_three_gibibytes(pairs: int, memory: int, tmp_path: Path) -> None:
    recipe = recipe_for(write_large_corpus(tmp_path / "corpus", pairs))
    streaming = ["data.streaming=true", f"data.block={pairs // 50}"]
    first = sitting(recipe, tmp_path / "first", tmp_path / "caches", *streaming)
    assert first.anonymous < memory
    kept = sum(path.stat().st_size for path in (tmp_path / "caches").rglob("*") if path.is_file())
    assert kept < 1 << 20, "nothing is prepared on disk"
    shutil.rmtree(tmp_path / "corpus")
