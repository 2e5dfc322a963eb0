"""Every named algorithm through the command line: it trains, goes on exactly, and keeps what the model can do."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.search.algorithms import ALGORITHMS
from tests.helpers import (
    command,
    done,
    files_below,
    read_lines,
    tiny_recipe,
    without_times,
    write_recipe,
)

SEARCHING = [name for name in ALGORITHMS if name != "teacher_forcing"]
WITHOUT_ROLL_OUTS = {
    "scheduled_sampling",
    "dagger",
    "ocd",
    "imitkd",
    "coaching",
    "aggrevated",
    "beam_aggrevated",
}
FROM_SCRATCH = ["scheduled_sampling", "dagger", "ocd"]


@pytest.fixture(scope="module")
def expert(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expert")
    path = write_recipe(folder / "expert.yaml", {**tiny_recipe(corpus), "seed": 2})
    done(command("train", path, "--output", folder / "expert"))
    return folder / "expert"


def search_of(algorithm: str, expert: Path) -> dict[str, Any]:
    """The search section, with a run to learn from where the algorithm learns from one."""
    needed = {"roll_out": {"experts": [str(expert)]}} if algorithm == "imitkd" else {}
    return {"algorithm": algorithm, **needed}


def recipe(corpus: Path, algorithm: str, expert: Path, **training: Any) -> dict[str, Any]:
    return tiny_recipe(
        corpus,
        search={**search_of(algorithm, expert), "length_limit": {"factor": 1.0, "constant": 3}},
        training={"max_updates": 6, "validate_every": 6, "checkpoint_every": 3, "log_every": 1, **training},
    )


@pytest.mark.parametrize("algorithm", SEARCHING)
def test_trains_and_goes_on_exactly_from_a_checkpoint(
    algorithm: str, corpus: Path, expert: Path, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", recipe(corpus, algorithm, expert))
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    done(command("train", path, "--output", straight))
    lines = [line for line in read_lines(straight / "metrics.jsonl") if line["kind"] == "train"]
    assert len(lines) == 6
    assert all(math.isfinite(line["loss"]) and line["search_loss"] != 0 for line in lines)
    assert (lines[-1]["roll_outs"] > 0) == (algorithm not in WITHOUT_ROLL_OUTS)

    shutil.copytree(straight, resumed)
    for newest in sorted((resumed / "checkpoints").iterdir())[1:]:
        shutil.rmtree(newest)
    done(command("train", path, "--output", resumed))
    assert without_times(read_lines(resumed / "metrics.jsonl")) == without_times(
        read_lines(straight / "metrics.jsonl")
    )
    weights = [(run / "last" / "model.safetensors").read_bytes() for run in (straight, resumed)]
    assert weights[0] == weights[1]
    if algorithm == "dagger":
        kept = [files_below(run / "aggregated") for run in (straight, resumed)]
        assert kept[0] == kept[1]
        assert len(kept[0]) == 6


LOSS_WITHOUT_REFERENCE = """
def no_repetition(sources, translations, references):
    assert not any(references)
    words = [text.split() for text in translations]
    return [1 - len(set(each)) / max(1, len(each)) for each in words]
