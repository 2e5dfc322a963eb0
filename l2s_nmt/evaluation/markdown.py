"""The comparison as Markdown, for a README."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from l2s_nmt.evaluation.differences import around_words, word_differences
from l2s_nmt.evaluation.score import LABELS
from l2s_nmt.evaluation.tables import Table, detail_tables
from l2s_nmt.evaluation.texts import (
    count_text,
    decoding_text,
    minutes_text,
    p_text,
    scored,
    signed,
    signed_spread,
    spread,
    verdict,
)
from l2s_nmt.evaluation.types import Comparison, Example, SystemResult
from l2s_nmt.plain_text import visible

EXAMPLES = 3
"""Wins and losses of each system that are shown."""

_TESTS_HEADER = (
    "system", "metric", "difference", "95 % interval", "p (bootstrap)", "p (randomisation)", "verdict",
)  # fmt: skip


def render_markdown(comparison: Comparison) -> str:
    """Return scores, tests against the first system, signatures, breakdowns, and the largest wins and losses."""
    parts = [_table(_scores_header(comparison), [_score_row(system) for system in comparison.systems])]
    if len(comparison.systems) > 1:
        rows = [row for system in comparison.systems[1:] for row in _test_rows(system)]
        parts.append(f"Against {plain(comparison.baseline.name)}:")
        parts.append(_table(_TESTS_HEADER, rows))
    parts.append(_method(comparison))
    parts.append(
        "\n".join(f"- {LABELS[name]} `{_code(text)}`" for name, text in comparison.signatures.items())
    )
    parts.extend(_detail(comparison, table) for table in detail_tables(comparison))
    parts.extend(part for system in comparison.systems for part in _examples(comparison.baseline, system))
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Write foreign text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", visible(text))


def _bold(text: str) -> str:
    return f"**{plain(text)}**"


def _code(text: str) -> str:
    """For a place between backquotes."""
    return visible(text).replace("`", "'")


def _method(comparison: Comparison) -> str:
    text = f"{comparison.sentences:,} sentences"
    if comparison.splits:
        text += f" ({plain(', '.join(comparison.splits))})"
    if decoding := decoding_text(comparison):
        text += f"; decoded with {plain(decoding)}"
    if len(comparison.systems) > 1:
        text += (
            f"; paired bootstrap resampling with {comparison.resamples:,} resamples, approximate "
            f"randomisation with {comparison.trials:,} trials, seed {comparison.seed}"
        )
    if any(len(system.runs) > 1 for system in comparison.systems):
        text += (
            "; with several seeds the bootstrap resamples seeds and sentences, and its p is that of a t test "
            "(`l2s_nmt/evaluation/seeds.py`)"
        )
    elif len(comparison.systems) > 1:
        text += (
            "; the bootstrap's p, as sacrebleu defines it, counts about one of the two tails, the other both"
        )
    return f"{text}. Intervals are 95 %; TER is better when lower."


def _scores_header(comparison: Comparison) -> tuple[str, ...]:
    return (
        "system", "seeds", "BLEU", "95 % interval", "brevity penalty", "length ratio", "1/2/3/4-gram precision",
        *(LABELS[name] for name in comparison.metrics[1:]), "p (bootstrap)", "p (randomisation)", "minutes", "updates",
    )  # fmt: skip


def _score_row(system: SystemResult) -> tuple[str, ...]:
    return (
        plain(system.name),
        str(len(system.runs)),
        scored(system.bleu),
        spread(system.bleu.interval),
        f"{system.brevity_penalty:.3f}",
        f"{system.length_ratio:.3f}",
        "/".join(f"{precision:.1f}" for precision in system.precisions),
        *(scored(result) for name, result in system.metrics.items() if name != "bleu"),
        p_text(system.bleu.p_value),
        p_text(system.bleu.p_value_randomisation),
        minutes_text(system.minutes),
        count_text(system.updates),
    )


def _test_rows(system: SystemResult) -> Iterator[tuple[str, ...]]:
    for metric, result in system.metrics.items():
        if result.difference is not None and result.difference_interval is not None:
            yield (
                plain(system.name),
                LABELS[metric],
                signed(result.difference),
                signed_spread(result.difference_interval),
                p_text(result.p_value),
                p_text(result.p_value_randomisation),
                verdict(metric, result),
            )


def _detail(comparison: Comparison, table: Table) -> str:
    rows = [
        (plain(comparison.systems[number].name), *map(plain, line))
        for number, lines in table.rows
        for line in lines
    ]
    return f"## {table.title}\n\n{table.note}\n\n{_table(('system', *map(plain, table.header)), rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _examples(baseline: SystemResult, system: SystemResult) -> Iterator[str]:
    for heading, examples in (("Largest wins", system.wins), ("Largest losses", system.losses)):
        if examples:
            shown = "\n".join(_example(baseline, system, example) for example in examples[:EXAMPLES])
            yield f"## {heading} of {plain(system.name)}\n\n{shown}"


def _example(baseline: SystemResult, system: SystemResult, example: Example) -> str:
    mine, other = (
        "".join(around_words(words, _bold if differs else plain) for words, differs in side)
        for side in word_differences(example.baseline, example.system)
    )
    lines = [
        f"- Sentence {example.sentence:,}, {signed(example.system_chrf - example.baseline_chrf)} chrF",
        f"  - source: {plain(example.source)}",
        *(f"  - reference: {plain(reference)}" for reference in example.references),
        f"  - {plain(baseline.name)}: {mine or '(empty)'}",
        f"  - {plain(system.name)}: {other or '(empty)'}",
    ]
    return "\n".join(lines)
