"""What an explanation is made of: sentences, the runs that translate them, states, candidates, roll-outs.

A cost is what a finished sentence costs under the recipe's cost, 0 for a perfect one. A regret is a cost less the
smallest among the candidates of the same state.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from l2s_nmt.evaluation.differences import Kind
from l2s_nmt.notebook import framed

LONE_SPACE = "\u2423"
"""Stands for a token that is nothing but the space before a word."""


@dataclass(frozen=True)
class Pair:
    """A sentence to explain."""

    name: str
    """Says where it comes from."""
    source: str
    references: tuple[str, ...]
    """One or several."""
    languages: tuple[str, str] | None = None
    """Of source and references, as BCP 47 has them, where they are known."""


@dataclass(frozen=True)
class Token:
    """A token of a translation."""

    id: int
    text: str
    """As it is spelt; the space before a word is left out."""
    joins: bool
    """It goes on with the word of the token before."""
    ends: bool
    """It is the end of the sentence."""


@dataclass(frozen=True)
class Change:
    """A stretch of words of a roll-out beside the run's own translation."""

    kind: Kind
    text: str
    """Begins with a space where one stands before it."""


@dataclass(frozen=True)
class RollOut:
    """A finished sentence."""

    text: str
    cost: float
    finished: bool
    """It ended by itself and was not cut by its length."""
    changes: tuple[Change, ...]
    """From the run's own translation to this one."""


@dataclass(frozen=True)
class Candidate:
    """A next token that was tried at a state."""

    token: Token
    probability: float
    """By the run's model."""
    beside: float | None
    """Probability by the other run's model after the same prefix; None without one that has the same tokens."""
    is_own: bool
    """The model took it."""
    is_reference: bool
    """The reference would take it."""
    by_model: RollOut
    """Finished by the model."""
    by_reference: RollOut
    """Finished by the reference."""
    charged: float | None
    """The cost that the loss is given, above that of the state's cheapest action; None: the recipe did not try it."""
    push: float
    """Minus the derivative of the loss by the token's score: above 0, learning raises the score."""


@dataclass(frozen=True)
class State:
    """A prefix of the roll-in, and what was tried after it."""

    candidates: tuple[Candidate, ...]
    """The most probable first."""
    rest_probability: float
    """Of all other tokens together."""
    rest_push: float
    """On all other tokens together."""
    regret_by_model: float
    """Of the token that the model took, if the model finishes."""
    regret_by_reference: float
    """Of the same, if the reference finishes."""

    @property
    def own(self) -> Candidate:
        """The token that the model took."""
        return next(candidate for candidate in self.candidates if candidate.is_own)

    @property
    def cheapest(self) -> Candidate:
        """The candidate that is cheapest if the model finishes."""
        return min(self.candidates, key=lambda candidate: candidate.by_model.cost)


@dataclass(frozen=True)
class View:
    """How one run translates one sentence: its roll-in, and a state before each of its tokens."""

    translation: RollOut
    """The roll-in; its changes are those from the first run's."""
    tokens: tuple[Token, ...]
    states: tuple[State, ...]
    """As many as tokens."""


@dataclass(frozen=True)
class Facts:
    """The search that sentences are looked at with, in words."""

    run: str
    """Whose it is."""
    algorithm: str
    roll_in: str
    roll_out: str
    reference: str
    cost: str
    loss: str
    note: str
    """Where what is shown differs from what training does; else empty."""


@dataclass(frozen=True)
class Explained:
    """A sentence, as each run translates it."""

    pair: Pair
    views: tuple[View, ...]


@dataclass(frozen=True)
class Explanation:
    """Some sentences, explained with one run, or with one before and one after."""

    runs: tuple[str, ...]
    """Their names."""
    search: Facts
    """With which both are looked at, so that their costs can be compared."""
    sentences: tuple[Explained, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the page of the explanation."""
        from l2s_nmt.explanation.page import render_page  # which reads these types

        return framed(render_page(self))
