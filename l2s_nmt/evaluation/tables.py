"""The tables of a comparison as plain text, for every form in which it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l2s_nmt.evaluation.score import LABELS
from l2s_nmt.evaluation.texts import count_text, energy_text, minutes_text, signed
from l2s_nmt.evaluation.types import (
    Bucket,
    Comparison,
    Expense,
    ExposureRange,
    SystemResult,
    mean_known,
)


@dataclass(frozen=True)
class Table:
    """A table; its texts are not escaped."""

    key: str
    """Of letters, to refer to it."""
    title: str
    note: str
    """What the figures mean."""
    header: tuple[str, ...]
    """Of all columns but the first, which has the names of the systems."""
    rows: tuple[tuple[int, tuple[tuple[str, ...], ...]], ...]
    """The number of each system, and its lines."""


def detail_tables(comparison: Comparison) -> list[Table]:
    """What there is to be said beyond scores, tests and n-grams; a table is left out where nothing is known."""
    makers = (_seeds, _length, _frequency, _word, _position, _habits, _exposure, _expense)
    return [table for make in makers if (table := make(comparison)) is not None]


def _seeds(comparison: Comparison) -> Table | None:
    if all(len(system.runs) == 1 for system in comparison.systems):
        return None
    header = ("run", "seed", *(LABELS[name] for name in comparison.metrics), "minutes")
    return Table(
        "seeds",
        "Every seed",
        "Scores of single trainings; the deviations above are standard deviations over them.",
        header,
        tuple(
            (
                number,
                tuple(
                    (
                        run.name,
                        "" if run.seed is None else str(run.seed),
                        *(f"{run.scores[name]:.2f}" for name in comparison.metrics),
                        minutes_text(run.expense.minutes),
                    )
                    for run in system.runs
                ),
            )
            for number, system in enumerate(comparison.systems)
        ),
    )


def _length(comparison: Comparison) -> Table | None:
    return _buckets(
        comparison,
        "length",
        "By sentence length",
        "Groups by the words of the source; in parentheses the difference from the baseline. Small groups say little.",
        lambda system: system.by_length,
    )


def _frequency(comparison: Comparison) -> Table | None:
    return _buckets(
        comparison,
        "frequency",
        "By the rarest source word",
        "Groups by how often the rarest word of the source occurs in the training split of the first run's corpus (all "
        "of it, filters and folds aside); in parentheses the difference from the baseline.",
        lambda system: system.by_frequency,
    )


def _word(comparison: Comparison) -> Table | None:
    first = comparison.baseline.by_word
    if not first:
        return None

    def cells(system: SystemResult, share: str) -> tuple[str, ...]:
        own, theirs = ([getattr(bucket, share) for bucket in of] for of in (system.by_word, first))
        return (f"{share} %", *_with_differences(own, theirs, system is comparison.baseline))

    return Table(
        "word",
        "By the frequency of the target word",
        "Percentage of the words of the translations that the reference has, and of the reference's that the "
        "translations have, by how often the word occurs in the target sentences of the training split of the first "
        "run's corpus (all of it, filters and folds aside); in parentheses the difference from the baseline.",
        ("", *(f"{bucket.label} ({bucket.words:,} words)" for bucket in first)),
        tuple(
            (number, tuple(cells(system, share) for share in ("precision", "recall")))
            for number, system in enumerate(comparison.systems)
        ),
    )


def _buckets(
    comparison: Comparison, key: str, title: str, note: str, of: Callable[[SystemResult], Sequence[Bucket]]
) -> Table | None:
    first = of(comparison.baseline)
    if not first:
        return None

    def cells(system: SystemResult, metric: str) -> tuple[str, ...]:
        scores = [bucket.bleu if metric == "BLEU" else bucket.chrf for bucket in of(system)]
        theirs = [bucket.bleu if metric == "BLEU" else bucket.chrf for bucket in first]
        return (metric, *_with_differences(scores, theirs, system is comparison.baseline))

    return Table(
        key,
        title,
        note,
        ("metric", *(f"{bucket.label} ({bucket.sentences:,} sentences)" for bucket in first)),
        tuple(
            (number, tuple(cells(system, metric) for metric in ("BLEU", "chrF")))
            for number, system in enumerate(comparison.systems)
        ),
    )


def _position(comparison: Comparison) -> Table | None:
    theirs = [bucket.precision for bucket in comparison.baseline.by_position]
    return Table(
        "position",
        "By position in the translation",
        "Percentage of the pairs of neighbouring words that a reference has (BLEU's 2-gram precision), by where in the "
        "translation they end; in parentheses the difference from the baseline.",
        tuple(bucket.label for bucket in comparison.baseline.by_position),
        tuple(
            (
                number,
                (
                    _with_differences(
                        [bucket.precision for bucket in system.by_position],
                        theirs,
                        system is comparison.baseline,
                    ),
                ),
            )
            for number, system in enumerate(comparison.systems)
        ),
    )


def _with_differences(scores: Sequence[float], theirs: Sequence[float], baseline: bool) -> tuple[str, ...]:
    return tuple(
        f"{score:.1f}" if baseline else f"{score:.1f} ({signed(score - other, 1)})"
        for score, other in zip(scores, theirs, strict=True)
    )


def _habits(comparison: Comparison) -> Table:
    return Table(
        "habits",
        "Length, repetition, empty translations",
        "Words against the references'; percentage of word pairs that repeat an earlier one of their sentence oftener "
        "than a reference does; percentage of empty translations.",
        ("length ratio", "repetition %", "empty %"),
        tuple(
            (
                number,
                (
                    (
                        f"{system.length_ratio:.3f}",
                        f"{100 * system.repetition:.2f}",
                        f"{100 * system.empty:.2f}",
                    ),
                ),
            )
            for number, system in enumerate(comparison.systems)
        ),
    )


def _exposure(comparison: Comparison) -> Table | None:
    measured = [(number, system.exposure) for number, system in enumerate(comparison.systems)]
    known = [(number, rows) for number, rows in measured if rows is not None]
    filled = [
        place
        for place, columns in enumerate(zip(*(rows for _, rows in known), strict=True))
        if any(row.own or row.reference for row in columns)
    ]
    if not filled:
        return None
    return Table(
        "exposure",
        "Exposure bias",
        "Percentage of next tokens that are right, by their position in the sentence: after the model's own greedy "
        "prefix those with which a best completion under edit distance goes on, after the reference's its next token.",
        ("prefix", *(_range(known[0][1][place]) for place in filled), "all"),
        tuple((number, _exposure_lines([rows[place] for place in filled])) for number, rows in known),
    )


def _range(row: ExposureRange) -> str:
    if row.last is None:
        return f"{row.first} on"
    return str(row.first) if row.first == row.last else f"{row.first}\u2013{row.last}"


def _exposure_lines(rows: Sequence[ExposureRange]) -> tuple[tuple[str, ...], ...]:
    own = [(row.own_right, row.own) for row in rows]
    reference = [(row.reference_right, row.reference) for row in rows]
    columns = list(zip([*own, _sum(own)], [*reference, _sum(reference)], strict=True))
    return (
        ("the model's own", *(_percentage(*mine) for mine, _ in columns)),
        ("the reference's", *(_percentage(*theirs) for _, theirs in columns)),
        ("difference", *(_gap(mine, theirs) for mine, theirs in columns)),
    )


def _sum(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(right for right, _ in pairs), sum(count for _, count in pairs)


def _percentage(right: int, count: int) -> str:
    return f"{100 * right / count:.1f}" if count else ""


def _gap(own: tuple[int, int], reference: tuple[int, int]) -> str:
    if not own[1] or not reference[1]:
        return ""
    return signed(100 * (own[0] / own[1] - reference[0] / reference[1]), 1)


def _expense(comparison: Comparison) -> Table | None:
    nothing = Expense()
    if all(run.expense == nothing for system in comparison.systems for run in system.runs):
        return None
    return Table(
        "cost",
        "What a training cost",
        "Means over the seeds, without what a run started from; energy of all processors and GPUs that tell it, "
        "whoever used them.",
        ("minutes", "updates", "sentences", "roll-outs", "watt-hours", "hardware"),
        tuple((number, (_expense_cells(system),)) for number, system in enumerate(comparison.systems)),
    )


def _expense_cells(system: SystemResult) -> tuple[str, ...]:
    spent = [run.expense for run in system.runs]
    hardware = dict.fromkeys(row.hardware for row in spent if row.hardware)
    return (
        minutes_text(mean_known([row.minutes for row in spent])),
        count_text(mean_known([row.updates for row in spent])),
        count_text(mean_known([row.sentences for row in spent])),
        count_text(mean_known([row.roll_outs for row in spent])),
        energy_text(mean_known([row.joules for row in spent])),
        "; ".join(hardware),
    )
