"""The named algorithms are what their papers say, by the parts they are built of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.bleu import BleuOracle
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.mcts import MonteCarloTree
from l2s_nmt.search.reference.noisy import Noisy
from l2s_nmt.search.roll_out.bandit import Bandit, Exploration
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions, ReferenceCosts
from l2s_nmt.search.roll_out.trajectory_loss import TrajectoryLoss
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.search import Search
from l2s_nmt.training.build import build_limit, build_objective
from l2s_nmt.training.build_search import build_search
from tests.searches import LIMIT, TEXTS, recipe_of, search_of
from tests.tiny import POSITIONS, VOCABULARY, random_batch, shared_policy

# Algorithm: who rolls in, what the roll-out stage is, who finishes (if anybody does), the loss.
FAMILY: dict[str, tuple[str, type, str | None, str]] = {
    "scheduled_sampling": ("mixed", ReferenceActions, None, "target_learning"),
    "searn": ("mixed", Deviations, "mixed", "expected_cost"),
    "dagger": ("mixed", ReferenceActions, None, "target_learning"),
    "ocd": ("learned", ReferenceCosts, None, "target_learning"),
    "imitkd": ("mixed", ReferenceCosts, None, "kl"),
    "coaching": ("learned", ReferenceActions, None, "target_learning"),
    "aggrevate": ("mixed", Deviations, "reference", "cost_regression"),
    "aggrevated": ("learned", ReferenceCosts, None, "expected_cost"),
    "beam_aggrevated": ("learned", ReferenceCosts, None, "beam_expected_cost"),
    "lols": ("learned", Deviations, "mixed", "expected_cost"),
    "searnn": ("reference", Deviations, "mixed", "kl"),
    "bandit_lols": ("learned", Bandit, "learned", "expected_cost"),
    "reinforce": ("learned", TrajectoryLoss, None, "policy_gradient"),
    "minimum_risk": ("learned", TrajectoryLoss, None, "minimum_risk"),
    "search_expert": ("learned", ReferenceCosts, None, "expected_cost"),
    "hierarchical": ("learned", Deviations, "mixed", "expected_cost"),
}


def built(algorithm: str, **search: Any) -> Search:
    settings = recipe_of(algorithm, **search).search
    stages = build_search(settings, build_limit(settings, shared_policy()), TEXTS)
    assert stages is not None
    return stages


def test_the_whole_family_is_there() -> None:
    assert set(ALGORITHMS) == {"teacher_forcing", *FAMILY}
    assert all(row.paper and row.summary for row in ALGORITHMS.values())


def test_teacher_forcing_does_not_search() -> None:
    recipe = recipe_of("teacher_forcing")
    assert build_search(recipe.search, build_limit(recipe.search, shared_policy()), TEXTS) is None
    objective = build_objective(recipe)
    assert objective.loss is None
    assert objective.cross_entropy == 1


@pytest.mark.parametrize("algorithm", FAMILY)
def test_every_algorithm_is_a_composition_of_the_same_parts(algorithm: str) -> None:
    search = built(algorithm)
    roll_in, stage, finisher, loss = FAMILY[algorithm]
    assert search.roll_in.policy == roll_in
    assert isinstance(search.roll_out, stage)
    if isinstance(search.roll_out, Deviations | Bandit):
        assert search.roll_out.roll_out.policy == finisher
    assert build_objective(recipe_of(algorithm)).loss is LOSSES[loss].function


def test_dagger_keeps_what_it_labelled_and_trusts_the_reference_less_and_less() -> None:
    recipe = recipe_of("dagger")
    assert recipe.search.aggregation is not None
    search = built("dagger")
    assert search.roll_in.p_reference(0) == 1
    assert search.roll_in.p_reference(10_000) < 1e-6
    assert isinstance(search.roll_out, ReferenceActions)
    assert isinstance(search.roll_out.reference, EditDistance)


def test_dagger_and_aggrevate_choose_who_rolls_in_by_sentence() -> None:
    assert built("dagger").roll_in.mix_unit == built("aggrevate").roll_in.mix_unit == "sentence"


def test_searn_rolls_in_and_out_by_one_mixture() -> None:
    search = built("searn")
    assert isinstance(search.roll_out, Deviations)
    assert search.roll_in.mix_unit == search.roll_out.roll_out.mix_unit == "state"
    assert search.roll_in.p_reference == search.roll_out.roll_out.p_reference


def test_lols_reuses_its_greedy_roll_in_and_compares_candidates_by_common_draws() -> None:
    search = built("lols")
    assert isinstance(search.roll_out, Deviations)
    finish = search.roll_out.roll_out
    assert finish.own_is_greedy
    assert finish.mix_unit != "roll_out"
    assert 0 < finish.p_reference(0) == finish.p_reference(10_000) < 1
    sampled = built("lols", roll_in={"decoding": "sample"}).roll_out
    assert isinstance(sampled, Deviations)
    # A sampled trajectory is not what the model would go on with greedily.
    assert not sampled.roll_out.own_is_greedy


@pytest.mark.parametrize("algorithm", ["searnn", "searn", "aggrevate"])
def test_what_a_reference_may_have_written_is_not_taken_for_what_the_learner_would_go_on_with(
    algorithm: str,
) -> None:
    search = built(algorithm)
    assert search.roll_in.decoding == Decoding()  # greedy, where the learner writes
    assert isinstance(search.roll_out, Deviations)
    assert not search.roll_out.roll_out.own_is_greedy


@pytest.mark.parametrize("quality", ["suboptimal", "bad"])
def test_a_poor_reference_that_rolls_in_writes_what_it_says_and_not_the_target(quality: str) -> None:
    assert built("searnn").roll_in.reference is None
    assert isinstance(built("searnn", reference={"quality": quality}).roll_in.reference, Noisy)


def test_without_targets_a_search_has_its_cost_where_that_needs_none() -> None:
    own = {"name": "own", "function": "operator:setitem"}
    for settings, has_cost in ((recipe_of("bandit_lols"), False), (recipe_of("bandit_lols", cost=own), True)):
        search = build_search(settings.search, LIMIT, TEXTS, has_targets=False)
        assert search is not None
        assert (search.cost is not None) == has_cost


def test_hierarchical_is_lols_where_a_segment_failed() -> None:
    search, lols = built("hierarchical"), built("lols")
    assert isinstance(search.roll_out, Deviations)
    assert isinstance(lols.roll_out, Deviations)
    assert search.roll_out.states.name == "failed_segments"
    assert search.roll_out.roll_out == lols.roll_out.roll_out
    assert search.roll_in == lols.roll_in


def test_a_bandit_deviates_once() -> None:
    search = built("bandit_lols")
    assert isinstance(search.roll_out, Bandit)
    assert (search.roll_out.states.name, search.roll_out.states.per_sentence) == ("uniform", 1)


@pytest.mark.parametrize(("loss", "alpha"), [("cost_regression", 3.0), ("inverse_kl", None)])
def test_the_policy_predicts_what_a_bandit_did_not_see_where_it_is_trained_to(
    loss: str, alpha: float | None
) -> None:
    bandit = built("bandit_lols", loss={"name": loss, "alpha": 3.0}).roll_out
    assert isinstance(bandit, Bandit)
    assert bandit.alpha == alpha


def test_settings_on_top_reach_the_parts() -> None:
    search = built(
        "lols",
        roll_in={"decoding": "sample", "temperature": 0.3, "top_p": 0.9},
        decisions={"states": "all", "k": 7, "candidates": "biased"},
        roll_out={"p_reference": 0.25, "mix_unit": "sentence", "horizon": 4},
        reference={"quality": "suboptimal", "noise": 0.4},
        cost={"smoothing": "floor"},
        length_limit={"factor": 2.0, "constant": 5},
    )
    assert (search.roll_in.decoding.temperature, search.roll_in.decoding.top_p) == (0.3, 0.9)
    assert search.limit == LengthLimit(2.0, 5, longest=POSITIONS)
    assert search.cost == OnTokens(SentenceBleu("floor"))
    assert isinstance(search.roll_out, Deviations)
    assert (search.roll_out.states.name, search.roll_out.candidates.name) == ("all", "biased")
    assert search.roll_out.candidates.k == 7
    finish = search.roll_out.roll_out
    assert (finish.p_reference(9), finish.mix_unit, finish.horizon) == (0.25, "sentence", 4)
    assert finish.cost == search.cost
    assert isinstance(finish.reference, Noisy)
    assert (finish.reference.kind, finish.reference.probability) == ("suboptimal", 0.4)


def test_a_beam_is_of_several_samples_priced_as_those_of_single_states_are() -> None:
    search, single = built("beam_aggrevated"), built("aggrevated", roll_in={"samples": 8})
    assert isinstance(single.roll_out, ReferenceCosts)
    assert search == replace(single, roll_out=replace(single.roll_out, linked=True))
    objective, of_single = (build_objective(recipe_of(name)) for name in ("beam_aggrevated", "aggrevated"))
    assert (objective.weight, objective.cross_entropy) == (of_single.weight, of_single.cross_entropy)
    assert objective.whole
    assert objective.as_written


@pytest.mark.parametrize(("algorithm", "whole"), [("reinforce", False), ("minimum_risk", True)])
def test_what_compares_no_states_takes_them_in_parts(algorithm: str, whole: bool) -> None:
    objective = build_objective(recipe_of(algorithm))
    assert (objective.whole, objective.as_written) == (whole, True)


@pytest.mark.parametrize("algorithm", ["ocd", "aggrevated", "beam_aggrevated"])
def test_a_graded_oracle_prices_tokens_as_the_exact_one_does(algorithm: str) -> None:
    """In edits, so that a poor teacher does not change the weight of the loss as well."""
    batch, draws = random_batch(shared_policy(), 6, seed=4), Draws(1, 2)

    def every_cost(**reference: Any) -> Tensor:
        found = search_of(algorithm, reference=reference)(shared_policy(), batch, draws)
        assert found.costs.other is not None
        table = found.costs.other[:, None].repeat(1, VOCABULARY)
        state, slot = found.decisions.mask.nonzero(as_tuple=True)
        table[state, found.decisions.actions[state, slot]] = found.costs.costs[state, slot]
        return table

    exact = every_cost()
    assert torch.equal(exact, exact.round())
    assert torch.equal(every_cost(quality="suboptimal", noise=0.0), exact)


def test_numbers_of_the_rows_and_on_top_reach_the_parts() -> None:
    coaching = built("coaching").roll_out
    assert isinstance(coaching, ReferenceActions)
    assert coaching.coaching == 0.2
    for baseline in ("greedy", "none"):
        reinforce = built("reinforce", roll_out={"baseline": baseline}).roll_out
        assert isinstance(reinforce, TrajectoryLoss)
        assert reinforce.baseline == baseline
    half = {"schedule": "linear", "start": 1.0, "end": 0.0, "updates": 1000}
    assert built("dagger", roll_in={"p_reference": half}).roll_in.p_reference(500) == pytest.approx(0.5)
    assert 0.05 < built("dagger").roll_in.p_reference(250) < 0.5
    hierarchical = built("hierarchical", decisions={"segment": 7}).roll_out
    assert isinstance(hierarchical, Deviations)
    assert hierarchical.states.segment == 7
    chosen = {
        "exploration": "bootstrap",
        "estimator": "ips",
        "epsilon": 0.3,
        "bag": 9,
    }
    bandit = built("bandit_lols", bandit=chosen).roll_out
    assert isinstance(bandit, Bandit)
    assert (bandit.exploration, bandit.estimator) == (Exploration("bootstrap", 0.3, 1.0, 9), "ips")
    assert built("lols", roll_in={"decoding": "sample", "top_k": 6}).roll_in.decoding.top_k == 6
    beam = built("minimum_risk", roll_in={"decoding": "beam", "beam": 4, "samples": 3}).roll_in.decoding
    assert (beam.beam, beam.best) == (4, 3)
    tree = built(
        "search_expert", reference={"simulations": 5, "exploration": 2.5, "parallel": 3}, decisions={"k": 6}
    ).roll_out
    assert isinstance(tree, ReferenceCosts)
    assert isinstance(tree.reference, MonteCarloTree)
    found = tree.reference
    assert (found.simulations, found.exploration, found.parallel, found.k) == (5, 2.5, 3, 6)
    bleu = built("lols", reference={"name": "bleu", "budget": 77}).roll_out
    assert isinstance(bleu, Deviations)
    assert bleu.roll_out.reference == BleuOracle("add_k", 77)
