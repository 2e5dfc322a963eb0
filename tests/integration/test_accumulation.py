"""Splitting an update over accumulation steps changes nothing but rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import command, done
from tests.same_training import assert_same_training


@pytest.mark.parametrize("algorithm", ["teacher_forcing", "aggrevated", "lols"])
@pytest.mark.parametrize("batch_tokens", [256, 32], ids=["many-sentences", "fewer-sentences-than-parts"])
def test_one_by_eight_is_eight_by_one(algorithm: str, batch_tokens: int, whole: Any, tmp_path: Path) -> None:
    path, run = whole(algorithm, batch_tokens)
    done(command("train", path, "training.accumulation=8", "--output", tmp_path / "run"))
    assert_same_training(run, tmp_path / "run")


@pytest.mark.parametrize(
    "algorithm",
    [
        "dagger",
        "searn",
        "bandit_lols",
        "minimum_risk",
        "minimum_risk_of_a_beam",
        "beam_expected_cost",
        "reinforce",
        "hierarchical",
        "search_expert",
    ],
)
def test_every_kind_of_search_is_the_same_in_parts(algorithm: str, whole: Any, tmp_path: Path) -> None:
    path, run = whole(algorithm, 128)
    done(command("train", path, "training.accumulation=3", "--output", tmp_path / "run"))
    assert_same_training(run, tmp_path / "run")
