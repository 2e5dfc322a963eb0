"""Settings of the search that cannot work together are refused when the recipe is read, with what would work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from l2s_nmt.recipe_unused import without_effect
from l2s_nmt.search.algorithms import ALGORITHMS
from l2s_nmt.search.costs.table import COSTS
from l2s_nmt.search.losses.table import LOSSES

if TYPE_CHECKING:
    from l2s_nmt.recipe_search import Cost, RollIn, Search

WHOLE_TRANSLATION = tuple(name for name, row in LOSSES.items() if row.whole_translations)
"""Losses of a trajectory as a whole."""


def refuse_incompatible(search: Search) -> None:
    """Check all rules.

    Raises:
        ValueError: the first that is broken.
    """
    for rule in _RULES:
        message = rule(search)
        if message:
            raise ValueError(message)


def refuse_without_targets(search: Search) -> None:
    """Check what a search needs that learns from source sentences alone.

    Raises:
        ValueError: names the first key that needs a target, and what works without.
    """
    needs = {
        "search.loss.cross_entropy above 0": (search.loss.cross_entropy > 0, "set it to 0"),
        "search.roll_in.policy reference or mixed": (search.roll_in.policy != "learned", "set learned"),
        "search.roll_out.policy none, reference or mixed": (
            search.roll_out.policy not in ("learned", "trajectory", "expert"),
            "set learned, trajectory or expert",
        ),
        "search.roll_out.horizon": (search.roll_out.horizon is not None, "remove it"),
        "search.decisions.candidates biased or neighbours": (
            search.decisions.candidates in ("biased", "neighbours"),
            "set top_k, sampled or uniform",
        ),
        "search.decisions.states failed_segments": (
            search.decisions.states == "failed_segments",
            "set uniform",
        ),
        "every search.cost but own": (
            search.cost.needs_reference and search.roll_out.policy != "expert",
            "set cost.name own with a function that needs no reference",
        ),
    }
    for what, (needed, advice) in needs.items():
        if needed:
            raise ValueError(f"data.train_targets is none, but {what} needs the target: {advice}")


def _unused(search: Search) -> str | None:
    if search.loss.weight > 0:
        return None
    if search.roll_out.policy != "none":
        return "loss.weight is 0, so the roll-outs would go unused; set roll_out.policy none"
    roll_in = search.roll_in
    if roll_in.policy != "reference" or roll_in.samples > 1 or roll_in.cross_trained:
        return (
            "loss.weight is 0, so the roll-in would go unused; set roll_in.policy reference, or loss.weight"
        )
    if search.aggregation or search.bandit:
        return (
            "loss.weight is 0, so aggregation and bandit would go unused; set them null, or set loss.weight"
        )
    return None


def _roll_in(search: Search) -> str | None:
    roll_in = search.roll_in
    if roll_in.policy == "mixed" and roll_in.mix_unit == "state" and roll_in.decoding == "beam":
        return (
            "beam search writes whole sentences; set roll_in.mix_unit sentence, or decoding greedy or sample"
        )
    if roll_in.cross_trained and roll_in.policy == "reference":
        return "the reference rolls in, so roll_in.cross_trained would go unused; set roll_in.policy learned"
    if len(roll_in.cross_trained) == 1:
        return "roll_in.cross_trained needs a run for each part of the sentences, so two or more"
    if roll_in.samples == 1:
        return None
    if roll_in.decoding == "beam":
        return _best_of_beam(roll_in)
    if _reference_rolls_in(search) or roll_in.decoding != "sample":
        return "roll_in.samples above 1 would all be the same; set roll_in.policy learned and decoding sample"
    return None


def _best_of_beam(roll_in: RollIn) -> str | None:
    if roll_in.policy != "learned":
        return "roll_in.samples above 1 with decoding beam are the best of a beam; set roll_in.policy learned"
    if roll_in.samples > roll_in.beam:
        return (
            f"a beam of {roll_in.beam} has no {roll_in.samples} best; set roll_in.samples to at most "
            f"{roll_in.beam}, or roll_in.beam"
        )
    return None


def _imitation(search: Search) -> str | None:
    if search.loss.weight == 0 or search.roll_out.policy != "none":
        return None
    if search.decisions.candidates != "full":
        return (
            "roll_out.policy none imitates the reference's action and tries no candidates; set "
            "decisions.candidates full, or roll_out.policy reference, learned or mixed"
        )
    return None


def _coaching(search: Search) -> str | None:
    """It weighs the cost of every token, as the reference knows it."""
    reference, cost = search.reference.name, search.cost
    if search.loss.weight == 0 or not search.reference.coaching:
        return None
    if search.roll_out.policy != "none":
        return "coaching is of the action that is imitated; set roll_out.policy none, or reference.coaching 0"
    if reference == "mcts":
        return "coaching weighs every token's cost; mcts knows those it tried: use another reference"
    if reference == "bleu":
        return _bleu_reference(cost)
    if reference in ("copy", "suffix") and not _compares_tokens(cost):
        return (
            f"coaching weighs every token's cost, and cost {cost.name} on {cost.unit or 'text'} does not see all "
            "unknown tokens alike; set reference.name edit_distance, or a cost on tokens"
        )
    return None


def _experts(search: Search) -> str | None:
    roll_out = search.roll_out
    if (roll_out.policy == "expert") != bool(roll_out.experts):
        return "roll_out.policy expert and roll_out.experts need each other; give experts as a list of run directories"
    if roll_out.experts and search.decisions.candidates != "full":
        return "experts price every token; set decisions.candidates full"
    return None


def _learned_roll_out(search: Search) -> str | None:
    policy, candidates = search.roll_out.policy, search.decisions.candidates
    if policy not in ("learned", "mixed"):
        return None
    if candidates == "full":
        return (
            f"roll_out.policy {policy} cannot finish a sentence for every token of the vocabulary; set "
            "decisions.candidates top_k, or roll_out.policy reference"
        )
    if candidates == "taken":
        return "one candidate has nothing to be compared with; set decisions.candidates top_k"
    return None


def _reference_roll_out(search: Search) -> str | None:
    """With a cost that the reference cannot answer for, or candidates that it cannot answer at."""
    policy, reference, cost = search.roll_out.policy, search.reference.name, search.cost
    if (reference == "own") != (search.reference.function is not None):
        return "reference.name own and reference.function need each other; give function as module:name"
    asked = policy in ("reference", "mixed") or search.roll_out.horizon is not None
    if reference == "mcts":
        return _mcts(search)
    if not asked:
        return None
    if reference == "bleu" and (problem := _bleu_reference(cost)):
        return problem
    by_itself = reference == "own" and search.reference.quality == "optimal"
    if search.decisions.candidates != "full" or by_itself:
        return None
    if reference == "edit_distance" and cost.name == "edit_distance" and not _on_tokens(cost):
        return (
            "the edit_distance reference does not answer for words over the whole vocabulary; set cost.unit tokens, "
            "or decisions.candidates top_k"
        )
    if reference == "edit_distance" and cost.name != "edit_distance":
        return (
            f"the edit_distance reference does not answer for cost {cost.name} over the whole vocabulary; set "
            "cost.name edit_distance, reference.name suffix, or decisions.candidates top_k"
        )
    if not _compares_tokens(cost):
        return (
            f"cost {cost.name} on {cost.unit or 'text'} does not see all unknown tokens alike, so its costs over "
            "the whole vocabulary are not known; set decisions.candidates top_k"
        )
    return None


def _bleu_reference(cost: Cost) -> str | None:
    if cost.name == "bleu" and _on_tokens(cost):
        return None
    return f"the bleu reference does not answer for cost {cost.name}; set cost.name bleu with unit tokens"


def _on_tokens(cost: Cost) -> bool:
    return cost.unit in (None, "tokens")


def _compares_tokens(cost: Cost) -> bool:
    """All tokens that no reference has cost the same."""
    return cost.name in COSTS and COSTS[cost.name].compares_tokens and _on_tokens(cost)


def _mcts(search: Search) -> str | None:
    mixture = search.roll_in.p_reference
    ever = mixture.start > 0 or (mixture.schedule != "constant" and mixture.end > 0)
    if search.roll_in.policy != "learned" and ever:
        return "mcts is a costly roll-in; set roll_in.policy learned"
    if search.roll_out.policy == "mixed" or search.roll_out.horizon is not None:
        return "mcts compares finished sentences by itself; set roll_out.policy reference"
    if search.roll_out.policy == "reference" and search.decisions.candidates != "full":
        return "mcts chooses which tokens to try; set decisions.candidates full"
    if search.reference.quality != "optimal":
        return "mcts has no worse form; set reference.quality optimal, or reference.simulations"
    return None


def _whole_translation(search: Search) -> str | None:
    loss, decisions, roll_out = search.loss, search.decisions, search.roll_out
    if loss.weight == 0:
        return None
    parts = {
        f"loss.name {' or '.join(WHOLE_TRANSLATION)}": loss.name in WHOLE_TRANSLATION,
        "roll_out.policy trajectory": roll_out.policy == "trajectory",
        "decisions.candidates taken": decisions.candidates == "taken",
    }
    if any(parts.values()) and not all(parts.values()):
        missing = [name for name, there in parts.items() if not there]
        given = [name for name, there in parts.items() if there]
        return f"{' and '.join(given)} needs {' and '.join(missing)}"
    if not any(parts.values()):
        return "roll_out.baseline is of the loss of trajectories" if roll_out.baseline != "none" else None
    # A policy gradient is one of what was drawn; minimum risk compares whatever it is given (Edunov et al. 2018).
    decodings = ("sample", "beam") if loss.name == "minimum_risk" else ("sample",)
    if search.roll_in.policy != "learned" or search.roll_in.decoding not in decodings:
        known = " or ".join(decodings)
        return f"{loss.name} learns from the model's own translations; set roll_in.policy learned and decoding {known}"
    if search.roll_in.cross_trained:
        return f"{loss.name} learns from the model's own translations; remove roll_in.cross_trained"
    roll_in = search.roll_in
    if loss.name == "policy_gradient" and (roll_in.temperature != 1 or roll_in.top_k or roll_in.top_p):
        return "policy_gradient is of what the policy itself would draw; remove roll_in.temperature, top_k and top_p"
    if decisions.states != "all":
        return f"{loss.name} is of whole translations; set decisions.states all"
    if roll_out.baseline != "none" and loss.name == "minimum_risk":
        return "minimum_risk compares a sentence's translations with each other; set roll_out.baseline none"
    if roll_out.baseline == "others" and search.roll_in.samples < 2:
        return "roll_out.baseline others needs roll_in.samples 2 or more"
    if loss.name == "minimum_risk" and search.roll_in.samples < 2:
        return "minimum_risk compares translations of a sentence; set roll_in.samples 2 or more"
    return None


def _prefixes(search: Search) -> str | None:
    loss = search.loss
    if loss.weight == 0 or loss.name == "own" or not LOSSES[loss.name].compares_prefixes:
        return None
    if search.roll_out.policy not in ("reference", "expert") or search.decisions.candidates != "full":
        return (
            f"{loss.name} needs the cost of every token; set roll_out.policy reference or expert, and "
            "decisions.candidates full"
        )
    if search.roll_out.policy == "reference" and search.reference.name == "mcts":
        return (
            f"{loss.name} needs the cost of every token, and mcts knows those it tried; use another reference"
        )
    if search.decisions.states != "all":
        return f"{loss.name} compares whole prefixes; set decisions.states all"
    if search.roll_in.samples < 2:
        return f"{loss.name} compares translations of a sentence; set roll_in.samples 2 or more"
    if search.aggregation is not None:
        return f"{loss.name} compares what one policy wrote; set aggregation null"
    return None


def _reference_rolls_in(search: Search) -> bool:
    """It alone, from the first update to the last."""
    mixture = search.roll_in.p_reference
    always = mixture.start == 1 and (mixture.schedule == "constant" or mixture.end == 1)
    return search.roll_in.policy == "reference" or (search.roll_in.policy == "mixed" and always)


def _failed_segments(search: Search) -> str | None:
    faultless = _reference_rolls_in(search) and search.reference.quality == "optimal"
    if search.decisions.states == "failed_segments" and faultless and search.reference.name != "own":
        return (
            "decisions.states failed_segments are those where a roll-in went wrong, and the reference's does not; set "
            "roll_in.policy learned or mixed, or decisions.states uniform"
        )
    return None


def _bandit(search: Search) -> str | None:
    if search.bandit is None:
        return None
    decisions = search.decisions
    if search.roll_out.policy not in ("learned", "mixed", "reference"):
        return "bandit observes the loss of a finished sentence; set roll_out.policy learned"
    if decisions.candidates in ("full", "taken"):
        return "bandit draws one of some candidates; set decisions.candidates top_k"
    if decisions.states != "uniform" or decisions.per_sentence != 1:
        return "bandit deviates once a sentence; set decisions.states uniform and decisions.per_sentence 1"
    if search.roll_in.samples > 1:
        return "bandit observes one loss a sentence; set roll_in.samples 1"
    loss = search.loss
    if loss.weight > 0 and loss.name != "own" and not LOSSES[loss.name].linear:
        linear = ", ".join(name for name, row in LOSSES.items() if row.linear)
        return (
            f"bandit estimates the costs, right on average, and {loss.name} is not linear in them, so that what it "
            f"learns would not be right on average; set loss.name to one of {linear}"
        )
    if search.bandit.estimator == "regression" and search.loss.name != "cost_regression":
        return "bandit.estimator regression trains the regressor; set loss.name cost_regression"
    return None


def _aggregation(search: Search) -> str | None:
    if search.aggregation and search.roll_out.policy not in ("none", "reference", "expert"):
        return (
            f"costs of roll_out.policy {search.roll_out.policy} are those of a policy that is gone when they are "
            "replayed; set roll_out.policy none, reference or expert, or aggregation null"
        )
    return None


def _horizon(search: Search) -> str | None:
    if search.roll_out.horizon is None:
        return None
    if search.roll_out.policy not in ("learned", "mixed"):
        return "roll_out.horizon is of learned roll-outs; set roll_out.policy learned or mixed"
    if search.roll_out.policy == "mixed" and search.roll_out.mix_unit == "state":
        return "with mix_unit state the reference takes part at every token; remove roll_out.horizon"
    return None


def _algorithm(search: Search) -> str | None:
    if ALGORITHMS[search.algorithm].settings["loss"]["weight"] and not search.loss.weight:
        return (
            f"loss.weight is 0, so nothing of algorithm {search.algorithm} is done; set algorithm teacher_forcing or "
            "another weight (in Python make_recipe fills in what belongs to an algorithm)"
        )
    return None


def _loss(search: Search) -> str | None:
    loss = search.loss
    if (loss.name == "own") != (loss.function is not None):
        return "loss.name own and loss.function need each other; give function as module:function"
    if loss.weight == 0 or loss.name == "own":
        return None
    row = LOSSES[loss.name]
    if loss.alpha is None and row.alpha is not None:
        return f"loss {loss.name} needs loss.alpha; {row.alpha:g} is usual, which make_recipe fills in"
    if loss.alpha is not None and not row.uses_alpha:
        return f"loss {loss.name} has no alpha; set it null, or choose a loss that has one: {_with_alpha()}"
    if loss.support == "candidates":
        if not row.normalises:
            return f"loss {loss.name} has no choice of support; set loss.support vocabulary"
        if search.decisions.candidates == "full":
            listed = search.roll_out.policy in ("reference", "mixed") and search.reference.name != "mcts"
            instead = ", or decisions.candidates top_k" if listed else ""
            return (
                "loss.support candidates leaves the rest of the vocabulary out, which decisions.candidates full does "
                f"not; set loss.support vocabulary{instead}"
            )
    return None


def _with_alpha() -> str:
    return ", ".join(name for name, row in LOSSES.items() if row.uses_alpha)


def _cost(search: Search) -> str | None:
    cost = search.cost
    if (cost.name == "sum") != bool(cost.terms):
        return "cost.name sum and cost.terms need each other; a term is {name: bleu, weight: 1.0}"
    if cost.terms and (cost.unit or cost.function or cost.smoothing != "add_k"):
        return "cost.unit, smoothing and function are of single costs; give them in each of cost.terms"
    for term in cost.terms or (cost,):
        row = COSTS[term.name]
        if term.unit is not None and term.unit not in row.units:
            allowed = " or ".join(row.units) or "no unit"
            return f"cost {term.name} is not on {term.unit}; it allows {allowed}"
        if cost.terms and term.name != "bleu" and term.smoothing != "add_k":
            return f"cost {term.name} has no smoothing, which is of bleu; remove it from cost.terms"
        if (term.name == "own") != (term.function is not None):
            return "cost.name own and cost.function need each other; give function as module:function"
    return None


_RULES: tuple[Callable[[Search], str | None], ...] = (
    _unused,
    _algorithm,
    _cost,
    _roll_in,
    _whole_translation,
    _imitation,
    _coaching,
    _experts,
    _learned_roll_out,
    _prefixes,
    _failed_segments,
    _bandit,
    _reference_roll_out,
    _aggregation,
    _horizon,
    _loss,
    without_effect,
)
