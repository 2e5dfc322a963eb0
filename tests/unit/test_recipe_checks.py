"""Settings of the search that cannot work together are refused when the recipe is read, with what would work."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from l2s_nmt.errors import UserError
from l2s_nmt.recipe_file import make_recipe, merge
from l2s_nmt.recipe_search import Loss, Search
from l2s_nmt.search.algorithms import ALGORITHMS
from tests.searches import DATA, recipe_of

SAMPLED = {"policy": "learned", "decoding": "sample"}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    # ---- parts that would go unused
    "roll-out without a loss": ("lols", {"loss": {"weight": 0.0}}, "set roll_out.policy none"),
    "roll-in without a loss": (
        "teacher_forcing",
        {"roll_in": {"policy": "learned"}},
        "set roll_in.policy reference, or loss.weight",
    ),
    "aggregation without a loss": (
        "teacher_forcing",
        {"aggregation": {}},
        "set them null, or set loss.weight",
    ),
    "an algorithm put aside": (
        "reinforce",
        {"loss": {"weight": 0.0}, "roll_out": {"policy": "none"}, "roll_in": {"policy": "reference"}},
        "nothing of algorithm reinforce is done",
    ),
    "nothing to learn from": ("teacher_forcing", {"loss": {"cross_entropy": 0.0}}, "nothing to learn from"),
    # ---- roll-in
    "beam by state": (
        "dagger",
        {"roll_in": {"decoding": "beam", "mix_unit": "state"}},
        "set roll_in.mix_unit sentence",
    ),
    "equal samples": ("ocd", {"roll_in": {"decoding": "greedy", "samples": 2}}, "decoding sample"),
    "samples of the target": (
        "ocd",
        {"roll_in": {"policy": "reference", "samples": 2}},
        "set roll_in.policy learned",
    ),
    "the best of a beam, and the target": (
        "dagger",
        {"roll_in": {"decoding": "beam", "samples": 2}},
        "set roll_in.policy learned",
    ),
    "more than a beam has": (
        "minimum_risk",
        {"roll_in": {"decoding": "beam", "beam": 4, "samples": 5}},
        "at most 4",
    ),
    "others that would go unused": (
        "aggrevated",
        {"roll_in": {"policy": "reference", "samples": 1, "cross_trained": ["one", "two"]}},
        "set roll_in.policy learned",
    ),
    "others without a loss": (
        "teacher_forcing",
        {"roll_in": {"cross_trained": ["one", "two"]}},
        "set roll_in.policy reference, or loss.weight",
    ),
    "one part alone": ("aggrevated", {"roll_in": {"cross_trained": ["one"]}}, "two or more"),
    "a gradient of what others wrote": (
        "reinforce",
        {"roll_in": {"cross_trained": ["one", "two"]}},
        "remove roll_in.cross_trained",
    ),
    # ---- experts
    "no expert": ("imitkd", {"roll_out": {"experts": []}}, "give experts as a list of run directories"),
    "experts that nobody asks": (
        "aggrevated",
        {"roll_out": {"experts": ["run"]}},
        "roll_out.policy expert and roll_out.experts need each other",
    ),
    "experts and candidates": (
        "imitkd",
        {"decisions": {"candidates": "top_k"}},
        "set decisions.candidates full",
    ),
    "experts without a loss": (
        "imitkd",
        {"loss": {"weight": 0.0, "cross_entropy": 1.0}},
        "set roll_out.policy none",
    ),
    # ---- losses that compare prefixes
    "a beam with candidates": (
        "lols",
        {"loss": {"name": "beam_expected_cost"}, "roll_in": {"decoding": "sample", "samples": 2}},
        "set roll_out.policy reference or expert",
    ),
    "a beam at some states": (
        "aggrevated",
        {"loss": {"name": "beam_expected_cost"}, "decisions": {"states": "uniform"}},
        "set decisions.states all",
    ),
    "a beam of one": (
        "aggrevated",
        {"loss": {"name": "beam_expected_cost"}, "roll_in": {"samples": 1}},
        "set roll_in.samples 2",
    ),
    "a beam of several policies": (
        "aggrevated",
        {
            "loss": {"name": "beam_expected_cost"},
            "roll_in": {"decoding": "sample", "samples": 2},
            "aggregation": {},
        },
        "set aggregation null",
    ),
    "a beam by tree search": (
        "search_expert",
        {
            "loss": {"name": "beam_expected_cost"},
            "decisions": {"states": "all"},
            "roll_in": {"decoding": "sample", "samples": 2},
        },
        "mcts knows those it tried",
    ),
    # ---- imitation
    "candidates in imitation": (
        "dagger",
        {"decisions": {"candidates": "top_k"}},
        "set decisions.candidates full",
    ),
    "coaching by tree search": (
        "coaching",
        {"roll_in": {"policy": "learned"}, "reference": {"name": "mcts"}},
        "use another reference",
    ),
    "coaching on words": (
        "coaching",
        {"reference": {"name": "suffix"}, "cost": {"name": "bleu", "unit": "words"}},
        "set reference.name edit_distance",
    ),
    "coaching by chrF": (
        "coaching",
        {"reference": {"name": "suffix"}, "cost": {"name": "chrf"}},
        "or a cost on tokens",
    ),
    "coaching by the bleu reference": (
        "coaching",
        {"reference": {"name": "bleu"}},
        "set cost.name bleu with unit tokens",
    ),
    "coaching of roll-outs": ("lols", {"reference": {"coaching": 9.0}}, "or reference.coaching 0"),
    "coaching of costs": ("ocd", {"reference": {"coaching": 0.2}}, "set roll_out.policy none"),
    # ---- learned roll-outs
    "the vocabulary, mixed": (
        "lols",
        {"decisions": {"candidates": "full"}},
        "set decisions.candidates top_k",
    ),
    "the vocabulary, learned": (
        "lols",
        {"decisions": {"candidates": "full"}, "roll_out": {"policy": "learned"}},
        "roll_out.policy learned cannot finish",
    ),
    "one candidate": (
        "lols",
        {"decisions": {"candidates": "taken"}},
        "decisions.candidates taken needs",
    ),
    # ---- costs that the reference cannot answer
    "edit distance under BLEU": ("aggrevated", {"cost": {"name": "bleu"}}, "set cost.name edit_distance"),
    "edits of words": (
        "aggrevated",
        {"cost": {"unit": "words"}},
        "set cost.unit tokens, or decisions.candidates top_k",
    ),
    "words over the vocabulary": (
        "aggrevated",
        {"reference": {"name": "suffix"}, "cost": {"name": "bleu", "unit": "words"}},
        "set decisions.candidates top_k",
    ),
    "chrF over the vocabulary": (
        "aggrevated",
        {"reference": {"name": "suffix"}, "cost": {"name": "chrf"}},
        "set decisions.candidates top_k",
    ),
    "a sum over the vocabulary": (
        "aggrevated",
        {
            "reference": {"name": "suffix"},
            "cost": {"name": "sum", "terms": [{"name": "bleu"}, {"name": "edit_distance"}]},
        },
        "set decisions.candidates top_k",
    ),
    "bleu reference, other cost": (
        "lols",
        {"reference": {"name": "bleu"}, "cost": {"name": "ter"}},
        "set cost.name bleu with unit tokens",
    ),
    "bleu reference, words": (
        "lols",
        {"reference": {"name": "bleu"}, "cost": {"unit": "words"}},
        "set cost.name bleu with unit tokens",
    ),
    # ---- tree search
    "tree search mixed": ("lols", {"reference": {"name": "mcts"}}, "set roll_out.policy reference"),
    "tree search candidates": (
        "search_expert",
        {"decisions": {"candidates": "top_k"}},
        "set decisions.candidates full",
    ),
    "tree search roll-in": ("search_expert", {"roll_in": {"policy": "mixed"}}, "set roll_in.policy learned"),
    "tree search in the end": (
        "search_expert",
        {
            "roll_in": {
                "policy": "mixed",
                "p_reference": {"schedule": "linear", "start": 0.0, "end": 1.0, "updates": 9},
            }
        },
        "set roll_in.policy learned",
    ),
    "bad tree search": ("search_expert", {"reference": {"quality": "bad"}}, "has no worse form"),
    # ---- whole translations
    "REINFORCE from the target": (
        "reinforce",
        {"roll_in": {"policy": "reference"}},
        "set roll_in.policy learned and decoding sample",
    ),
    "REINFORCE from the beam": (
        "reinforce",
        {"roll_in": {"decoding": "beam"}},
        "set roll_in.policy learned and decoding sample",
    ),
    "REINFORCE of a sharper policy": (
        "reinforce",
        {"roll_in": {"temperature": 0.5}},
        "remove roll_in.temperature",
    ),
    "REINFORCE of the best tokens": ("reinforce", {"roll_in": {"top_k": 5}}, "top_k and top_p"),
    "REINFORCE of most of it": ("reinforce", {"roll_in": {"top_p": 0.9}}, "top_k and top_p"),
    "risk of greedy decoding": (
        "minimum_risk",
        {"roll_in": {"decoding": "greedy", "samples": 1}},
        "decoding sample or beam",
    ),
    "REINFORCE on costs": ("lols", {"loss": {"name": "policy_gradient"}}, "needs roll_out.policy trajectory"),
    "expected cost of one": ("reinforce", {"loss": {"name": "expected_cost"}}, "needs loss.name"),
    "a temperature of greedy decoding": (
        "lols",
        {"roll_in": {"temperature": 0.7}},
        "roll_in.temperature has no effect without roll_in.decoding sample",
    ),
    "the width of no beam": ("aggrevated", {"roll_in": {"beam": 8}}, "roll_in.beam has no effect"),
    "a mixture that is none": (
        "aggrevated",
        {"roll_in": {"p_reference": 0.3}},
        "roll_in.p_reference.start has no effect without roll_in.policy mixed",
    ),
    "the end of a constant": (
        "lols",
        {"roll_out": {"p_reference": {"schedule": "constant", "start": 0.5, "end": 0.1}}},
        "roll_out.p_reference.end has no effect",
    ),
    "a mixture that nothing finishes by": (
        "bandit_lols",
        {"roll_out": {"mix_unit": "decision"}},
        "roll_out.mix_unit has no effect without roll_out.policy mixed",
    ),
    "the course of a mixture that is none": (
        "aggrevated",
        {"roll_in": {"p_reference": {"schedule": "linear"}}},
        "roll_in.p_reference.schedule has no effect without roll_in.policy mixed",
    ),
    "the course of a mixture that nothing finishes by": (
        "bandit_lols",
        {"roll_out": {"p_reference": {"schedule": "linear"}}},
        "roll_out.p_reference.schedule has no effect without roll_out.policy mixed",
    ),
    "a reference that nobody asks": (
        "reinforce",
        {"reference": {"name": "bleu"}},
        "reference.name has no effect without a reference that is asked",
    ),
    "a bad reference beside experts": (
        "imitkd",
        {"roll_in": {"policy": "learned"}, "reference": {"quality": "bad"}},
        "reference.quality has no effect without a reference that is asked",
    ),
    "smoothing of edits": (
        "aggrevated",
        {"cost": {"name": "edit_distance", "smoothing": "exp"}},
        "cost.smoothing has no effect without cost.name bleu",
    ),
    "simulations without a tree": ("lols", {"reference": {"simulations": 8}}, "reference.name mcts"),
    "noise of an optimal reference": ("lols", {"reference": {"noise": 0.1}}, "reference.quality suboptimal"),
    "so many of all states": ("ocd", {"decisions": {"per_sentence": 5}}, "decisions.states uniform"),
    "so many of all tokens": ("aggrevated", {"decisions": {"k": 9}}, "decisions.k has no effect"),
    "the size of a bag": ("bandit_lols", {"bandit": {"bag": 9}}, "bandit.exploration bootstrap"),
    "a baseline of risk": (
        "minimum_risk",
        {"roll_out": {"baseline": "greedy"}},
        "set roll_out.baseline none",
    ),
    "failures of the reference": (
        "hierarchical",
        {"roll_in": {"policy": "reference"}},
        "set roll_in.policy learned or mixed",
    ),
    "trials of a worse reference of one's own": (
        "aggrevated",
        {
            "reference": {"name": "own", "function": "a:b", "quality": "bad"},
            "cost": {"name": "chrf"},
        },
        "does not see all unknown tokens alike",
    ),
    "risk of one sample": ("minimum_risk", {"roll_in": {"samples": 1}}, "set roll_in.samples 2 or more"),
    "others of one sample": (
        "reinforce",
        {"roll_out": {"baseline": "others"}},
        "baseline others needs roll_in.samples 2",
    ),
    "some states of a whole": ("reinforce", {"decisions": {"states": "ends"}}, "set decisions.states all"),
    "a baseline of nothing": ("lols", {"roll_out": {"baseline": "greedy"}}, "of the loss of trajectories"),
    # ---- bandit
    "bandit in many places": (
        "bandit_lols",
        {"decisions": {"per_sentence": 2}},
        "decisions.per_sentence 1",
    ),
    "bandit everywhere": ("bandit_lols", {"decisions": {"states": "all"}}, "set decisions.states uniform"),
    "bandit over the vocabulary": (
        "bandit_lols",
        {"decisions": {"candidates": "full"}},
        "set decisions.candidates top_k",
    ),
    "bandit from several": (
        "bandit_lols",
        {"roll_in": {"decoding": "sample", "samples": 4}},
        "set roll_in.samples 1",
    ),
    "bandit imitation": ("dagger", {"bandit": {}}, "set roll_out.policy learned"),
    "regression without regressor": (
        "bandit_lols",
        {"bandit": {"estimator": "regression"}},
        "set loss.name cost_regression",
    ),
    **{
        f"bandit by {name}": (
            "bandit_lols",
            {"loss": {"name": name}, "bandit": {"estimator": estimator}},
            "set loss.name to one of inverse_kl, cost_regression, expected_cost",
        )
        for name in ("target_learning", "kl", "hinge", "expected_failure")
        for estimator in ("ips", "doubly_robust")
    },
    "failures of a mixture that is the reference": (
        "hierarchical",
        {"roll_in": {"policy": "mixed", "p_reference": 1.0}},
        "set roll_in.policy learned or mixed",
    ),
    "samples of a mixture that is the reference": (
        "aggrevated",
        {"roll_in": {"policy": "mixed", "p_reference": 1.0, "samples": 3}},
        "would all be the same",
    ),
    # ---- aggregation, horizon
    "stale costs": ("lols", {"aggregation": {}}, "set roll_out.policy none, reference or expert"),
    "horizon of the reference": (
        "aggrevate",
        {"roll_out": {"horizon": 3}},
        "set roll_out.policy learned or mixed",
    ),
    "horizon by state": ("searn", {"roll_out": {"horizon": 3}}, "remove roll_out.horizon"),
    # ---- losses
    "alpha without use": ("lols", {"loss": {"alpha": 3.0}}, "loss expected_cost has no alpha"),
    "support without choice": (
        "lols",
        {"loss": {"support": "candidates"}},
        "expected_cost has no choice of support",
    ),
    "support of all": (
        "ocd",
        {"loss": {"support": "candidates"}},
        "leaves the rest of the vocabulary out",
    ),
    "support in tree search": (
        "search_expert",
        {"loss": {"name": "kl", "support": "candidates"}},
        "which decisions.candidates full does not; set loss.support vocabulary",
    ),
    # ---- costs
    "the unit of a sum": (
        "lols",
        {"cost": {"name": "sum", "unit": "words", "terms": [{"name": "bleu"}]}},
        "give them in each of cost.terms",
    ),
    "the smoothing of a sum": (
        "lols",
        {"cost": {"name": "sum", "smoothing": "exp", "terms": [{"name": "bleu"}]}},
        "give them in each of cost.terms",
    ),
    "a sum of nothing": ("lols", {"cost": {"name": "sum"}}, "need each other"),
    "smoothing of a term that has none": (
        "lols",
        {"cost": {"name": "sum", "terms": [{"name": "bleu"}, {"name": "edit_distance", "smoothing": "exp"}]}},
        "cost edit_distance has no smoothing",
    ),
    "terms of no sum": ("lols", {"cost": {"terms": [{"name": "bleu"}]}}, "need each other"),
    "chrF on tokens": ("lols", {"cost": {"name": "chrf", "unit": "tokens"}}, "cost chrf is not on tokens"),
    "own cost without function": ("lols", {"cost": {"name": "own"}}, "give function as module:function"),
    "function of another cost": (
        "lols",
        {"cost": {"name": "bleu", "function": "a:b"}},
        "cost.name own and cost.function need each other",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_the_reason(name: str) -> None:
    algorithm, search, reason = REFUSED[name]
    with pytest.raises(UserError) as caught:
        recipe_of(algorithm, **search)
    message = str(caught.value)
    assert message.startswith("recipe: search")
    assert len(message.splitlines()) == 1
    assert reason in message


TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "the risk of a beam": ("minimum_risk", {"roll_in": {"decoding": "beam", "beam": 5, "samples": 5}}),
    "what the row says for another decoding": ("aggrevated", {"roll_in": {"decoding": "greedy"}}),
    "failures of a worse reference": (
        "hierarchical",
        {"roll_in": {"policy": "reference"}, "reference": {"quality": "suboptimal"}},
    ),
    "learned roll-outs": ("lols", {"roll_out": {"policy": "learned"}}),
    "mixed with the oracle": ("lols", {"reference": {"name": "edit_distance"}}),
    "the oracle finishes under BLEU": (
        "lols",
        {"roll_out": {"policy": "reference"}, "reference": {"name": "edit_distance"}},
    ),
    "closed form BLEU": ("aggrevated", {"reference": {"name": "suffix"}, "cost": {"name": "bleu"}}),
    "closed form at some states": ("aggrevated", {"decisions": {"states": "uniform"}}),
    "BLEU of words": ("lols", {"cost": {"unit": "words"}}),
    "a sum": (
        "lols",
        {"cost": {"name": "sum", "terms": [{"name": "bleu", "weight": 0.5}, {"name": "chrf"}]}},
    ),
    "a cost of one's own": ("lols", {"cost": {"name": "own", "function": "module:function"}}),
    "a horizon": ("lols", {"roll_out": {"horizon": 3}}),
    "samples": ("ocd", {"roll_in": {"samples": 3}}),
    "self-critical with samples": (
        "reinforce",
        {"roll_in": {"samples": 2}, "roll_out": {"baseline": "others"}},
    ),
    "a number for a schedule": ("lols", {"roll_out": {"p_reference": 0.25}}),
    "a bad reference": ("lols", {"reference": {"quality": "bad"}}),
    "aggregated experts": ("imitkd", {"aggregation": {}}),
    "a beam of experts": (
        "imitkd",
        {
            "roll_in": {"policy": "learned", "samples": 4},
            "loss": {"name": "beam_expected_cost", "alpha": 0.2},
        },
    ),
    "one expert on the reference's prefixes": ("imitkd", {"roll_in": {"policy": "reference"}}),
    "aggregated costs": ("aggrevated", {"aggregation": {"replay": 2}}),
    "another loss than the row's, which has a scale": ("searnn", {"loss": {"name": "expected_cost"}}),
    "another loss than the row's, which is of candidates": ("aggrevate", {"loss": {"name": "expected_cost"}}),
    "an expert's best token": ("imitkd", {"loss": {"name": "target_learning"}}),
    "sampled softmax": ("searnn", {"loss": {"support": "candidates"}}),
}


@pytest.mark.parametrize("name", TAKEN)
def test_is_taken(name: str) -> None:
    algorithm, search = TAKEN[name]
    assert recipe_of(algorithm, **search).search.algorithm == algorithm


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_row_is_taken(algorithm: str) -> None:
    assert recipe_of(algorithm).search.algorithm == algorithm


def test_a_number_is_a_constant_probability() -> None:
    chosen = recipe_of("lols", roll_out={"p_reference": 0.25}).search.roll_out.p_reference
    assert (chosen.schedule, chosen.start) == ("constant", 0.25)


def test_a_loss_with_a_scale_gets_the_usual_one() -> None:
    assert recipe_of("lols", loss={"name": "kl"}).search.loss.alpha == 10.0
    assert recipe_of("searnn").search.loss.alpha == 20.0
    assert recipe_of("searnn", loss={"alpha": None}).search.loss.alpha == 10.0
    assert recipe_of("lols").search.loss.alpha is None
    # Of a row that of its own loss, not that of another.
    assert recipe_of("searnn", loss={"name": "hinge"}).search.loss.alpha == 10.0
    assert recipe_of("searnn", loss={"name": "kl"}).search.loss.alpha == 20.0
    regression = recipe_of("aggrevate", loss={"name": "kl"}).search.loss
    assert (regression.alpha, regression.support) == (10.0, "vocabulary")


# ---- limits and data -----------------------------------------------------------------------------

SOURCES_ALONE = {**DATA, "train_targets": "none"}
WITHOUT: dict[str, Any] = {
    "algorithm": "bandit_lols",
    "loss": {"cross_entropy": 0.0},
    "cost": {"name": "own", "function": "module:function"},
}


def test_parts_put_together_in_python_are_not_less_than_they_say() -> None:
    with pytest.raises(ValidationError, match=r"nothing of algorithm lols is done.*make_recipe fills in"):
        Search(algorithm="lols")
    with pytest.raises(ValidationError, match=r"loss kl needs loss.alpha; 10 is usual"):
        Search(loss=Loss(name="kl", weight=1.0))


def test_a_bandit_can_learn_from_sources_alone() -> None:
    assert make_recipe({"data": SOURCES_ALONE, "search": WITHOUT}).data.train_targets == "none"


def test_experts_need_no_targets() -> None:
    search = {
        "algorithm": "imitkd",
        "roll_in": {"policy": "learned"},
        "roll_out": {"experts": ["run"]},
    }
    assert make_recipe({"data": SOURCES_ALONE, "search": search}).data.train_targets == "none"


@pytest.mark.parametrize(
    ("search", "what"),
    [
        ({"loss": {"cross_entropy": 0.5}}, "cross_entropy above 0"),
        ({"roll_in": {"policy": "mixed"}}, "roll_in.policy"),
        ({"roll_out": {"policy": "mixed"}}, "roll_out.policy"),
        ({"roll_out": {"horizon": 2}}, "horizon"),
        ({"decisions": {"candidates": "biased"}}, "candidates"),
        ({"cost": {"name": "bleu", "function": None}}, "search.cost"),
    ],
)
def test_what_needs_a_target_is_refused_where_there_is_none(search: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError) as caught:
        make_recipe({"data": SOURCES_ALONE, "search": merge(WITHOUT, search)})
    assert "data.train_targets is none" in str(caught.value)
    assert what in str(caught.value)


def test_a_limit_of_roll_outs_needs_roll_outs() -> None:
    only = {"max_roll_outs": 100}
    with pytest.raises(UserError, match="nothing is rolled out; set"):
        make_recipe({"data": DATA, "search": {"algorithm": "aggrevated"}, "training": only})
    experts = {"algorithm": "imitkd", "roll_out": {"experts": ["run"]}}
    with pytest.raises(UserError, match="nothing is rolled out; set"):
        make_recipe({"data": DATA, "search": experts, "training": only})
    for algorithm in ("lols", "search_expert"):  # whose tree search rolls out, too
        assert make_recipe({"data": DATA, "search": {"algorithm": algorithm}, "training": only})
