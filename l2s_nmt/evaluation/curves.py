"""Learning curves: read from a run's metrics, drawn as SVG that needs neither script nor network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean as mean
from typing import Any, Literal

from l2s_nmt.errors import UserError
from l2s_nmt.run import Run, read_metrics

Axis = Literal["minutes", "updates", "sentences"]

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 16, 48
_COLOURS = 6
"""How many colours the page's style sheet has: the classes ``series-0`` and so on."""
_SQUEEZE, _READABLE = 3.0, 5.0
"""The early validations are cut off where they would stretch the axis by this factor, and beyond so much BLEU."""
_MARKED_POINTS = 40
"""How many points of a curve get a marker; between them the line is enough."""

Curves = Sequence[tuple[str, Sequence[Sequence["CurvePoint"]]]]
"""Of each system in the order of the report its name, and the validations of each of its seeds."""


@dataclass(frozen=True)
class CurvePoint:
    """One validation during training."""

    update: int
    """Updates made so far."""
    minutes: float
    """Wall-clock minutes of training so far."""
    bleu: float
    """Validation BLEU."""
    length_ratio: float | None = None
    """Words of the validation translations divided by words of the references."""
    loss: float | None = None
    """Mean training loss logged since the validation before; objectives differ in its meaning."""
    sentences: int | None = None
    """Training sentences seen so far, over all epochs."""


def read_curve(run: Run) -> tuple[CurvePoint, ...]:
    """The validations of a run, but for those without a finite BLEU.

    Raises:
        UserError: its metrics are damaged.
    """
    points: list[CurvePoint] = []
    losses: list[float] = []
    for record in read_metrics(run):
        try:
            if record["kind"] == "train" and (loss := _finite(record.get("loss"))) is not None:
                losses.append(loss)
            if record["kind"] == "validation" and (bleu := _finite(record.get("bleu"))) is not None:
                points.append(_point(record, bleu, losses))
                losses.clear()
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(
                f"{run.metrics}, update {record['update']}: damaged: not a record of training ({error!r})"
            ) from error
    return tuple(points)


def _point(record: dict[str, Any], bleu: float, losses: Sequence[float]) -> CurvePoint:
    seen = _finite(record.get("sentences"))
    return CurvePoint(
        record["update"],
        float(record["minutes"]),
        bleu,
        length_ratio=_finite(record.get("length_ratio")),
        loss=mean(losses) if losses else None,
        sentences=None if seen is None else int(seen),
    )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class _Validation:
    """One validation of all seeds of a system: means, and the range of BLEU."""

    place: float
    """On the axis."""
    update: float
    minutes: float
    bleu: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class _Frame:
    """Where values lie in the picture."""

    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * value / self.x_high, 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share, 1)


def draw_curves(curves: Curves, axis: Axis) -> str:
    """Draw validation BLEU over the minutes, updates or sentences of training, as an ``<svg>`` element.

    Where the first validations of a run from scratch would flatten the differences that matter, the vertical
    axis shows only the range of the later half of each curve; `starts_below` tells what it cuts off.

    Args:
        curves: of all systems; those without points are left out but keep their colour. Several seeds of a system
            are one line, the mean of their validations in order (and of their last ones, since not all get equally
            far in their time), in a band from the worst to the best of them.
        axis: what goes to the right.
    """
    frame = _frame(curves, axis)
    parts = [
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{axis}-title {axis}-summary">',
        f'<title id="{axis}-title">Validation BLEU over {axis} of training</title>',
        f'<desc id="{axis}-summary">{escape(_summary(curves, axis))}</desc>',
        f'<clipPath id="{axis}-area"><rect x="{_LEFT - 6}" y="{_TOP - 6}" '
        f'width="{_WIDTH - _LEFT - _RIGHT + 12}" height="{_HEIGHT - _TOP - _BOTTOM + 6}"/></clipPath>',
        *_axes(frame, axis),
        f'<g clip-path="url(#{axis}-area)">',
    ]
    systems = [(name, _validations(seeds, axis)) for name, seeds in curves]
    parts += [_band(number, found, frame) for number, (_, found) in enumerate(systems)]
    for number, (name, found) in enumerate(systems):
        parts.extend(_curve(number, name, found, frame))
    return "\n".join(filter(None, [*parts, "</g>", "</svg>"]))


def starts_below(curves: Curves) -> float | None:
    """Return the BLEU at which the vertical axis begins where it cuts off some of the points, else None."""
    low = _frame(curves, "updates").y_low
    return (
        low if any(point.bleu < low for _, seeds in curves for points in seeds for point in points) else None
    )


def draw_marker(number: int, x: float = 8.0, y: float = 8.0) -> str:
    """Draw the marker of a system, by its number: neighbours differ in colour and shape, thirty in one of them."""
    shapes = (
        f'<circle cx="{x}" cy="{y}" r="4"/>',
        f'<rect x="{x - 3.5}" y="{y - 3.5}" width="7" height="7"/>',
        f'<path d="M{x} {y - 5}l5 5l-5 5l-5 -5z"/>',
        f'<path d="M{x} {y - 5}l5 9h-10z"/>',
        f'<path d="M{x} {y + 5}l5 -9h-10z"/>',
    )
    return f'<g class="series-{number % _COLOURS} marker">{shapes[number % len(shapes)]}</g>'


