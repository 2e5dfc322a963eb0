"""The figures as tables for a person and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scripts.bench.clock import Rounds, Spread, rates
from scripts.bench.plan import Plan
from scripts.bench.steps import Ratio, Steps

_SIGNS = {"higher": ">=", "lower": "<="}
_VERDICTS = {True: "met", False: "missed", None: ""}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def as_json(ratio: Ratio) -> dict[str, Any]:
    """One ratio."""
    return {**plain(asdict(ratio)), "met": ratio.met}


def plain(value: Any) -> Any:
    """A value with every spread as a mapping."""
    if isinstance(value, Spread):
        return asdict(value)
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def ratios(steps: Steps) -> str:
    """The ratios beside targets and limits, and the absolute figures."""
    rows = [["ratio", "median (range)", "target", "limit", ""]]
    for ratio in steps.ratios:
        target = "" if ratio.target is None else f"{_SIGNS[ratio.better]} {ratio.target:g}"
        rows.append([ratio.name, str(ratio.measured), target, f"{ratio.limit:.3g}", _VERDICTS[ratio.met]])
    absolute = [["absolute", "median (range)", "unit"]]
    for name, figures in steps.absolute.items():
        if name == "typical_update":
            continue
        flat = figures if "median" not in figures else {"": figures}
        for unit, value in flat.items():
            shown = str(Spread(**value)) if isinstance(value, dict) else f"{value:.3g}"
            absolute.append([name, shown, unit.replace("_", " ")])
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in _typical(steps).items())
    checks = "\n".join(f"{name.replace('_', ' ')}: {value:.3f}" for name, value in steps.checks.items())
    return "\n\n".join(
        [
            table(rows),
            table(absolute),
            f"typical update: {counts}\n\nto be near 1, or the rest means little:\n{checks}",
        ]
    )


def _typical(steps: Steps) -> dict[str, int]:
    found: dict[str, int] = steps.absolute["typical_update"]
    return found


def memory(peaks: dict[str, dict[str, float]], steps: Steps) -> dict[str, Any]:
    """Peaks in MiB, and those of a step above rest as multiples of teacher forcing's."""
    baseline = peaks["teacher_forcing"]
    return {
        name: {
            "mib": peak,
            "step_vs_teacher_forcing": peak["step"] / baseline["step"],
            "peak_vs_teacher_forcing": peak["peak"] / baseline["peak"],
            "arithmetic": steps.stored[name],
        }
        for name, peak in peaks.items()
    }


def memory_table(found: dict[str, Any]) -> str:
    """Peak memory of each step."""
    rows = [["memory", "peak MiB", "of it the step", "step / teacher forcing", "arithmetic"]]
    for name, figures in found.items():
        mib = figures["mib"]
        ratio, expected = figures["step_vs_teacher_forcing"], figures["arithmetic"]
        rows.append([name, f"{mib['peak']:.0f}", f"{mib['step']:.0f}", f"{ratio:.2f}", f"{expected:.2f}"])
    return table(rows)


def growth_table(lines: Sequence[dict[str, Any]]) -> str:
    """How a learned step grows."""
    rows = [["learned step", "ms", "times the first", "arithmetic", "excess"]]
    rows += [
        [
            f"{line['axis']} {line['value']:,}",
            f"{1e3 * line['seconds'].median:.3g}",
            str(line["growth"]),
            f"{line['arithmetic']:.3g}",
            f"{line['excess'].median:.2f}",
        ]
        for line in lines
    ]
    return table(rows)


def references(turns: Rounds, plan: Plan) -> dict[str, Any]:
    """Sentences a second whose costs are computed."""
    return {
        "tokens": plan.reference_length,
        "vocabulary": plan.reference_vocabulary,
        "sentences_per_second": {name: asdict(rates(found)) for name, found in turns.items()},
    }


def references_table(found: dict[str, Any]) -> str:
    """The closed forms."""
    head = f"closed form, {found['tokens']} tokens, vocabulary {found['vocabulary']:,}, all positions"
    rows = [[head, "sentences/s"]]
    names = {"edit_distance": "edit distance", "bleu": "best suffix under sentence BLEU"}
    for name, figures in found["sentences_per_second"].items():
        rows.append([names[name], str(Spread(**figures))])
    return table(rows)
