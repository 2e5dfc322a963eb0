"""Compare systems on the same sentences: scores, intervals, significance, breakdowns, the largest wins and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation import breakdown
from l2s_nmt.evaluation.comet import LearnedScores, MeanMetric
from l2s_nmt.evaluation.score import check_aligned, new_metrics
from l2s_nmt.evaluation.seeds import belong_together, draw_seeds, estimate, randomisation_over_seeds
from l2s_nmt.evaluation.significance import (
    RESAMPLES,
    SEED,
    TRIALS,
    Floats,
    bootstrap_p_value,
    bootstrap_scores,
    interval,
    randomisation_p_value,
    score_of_sum,
    score_sums,
    sentence_statistics,
)
from l2s_nmt.evaluation.types import (
    Comparison,
    Example,
    ExposureRange,
    MetricResult,
    Replicate,
    ReplicateResult,
    Seeds,
    System,
    SystemResult,
    TrainingWords,
    add_ranges,
)
from l2s_nmt.evaluation.word_accuracy import by_word
from l2s_nmt.languages import BleuTokenizer


@dataclass(frozen=True)
class _Draws:
    """The random part of the tests."""

    resamples: int
    trials: int
    seed: int


@dataclass(frozen=True)
class _Scored:
    """One system under one metric."""

    rows: list[Floats]
    """The statistics of each seed, (sentences, statistics)."""
    scores: Floats
    """(seeds,) corpus scores."""
    resampled: Floats
    """(resamples,) means over the seeds, on resampled sentences and seeds."""
    seeds: Seeds | None


def compare(
    systems: Sequence[System],
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    splits: Sequence[str] = (),
    languages: tuple[str, str] | None = None,
    training_words: TrainingWords | None = None,
    learned: LearnedScores | None = None,
    bleu_tokenizer: BleuTokenizer = "13a",
    examples: int = 10,
    resamples: int = RESAMPLES,
    trials: int = TRIALS,
    seed: int = SEED,
) -> Comparison:
    """Compare systems with the first of them.

    Args:
        systems: one or more, under different names, each with one or several seeds.
        sources: the source sentences.
        references: for each sentence its one or more references.
        splits: the names of the sets that the sentences come from.
        languages: of sources and targets, as BCP 47 has them; None: not known.
        training_words: how often words occur in the training data; None: not known.
        learned: the scores of a learned metric, where there are any.
        bleu_tokenizer: what cuts text into BLEU's words.
        examples: how many of the largest wins and of the largest losses to keep for each system.
        resamples: of the bootstrap.
        trials: of the approximate randomisation.
        seed: of both.

    Raises:
        UserError: no systems or no sentences, two systems of one name, a sentence without a reference, or
            numbers of sentences that differ.
    """
    _check(systems, sources, references)
    metrics = new_metrics(bleu_tokenizer, references)
    statistics = {name: _statistics(metric, systems, references) for name, metric in metrics.items()}
    signatures = {name: str(metric.get_signature()) for name, metric in metrics.items()}
    if learned is not None:
        metrics["comet"], signatures["comet"] = MeanMetric(), learned.signature
        statistics["comet"] = [[MeanMetric.rows(run) for run in system] for system in learned.scores]
    draws = _Draws(resamples, trials, seed)
    scored = {name: _score(metric, systems, statistics[name], draws) for name, metric in metrics.items()}
    lengths = breakdown.by_length(sources)
    rarest = None if training_words is None else breakdown.by_frequency(sources, training_words.source)
    target_words = None if training_words is None else training_words.target

    def result(number: int, system: System) -> SystemResult:
        own = {name: rows[number] for name, rows in statistics.items()}
        runs = [run.hypotheses for run in system.replicates]
        bleu = [metrics["bleu"]._compute_score_from_stats(run.sum(axis=0)) for run in own["bleu"]]
        wins, losses = _examples(
            systems[0], system, sources, references, _sentence_chrf(metrics, statistics, 0),
            _sentence_chrf(metrics, statistics, number), examples,
        )  # fmt: skip
        return SystemResult(
            name=system.name,
            runs=_replicates(system, {name: found[number].scores for name, found in scored.items()}),
            metrics={
                name: _test(metrics[name], found[0], found[number], draws, baseline_itself=number == 0)
                for name, found in scored.items()
            },
            brevity_penalty=_mean([run.bp for run in bleu]),
            length_ratio=_mean([run.ratio for run in bleu]),
            precisions=tuple(_mean(column) for column in zip(*(run.precisions for run in bleu), strict=True)),
            repetition=breakdown.repetition(runs, references, _bleu_words(metrics)),
            empty=breakdown.empty(runs),
            by_length=breakdown.score_groups(lengths, metrics, own),
            by_frequency=() if rarest is None else breakdown.score_groups(rarest, metrics, own),
            by_word=() if target_words is None else by_word(runs, references, target_words),
            by_position=breakdown.by_position(runs, references, _bleu_words(metrics)),
            exposure=_exposure(system.replicates),
            wins=wins,
            losses=losses,
        )

    return Comparison(
        systems=tuple(result(number, system) for number, system in enumerate(systems)),
        splits=tuple(splits),
        sentences=len(references),
        signatures=signatures,
        resamples=resamples,
        trials=trials,
        seed=seed,
        languages=languages,
    )


def _check(systems: Sequence[System], sources: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not systems:
        raise UserError("nothing to compare: give at least one run or file of translations")
    refuse_equal_names([system.name for system in systems])
    first, *others = (run for system in systems for run in system.replicates)
    for run in others:
        if len(run.hypotheses) != len(first.hypotheses):
            raise UserError(
                f"{run.name} has {len(run.hypotheses)} translations, but {first.name} has "
                f"{len(first.hypotheses)}: both must translate the same sentences"
            )
    for what, count in (("references", len(references)), ("source sentences", len(sources))):
        if len(first.hypotheses) != count:
            raise UserError(
                f"{first.name} has {len(first.hypotheses)} translations, but there are {count} {what}: "
                "both must belong to the same sentences"
            )
    check_aligned(len(first.hypotheses), references)


def refuse_equal_names(names: Sequence[str]) -> None:
    """See that systems can be told apart.

    Raises:
        UserError: two are called alike.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two of the systems are called {name!r}: give them different names")


