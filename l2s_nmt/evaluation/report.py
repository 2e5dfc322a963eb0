"""A comparison for people and scripts: on the terminal, and as files."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from l2s_nmt.evaluation.latex import render_latex
from l2s_nmt.evaluation.markdown import render_markdown
from l2s_nmt.evaluation.page import render_page
from l2s_nmt.evaluation.score import LABELS
from l2s_nmt.evaluation.texts import count_text, minutes_text, p_text, spread
from l2s_nmt.evaluation.types import Comparison, SystemResult
from l2s_nmt.files import write_json, write_text
from l2s_nmt.plain_text import visible


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write ``comparison.json``, ``.md``, ``.tex`` and the page ``comparison.html``, each whole or not."""
    write_json(directory / "comparison.json", comparison.to_json())
    texts = {
        "md": render_markdown(comparison),
        "tex": render_latex(comparison),
        "html": render_page(comparison),
    }
    for ending, text in texts.items():
        write_text(directory / f"comparison.{ending}", text)


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
    for first, second in _columns(comparison):
        table.add_column(Text.assemble(first, "\n", (second, "dim")), justify="right", no_wrap=True)
    for system in comparison.systems:
        table.add_row(_name(system), *_cells(system))
    return table


def _columns(comparison: Comparison) -> list[tuple[str, str]]:
    return [
        ("BLEU", "95 %"),
        ("BP", "length"),
        ("1/2-gram", "3/4-gram"),
        *((LABELS[name], "p") for name in comparison.metrics[1:]),
        ("p boot.", "p rand."),
        ("minutes", "updates"),
    ]


def _name(system: SystemResult) -> Text:
    seeds = len(system.runs)
    return Text.assemble(visible(system.name), (f"\n{seeds} seeds" if seeds > 1 else "", "dim"))


def _cells(system: SystemResult) -> list[Text]:
    first, second, third, fourth = (f"{precision:.1f}" for precision in system.precisions)
    bleu = system.bleu
    deviation = "" if bleu.deviation is None else f"±{bleu.deviation:.2f}"
    others = [result for name, result in system.metrics.items() if name != "bleu"]
    pairs = (
        (f"{bleu.score:.2f}{deviation}", spread(bleu.interval, 1)),
        (f"{system.brevity_penalty:.3f}", f"{system.length_ratio:.3f}"),
        (f"{first}/{second}", f"{third}/{fourth}"),
        *((f"{result.score:.2f}", p_text(result.deciding_p_value)) for result in others),
        (p_text(bleu.p_value), p_text(bleu.p_value_randomisation)),
        (minutes_text(system.minutes), count_text(system.updates)),
    )
    return [Text.assemble(upper, "\n", (lower, "dim")) for upper, lower in pairs]


def _title(comparison: Comparison) -> Text:
    splits = f"{visible(', '.join(comparison.splits))}: " if comparison.splits else ""
    against = f", p against {visible(comparison.baseline.name)}" if len(comparison.systems) > 1 else ""
    return Text(f"{splits}{comparison.sentences:,} sentences{against}")
