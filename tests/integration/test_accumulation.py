"""Splitting an update over accumulation steps or processes changes nothing but rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import Outcome, command, done, process, read_lines, tiny_recipe, write_recipe

UPDATES = 6
# With --cpu accelerate starts a single process, whatever the number; with --multi_gpu two, on a CPU as well.
LAUNCHER = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)


def recipe(corpus: Path, algorithm: str, batch_tokens: int) -> dict[str, Any]:
    return tiny_recipe(
        corpus,
        model={"dropout": 0.0},
        search={"algorithm": algorithm},
        training={
            "batch_tokens": batch_tokens,
            "learning_rate": 0.01,
            "max_updates": UPDATES,
            "log_every": 1,
            "validate_every": UPDATES,
        },
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The last weights, without the biases of keys: their gradient is zero, and Adam makes steps of its rounding."""
    return {k: v for k, v in load_file(run / "last" / "model.safetensors").items() if "k_proj.bias" not in k}


def assert_same_training(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        # Six updates at rate 0.01 move a weight by up to 0.06.
        assert torch.allclose(second[name], value, rtol=1e-3, atol=2e-4), name
    lines, others = (
        [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "train"]
        for run in (one, other)
    )
    assert len(lines) == len(others) == UPDATES
    compared = set(lines[0]) & {
        "loss",
        "cross_entropy",
        "search_loss",
        "roll_in_cost",
        "gradient_norm",
        "entropy",
    }
    assert len(compared) >= 3
    for line, again in zip(lines, others, strict=True):
        assert (again["sentences"], again["roll_outs"]) == (line["sentences"], line["roll_outs"])
        assert {key: again[key] for key in compared} == pytest.approx(
            {key: line[key] for key in compared}, rel=1e-4
        )


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs that take each update in one piece on one process, by algorithm and size of the updates."""
    made: dict[tuple[str, int], tuple[Path, Path]] = {}

    def run(algorithm: str, batch_tokens: int) -> tuple[Path, Path]:
        if (algorithm, batch_tokens) not in made:
            folder = tmp_path_factory.mktemp(f"{algorithm}-{batch_tokens}")
            path = write_recipe(folder / "recipe.yaml", recipe(corpus, algorithm, batch_tokens))
            done(command("train", path, "--output", folder / "run"))
            made[algorithm, batch_tokens] = path, folder / "run"
        return made[algorithm, batch_tokens]

    return run


@pytest.mark.parametrize("algorithm", ["teacher_forcing", "aggrevated", "lols"])
@pytest.mark.parametrize("batch_tokens", [256, 32], ids=["many-sentences", "fewer-sentences-than-parts"])
def test_one_by_eight_is_eight_by_one(algorithm: str, batch_tokens: int, whole: Any, tmp_path: Path) -> None:
    path, run = whole(algorithm, batch_tokens)
    done(command("train", path, "training.accumulation=8", "--output", tmp_path / "run"))
    assert_same_training(run, tmp_path / "run")


@pytest.mark.parametrize(
    "algorithm",
    ["dagger", "searn", "bandit_lols", "minimum_risk", "reinforce", "hierarchical", "search_expert"],
)
def test_every_kind_of_search_is_the_same_in_parts(algorithm: str, whole: Any, tmp_path: Path) -> None:
    path, run = whole(algorithm, 128)
    done(command("train", path, "training.accumulation=3", "--output", tmp_path / "run"))
    assert_same_training(run, tmp_path / "run")


def launched(*arguments: str | Path) -> Outcome:
    return process(*arguments, launcher=LAUNCHER)


@pytest.mark.parametrize(
    ("algorithm", "batch_tokens"), [("teacher_forcing", 8), ("aggrevated", 256), ("dagger", 64)]
)
def test_two_processes_train_as_one_does(
    algorithm: str, batch_tokens: int, whole: Any, tmp_path: Path
) -> None:
    """With 8 tokens an update many updates are a single sentence, of which the second process has none."""
    path, run = whole(algorithm, batch_tokens)
    outcome = launched("train", path, "--output", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert_same_training(run, tmp_path / "run")
    validations, others = (
        [line["bleu"] for line in read_lines(folder / "metrics.jsonl") if line["kind"] == "validation"]
        for folder in (run, tmp_path / "run")
    )
    assert others == pytest.approx(validations, abs=1e-3)


def test_a_launch_that_is_refused_fails_without_a_traceback_of_ours(corpus: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", recipe(corpus / "none", "teacher_forcing", 256))
    outcome = launched("train", path, "--output", tmp_path / "run")
    assert outcome.status != 0
    assert outcome.err.count(f"error: {corpus / 'none'}: there is no such folder") == 1
    assert "/l2s_nmt/" not in outcome.err.replace(str(path), "")
