"""Signs that a model is collapsing, told in words while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

SHORTEST, LONGEST = 0.7, 1.4
"""Translations that are shorter or longer than this, against the references, are no translations."""
FLAT = 0.02
"""Entropy in nats below which the model has made up its mind everywhere. A trained one is at 0.5 to 2."""
SHARE = 0.1
"""Of empty or endless translations."""


@dataclass(frozen=True)
class Sign:
    """One thing that should not be."""

    kind: str
    """"train" or "validation": the lines of metrics.jsonl that it is seen in."""
    field: str
    seen: Callable[[float], bool]
    words: str
    """What to say of the value, and what to do."""


_LENGTH = "usual at first; later look at training.learning_rate and, of a search, loss.cross_entropy and cost"
_ROLL_INS = f"roll-ins are {{:.2f}} times as long as the targets; {_LENGTH}"
_TRANSLATIONS = f"translations are {{:.2f}} times as long as the references; {_LENGTH}"

SIGNS = (
    Sign("train", "length_ratio", lambda x: x < SHORTEST, _ROLL_INS),
    Sign("train", "length_ratio", lambda x: x > LONGEST, _ROLL_INS),
    Sign("train", "finished", lambda x: x < 1 - SHARE, "only {:.0%} of the roll-ins end before they are cut"),
    Sign("train", "entropy", lambda x: x < FLAT, "the next token's entropy is {:.3f}: the model is always sure"),
    Sign("validation", "empty", lambda x: x > SHARE, "{:.0%} of the translations are empty"),
    Sign("validation", "endless", lambda x: x > SHARE, "{:.0%} of the translations do not end before they are cut"),
    Sign("validation", "length_ratio", lambda x: x < SHORTEST, _TRANSLATIONS),
    Sign("validation", "length_ratio", lambda x: x > LONGEST, _TRANSLATIONS),
)  # fmt: skip


class Health:
    """Warns of each sign when it appears, and again only after it was gone."""

    def __init__(self) -> None:
        self.there: set[Sign] = set()

    def __call__(self, kind: str, measured: Mapping[str, float | None]) -> list[str]:
        """New warnings in what was measured.

        Args:
            kind: of the line.
            measured: its fields.
        """
        warnings = []
        for sign in SIGNS:
            value = measured.get(sign.field)
            if sign.kind != kind or value is None:
                continue
            if not sign.seen(value):
                self.there.discard(sign)
            elif sign not in self.there:
                self.there.add(sign)
                warnings.append(f"warning: {sign.words.format(value)}")
        return warnings
