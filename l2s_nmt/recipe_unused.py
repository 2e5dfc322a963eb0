"""Search settings that would have no effect are refused, but for the defaults and what the algorithm's row says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import reduce
from typing import TYPE_CHECKING, Any

from l2s_nmt.search.algorithms import ALGORITHMS

if TYPE_CHECKING:
    from l2s_nmt.recipe_search import PReference, Search


@dataclass(frozen=True)
class _Use:
    """Keys, and what has to be so that they have an effect."""

    keys: tuple[str, ...]
    needed: str
    used: Callable[[Search], bool]


def _model_rolls_in(search: Search) -> bool:
    return search.roll_in.policy != "reference"


def _moves(mixture: PReference) -> bool:
    return mixture.schedule != "constant"


_DRAWN = ("top_k", "sampled", "biased", "uniform")


def _asks_a_reference(search: Search) -> bool:
    return (
        search.roll_in.policy != "learned"
        or search.roll_out.policy not in ("trajectory", "expert", "learned")
        or search.roll_out.horizon is not None
        or search.decisions.candidates not in ("full", "taken")
    )


_USES = (
    _Use(
        ("roll_in.p_reference.schedule", "roll_in.p_reference.start", "roll_in.mix_unit"),
        "roll_in.policy mixed",
        lambda search: search.roll_in.policy == "mixed",
    ),
    _Use(
        ("roll_in.p_reference.end", "roll_in.p_reference.updates"),
        "roll_in.policy mixed and a p_reference.schedule that is not constant",
        lambda search: search.roll_in.policy == "mixed" and _moves(search.roll_in.p_reference),
    ),
    _Use(("roll_in.decoding",), "roll_in.policy learned or mixed", _model_rolls_in),
    _Use(
        ("roll_in.temperature", "roll_in.top_k", "roll_in.top_p"),
        "roll_in.decoding sample, by roll_in.policy learned or mixed",
        lambda search: _model_rolls_in(search) and search.roll_in.decoding == "sample",
    ),
    _Use(
        ("roll_in.beam",),
        "roll_in.decoding beam, by roll_in.policy learned or mixed",
        lambda search: _model_rolls_in(search) and search.roll_in.decoding == "beam",
    ),
    _Use(
        ("reference.name", "reference.quality", "reference.coaching"),
        "a reference that is asked: by roll_in.policy, roll_out.policy, roll_out.horizon or decisions.candidates",
        _asks_a_reference,
    ),
    _Use(
        ("reference.noise",),
        "reference.quality suboptimal",
        lambda search: search.reference.quality == "suboptimal",
    ),
    _Use(("reference.budget",), "reference.name bleu", lambda search: search.reference.name == "bleu"),
    _Use(
        ("reference.simulations", "reference.exploration", "reference.parallel"),
        "reference.name mcts",
        lambda search: search.reference.name == "mcts",
    ),
    _Use(
        ("decisions.per_sentence",),
        "decisions.states uniform, low_margin or high_entropy",
        lambda search: search.decisions.states in ("uniform", "low_margin", "high_entropy"),
    ),
    _Use(
        ("decisions.segment",),
        "decisions.states failed_segments",
        lambda search: search.decisions.states == "failed_segments",
    ),
    _Use(
        ("decisions.k",),
        f"decisions.candidates {', '.join(_DRAWN)}, reference.name mcts or roll_out.policy expert",
        lambda search: (
            search.decisions.candidates in _DRAWN
            or search.reference.name == "mcts"
            or search.roll_out.policy == "expert"
        ),
    ),
    _Use(
        ("roll_out.p_reference.schedule", "roll_out.p_reference.start", "roll_out.mix_unit"),
        "roll_out.policy mixed",
        lambda search: search.roll_out.policy == "mixed",
    ),
    _Use(
        ("roll_out.p_reference.end", "roll_out.p_reference.updates"),
        "roll_out.policy mixed and a p_reference.schedule that is not constant",
        lambda search: search.roll_out.policy == "mixed" and _moves(search.roll_out.p_reference),
    ),
    _Use(("cost.smoothing",), "cost.name bleu", lambda search: search.cost.name == "bleu"),
    _Use(
        ("bandit.temperature",),
        "bandit.exploration boltzmann",
        lambda search: search.bandit is not None and search.bandit.exploration == "boltzmann",
    ),
    _Use(
        ("bandit.bag",),
        "bandit.exploration bootstrap",
        lambda search: search.bandit is not None and search.bandit.exploration == "bootstrap",
    ),
)


def without_effect(search: Search) -> str | None:
    """The first key that was given for nothing, and what it needs."""
    if search.loss.weight == 0:
        return None
    for use in _USES:
        if use.used(search):
            continue
        for key in use.keys:
            section, *names = key.split(".")
            if (settings := getattr(search, section)) is None:
                continue
            value = reduce(getattr, names, settings)
            if value not in (_default(search, section, names), _of_row(search, section, names)):
                return f"{key} has no effect without {use.needed}; remove it, or set that"
    return None


def _default(search: Search, section: str, names: list[str]) -> Any:
    default = next(field.default for field in fields(search) if field.name == section)
    return reduce(getattr, names, type(getattr(search, section))() if default is None else default)


def _of_row(search: Search, section: str, names: list[str]) -> Any:
    """What the algorithm's row says; None: nothing."""
    found: Any = ALGORITHMS[search.algorithm].settings
    for name in (section, *names):
        found = found.get(name) if isinstance(found, dict) else None
    return found
