"""Tables and curves of a plan, from the figures that were kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.curves import Axis, CurvePoint, draw_curves, draw_marker
from l2s_nmt.evaluation.markdown import plain
from l2s_nmt.evaluation.texts import p_text, signed, signed_spread
from l2s_nmt.files import write_text
from scripts.experiments.plan import START, Study
from scripts.experiments.reasons import exposure, frequency, health
from scripts.experiments.results import comparison_path

_COLOURS = ("#2457c5", "#c2410c", "#0f766e", "#a21caf", "#4d7c0f", "#596475")
_LINE = 20
"""Height of a line of the legend."""

_WHILE_TRAINING = ("valid", 1)
"""On what, and with which beam, runs are validated."""

_EACH = (
    (
        "Exposure bias",
        "How often the next token is right after the model's own prefix and after the reference's, by position in the "
        "sentence.",
        exposure,
    ),
    (
        "Words by their frequency",
        "Precision / recall in percent of the words that occur so often in the target sentences of the training split "
        "(of all of it, where a system learned from a part).",
        frequency,
    ),
)
"""What each split and beam may have a table of: its heading, what it says, and its rows."""

Values = dict[str, Any]
Found = dict[tuple[str, int], Values]
"""Comparisons by split and beam."""


def draw(study: Study) -> None:
    """Write ``table.md`` and ``curves.svg`` beside the figures.

    Raises:
        UserError: there are no figures yet, or some are damaged.
    """
    found = read_figures(study)
    try:
        table, curves = _table_of(study, found), _curves(found, "minutes")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{study.results}: damaged figures ({error!r}); run the plan again") from error
    write_text(study.results / "table.md", table)
    write_text(study.results / "curves.svg", curves)


def _table_of(study: Study, found: Found) -> str:
    parts = [f"# {plain(study.plan.title)}", overview(found)]
    parts += [_details(split, beam, comparison) for (split, beam), comparison in found.items()]
    parts += _reasons(study, found)
    return "\n\n".join(parts) + "\n"


def read_figures(study: Study) -> Found:
    """The comparisons that were kept.

    Raises:
        UserError: there are none yet, or they are not of the same systems.
    """
    found: Found = {
        (split, beam): _read(study, split, beam) for beam in study.plan.beams for split in study.plan.splits
    }
    first, *others = ([system["name"] for system in comparison["systems"]] for comparison in found.values())
    if any(names != first for names in others):
        raise UserError(
            f"{study.results}: not all figures are of the same systems, so the plan was changed, or interrupted while "
            "it was compared; run it again"
        )
    return found


def _read(study: Study, split: str, beam: int) -> Values:
    path = comparison_path(study, split, beam)
    try:
        values: Values = json.loads(path.read_text(encoding="utf-8"))
        if not [system["name"] for system in values["systems"]]:
            raise ValueError("it holds no comparison")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no figures to draw; run the plan first") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}); run the plan again") from error
    return values


def overview(found: Found) -> str:
    """BLEU of everything, with the differences from the first system."""
    header = ["system", *(f"{split}, {_decoding(beam)}" for split, beam in found)]
    names = [system["name"] for system in next(iter(found.values()))["systems"]]
    rows = [
        [plain(name), *(_bleu(comparison["systems"][row]) for comparison in found.values())]
        for row, name in enumerate(names)
    ]
    return _table(header, rows)


def _decoding(beam: int) -> str:
    return "greedy" if beam == 1 else f"beam {beam}"


def _bleu(system: Values) -> str:
    text = _with_deviation(system, "bleu")
    if system["bleu_difference"] is None:
        return text
    return f"{text} ({signed(system['bleu_difference'])}, p {_p(system)})"


def _p(system: Values) -> str:
    p = system["p_value"] if system["over_seeds"] else system["p_value_randomisation"]
    return p_text(p).replace("<", "< ")


def _with_deviation(system: Values, metric: str) -> str:
    deviation = system[f"{metric}_deviation"]
    return f"{system[metric]:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def _details(split: str, beam: int, comparison: Values) -> str:
    """Everything that tells a longer translation from a better one."""
    header = ["system", "seeds", "BLEU", "difference", "95 % interval", "p", "length ratio", "brevity penalty",
              "1/2/3/4-gram precision", "chrF", "TER", "minutes", "updates", "roll-outs"]  # fmt: skip
    rows = [_row(system) for system in comparison["systems"]]
    signatures = "; ".join(f"{name} `{text}`" for name, text in comparison["signatures"].items())
    heading = f"## {split}, {_decoding(beam)}: {comparison['sentences']:,} sentences"
    return f"{heading}\n\n{_table(header, rows)}\n\n{signatures}."


def _reasons(study: Study, found: Found) -> list[str]:
    """What the searches saw, and exposure bias, where there are figures."""
    parts = []
    seen = health(study)
    if seen:
        parts.append(
            "## What the searches saw\n\nMeans over training (the README says what each is).\n\n"
            + _table(seen[0], seen[1:])
        )
    for heading, note, rows_of in _EACH:
        for (split, beam), comparison in found.items():
            rows = rows_of(comparison)
            if rows:
                title = f"## {heading}, {split}, {_decoding(beam)}"
                parts.append(f"{title}\n\n{note}\n\n{_table(rows[0], rows[1:])}")
    return parts


def _row(system: Values) -> list[str]:
    interval = system["bleu_difference_interval"]
    roll_outs = [run["expense"]["roll_outs"] or 0 for run in system["runs"]]
    return [
        plain(system["name"]),
        str(len(system["runs"])),
        _with_deviation(system, "bleu"),
        "" if interval is None else signed(system["bleu_difference"]),
        "" if interval is None else signed_spread(tuple(interval)),
        "" if interval is None else _p(system),
        f"{system['length_ratio']:.3f}",
        f"{system['brevity_penalty']:.3f}",
        "/".join(f"{precision:.1f}" for precision in system["precisions"]),
        _with_deviation(system, "chrf"),
        _with_deviation(system, "ter"),
        f"{system['minutes']:.1f}",
        f"{system['updates']:,}",
        f"{sum(roll_outs) / len(roll_outs):,.0f}",
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _curves(found: Found, axis: Axis) -> str:
    """Validation BLEU while training, as a picture that stands alone: from the start that all have in common."""
    comparison = next(iter(found.values()))
    start = [
        CurvePoint(0, 0.0, system["bleu"], sentences=0)
        for system in found.get(_WHILE_TRAINING, {"systems": []})["systems"]
        if system["name"] == START
    ]
    curves = [
        (system["name"], [start + [CurvePoint(**point) for point in run["curve"]] for run in system["runs"]])
        for system in comparison["systems"]
        if system["name"] != START  # whose minutes come before those of the others
    ]
    drawn = draw_curves(curves, axis)
    legend = [
        f'<g transform="translate(48,{_LINE * row})">{draw_marker(row)}'
        f'<text x="20" y="12">{escape(name)}</text></g>'
        for row, (name, _) in enumerate(curves)
    ]
    top = _LINE * len(curves) + 8
    colours = "".join(f".series-{row} {{ color: {colour} }} " for row, colour in enumerate(_COLOURS))
    style = (
        "text { font: 13px sans-serif; fill: #1d2129 } .line { fill: none; stroke: currentColor; stroke-width: 2 } "
        ".marker, .band { fill: currentColor } .band { opacity: .12 } "
        ".grid { stroke: #dfe2e7 } .base, .tick { stroke: #5b6472 } "
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {top + 320}">\n'
        f"<style>{style}{colours}</style>\n"
        f'<rect width="640" height="{top + 320}" fill="#ffffff"/>\n{"".join(legend)}\n'
        f'<svg y="{top}" width="640" height="320" viewBox="0 0 640 320">{drawn}</svg>\n</svg>\n'
    )