def draw_interval(
    number: int, score: float, interval: tuple[float, float], scale: tuple[float, float]
) -> str:
    """Draw a score and its interval on a scale shared by all rows of a table, as a decorative ``<svg>``."""
    width, height, margin = 132.0, 16.0, 8.0
    low, high = scale
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(margin + (width - 2 * margin) * (value - low) / span, 1)

    return (
        f'<svg class="interval" viewBox="0 0 {width:g} {height:g}" aria-hidden="true">'
        f'<g class="series-{number % _COLOURS}"><path class="line" d="M{x(interval[0])} 8H{x(interval[1])}'
        f'M{x(interval[0])} 4v8M{x(interval[1])} 4v8"/></g>{draw_marker(number, x(score))}</svg>'
    )


def _frame(curves: Curves, axis: Axis) -> _Frame:
    shown = [placed for _, seeds in curves for points in seeds if (placed := _placed(points, axis))]
    everything = [point.bleu for points in shown for _, point in points] or [0.0]
    late = [point.bleu for points in shown for _, point in points[len(points) // 2 :]] or [0.0]
    low, high = min(everything), max(everything)
    if high - low > max(_SQUEEZE * (high - min(late)), _READABLE):
        low = min(late)
    margin = max(0.08 * (high - low), 0.1)
    farthest = max((place for points in shown for place, _ in points), default=0.0)
    return _Frame(farthest or 1.0, max(low - margin, 0.0), high + margin)


def _along(point: CurvePoint, axis: Axis) -> float | None:
    found = {"minutes": point.minutes, "updates": point.update, "sentences": point.sentences}[axis]
    return None if found is None else float(found)


def _placed(points: Sequence[CurvePoint], axis: Axis) -> list[tuple[float, CurvePoint]]:
    """The points whose place on the axis is known, with that place."""
    return [(place, point) for point in points if (place := _along(point, axis)) is not None]


def _validations(seeds: Sequence[Sequence[CurvePoint]], axis: Axis) -> list[_Validation]:
    """Of the seeds that have any."""
    shown = [placed for points in seeds if (placed := _placed(points, axis))]
    if not shown:
        return []
    each = [*zip(*(points[:-1] for points in shown), strict=False), tuple(points[-1] for points in shown)]
    return [
        _Validation(
            mean(place for place, _ in together),
            mean(point.update for _, point in together),
            mean(point.minutes for _, point in together),
            mean(point.bleu for _, point in together),
            min(point.bleu for _, point in together),
            max(point.bleu for _, point in together),
            len(together),
        )
        for together in each
    ]


def _summary(curves: Curves, axis: Axis) -> str:
    """Say in words what the picture shows, for those who cannot see it."""
    sentences = []
    for name, seeds in curves:
        if found := _validations(seeds, axis):
            of = f", mean of {found[0].seeds} seeds" if found[0].seeds > 1 else ""
            sentences.append(
                f"{name}{of}: from {found[0].bleu:.2f} to {found[-1].bleu:.2f} after {found[-1].place:,.4g} {axis}, "
                f"best {max(one.bleu for one in found):.2f}."
            )
    return " ".join(sentences)


def _axes(frame: _Frame, axis: Axis) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    middle = (_LEFT + right) / 2
    return [
        '<g class="axes" aria-hidden="true">',
        *(
            f'<path class="grid" d="M{_LEFT} {frame.y(value)}H{right}"/>'
            f'<text x="{_LEFT - 8}" y="{frame.y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
            for value in _ticks(frame.y_low, frame.y_high, 5)
        ),
        *(
            f'<path class="tick" d="M{frame.x(value)} {bottom}v5"/>'
            f'<text x="{frame.x(value)}" y="{bottom + 19}" text-anchor="middle">{value:,.10g}</text>'
            for value in _ticks(0.0, frame.x_high, 7)
        ),
        f'<path class="base" d="M{_LEFT} {bottom}H{right}"/>',
        f'<text class="name" x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{axis}</text>',
        "</g>",
    ]


def _band(number: int, validations: Sequence[_Validation], frame: _Frame) -> str:
    """What lies between the worst and the best seed, if there are several."""
    if not validations or validations[0].seeds == 1:
        return ""
    edges = [(one.place, one.high) for one in validations] + [
        (one.place, one.low) for one in reversed(validations)
    ]
    points = " ".join(f"{frame.x(place)},{frame.y(bleu)}" for place, bleu in edges)
    return f'<g class="series-{number % _COLOURS}"><polygon class="band" points="{points}"/></g>'


def _curve(number: int, name: str, validations: Sequence[_Validation], frame: _Frame) -> list[str]:
    if not validations:
        return []
    places = [(frame.x(one.place), frame.y(one.bleu)) for one in validations]
    line = " ".join(f"{x},{y}" for x, y in places)
    parts = [f'<g class="series-{number % _COLOURS}"><polyline class="line" points="{line}"/></g>']
    every = math.ceil(len(validations) / _MARKED_POINTS)
    for index, (one, (x, y)) in enumerate(zip(validations, places, strict=True)):
        if index % every == 0 or index == len(validations) - 1:
            spread = f" ({one.low:.2f} to {one.high:.2f})" if one.low < one.high else ""
            words = f"{name}: {one.bleu:.2f} BLEU{spread} after {one.minutes:.1f} minutes, {one.update:,.0f} updates"
            parts.append(f"<g><title>{escape(words)}</title>{draw_marker(number, x, y)}</g>")
    return parts


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Return round numbers between two values, about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda candidate: abs(candidate - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(count * step, 10) for count in range(first, last + 1)]
