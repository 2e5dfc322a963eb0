"""Numbers as people read them."""

from __future__ import annotations

from html import escape

from l2s_nmt.evaluation.types import Comparison, MetricResult, SystemResult
from l2s_nmt.plain_text import visible

_MINUS, _DASH = "\u2212", "\u2013"


def html_text(text: str, language: str | None = None) -> str:
    """Escape foreign text for a page, and keep its writing direction to itself; see `isolated`."""
    return isolated(escape(visible(text)), language)


def isolated(content: str, language: str | None = None) -> str:
    """HTML of foreign text with its own writing direction, and its language, where that is known.

    By the language a screen reader chooses its voice, and a browser how it draws the characters that Chinese and
    Japanese share.
    """
    tag = "" if language is None else f' lang="{escape(language)}"'
    return f'<bdi dir="auto"{tag}>{content}</bdi>'


def signed(value: float, decimals: int = 2) -> str:
    """Write a difference with its sign."""
    rounded = f"{abs(value):.{decimals}f}"
    if float(rounded) == 0:
        return rounded
    return f"{'+' if value > 0 else _MINUS}{rounded}"


def scored(result: MetricResult) -> str:
    """Write a score, with its standard deviation over the seeds where there are several."""
    deviation = "" if result.deviation is None else f" ± {result.deviation:.2f}"
    return f"{result.score:.2f}{deviation}"


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


def count_text(count: float | None) -> str:
    """Write a count; empty where it is not known."""
    return "" if count is None else f"{count:,.0f}"


def energy_text(joules: float | None) -> str:
    """Write an energy in watt-hours; empty where it is not known."""
    return "" if joules is None else f"{joules / 3600:,.1f}"


def decoding_text(comparison: Comparison) -> str:
    """Say how translations were searched for, of all systems or of each; empty where it is not known of any."""
    ways = {system.name: _ways(system) for system in comparison.systems}
    if len(set(ways.values())) == 1:
        return next(iter(ways.values()))
    return "; ".join(f"{name} with {way}" for name, way in ways.items() if way)


def _ways(system: SystemResult) -> str:
    """Those of the seeds; one as a rule."""
    found = (
        f"beam {way['beam']}, length penalty {way['length_penalty']:g}, at most {way['max_length']} tokens"
        for way in (run.decoding for run in system.runs)
        if way is not None
    )
    return " or ".join(dict.fromkeys(found))


def verdict(metric: str, result: MetricResult) -> str:
    """Say what a difference means: ``better``, ``worse`` or ``no clear difference``.

    A difference is clear where a two-sided test gives p < 0.05: approximate randomisation, or with several seeds the
    t test that counts these in.
    """
    if result.difference is None or result.deciding_p_value is None:
        return ""
    if result.deciding_p_value >= 0.05:
        return "no clear difference"
    return "better" if (result.difference > 0) != (metric == "ter") else "worse"
