"""Collapse is told in words, once."""

from __future__ import annotations

import pytest

from l2s_nmt.training.health import SIGNS, Health

HEALTHY = {
    "train": {"length_ratio": 0.98, "finished": 0.999, "entropy": 1.2, "loss": 2.0},
    "validation": {"length_ratio": 1.02, "empty": 0.0, "endless": 0.01, "bleu": 30.0},
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_nothing_is_said_of_a_healthy_model(kind: str) -> None:
    health = Health()
    assert health(kind, HEALTHY[kind]) == []
    assert health(kind, {}) == []
    assert health("end", {"length_ratio": 0.1}) == []


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        ("train", "length_ratio", 0.5, "roll-ins are 0.50 times as long as the targets"),
        ("train", "length_ratio", 1.6, "roll-ins are 1.60 times as long as the targets"),
        ("train", "finished", 0.5, "only 50% of the roll-ins end"),
        ("train", "entropy", 0.001, "entropy is 0.001"),
        ("validation", "empty", 0.4, "40% of the translations are empty"),
        ("validation", "endless", 0.3, "30% of the translations do not end"),
        ("validation", "length_ratio", 0.1, "translations are 0.10 times as long as the references"),
        ("validation", "length_ratio", 3.0, "translations are 3.00 times as long as the references"),
    ],
)
def test_each_sign_is_told_when_it_appears_and_again_when_it_comes_back(
    kind: str, field: str, value: float, words: str
) -> None:
    health = Health()
    ill = {**HEALTHY[kind], field: value}
    (warning,) = health(kind, ill)
    assert words in warning
    assert warning.startswith("warning: ")
    assert health(kind, ill) == []
    assert health(kind, HEALTHY[kind]) == []
    assert len(health(kind, ill)) == 1


def test_signs_that_come_together_are_all_told() -> None:
    health = Health()
    everything = {"length_ratio": 5.0, "finished": 0.0, "entropy": 0.0, "empty": 1.0, "endless": 1.0}
    told = [*health("train", everything), *health("validation", everything)]
    assert len(told) == len(SIGNS) - 2  # nothing is too long and too short
