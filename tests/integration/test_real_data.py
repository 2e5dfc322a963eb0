"""The shipped recipes of a small real corpus run end to end, cut short."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.helpers import ROOT, command, done, read_lines

DATA = os.environ.get("L2S_NMT_DATA")
RECIPES = ROOT / "recipes" / "eutrans_es_en"

pytestmark = pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "eutrans_es_en").is_dir(),
    reason="needs real text: set L2S_NMT_DATA to the folder that holds eutrans_es_en/",
)


def train(algorithm: str, folder: Path, *overrides: str, updates: int) -> Path:
    files = Path(DATA or "") / "eutrans_es_en"
    short = [f"training.{key}={updates}" for key in ("max_updates", "validate_every", "checkpoint_every")]
    short += ["search.length_limit={factor: 1.0, constant: 5}", "evaluation.max_length=25"]
    output = folder / algorithm
    recipe = RECIPES / f"{algorithm}.yaml"
    done(command("train", recipe, f"data.files={files}", *short, *overrides, "--output", output))
    return output


def test_the_recipes_of_eutrans_run_end_to_end(tmp_path: Path) -> None:
    smaller = "model.architecture={d_model: 64, feed_forward: 128, encoder_layers: 1, decoder_layers: 1}"
    faster = ("training.warmup_updates=20", "training.learning_rate=0.004", "training.log_every=10")
    baseline = train("teacher_forcing", tmp_path, smaller, *faster, updates=80)
    losses = [line["loss"] for line in read_lines(baseline / "metrics.jsonl") if line["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    start = f"model.from_run={baseline}"
    runs = [baseline, *(train(name, tmp_path, start, updates=3) for name in ("aggrevated", "lols"))]
    done(command("compare", *runs, "--split", "valid", "--beam", "1", "--output", tmp_path / "report"))
    found = json.loads((tmp_path / "report" / "comparison.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["teacher_forcing", "aggrevated", "lols"]
    assert found["sentences"] == 100
    for run in runs:
        scores = json.loads((run / "scores" / "valid.beam1.json").read_text())
        assert 0 < scores["bleu"]["score"] < 100
        assert len((run / "translations" / "valid.beam1.txt").read_text().splitlines()) == 100