def _statistics(
    metric: Any, systems: Sequence[System], references: Sequence[Sequence[str]]
) -> list[list[Floats]]:
    """The statistics of each system's seeds, (sentences, statistics)."""
    # Systems that start from one model translate many sentences alike, and TER takes its time.
    known: dict[tuple[int, str], int] = {}
    places = [
        [
            [known.setdefault(pair, len(known)) for pair in enumerate(run.hypotheses)]
            for run in system.replicates
        ]
        for system in systems
    ]
    rows = sentence_statistics(
        metric, [text for _, text in known], [references[number] for number, _ in known]
    )
    return [[rows[of_run] for of_run in runs] for runs in places]


def _score(
    metric: Any, systems: Sequence[System], statistics: Sequence[list[Floats]], draws: _Draws
) -> list[_Scored]:
    """Score every system with one metric, on the sentences as they are and resampled."""
    every = [rows for runs in statistics for rows in runs]
    resampled = bootstrap_scores(metric, every, resamples=draws.resamples, seed=draws.seed)
    found, start = [], 0
    for number, (system, runs) in enumerate(zip(systems, statistics, strict=True)):
        stream = 0 if belong_together(systems[0].seeds, system.seeds) else number  # drawn with the baseline's
        weights = draw_seeds(len(runs), draws.resamples, draws.seed, stream)
        own = resampled[start : start + len(runs)]
        start += len(runs)
        scores = np.array([score_of_sum(metric, rows.sum(axis=0)) for rows in runs])
        found.append(_Scored(runs, scores, (weights * own).sum(axis=0), system.seeds))
    return found


