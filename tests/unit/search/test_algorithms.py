"""The named algorithms are what their papers say, by the parts they are built of."""

from __future__ import annotations

from typing import Any

import pytest

from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import make_recipe
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.costs import SentenceBleu, edit_distance_cost
from l2s_nmt.search.losses import expected_cost
from l2s_nmt.search.roll_in import LengthLimit
from l2s_nmt.search.roll_out import Deviations, EditDistanceOracle
from l2s_nmt.search.search import Search
from l2s_nmt.training.build import build_limit, build_objective, build_search
from tests.tiny import POSITIONS, shared_policy


def recipe_of(algorithm: str, **search: Any) -> Recipe:
    return make_recipe(
        {
            "data": {"files": "corpus", "source_language": "de", "target_language": "en"},
            "search": {"algorithm": algorithm, **search},
        }
    )


def built(algorithm: str, **search: Any) -> Search:
    settings = recipe_of(algorithm, **search).search
    stages = build_search(settings, build_limit(settings, shared_policy()))
    assert stages is not None
    return stages


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_row_is_a_valid_recipe_that_names_its_paper(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert algorithm.paper
    assert algorithm.summary
    search = recipe_of(name).search
    for section, settings in algorithm.settings.items():
        for key, value in settings.items():
            assert getattr(getattr(search, section), key) == value


def test_teacher_forcing_does_not_search() -> None:
    recipe = recipe_of("teacher_forcing")
    assert build_search(recipe.search, build_limit(recipe.search, shared_policy())) is None
    objective = build_objective(recipe)
    assert objective.loss is None
    assert objective.cross_entropy == 1


def test_aggrevated_learns_exact_advantages_on_sampled_prefixes() -> None:
    search = built("aggrevated")
    assert search.roll_in.policy == "learned"
    assert search.roll_in.decoding == "sample"
    assert search.roll_out == EditDistanceOracle()
    assert search.cost is edit_distance_cost
    assert build_objective(recipe_of("aggrevated")).loss is expected_cost


def test_lols_rolls_in_with_the_model_and_out_with_a_mixture() -> None:
    search = built("lols")
    assert (search.roll_in.policy, search.roll_in.decoding) == ("learned", "greedy")
    assert isinstance(search.roll_out, Deviations)
    assert search.roll_out.policy == "mixed"
    assert 0 < search.roll_out.p_reference < 1
    assert search.roll_out.candidates == "top_k"
    assert search.roll_out.greedy_roll_in
    assert isinstance(search.roll_out.cost, SentenceBleu)


def test_settings_on_top_reach_the_parts() -> None:
    search = built(
        "lols",
        roll_in={"decoding": "sample", "temperature": 0.3},
        decisions={"states": "all", "k": 7},
        roll_out={"p_reference": 0.25},
        cost={"smoothing": "floor"},
        length_limit={"factor": 2.0, "constant": 5},
    )
    assert search.roll_in.temperature == 0.3
    assert search.roll_in.limit == LengthLimit(2.0, 5, longest=POSITIONS)
    assert isinstance(search.roll_out, Deviations)
    # A sampled trajectory is not what the model would go on with greedily.
    assert not search.roll_out.greedy_roll_in
    assert (search.roll_out.states, search.roll_out.k, search.roll_out.p_reference) == ("all", 7, 0.25)
    assert search.roll_out.cost == search.cost == SentenceBleu("floor")
    assert search.roll_out.limit == search.roll_in.limit
