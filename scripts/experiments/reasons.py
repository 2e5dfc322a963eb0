"""Why a system is where it is: what its search saw in training, and where its words are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from l2s_nmt.evaluation.markdown import plain
from l2s_nmt.run import Run, read_metrics
from scripts.experiments.plan import Study

Values = dict[str, Any]

HEALTH = {
    "roll_in_cost": ("cost of the roll-ins", "{:.3f}"),
    "improvable": ("improvable states", "{:.0%}"),
    "advantage_where_improvable": ("gained there", "{:.3f}"),
    "cost_range": ("range of the costs", "{:.2f}"),
    "tie_rate": ("states with ties alone", "{:.1%}"),
    "entropy": ("entropy", "{:.2f}"),
    "length_ratio": ("length of the roll-ins", "{:.3f}"),
    "states_labelled": ("states looked at", "{:.0%}"),
}
"""Fields of metrics.jsonl, what the table calls them, and how it writes them."""
RANGES = ((1, 5), (6, 10), (11, 15), (16, 20))
"""Positions in the sentence."""


def health(study: Study) -> list[list[str]]:
    """A header, and a row for each system that searched; none if no system did.

    The figures are means over the whole training and the seeds.
    """
    rows = []
    for name, system in study.plan.systems.items():
        lines = list(_train_lines(study, name))
        if lines:
            rows.append([plain(system.label or name), *(_mean(lines, field) for field in HEALTH)])
    return [["system", *(title for title, _ in HEALTH.values())], *rows] if rows else []


def _train_lines(study: Study, name: str) -> Iterator[Values]:
    for seed in study.plan.seeds:
        for line in read_metrics(Run(study.results / name / f"seed{seed}")):
            if line["kind"] == "train" and "cost_range" in line:
                yield dict(line)


def _mean(lines: list[Values], field: str) -> str:
    values = [line[field] for line in lines if line.get(field) is not None]
    return HEALTH[field][1].format(sum(values) / len(values)) if values else ""


def frequency(comparison: Values) -> list[list[str]]:
    """A header, and precision and recall of each system's words by their frequency; none if that is not known."""
    first = comparison["systems"][0].get("by_word")  # which figures that were kept long ago lack
    if not first:
        return []
    header = ["system", *(f"{bucket['label']} ({bucket['words']:,} words)" for bucket in first)]
    rows = [
        [
            plain(system["name"]),
            *(f"{row['precision']:.1f} / {row['recall']:.1f}" for row in system["by_word"]),
        ]
        for system in comparison["systems"]
    ]
    return [header, *rows]


def exposure(comparison: Values) -> list[list[str]]:
    """A header, and how often each system's next token was right; none if that was not measured."""
    systems = [system for system in comparison["systems"] if system["exposure"]]
    if not systems:
        return []
    titles = [f"{first}–{last}" for first, last in RANGES]
    header = ["system", *(f"own, {title}" for title in titles), *(f"reference, {title}" for title in titles)]
    rows = [
        [plain(system["name"]), *_right(system["exposure"], "own"), *_right(system["exposure"], "reference")]
        for system in systems
    ]
    return [header, *rows]


def _right(ranges: list[Values], prefix: str) -> Iterator[str]:
    """The share of right tokens behind one kind of prefix, for each range of positions."""
    for first, last in RANGES:
        within = [row for row in ranges if first <= row["first"] and (row["last"] or last + 1) <= last]
        tokens = sum(row[prefix] for row in within)
        yield f"{sum(row[f'{prefix}_right'] for row in within) / tokens:.1%}" if tokens else ""
