"""From a recipe to the parts of a training run."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from l2s_nmt.model import Policy
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe import Search as SearchSettings
from l2s_nmt.search.costs import COSTS, Cost, SentenceBleu
from l2s_nmt.search.losses import LOSSES
from l2s_nmt.search.roll_in import LengthLimit, RollIn
from l2s_nmt.search.roll_out import Deviations, EditDistanceOracle
from l2s_nmt.search.search import RollOut, Search
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.loop import Limits
from l2s_nmt.training.objective import Objective
from l2s_nmt.training.schedule import Schedule


def build_limit(settings: SearchSettings, policy: Policy) -> LengthLimit:
    """Where the policy's own sentences are cut."""
    limit = settings.length_limit
    return LengthLimit(limit.factor, limit.constant, policy.positions)


def build_search(settings: SearchSettings, limit: LengthLimit) -> Search | None:
    """The stages that the recipe names; None where it names no roll-out."""
    if settings.roll_out.policy == "none":
        return None
    roll_in = RollIn(settings.roll_in.policy, settings.roll_in.decoding, settings.roll_in.temperature, limit)
    cost = build_cost(settings)
    return Search(roll_in, _roll_out(settings, cost, limit), cost)


def build_cost(settings: SearchSettings) -> Cost:
    """The loss of a finished sentence."""
    if settings.cost.name == "bleu":
        return SentenceBleu(settings.cost.smoothing)
    return COSTS[settings.cost.name]


def _roll_out(settings: SearchSettings, cost: Cost, limit: LengthLimit) -> RollOut:
    roll_out, decisions = settings.roll_out, settings.decisions
    if roll_out.policy == "none":
        raise ValueError("no roll-out")
    if roll_out.policy == "reference" and roll_out.reference == "edit_distance":
        return EditDistanceOracle()
    return Deviations(
        states=decisions.states,
        per_sentence=decisions.per_sentence,
        candidates=decisions.candidates,
        k=decisions.k,
        policy=roll_out.policy,
        p_reference=roll_out.p_reference,
        greedy_roll_in=settings.roll_in.policy == "learned" and settings.roll_in.decoding == "greedy",
        cost=cost,
        limit=limit,
    )


def build_objective(recipe: Recipe) -> Objective:
    """What an update minimises."""
    loss = recipe.search.loss
    return Objective(
        loss=LOSSES[loss.name] if loss.weight else None,
        weight=loss.weight,
        cross_entropy=loss.cross_entropy,
        label_smoothing=recipe.training.label_smoothing,
        alpha=loss.alpha,
    )


def build_optimizer(recipe: Recipe, policy: Policy) -> torch.optim.Optimizer:
    """AdamW; weight decay spares biases and layer norms."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": recipe.training.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    training = recipe.training
    return torch.optim.AdamW(
        groups, lr=training.learning_rate, betas=(0.9, training.adam_beta2), eps=1e-9, fused=True
    )


def build_schedule(recipe: Recipe) -> Schedule:
    """The learning-rate schedule."""
    training = recipe.training
    return Schedule(training.schedule, training.warmup_updates, training.final_rate)


def build_averager(recipe: Recipe, policy: Policy) -> Averager:
    """The average of the weights."""
    averaging = recipe.training.averaging
    return Averager(policy, averaging.kind, averaging.decay, averaging.last)


def build_limits(recipe: Recipe) -> Limits:
    """When training ends, and what happens on the way."""
    training = recipe.training
    return Limits(
        max_updates=training.max_updates,
        max_epochs=training.max_epochs,
        max_minutes=training.max_minutes,
        patience=training.patience,
        validate_every=training.validate_every,
        checkpoint_every=training.checkpoint_every,
        log_every=training.log_every,
    )


def build_accelerator(recipe: Recipe, folder: str) -> Accelerator:
    """Accelerate's view of this process; with no GPU it uses the CPU."""
    training = recipe.training
    return Accelerator(
        mixed_precision=training.mixed_precision,
        log_with=list(training.trackers) or None,
        project_dir=folder,
        cpu=not torch.cuda.is_available(),
    )
