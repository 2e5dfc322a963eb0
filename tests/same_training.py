"""Recipes whose training must not depend on how an update is split, and what is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import read_lines, tiny_recipe

UPDATES = 6
SEARCHES: dict[str, dict[str, Any]] = {
    "lols_learned": {"algorithm": "lols", "roll_out": {"policy": "learned"}},
    "minimum_risk_of_a_beam": {
        "algorithm": "minimum_risk",
        "roll_in": {"decoding": "beam", "beam": 3, "samples": 3},
    },
    "beam_expected_cost": {
        "algorithm": "aggrevated",
        "roll_in": {"samples": 4},
        "loss": {"name": "beam_expected_cost", "alpha": 0.5},
    },
}
"""Searches that are no algorithm's own."""


def recipe(
    corpus: Path, search: str, batch_tokens: int, start: Path | None = None, **training: Any
) -> dict[str, Any]:
    """A few large steps without dropout, of a new model or from a run's weights."""
    return tiny_recipe(
        corpus,
        model={"dropout": 0.0, **({"from_run": str(start)} if start else {})},
        search=SEARCHES.get(search, {"algorithm": search}),
        training={
            "batch_tokens": batch_tokens,
            "learning_rate": 0.01,
            "max_updates": UPDATES,
            "log_every": 1,
            "validate_every": UPDATES,
            **training,
        },
    )


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """Weights without the biases of keys: their gradient is zero, and Adam makes steps of its rounding."""
    return {k: v for k, v in load_file(run / name / "model.safetensors").items() if "k_proj.bias" not in k}


def assert_same_weights(one: Path, other: Path, name: str = "last") -> None:
    first, second = weights(one, name), weights(other, name)
    assert first.keys() == second.keys()
    for key, value in first.items():
        # Six updates at rate 0.01 move a weight by up to 0.06.
        assert torch.allclose(second[key], value, rtol=1e-3, atol=2e-4), key


def assert_same_training(one: Path, other: Path) -> None:
    assert_same_weights(one, other)
    lines, others = (read_lines(run / "metrics.jsonl") for run in (one, other))
    assert [line["kind"] for line in lines] == [line["kind"] for line in others]
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
        if line["kind"] == "train":
            assert {key: again[key] for key in compared} == pytest.approx(
                {key: line[key] for key in compared}, rel=1e-4
            )
        if line["kind"] == "validation":
            assert again["bleu"] == pytest.approx(line["bleu"], abs=1e-3)
