"""Sums over the updates since the last line of metrics.jsonl, and what is made of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.decoding import best_tokens
from l2s_nmt.search.search import Experience
from l2s_nmt.search.types import CostVectors, Decisions, cost_of

IMPROVABLE = 1e-6
"""A state is improvable where another token was cheaper by more than rounding."""


def score_sums(scores: Tensor, decisions: Decisions, costs: CostVectors) -> dict[str, Tensor]:
    """How the model's own choices at the searched states compare with the cheapest, as sums over N states, each
    as often as it was visited.

    Args:
        scores: (N, V) of the model.
        decisions: the states and what was tried there.
        costs: what it would have cost.
    """
    chosen = cost_of(decisions, costs, best_tokens(scores))
    log_probs = scores.float().log_softmax(-1)
    entropy = torch.special.entr(log_probs.exp()).sum(-1)  # of a token that cannot be: 0
    return {
        "chosen_cost": decisions.weigh(chosen.nan_to_num()).sum(),
        "chosen_known": decisions.weigh((~chosen.isnan()).float()).sum(),
        "improvable": decisions.weigh((chosen > IMPROVABLE).float()).sum(),
        "entropy": decisions.weigh(entropy).sum(),
    }


def search_sums(experience: Experience, batch: Batch, roll_in_costs: Tensor | None) -> dict[str, Tensor]:
    """What a person watches while a model learns to search, as sums over states or sentences.

    Args:
        experience: of B sentences and N states.
        batch: the sentences.
        roll_in_costs: (R,) cost of each roll-in; None where it may not be looked at (bandit feedback) or nothing
            can tell it (no reference).
    """
    decisions = experience.decisions
    spread, tied = cost_range(decisions, experience.costs)
    trajectories = experience.trajectories
    targets, there = batch.target_lengths[experience.owner], batch.has_target[experience.owner]
    sums = {
        "states": torch.tensor(decisions.total_visits()),
        "cost_range": decisions.weigh(spread).sum(),
        "ties": decisions.weigh(tied.float()).sum(),
        "searched_sentences": torch.tensor(float(len(experience.owner))),
        "roll_in_tokens": trajectories.lengths.sum(),
        "roll_in_tokens_of_targets": trajectories.lengths[there].sum(),
        "roll_in_target_tokens": targets[there].sum(),
        "roll_in_finished": trajectories.finished.sum(),
        "roll_in_by_reference": trajectories.inside().logical_and(trajectories.by_reference).sum(),
    }
    if roll_in_costs is not None:
        sums["roll_in_cost"] = roll_in_costs.sum()
    return sums


def cost_range(decisions: Decisions, costs: CostVectors) -> tuple[Tensor, Tensor]:
    """(N,) the largest cost (the smallest is 0), and whether all known actions cost the same."""
    largest = costs.costs.masked_fill(~decisions.mask, 0.0).amax(-1)
    if costs.other is not None:
        largest = torch.maximum(largest, costs.other)
    return largest, largest <= IMPROVABLE


class Sums:
    """Adds up named numbers without waiting for the device."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor | float] = defaultdict(float)

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Add to each name's sum."""
        for name, value in values.items():
            self.totals[name] = self.totals[name] + value

    def state(self) -> dict[str, Tensor | float]:
        """What a checkpoint keeps; ``add`` takes it up."""
        return {k: v.cpu() if isinstance(v, Tensor) else v for k, v in self.totals.items()}

    def take(self) -> dict[str, float]:
        """The sums since the last call."""
        taken = {name: float(value) for name, value in self.totals.items()}
        self.totals.clear()
        return taken


def share_out(saved: list[dict[str, Tensor | float]], rank: int, processes: int) -> dict[str, Tensor | float]:
    """The sums with which a process goes on, from those of the processes that a checkpoint was written by."""
    if len(saved) == processes:
        return saved[rank]
    if rank:
        return {}
    merged = Sums()
    for sums in saved:
        merged.add({k: v * processes / len(saved) if is_mean(k) else v for k, v in sums.items()})
    return dict(merged.totals)


def is_mean(name: str) -> bool:
    """Whether the processes' sums of that name mean the same, and are averaged and not added."""
    return name in ("updates", "gradient_norm") or name.startswith("seconds")


def summarise(sums: dict[str, float]) -> dict[str, Any]:
    """Ratios for metrics.jsonl, from sums over all processes."""

    def ratio(above: str, below: str) -> float | None:
        return sums[above] / sums[below] if sums.get(below) and above in sums else None

    values = {
        "loss": ratio("loss", "updates"),
        "cross_entropy": ratio("cross_entropy", "tokens"),
        "search_loss": ratio("search", "states_learned"),
        "gradient_norm": ratio("gradient_norm", "updates"),
        "sentences_per_second": ratio("sentences", "seconds"),
        "target_tokens_per_second": ratio("tokens", "seconds"),
        "roll_in_cost": ratio("roll_in_cost", "searched_sentences"),
        "chosen_cost": ratio("chosen_cost", "chosen_known"),
        "improvable": ratio("improvable", "chosen_known"),
        "advantage_where_improvable": ratio("chosen_cost", "improvable"),
        "cost_range": ratio("cost_range", "states"),
        "tie_rate": ratio("ties", "states"),
        "entropy": ratio("entropy", "states"),
        "states_labelled": ratio("states", "roll_in_tokens"),
        "by_reference": ratio("roll_in_by_reference", "roll_in_tokens"),
        "length_ratio": ratio("roll_in_tokens_of_targets", "roll_in_target_tokens"),
        "finished": ratio("roll_in_finished", "searched_sentences"),
        "oracle_gap": ratio("oracle_gap", "oracle_asked"),
        "oracle_proven": ratio("oracle_proven", "oracle_asked"),
        "roll_outs_per_second": ratio("roll_outs", "seconds_roll_out"),
        "seconds_roll_in": sums.get("seconds_roll_in"),
        "seconds_roll_out": sums.get("seconds_roll_out"),
        "seconds_scoring": sums.get("seconds_scoring"),
        "seconds_update": sums.get("seconds_update"),
    }
    return {
        name: round(value, 6) for name, value in values.items() if value is not None and math.isfinite(value)
    }
