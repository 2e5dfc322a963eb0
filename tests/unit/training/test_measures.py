"""Measures of the search against numbers computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.search import Experience
from l2s_nmt.search.types import CostVectors, Decisions, Trajectories, cost_of
from l2s_nmt.training.measures import (
    Sums,
    cost_range,
    score_sums,
    search_sums,
    share_out,
    summarise,
)

# Three states with tokens 0 … 3. At the first 2 and 3 are listed, at the second 1 alone, at the third 0 and 2.
DECISIONS = Decisions(
    sentence=torch.tensor([0, 0, 1]),
    position=torch.tensor([0, 1, 0]),
    actions=torch.tensor([[2, 3], [1, 1], [0, 2]]),
    mask=torch.tensor([[True, True], [True, False], [True, True]]),
)
COSTS = CostVectors(torch.tensor([[0.0, 0.5], [0.0, 0.0], [0.25, 0.0]]))
FULL = replace(COSTS, other=torch.tensor([0.75, 0.0, 1.0]))
BATCH: Batch = collate([[1, 0], [2, 0]], [[3, 1, 0], [2, 0]], np.arange(2), pad=9)
EXPERIENCE = Experience(
    trajectories=Trajectories(
        tokens=torch.tensor([[3, 3, 1, 0], [2, 2, 9, 9]]),
        lengths=torch.tensor([4, 2]),
        finished=torch.tensor([True, False]),
        by_reference=torch.tensor([[True, False, False, False], [False, True, True, False]]),
    ),
    owner=torch.arange(2),
    decisions=DECISIONS,
    costs=COSTS,
    roll_outs=7,
    observed=None,
    seconds={},
)


ROLL_IN_COSTS = torch.tensor([0.5, 0.25])


def scores(*chosen: int) -> torch.Tensor:
    """Half of the probability on the chosen token of each state, the rest shared evenly."""
    table = torch.full((len(chosen), 4), 1 / 6)
    table[torch.arange(len(chosen)), torch.tensor(chosen)] = 1 / 2
    return table.log()


def sums_of(costs: CostVectors, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the scores, which come in two parts, and of the search."""
    experience, sums = replace(EXPERIENCE, costs=costs), Sums()
    for part in (slice(0, 2), slice(2, 3)):
        sums.add(score_sums(scores[part], DECISIONS.part(part), costs.part(part)))
    sums.add(search_sums(experience, BATCH, ROLL_IN_COSTS))
    return {name: torch.as_tensor(value) for name, value in sums.take().items()}


def test_cost_of_listed_and_unlisted_actions() -> None:
    actions = torch.tensor([3, 0, 0])
    found = cost_of(DECISIONS, COSTS, actions)
    assert found.isnan().tolist() == [False, True, False]
    assert found[[0, 2]].tolist() == [0.5, 0.25]
    assert cost_of(DECISIONS, FULL, torch.tensor([1, 0, 3])).tolist() == [0.75, 0.0, 1.0]
    assert cost_of(DECISIONS, FULL, actions).tolist() == [0.5, 0.0, 0.25]


def test_a_masked_action_was_not_tried() -> None:
    decisions = replace(DECISIONS, actions=torch.tensor([[2, 3], [1, 0], [0, 2]]))
    assert cost_of(decisions, COSTS, torch.tensor([2, 0, 0])).isnan().tolist() == [False, True, False]


def test_range_and_ties() -> None:
    largest, tied = cost_range(DECISIONS, COSTS)
    assert largest.tolist() == [0.5, 0.0, 0.25]
    assert tied.tolist() == [False, True, False]
    largest, tied = cost_range(DECISIONS, FULL)
    assert largest.tolist() == [0.75, 0.0, 1.0]
    assert tied.tolist() == [False, True, False]


def test_sums_and_ratios_by_hand() -> None:
    # The model chooses 3 (cost 0.5), 0 (not tried), and 2 (the best).
    found = sums_of(COSTS, scores(3, 0, 2))
    sums = Sums()
    sums.add(found)
    summary = summarise(sums.take())
    entropy = 0.5 * math.log(2) + 0.5 * math.log(6)
    assert summary == pytest.approx(
        {
            "roll_in_cost": 0.375,
            "chosen_cost": 0.25,
            "improvable": 0.5,
            "advantage_where_improvable": 0.5,
            "cost_range": 0.25,
            "tie_rate": 1 / 3,
            "entropy": entropy,
            "length_ratio": 6 / 5,
            "finished": 0.5,
            "states_labelled": 3 / 6,
            "by_reference": 2 / 6,  # the third token of a sentence of two is padding
        },
        abs=1e-6,
    )