"""


def test_a_bandit_learns_from_a_loss_where_there_is_no_reference(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    done(command("train", write_recipe(tmp_path / "start.yaml", tiny_recipe(corpus)), "--output", start))
    sources = tmp_path / "sources"
    shutil.copytree(corpus, sources)
    (sources / "train.xb").unlink()
    (tmp_path / "no_reference.py").write_text(LOSS_WITHOUT_REFERENCE)
    monkeypatch.chdir(tmp_path)
    search = {
        "algorithm": "bandit_lols",
        "cost": {"name": "own", "function": "no_reference:no_repetition"},
        "loss": {"cross_entropy": 0.0},
    }
    training = {"max_updates": 3, "log_every": 1}
    settings = tiny_recipe(sources, model={"from_run": str(start)}, search=search, training=training)
    settings["data"]["train_targets"] = "none"
    done(command("train", write_recipe(tmp_path / "bandit.yaml", settings), "--output", tmp_path / "run"))
    lines = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert [line["roll_outs"] for line in lines] == [line["sentences"] for line in lines]


# ---- longer proofs: on the embedded corpus ---------------------------------------------------------

EMBEDDED = {
    "embedded": {"train": 20_000, "valid": 300, "test": 1_000},
    "source_language": "vo",
    "target_language": "ta",
}
EMA = {"kind": "ema", "decay": 0.99}
BASELINE = {
    "data": EMBEDDED,
    "tokenizer": {"vocabulary": 2_000},
    "model": {
        "architecture": {
            "d_model": 128, "feed_forward": 512, "heads": 4, "encoder_layers": 2, "decoder_layers": 2
        }
    },
    "training": {
        "batch_tokens": 1_536,
        "learning_rate": 0.002,
        "schedule": "cosine",
        "warmup_updates": 200,
        "averaging": EMA,
        "max_updates": 1_500,
        "validate_every": 200,
    },
}  # fmt: skip
SEARCH_TRAINING = {
    "batch_tokens": 1_536,
    "learning_rate": 0.0003,
    "schedule": "constant",
    "warmup_updates": 20,
    "averaging": EMA,
    # The start is the end of a falling learning rate; it takes some updates to get over the first steps of a new one.
    "max_updates": 400,
    "validate_every": 100,
}
NOISE = 0.6
"""BLEU by which two trainings that differ in their seed alone are apart on 1,300 sentences."""


def bleu(run: Path) -> float:
    """Greedy, on validation and test sentences together."""
    splits = ("--split", "valid", "--split", "test")
    done(command("compare", run, *splits, "--beam", "1", "--output", run / "comparison"))
    found = json.loads((run / "comparison" / "comparison.json").read_text())
    return float(found["systems"][0]["bleu"])


@pytest.fixture(scope="module")
def embedded_baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    run = folder / "teacher_forcing"
    done(command("train", write_recipe(folder / "baseline.yaml", BASELINE), "--output", run))
    return run


def search(algorithm: str, baseline: Path, *overrides: str) -> Path:
    """A run that goes on from the baseline; an expert, where it learns from one, has something to teach."""
    run = baseline.parent / "-".join([algorithm, *overrides])
    expert = search("teacher_forcing", baseline, "seed=2") if algorithm == "imitkd" else baseline
    settings = {
        "data": EMBEDDED,
        "model": {"from_run": str(baseline)},
        "search": search_of(algorithm, expert),
        "training": SEARCH_TRAINING,
    }
    recipe = write_recipe(baseline.parent / f"{run.name}.yaml", settings)
    done(command("train", recipe, *overrides, "--output", run))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", SEARCHING)
def test_search_from_a_teacher_forced_start_loses_nothing(algorithm: str, embedded_baseline: Path) -> None:
    assert bleu(search(algorithm, embedded_baseline)) > bleu(embedded_baseline) - NOISE


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", FROM_SCRATCH)
def test_imitation_learns_from_scratch(algorithm: str, embedded_baseline: Path) -> None:
    run = embedded_baseline.parent / f"{algorithm}-scratch"
    recipe = embedded_baseline.parent / "baseline.yaml"
    done(command("train", recipe, f"search.algorithm={algorithm}", "--output", run))
    assert bleu(run) > bleu(embedded_baseline) - NOISE


def roll_outs(run: Path) -> int:
    return int(read_lines(run / "metrics.jsonl")[-1]["roll_outs"])


@pytest.mark.slow
def test_hierarchical_guidance_needs_half_of_the_roll_outs_for_the_same_bleu(embedded_baseline: Path) -> None:
    everywhere = search("lols", embedded_baseline, "search.decisions.states=all")
    # Checked between updates, so the last one may go beyond it.
    half = f"training.max_roll_outs={int(0.49 * roll_outs(everywhere))}"
    guided = search("hierarchical", embedded_baseline, "training.max_updates=null", half)
    assert roll_outs(guided) <= roll_outs(everywhere) / 2
    assert bleu(guided) >= bleu(everywhere) - 0.3
