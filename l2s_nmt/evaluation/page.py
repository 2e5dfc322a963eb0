"""The comparison as one HTML page: no script, no network, light and dark, readable by screen readers."""

from __future__ import annotations

from html import escape

from l2s_nmt.evaluation.curves import draw_interval
from l2s_nmt.evaluation.page_parts import html_table, name_of, section
from l2s_nmt.evaluation.page_sections import curves_section, details_section, examples_section
from l2s_nmt.evaluation.score import LABELS
from l2s_nmt.evaluation.style import STYLE
from l2s_nmt.evaluation.texts import (
    count_text,
    decoding_text,
    html_text,
    minutes_text,
    p_text,
    signed,
    signed_spread,
    spread,
    verdict,
)
from l2s_nmt.evaluation.types import Comparison, MetricResult, SystemResult
from l2s_nmt.plain_text import visible


def render_page(comparison: Comparison) -> str:
    """Return the whole page; every text that comes from a corpus, a model or a file name is escaped."""
    sections = [
        _scores(comparison),
        _tests(comparison),
        _composition(comparison),
        curves_section(comparison),
        *details_section(comparison),
    ]
    sections.extend(
        examples_section(comparison, number)
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


def _head(comparison: Comparison) -> str:
    count = len(comparison.systems)
    heading = "One system" if count == 1 else f"{count} systems on the same sentences"
    of = f" of {html_text(', '.join(comparison.splits))}" if comparison.splits else ""
    against = f", against {html_text(comparison.baseline.name)}" if count > 1 else ""
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
            f"{judgement} <span>(p {_p_words(result.deciding_p_value)})</span></p>"
        )
    return (
        f'<li class="card"><h2>{name_of(number, system)}</h2>'
        f'<p class="score">{result.score:.2f} <span>BLEU{_seeds(system)}</span></p>{change}</li>'
    )


def _seeds(system: SystemResult) -> str:
    deviation = system.bleu.deviation
    return "" if deviation is None else f" ± {deviation:.2f}, {len(system.runs)} seeds"


def _p_words(p_value: float | None) -> str:
    text = p_text(p_value)
    return escape(text.replace("<", "< ") if text.startswith("<") else f"= {text}")


def _scores(comparison: Comparison) -> str:
    results = [system.bleu for system in comparison.systems]
    scale = (min(result.interval[0] for result in results), max(result.interval[1] for result in results))
    rows = []
    for number, system in enumerate(comparison.systems):
        cells = [_scored(system.bleu, draw_interval(number, system.bleu.score, system.bleu.interval, scale))]
        cells.extend(_scored(system.metrics[metric]) for metric in comparison.metrics[1:])
        cells += [minutes_text(system.minutes), count_text(system.updates)]
        rows.append((name_of(number, system), [cells]))
    arrows = [f"{LABELS[name]} {'↓' if name == 'ter' else '↑'}" for name in comparison.metrics]
    header = [*arrows, "Minutes", "Updates"]
    return section(
        "Scores", html_table("scores", "Scores with their 95 % confidence intervals", header, rows)
    )


def _scored(result: MetricResult, picture: str = "") -> str:
    deviation = "" if result.deviation is None else f" ± {result.deviation:.2f}"
    return f"{picture}<b>{result.score:.2f}</b>{deviation}<small>{spread(result.interval)}</small>"


def _tests(comparison: Comparison) -> str:
    rows = [
        (name_of(number, system), [_test(metric, system.metrics[metric]) for metric in comparison.metrics])
        for number, system in enumerate(comparison.systems)
        if system is not comparison.baseline
    ]
    if not rows:
        return ""
    header = ["Metric", "Difference", "p, bootstrap", "p, randomisation", "Verdict"]
    caption = f"Differences from {html_text(comparison.baseline.name)}, their 95 % intervals and p-values"
    note = (
        "A verdict is given where a two-sided test gives p &lt; 0.05: approximate randomisation or, with several "
        "seeds, the t test over seeds and sentences that then stands under bootstrap. The bootstrap of a single seed, "
        "as sacrebleu defines it, counts about one of the two tails, so its p is the smaller one. "
        "Every difference is tested by itself: of twenty without substance, one looks clear."
    )
    return section(
        "Could it be luck?", html_table("tests", caption, header, rows) + f'<p class="note">{note}</p>'
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
            name_of(number, system),
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
    return section("What BLEU is made of", html_table("composition", caption, header, rows))


def _method(comparison: Comparison) -> str:
    signatures = "".join(
        f"<dt>{LABELS[name]}</dt><dd><code>{escape(visible(signature))}</code></dd>"
        for name, signature in comparison.signatures.items()
    )
    return (
        "<footer><h2>How this was measured</h2>"
        "<p>Scores by sacrebleu (Post 2018). Intervals and bootstrap p-values from "
        f"{comparison.resamples:,} paired resamples of the sentences (Koehn 2004); approximate randomisation "
        f"with {comparison.trials:,} shuffles (Riezler &amp; Maxwell 2005); seed {comparison.seed}."
        f"{_decoding_method(comparison)}"
        f"{_seeds_method(comparison)}</p>"
        f'<dl class="signatures">{signatures}</dl></footer>'
    )


def _decoding_method(comparison: Comparison) -> str:
    decoding = decoding_text(comparison)
    return f" Decoded with {html_text(decoding)}." if decoding else ""


def _seeds_method(comparison: Comparison) -> str:
    if all(len(system.runs) == 1 for system in comparison.systems):
        return ""
    return (
        " Scores of several seeds are their means ± standard deviation. Their intervals and p-values come from "
        "resampling seeds and sentences (Owen 2007), one seed fewer than there are (Rao &amp; Wu 1988), by Student's t "
        "with the seeds' share of the variance (Cochran &amp; Cox 1950); approximate randomisation deals the "
        "translations of all seeds anew (Clark et al. 2011) and is about these models alone."
    )