def test_the_length_ratio_is_of_sentences_that_have_a_target() -> None:
    mixed = collate([[1, 0], [2, 0]], [[3, 1, 0], [0]], np.arange(2), 9, [[[3, 1, 0]], []])
    sums = search_sums(EXPERIENCE, mixed, None)
    assert summarise({name: float(value) for name, value in sums.items()})["length_ratio"] == round(4 / 3, 6)


def test_with_full_cost_vectors_every_choice_is_known() -> None:
    found = sums_of(FULL, scores(1, 0, 0))
    sums = Sums()
    sums.add(found)
    summary = summarise(sums.take())
    assert summary["chosen_cost"] == pytest.approx((0.75 + 0 + 0.25) / 3, abs=1e-6)
    assert summary["improvable"] == pytest.approx(2 / 3, abs=1e-6)
    assert summary["advantage_where_improvable"] == pytest.approx(0.5)


def test_differences_of_rounding_are_no_improvement() -> None:
    costs = CostVectors(torch.tensor([[0.0, 1e-7], [0.0, 0.0], [1e-7, 0.0]]))
    found = sums_of(costs, scores(3, 1, 0))
    assert int(found["improvable"]) == 0
    assert int(found["ties"]) == 3


def test_ratios_of_training() -> None:
    summary = summarise(
        {
            "loss": 6.0,
            "updates": 4.0,
            "cross_entropy": 90.0,
            "tokens": 60.0,
            "search": 12.0,
            "states_learned": 24.0,
            "gradient_norm": 10.0,
            "sentences": 30.0,
            "seconds": 5.0,
            "roll_outs": 50.0,
            "seconds_roll_in": 1.0,
            "seconds_roll_out": 2.5,
            "seconds_update": 1.5,
        }
    )
    assert summary == {
        "loss": 1.5,
        "cross_entropy": 1.5,
        "search_loss": 0.5,
        "gradient_norm": 2.5,
        "sentences_per_second": 6.0,
        "target_tokens_per_second": 12.0,
        "roll_outs_per_second": 20.0,
        "seconds_roll_in": 1.0,
        "seconds_roll_out": 2.5,
        "seconds_update": 1.5,
    }


def test_what_was_not_measured_is_left_out() -> None:
    assert summarise({}) == {}
    assert summarise({"chosen_cost": 0.0, "chosen_known": 0.0, "updates": 2.0, "loss": 1.0}) == {"loss": 0.5}


def test_sums_add_up_tensors_and_numbers_until_they_are_taken() -> None:
    sums = Sums()
    sums.add({"a": torch.tensor(1.5), "b": 2.0})
    sums.add({"a": 1.0})
    again = Sums()
    again.add(sums.state())
    for kept in (sums, again):
        assert kept.take() == {"a": 2.5, "b": 2.0}
        assert kept.take() == {}


def test_sums_are_shared_out_to_other_processes_than_those_that_saved_them() -> None:
    """Numbers are added up over processes; times, which all of them measure, are averaged."""
    saved: list[dict[str, torch.Tensor | float]] = [
        {"tokens": 10.0, "seconds": 3.0},
        {"tokens": 20.0, "seconds": 5.0},
    ]
    assert [share_out(saved, rank, 2) for rank in range(2)] == saved
    shared = [share_out(saved, rank, 4) for rank in range(4)]
    assert sum(float(sums.get("tokens", 0.0)) for sums in shared) == 30
    assert sum(float(sums.get("seconds", 0.0)) for sums in shared) / 4 == 4


def test_adding_does_not_change_what_was_given() -> None:
    sums, value = Sums(), torch.tensor(1.0)
    sums.add({"a": value})
    sums.add({"a": torch.tensor(2.0)})
    assert float(value) == 1


def test_a_state_that_was_visited_twice_counts_as_two() -> None:
    visited = replace(DECISIONS, visits=torch.tensor([2.0, 1.0, 1.0]))
    twice = Decisions(
        *(getattr(DECISIONS, name)[[0, 0, 1, 2]] for name in ("sentence", "position", "actions", "mask"))
    )
    costs = CostVectors(FULL.costs[[0, 0, 1, 2]], torch.tensor([0.75, 0.75, 0.0, 1.0]))
    by_scores = (
        score_sums(scores(3, 0, 2), visited, FULL),
        score_sums(scores(3, 3, 0, 2), twice, costs),
    )
    torch.testing.assert_close(*by_scores, check_dtype=False)
    by_search = (
        search_sums(replace(EXPERIENCE, decisions=visited, costs=FULL), BATCH, None),
        search_sums(replace(EXPERIENCE, decisions=twice, costs=costs), BATCH, None),
    )
    torch.testing.assert_close(*by_search, check_dtype=False)
