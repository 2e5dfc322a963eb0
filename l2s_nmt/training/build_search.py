"""From the ``search`` section of a recipe to the stages of the search."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_nmt.build_cost import Texts, build_cost
from l2s_nmt.errors import UserError
from l2s_nmt.model import Policy
from l2s_nmt.recipe_search import PReference
from l2s_nmt.recipe_search import Search as SearchSettings
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.edit_distance import edits_cost
from l2s_nmt.search.costs.own import load_function
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.search.reference.bleu import BleuOracle
from l2s_nmt.search.reference.copy import Copy
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.reference.experts import Experts
from l2s_nmt.search.reference.mcts import MonteCarloTree
from l2s_nmt.search.reference.noisy import Noisy
from l2s_nmt.search.reference.protocol import Reference
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.bandit import Bandit, Exploration
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.outcome import RollOut
from l2s_nmt.search.roll_out.reference_costs import ReferenceActions, ReferenceCosts
from l2s_nmt.search.roll_out.trajectory_loss import TrajectoryLoss
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.search import Search


def build_search(
    settings: SearchSettings,
    limit: LengthLimit,
    texts: Texts,
    *,
    has_targets: bool = True,
    cross_trained: Sequence[Policy] = (),
    experts: Sequence[Policy] = (),
) -> Search | None:
    """The stages that the recipe names; None for teacher forcing.

    Args:
        settings: the ``search`` section.
        limit: where the policy's own sentences are cut.
        texts: how ids become text.
        has_targets: the training data have references.
        cross_trained: policies that roll in in place of the learner, in evaluation mode.
        experts: policies that price tokens, likewise.
    """
    if not settings.searches:
        return None
    cost = build_cost(settings.cost, texts)
    reference = build_reference(settings, cost) if has_targets else None
    return Search(
        roll_in=_roll_in(settings, reference, tuple(cross_trained)),
        roll_out=_roll_out(settings, cost, reference, Experts(tuple(experts), settings.decisions.k)),
        cost=cost if has_targets or not settings.cost.needs_reference else None,
        limit=limit,
        samples=settings.roll_in.samples,
    )


def build_reference(settings: SearchSettings, cost: Cost) -> Reference:
    """The reference policy."""
    chosen = settings.reference
    reference = _optimal(settings, cost)
    if chosen.quality == "optimal":
        return reference
    # The exact oracle prices tokens in edits, so a worse one does as well.
    of_tokens = OnTokens(edits_cost) if chosen.name == "edit_distance" else None
    return Noisy(reference, cost, chosen.quality, chosen.noise, of_tokens)


def _optimal(settings: SearchSettings, cost: Cost) -> Reference:
    chosen = settings.reference
    if chosen.function is not None:
        weighs = settings.roll_out.policy == "reference" or (
            settings.roll_out.policy == "none" and chosen.coaching > 0
        )
        by_trials = chosen.quality != "optimal"
        asked = ("costs",) if weighs and settings.decisions.candidates == "full" and not by_trials else ()
        return _own(chosen.function, cost, ("complete", *asked))
    if chosen.name == "copy":
        return Copy(cost)
    if chosen.name == "suffix":
        return Suffix(cost)
    if chosen.name == "edit_distance":
        return EditDistance(cost)
    if chosen.name == "bleu":
        return BleuOracle(settings.cost.smoothing, chosen.budget)
    return MonteCarloTree(cost, chosen.simulations, chosen.exploration, settings.decisions.k, chosen.parallel)


def _own(name: str, cost: Cost, asked: Sequence[str]) -> Reference:
    """What a function of the user's own makes, with the methods that will be asked for."""
    made: Reference = load_function(name, ["cost"])(cost)
    for method in asked:
        if not callable(getattr(made, method, None)):
            raise UserError(
                f"search.reference.function {name} returned something of type {type(made).__name__} without the "
                f"method {method}; it must return a reference (l2s_nmt/search/reference/protocol.py)"
            )
    return made


def _schedule(settings: PReference) -> Schedule:
    return Schedule(settings.schedule, settings.start, settings.end, settings.updates)


def _roll_in(
    settings: SearchSettings, reference: Reference | None, cross_trained: tuple[Policy, ...]
) -> RollIn:
    roll_in = settings.roll_in
    best = roll_in.samples if roll_in.decoding == "beam" else 1
    decoding = Decoding(
        roll_in.decoding, roll_in.temperature, roll_in.top_k, roll_in.top_p, roll_in.beam, best
    )
    return RollIn(
        policy=roll_in.policy,
        decoding=decoding,
        reference=None if roll_in.policy == "reference" and _writes_the_target(settings) else reference,
        p_reference=_schedule(roll_in.p_reference),
        mix_unit=roll_in.mix_unit,
        keeps_trunk=settings.roll_out.policy not in ("none", "trajectory")
        and settings.decisions.candidates != "full",
        cross_trained=cross_trained,
    )


def _writes_the_target(settings: SearchSettings) -> bool:
    """As an optimal reference does from the start; one of the user's own may be any, and so may the cheapest suffix."""
    chosen, costs = settings.reference, settings.cost.terms or (settings.cost,)
    anything_goes = chosen.name == "own" or (
        chosen.name == "suffix" and any(cost.name == "own" for cost in costs)
    )
    return chosen.quality == "optimal" and not anything_goes


def _roll_out(settings: SearchSettings, cost: Cost, reference: Reference | None, experts: Experts) -> RollOut:
    roll_out, decisions = settings.roll_out, settings.decisions
    states = StateChoice(decisions.states, decisions.per_sentence, decisions.segment)
    if roll_out.policy == "trajectory":
        return TrajectoryLoss(cost, settings.roll_in.samples, roll_out.baseline)
    if roll_out.policy == "none":
        return ReferenceActions(states, _needed(reference), settings.reference.coaching)
    linked = settings.loss.function is None and LOSSES[settings.loss.name].compares_prefixes
    if roll_out.policy == "expert":
        return ReferenceCosts(states, experts, linked)
    if decisions.candidates == "full":
        return ReferenceCosts(states, _needed(reference), linked)
    candidates = CandidateChoice(decisions.candidates, decisions.k, reference)
    finish = RollOutPolicy(
        policy=roll_out.policy,
        cost=cost,
        reference=reference,
        p_reference=_schedule(roll_out.p_reference),
        mix_unit=roll_out.mix_unit,
        horizon=roll_out.horizon,
        own_is_greedy=settings.roll_in.policy == "learned"
        and settings.roll_in.decoding == "greedy"
        and not settings.roll_in.cross_trained,
    )
    if settings.bandit is None:
        return Deviations(states, candidates, finish)
    bandit = settings.bandit
    exploration = Exploration(bandit.exploration, bandit.epsilon, bandit.temperature, bandit.bag)
    alpha = settings.loss.alpha if settings.loss.name == "cost_regression" else None
    return Bandit(states, candidates, finish, exploration, bandit.estimator, alpha)


def _needed(reference: Reference | None) -> Reference:
    if reference is None:
        raise ValueError("a reference is needed, but the training data have no targets")
    return reference
