"""The comparison as one HTML page: no script, no network, light and dark, readable by screen readers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from html import escape

from l2s_nmt.evaluation.compare import Comparison, Example, MetricResult, SystemResult
from l2s_nmt.evaluation.curves import Axis, CurvePoint, draw_curves, draw_interval, draw_marker, starts_below
from l2s_nmt.evaluation.score import LABELS, METRICS
from l2s_nmt.evaluation.style import STYLE
from l2s_nmt.evaluation.texts import (
    minutes_text,
    p_text,
    signed,
    signed_spread,
    spread,
    updates_text,
    verdict,
)
from l2s_nmt.plain_text import visible


def render_page(comparison: Comparison) -> str:
    """Return the whole page; every text that comes from a corpus, a model or a file name is escaped."""
    sections = [_scores(comparison), _tests(comparison), _composition(comparison), _curves(comparison)]
    sections.extend(
        _examples(comparison.baseline, number, system)
        for number, system in enumerate(comparison.systems)
        if system.wins or system.losses
    )
    title = " · ".join(visible(system.name) for system in comparison.systems)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style></head><body>",
            _head(comparison),
            "<main>",
            *sections,
            "</main>",
            _method(comparison),
            "</body></html>\n",
        ]
    )


def _text(text: str) -> str:
    """Escape foreign text and keep its writing direction to itself."""
    return f'<bdi dir="auto">{escape(visible(text))}</bdi>'


def _name(number: int, system: SystemResult) -> str:
    marker = f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{draw_marker(number)}</svg>'
    return marker + _text(system.name)


def _head(comparison: Comparison) -> str:
    count = len(comparison.systems)
    heading = "One system" if count == 1 else f"{count} systems on the same sentences"
    of = f" of {_text(', '.join(comparison.splits))}" if comparison.splits else ""
    against = f", against {_text(comparison.baseline.name)}" if count > 1 else ""
    cards = "".join(_card(number, system) for number, system in enumerate(comparison.systems))
    return (
        f'<header><h1>{heading}</h1><p class="lead">{comparison.sentences:,} sentences{of}{against}</p>'
        f'<ul class="cards">{cards}</ul></header>'
    )


def _card(number: int, system: SystemResult) -> str:
    result, judgement = system.bleu, verdict("bleu", system.bleu)
    if result.difference is None:
        change = '<p class="change">baseline</p>'
    else:
        change = (
            f'<p class="change {judgement.split()[0]}"><strong>{signed(result.difference)}</strong> '
            f"{judgement} <span>(p {_p_words(result.p_value_randomisation)})</span></p>"
        )
    return (
        f'<li class="card"><h2>{_name(number, system)}</h2>'
        f'<p class="score">{result.score:.2f} <span>BLEU</span></p>{change}</li>'
    )


def _p_words(p_value: float | None) -> str:
    text = p_text(p_value)
    return escape(text.replace("<", "< ") if text.startswith("<") else f"= {text}")


def _scores(comparison: Comparison) -> str:
    results = [system.bleu for system in comparison.systems]
    scale = (min(result.interval[0] for result in results), max(result.interval[1] for result in results))
    rows = []
    for number, system in enumerate(comparison.systems):
        cells = [_scored(system.bleu, draw_interval(number, system.bleu.score, system.bleu.interval, scale))]
        cells.extend(_scored(system.metric(metric)) for metric in METRICS[1:])
        cells += [minutes_text(system.minutes), updates_text(system.updates)]
        rows.append((_name(number, system), [cells]))
    header = ["BLEU ↑", "chrF ↑", "TER ↓", "Minutes", "Updates"]
    return _section("Scores", _table("scores", "Scores with their 95 % confidence intervals", header, rows))


def _scored(result: MetricResult, picture: str = "") -> str:
    return f"{picture}<b>{result.score:.2f}</b><small>{spread(result.interval)}</small>"


def _tests(comparison: Comparison) -> str:
    rows = [
        (_name(number, system), [_test(metric, system.metric(metric)) for metric in METRICS])
        for number, system in enumerate(comparison.systems)
        if system is not comparison.baseline
    ]
    if not rows:
        return ""
    header = ["Metric", "Difference", "p, bootstrap", "p, randomisation", "Verdict"]
    caption = f"Differences from {_text(comparison.baseline.name)}, their 95 % intervals and p-values"
    note = (
        "A verdict is given where approximate randomisation, which is two-sided, gives p &lt; 0.05. "
        "Every difference is tested by itself: of twenty without substance, one looks clear."
    )
    return _section(
        "Could it be luck?", _table("tests", caption, header, rows) + f'<p class="note">{note}</p>'
    )


def _test(metric: str, result: MetricResult) -> list[str]:
    assert result.difference is not None, "only the baseline is not tested"
    assert result.difference_interval is not None, "only the baseline is not tested"
    judgement = verdict(metric, result)
    return [
        LABELS[metric],
        f"<b>{signed(result.difference)}</b><small>{signed_spread(result.difference_interval)}</small>",
        escape(p_text(result.p_value)),
        escape(p_text(result.p_value_randomisation)),
        f'<span class="verdict {judgement.split()[0]}">{judgement}</span>',
    ]


def _composition(comparison: Comparison) -> str:
    rows = [
        (
            _name(number, system),
            [
                [
                    f"{system.brevity_penalty:.3f}",
                    f"{system.length_ratio:.3f}",
                    *(f"{precision:.1f}" for precision in system.precisions),
                ]
            ],
        )
        for number, system in enumerate(comparison.systems)
    ]
    header = ["Brevity penalty", "Length ratio", "1-grams", "2-grams", "3-grams", "4-grams"]
    caption = "Brevity penalty, length against the references, and n-gram precisions in percent"
    return _section("What BLEU is made of", _table("composition", caption, header, rows))


def _table(key: str, caption: str, header: Sequence[str], rows: Sequence[tuple[str, list[list[str]]]]) -> str:
    """Lay out a table from HTML: its id, its caption, and for each system its name and one or more lines."""
    columns = "".join(f'<th scope="col">{name}</th>' for name in ("System", *header))
    groups = []
    for head, lines in rows:
        span = f' scope="rowgroup" rowspan="{len(lines)}"' if len(lines) > 1 else ' scope="row"'
        cells = "</tr><tr>".join("".join(f"<td>{cell}</td>" for cell in line) for line in lines)
        groups.append(f"<tbody><tr><th{span}>{head}</th>{cells}</tr></tbody>")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{key}">'
        f'<table><caption id="{key}">{caption}</caption>'
        f"<thead><tr>{columns}</tr></thead>{''.join(groups)}</table></div>"
    )


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{heading}</h2>{content}</section>"


def _curves(comparison: Comparison) -> str:
    curves = [(visible(system.name), system.curve) for system in comparison.systems]
    if not any(points for _, points in curves):
        return ""
    keys = "".join(
        f"<li>{_name(number, system)}</li>"
        for number, system in enumerate(comparison.systems)
        if system.curve
    )
    figures = "".join(_figure(curves, axis) for axis in ("minutes", "updates"))
    below = starts_below(curves)
    note = (
        ""
        if below is None
        else f'<p class="note">The axes begin at {below:.1f} BLEU: earlier validations lie below.</p>'
    )
    return _section(
        "Learning curves", f'<ul class="keys">{keys}</ul><div class="figures">{figures}</div>{note}'
    )


def _figure(curves: Sequence[tuple[str, Sequence[CurvePoint]]], axis: Axis) -> str:
    words = {"minutes": "wall-clock minutes of training", "updates": "updates"}[axis]
    return (
        f"<figure>{draw_curves(curves, axis)}<figcaption>Validation BLEU over {words}</figcaption></figure>"
    )


def _examples(baseline: SystemResult, number: int, system: SystemResult) -> str:
    groups = (("Largest wins", system.wins, " open"), ("Largest losses", system.losses, ""))
    details = "".join(
        f"<details{is_open}><summary>{heading} <small>{len(examples)}</small></summary><ol>"
        + "".join(_example(baseline, system, example) for example in examples)
        + "</ol></details>"
        for heading, examples, is_open in groups
        if examples
    )
    note = (
        '<p class="note">By the chrF of single sentences. Words that only one of the two translations '
        "has are marked: <del>struck</del> in the baseline's, <ins>underlined</ins> in the system's.</p>"
    )
    return (
        f"<section><h2>{_name(number, system)} against {_text(baseline.name)}, sentence by sentence</h2>"
        f"{note}{details}</section>"
    )


def _example(baseline: SystemResult, system: SystemResult, example: Example) -> str:
    lost, gained = mark_differences(example.baseline, example.system)
    lines = [("source", "Source", _text(example.source))]
    lines.extend(("reference", "Reference", _text(reference)) for reference in example.references)
    lines.append(("", f"{_text(baseline.name)} <small>{example.baseline_chrf:.1f}</small>", lost))
    lines.append(("", f"{_text(system.name)} <small>{example.system_chrf:.1f}</small>", gained))
    body = "".join(
        f'<div class="{kind}"><dt>{label}</dt><dd>{text}</dd></div>' for kind, label, text in lines
    )
    gain = signed(example.system_chrf - example.baseline_chrf)
    return f'<li><p class="which">Sentence {example.sentence:,} <b>{gain}</b> chrF</p><dl>{body}</dl></li>'


def mark_differences(baseline: str, system: str) -> tuple[str, str]:
    """Return two translations as HTML, the words that only one of them has in ``<del>`` and ``<ins>``."""
    first, second = baseline.split(), system.split()
    matcher = difflib.SequenceMatcher(a=first, b=second, autojunk=False)
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, start, stop, other_start, other_stop in matcher.get_opcodes():
        for side, words, tag in (
            (sides[0], first[start:stop], "del"),
            (sides[1], second[other_start:other_stop], "ins"),
        ):
            if words:
                text = escape(visible(" ".join(words)))
                side.append(text if kind == "equal" else f"<{tag}>{text}</{tag}>")
    empty = '<em class="empty">empty</em>'
    marked = [f'<bdi dir="auto">{" ".join(side)}</bdi>' if side else empty for side in sides]
    return marked[0], marked[1]


def _method(comparison: Comparison) -> str:
    signatures = "".join(
        f"<dt>{LABELS[name]}</dt><dd><code>{escape(signature)}</code></dd>"
        for name, signature in comparison.signatures.items()
    )
    return (
        "<footer><h2>How this was measured</h2>"
        "<p>Scores by sacrebleu (Post 2018). Intervals and bootstrap p-values from "
        f"{comparison.resamples:,} paired resamples of the sentences (Koehn 2004); approximate randomisation "
        f"with {comparison.trials:,} shuffles (Riezler &amp; Maxwell 2005); seed {comparison.seed}.</p>"
        f'<dl class="signatures">{signatures}</dl></footer>'
    )
