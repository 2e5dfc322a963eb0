"""A comparison for people and scripts: on the terminal, as JSON, as Markdown for a README, and as a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from l2s_nmt.evaluation.compare import Comparison, SystemResult
from l2s_nmt.evaluation.page import render_page
from l2s_nmt.evaluation.score import LABELS, METRICS
from l2s_nmt.evaluation.texts import (
    minutes_text,
    p_text,
    signed,
    signed_spread,
    spread,
    updates_text,
    verdict,
)
from l2s_nmt.files import write_text
from l2s_nmt.plain_text import visible


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write ``comparison.json``, ``comparison.md`` and the page ``comparison.html``, each whole or not."""
    values = json.dumps(comparison.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = {"json": values, "md": render_markdown(comparison), "html": render_page(comparison)}
    for ending, text in texts.items():
        write_text(directory / f"comparison.{ending}", text)


def render_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown: the scores, the tests against the first system, the signatures."""
    parts = [_markdown_table(_SCORES_HEADER, [_score_row(system) for system in comparison.systems])]
    sentences = f"{comparison.sentences:,} sentences"
    if comparison.splits:
        sentences += f" ({_plain(', '.join(comparison.splits))})"
    if len(comparison.systems) > 1:
        rows = [row for system in comparison.systems[1:] for row in _test_rows(system)]
        parts.append(f"Against {_plain(comparison.baseline.name)}:")
        parts.append(_markdown_table(_TESTS_HEADER, rows))
        sentences += (
            f"; paired bootstrap resampling with {comparison.resamples:,} resamples, approximate "
            f"randomisation with {comparison.trials:,} trials, seed {comparison.seed}"
        )
    parts.append(f"{sentences}. Intervals are 95 %; TER is better when lower.")
    parts.append("\n".join(f"- {LABELS[name]} `{text}`" for name, text in comparison.signatures.items()))
    return "\n\n".join(parts) + "\n"


_SCORES_HEADER = (
    "system", "BLEU", "95 % interval", "brevity penalty", "length ratio", "1/2/3/4-gram precision", "chrF",
    "TER", "p (bootstrap)", "p (randomisation)", "minutes", "updates",
)  # fmt: skip
_TESTS_HEADER = (
    "system", "metric", "difference", "95 % interval", "p (bootstrap)", "p (randomisation)", "verdict",
)  # fmt: skip


def _score_row(system: SystemResult) -> tuple[str, ...]:
    return (
        _plain(system.name),
        f"{system.bleu.score:.2f}",
        spread(system.bleu.interval),
        f"{system.brevity_penalty:.3f}",
        f"{system.length_ratio:.3f}",
        "/".join(f"{precision:.1f}" for precision in system.precisions),
        f"{system.chrf.score:.2f}",
        f"{system.ter.score:.2f}",
        p_text(system.bleu.p_value),
        p_text(system.bleu.p_value_randomisation),
        minutes_text(system.minutes),
        updates_text(system.updates),
    )


def _test_rows(system: SystemResult) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for metric in METRICS:
        result = system.metric(metric)
        if result.difference is not None and result.difference_interval is not None:
            rows.append(
                (
                    _plain(system.name),
                    LABELS[metric],
                    signed(result.difference),
                    signed_spread(result.difference_interval),
                    p_text(result.p_value),
                    p_text(result.p_value_randomisation),
                    verdict(metric, result),
                )
            )
    return rows


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Write foreign text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", visible(text))


def render_terminal(comparison: Comparison) -> Table:
    """Return the comparison as a table for the terminal: a cell's second, dim line qualifies its first."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=_title(comparison),
        title_justify="left",
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("system", overflow="fold", min_width=8)
    for first, second in _TERMINAL_COLUMNS:
        table.add_column(Text.assemble(first, "\n", (second, "dim")), justify="right", no_wrap=True)
    for system in comparison.systems:
        table.add_row(Text(visible(system.name)), *_terminal_cells(system))
    return table


_TERMINAL_COLUMNS = (
    ("BLEU", "95 %"),
    ("BP", "length"),
    ("1/2-gram", "3/4-gram"),
    ("chrF", "p"),
    ("TER", "p"),
    ("p boot.", "p rand."),
    ("minutes", "updates"),
)


def _terminal_cells(system: SystemResult) -> list[Text]:
    first, second, third, fourth = (f"{precision:.1f}" for precision in system.precisions)
    pairs = (
        (f"{system.bleu.score:.2f}", spread(system.bleu.interval, 1)),
        (f"{system.brevity_penalty:.3f}", f"{system.length_ratio:.3f}"),
        (f"{first}/{second}", f"{third}/{fourth}"),
        (f"{system.chrf.score:.2f}", p_text(system.chrf.p_value)),
        (f"{system.ter.score:.2f}", p_text(system.ter.p_value)),
        (p_text(system.bleu.p_value), p_text(system.bleu.p_value_randomisation)),
        (minutes_text(system.minutes), updates_text(system.updates)),
    )
    return [Text.assemble(upper, "\n", (lower, "dim")) for upper, lower in pairs]


def _title(comparison: Comparison) -> Text:
    splits = f"{visible(', '.join(comparison.splits))}: " if comparison.splits else ""
    against = f", p against {visible(comparison.baseline.name)}" if len(comparison.systems) > 1 else ""
    return Text(f"{splits}{comparison.sentences:,} sentences{against}")
