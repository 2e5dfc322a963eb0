"""Tokens and figures as people read them."""

from __future__ import annotations

from l2s_nmt.evaluation.texts import signed
from l2s_nmt.explanation.types import Token


def token_text(token: Token) -> str:
    """Spell a token; one that goes on with a word begins with a plus sign."""
    if token.ends:
        return "end of sentence"
    return f"+{token.text}" if token.joins else token.text


def percent(probability: float) -> str:
    """Write a probability: ``42 %``; ``<1 %`` where it is small but there."""
    if 0 < probability < 0.01:
        return "<1 %"
    if 0.995 <= probability < 1:
        return ">99 %"
    return f"{100 * probability:.0f} %"


def cost_text(cost: float) -> str:
    """Write a cost with two decimals."""
    return signed(cost).removeprefix("+")


def push_text(push: float) -> str:
    """Write where a score is pushed, with an arrow; a dot where it is not."""
    size = f"{abs(push):.3f}"
    if size == "0.000":
        return "·"
    return f"{'↑' if push > 0 else '↓'} {size}"