def _test(
    metric: Any, baseline: _Scored, system: _Scored, draws: _Draws, *, baseline_itself: bool
) -> MetricResult:
    score = float(system.scores.mean())
    several = len(system.scores) > 1
    spread = float(system.scores.std(ddof=1)) if several else None
    own = (
        estimate(score, system.resampled, [system.scores]).interval if several else interval(system.resampled)
    )
    if baseline_itself:
        return MetricResult(score, own, deviation=spread)
    difference = score - float(baseline.scores.mean())
    differences = system.resampled - baseline.resampled
    between, p_value, shuffled = _against(metric, baseline, system, difference, differences, draws)
    return MetricResult(
        score=score,
        interval=own,
        difference=difference,
        difference_interval=between,
        p_value=p_value,
        p_value_randomisation=shuffled,
        deviation=spread,
        over_seeds=several or len(baseline.scores) > 1,
    )


def _against(
    metric: Any, baseline: _Scored, system: _Scored, difference: float, differences: Floats, draws: _Draws
) -> tuple[tuple[float, float], float, float]:
    """The interval of a difference, and its p-values from the bootstrap and from approximate randomisation."""
    if len(system.rows[0]) == 1:  # which resampling has nothing to say about
        return interval(differences), 1.0, 1.0
    if len(system.scores) == len(baseline.scores) == 1:
        shuffled = randomisation_p_value(
            metric, baseline.rows[0], system.rows[0], trials=draws.trials, seed=draws.seed
        )
        return interval(differences), bootstrap_p_value(difference, differences), shuffled
    if belong_together(baseline.seeds, system.seeds):
        drawn = [system.scores - baseline.scores]
    else:
        drawn = [scores for scores in (baseline.scores, system.scores) if len(scores) > 1]
    found = estimate(difference, differences, drawn)
    shuffled = randomisation_over_seeds(
        metric, baseline.rows, system.rows, trials=draws.trials, seed=draws.seed
    )
    return found.interval, found.p_value, shuffled


def _replicates(system: System, scores: Mapping[str, Floats]) -> tuple[ReplicateResult, ...]:
    return tuple(
        ReplicateResult(
            name=run.name,
            seed=run.seed,
            scores={name: float(values[number]) for name, values in scores.items()},
            expense=run.expense,
            curve=tuple(run.curve),
            decoding=run.decoding,
        )
        for number, run in enumerate(system.replicates)
    )


def _exposure(runs: Sequence[Replicate]) -> tuple[ExposureRange, ...] | None:
    """The sums over the seeds; None unless all were measured."""
    measured = [run.exposure for run in runs if run.exposure is not None]
    return add_ranges(measured) if len(measured) == len(runs) else None


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))


def _bleu_words(metrics: Mapping[str, Any]) -> breakdown.Tokenise:
    metric = metrics["bleu"]
    return lambda text: list(metric._preprocess_segment(text).split())


def _sentence_chrf(
    metrics: Mapping[str, Any], statistics: Mapping[str, Sequence[list[Floats]]], number: int
) -> Floats:
    """(sentences,) of a system's first seed."""
    return score_sums(metrics["chrf"], statistics["chrf"][number][0])


def _examples(
    baseline: System,
    system: System,
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    baseline_chrf: Floats,
    system_chrf: Floats,
    count: int,
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the largest wins and the largest losses of a system, judged by each sentence's chrF."""
    gains = system_chrf - baseline_chrf
    order = [int(number) for number in np.argsort(gains, kind="stable")]

    def example(number: int) -> Example:
        return Example(
            sentence=number + 1,
            source=sources[number],
            references=tuple(references[number]),
            baseline=baseline.replicates[0].hypotheses[number],
            system=system.replicates[0].hypotheses[number],
            baseline_chrf=float(baseline_chrf[number]),
            system_chrf=float(system_chrf[number]),
        )

    wins = [example(number) for number in reversed(order) if gains[number] > 0]
    losses = [example(number) for number in order if gains[number] < 0]
    return tuple(wins[:count]), tuple(losses[:count])
