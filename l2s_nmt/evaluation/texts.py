"""Numbers as people read them."""

from __future__ import annotations

from l2s_nmt.evaluation.compare import MetricResult

_MINUS, _DASH = "\u2212", "\u2013"


def signed(value: float) -> str:
    """Write a difference with its sign and two decimals."""
    rounded = f"{abs(value):.2f}"
    if rounded == "0.00":
        return "0.00"
    return f"{'+' if value > 0 else _MINUS}{rounded}"


def spread(interval: tuple[float, float], decimals: int = 2) -> str:
    """Write an interval of scores."""
    return f"{interval[0]:.{decimals}f}{_DASH}{interval[1]:.{decimals}f}"


def signed_spread(interval: tuple[float, float]) -> str:
    """Write an interval of differences."""
    return f"{signed(interval[0])} to {signed(interval[1])}"


def p_text(p_value: float | None) -> str:
    """Write a p-value; empty where there is none."""
    if p_value is None:
        return ""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def minutes_text(minutes: float | None) -> str:
    """Write minutes of training; empty where they are not known."""
    return "" if minutes is None else f"{minutes:.1f}"


def updates_text(updates: int | None) -> str:
    """Write updates of training; empty where they are not known."""
    return "" if updates is None else f"{updates:,}"


def verdict(metric: str, result: MetricResult) -> str:
    """Say what a difference means: ``better``, ``worse`` or ``no clear difference``.

    A difference is clear where approximate randomisation, which is two-sided, gives p < 0.05.
    """
    if result.difference is None or result.p_value_randomisation is None:
        return ""
    if result.p_value_randomisation >= 0.05:
        return "no clear difference"
    return "better" if (result.difference > 0) != (metric == "ter") else "worse"
