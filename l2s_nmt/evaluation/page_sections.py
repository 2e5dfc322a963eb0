"""The lower half of the comparison page: curves, breakdowns, wins and losses."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from l2s_nmt.evaluation.curves import Axis, Curves, draw_curves, starts_below
from l2s_nmt.evaluation.differences import Side, around_words, word_differences
from l2s_nmt.evaluation.page_parts import html_table, name_of, section
from l2s_nmt.evaluation.tables import detail_tables
from l2s_nmt.evaluation.texts import html_text, isolated, signed
from l2s_nmt.evaluation.types import Comparison, Example, SystemResult
from l2s_nmt.plain_text import visible

_AXES: dict[Axis, str] = {
    "minutes": "wall-clock minutes of training",
    "updates": "updates",
    "sentences": "training sentences seen",
}


def curves_section(comparison: Comparison) -> str:
    """Validation BLEU over time, updates and sentences, one at a time; buttons choose, without a script."""
    curves = [(visible(system.name), [run.curve for run in system.runs]) for system in comparison.systems]
    if not any(points for _, seeds in curves for points in seeds):
        return ""
    keys = "".join(
        f"<li>{name_of(number, system)}</li>"
        for number, system in enumerate(comparison.systems)
        if any(run.curve for run in system.runs)
    )
    buttons = "".join(
        f'<input type="radio" name="axis" id="by-{axis}"{" checked" if axis == "minutes" else ""}>'
        f'<label for="by-{axis}">{axis}</label>'
        for axis in _AXES
    )
    figures = "".join(_figure(curves, axis) for axis in _AXES)
    below = starts_below(curves)
    note = (
        ""
        if below is None
        else f'<p class="note">The axes begin at {below:.1f} BLEU: earlier validations lie below.</p>'
    )
    return section(
        "Learning curves",
        f'<ul class="keys">{keys}</ul><fieldset class="axis"><legend>over</legend>{buttons}{figures}</fieldset>{note}',
    )


def _figure(curves: Curves, axis: Axis) -> str:
    caption = f"<figcaption>Validation BLEU over {_AXES[axis]}</figcaption>"
    return f'<figure class="of-{axis}">{draw_curves(curves, axis)}{caption}</figure>'


def details_section(comparison: Comparison) -> Iterator[str]:
    """The tables beyond scores and tests."""
    for table in detail_tables(comparison):
        rows = [
            (
                name_of(number, comparison.systems[number]),
                [[html_text(cell) if cell else "" for cell in line] for line in lines],
            )
            for number, lines in table.rows
        ]
        header = [
            escape(visible(name)).replace(" (", "<small> (") + "</small>" * (" (" in name)
            for name in table.header
        ]
        yield section(escape(table.title), html_table(table.key, escape(table.note), header, rows))


def examples_section(comparison: Comparison, number: int) -> str:
    """The largest wins and losses of a system, by its number."""
    baseline, system = comparison.baseline, comparison.systems[number]
    groups = (("Largest wins", system.wins, " open"), ("Largest losses", system.losses, ""))
    details = "".join(
        f"<details{is_open}><summary>{heading} <small>{len(examples)}</small></summary><ol>"
        + "".join(_example(comparison, system, example) for example in examples)
        + "</ol></details>"
        for heading, examples, is_open in groups
        if examples
    )
    seeds = " Of several seeds, the first." if max(len(baseline.runs), len(system.runs)) > 1 else ""
    note = (
        f'<p class="note">By the chrF of single sentences.{seeds} Words that only one of the two translations '
        "has are marked: <del>struck</del> in the baseline's, <ins>underlined</ins> in the system's.</p>"
    )
    return (
        f"<section><h2>{name_of(number, system)} against {html_text(baseline.name)}, sentence by sentence</h2>"
        f"{note}{details}</section>"
    )


def _example(comparison: Comparison, system: SystemResult, example: Example) -> str:
    source, target = comparison.languages or (None, None)
    lost, gained = mark_differences(example.baseline, example.system, target)
    lines = [("source", "Source", html_text(example.source, source))]
    lines.extend(("reference", "Reference", html_text(reference, target)) for reference in example.references)
    lines.append(
        ("", f"{html_text(comparison.baseline.name)} <small>{example.baseline_chrf:.1f}</small>", lost)
    )
    lines.append(("", f"{html_text(system.name)} <small>{example.system_chrf:.1f}</small>", gained))
    body = "".join(
        f'<div class="{kind}"><dt>{label}</dt><dd>{text}</dd></div>' for kind, label, text in lines
    )
    gain = signed(example.system_chrf - example.baseline_chrf)
    return f'<li><p class="which">Sentence {example.sentence:,} <b>{gain}</b> chrF</p><dl>{body}</dl></li>'


def mark_differences(baseline: str, system: str, language: str | None = None) -> tuple[str, str]:
    """Return two translations as HTML, the words that only one of them has in ``<del>`` and ``<ins>``."""
    first, second = word_differences(baseline, system)
    return _marked(first, "del", language), _marked(second, "ins", language)


def _marked(side: Side, tag: str, language: str | None) -> str:
    if not side:
        return '<em class="empty">empty</em>'

    def mark(words: str) -> str:
        return f"<{tag}>{escape(visible(words))}</{tag}>"

    shown = (around_words(words, mark) if differs else escape(visible(words)) for words, differs in side)
    return isolated("".join(shown), language)
