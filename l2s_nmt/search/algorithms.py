"""The named algorithms: each is a row of settings of the same parts, with no code of its own.

A row fills in the keys of the recipe's ``search`` section; what the recipe says itself comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A named setting of roll-in, decisions, roll-out, cost and loss."""

    paper: str
    summary: str
    settings: dict[str, Any]
    """Nested like the recipe's ``search`` section."""


ALGORITHMS: dict[str, Algorithm] = {
    "teacher_forcing": Algorithm(
        paper="Williams & Zipser 1989; in imitation learning: behaviour cloning",
        summary="roll in with the reference, predict its next token; no search",
        settings={
            "roll_in": {"policy": "reference"},
            "roll_out": {"policy": "none"},
            "loss": {"weight": 0.0, "cross_entropy": 1.0},
        },
    ),
    "aggrevated": Algorithm(
        paper="Sun et al. 2017, Deeply AggreVaTeD; costs by the dynamic programme of Sabour et al. 2019",
        summary="sampled roll-in, exact edit-distance advantages at every position over the full vocabulary",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample", "temperature": 0.7},
            "decisions": {"states": "all", "candidates": "full"},
            "roll_out": {"policy": "reference", "reference": "edit_distance"},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "expected_cost", "weight": 4.0, "cross_entropy": 0.5},
        },
    ),
    "lols": Algorithm(
        paper="Chang et al. 2015, Learning to Search Better Than Your Teacher",
        summary="learned roll-in, one-step deviations finished by the model or, per sentence, the reference",
        settings={
            "roll_in": {"policy": "learned", "decoding": "greedy"},
            "decisions": {"states": "uniform", "per_sentence": 3, "candidates": "top_k", "k": 4},
            "roll_out": {"policy": "mixed", "p_reference": 0.5, "reference": "suffix"},
            "cost": {"name": "bleu"},
            "loss": {"name": "expected_cost", "weight": 4.0, "cross_entropy": 0.5},
        },
    ),
}
