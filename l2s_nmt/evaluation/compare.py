"""Compare systems on the same sentences: scores, intervals, significance, the largest wins and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.curves import CurvePoint
from l2s_nmt.evaluation.score import METRICS, check_aligned, new_metrics
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
    sentence_scores,
    sentence_statistics,
)


@dataclass(frozen=True)
class System:
    """What is compared: the translations of one run or file, and what is known about its training."""

    name: str
    hypotheses: Sequence[str]
    """One translation a sentence."""
    minutes: float | None = None
    """Wall-clock minutes of training."""
    updates: int | None = None
    """Updates of training."""
    curve: Sequence[CurvePoint] = ()
    """The validations during training."""


@dataclass(frozen=True)
class MetricResult:
    """One metric of one system; the last four are None for the first system, which is the baseline."""

    score: float
    interval: tuple[float, float]
    """95 % confidence interval from bootstrap resampling."""
    difference: float | None = None
    """This score minus the baseline's."""
    difference_interval: tuple[float, float] | None = None
    """95 % confidence interval of the difference, from the same resamples."""
    p_value: float | None = None
    """Paired bootstrap resampling against the baseline."""
    p_value_randomisation: float | None = None
    """Approximate randomisation against the baseline, two-sided."""


@dataclass(frozen=True)
class Example:
    """A sentence that the baseline and a system translate differently."""

    sentence: int
    """Its number, counted from 1."""
    source: str
    references: tuple[str, ...]
    baseline: str
    """The baseline's translation."""
    system: str
    """The system's translation."""
    baseline_chrf: float
    """chrF of this sentence alone."""
    system_chrf: float
    """chrF of this sentence alone."""


@dataclass(frozen=True)
class SystemResult:
    """Everything the comparison found out about one system."""

    name: str
    bleu: MetricResult
    chrf: MetricResult
    ter: MetricResult
    """Lower is better."""
    brevity_penalty: float
    length_ratio: float
    """Words of the translations divided by words of the closest references."""
    precisions: tuple[float, ...]
    """Percentages of the 1-grams to 4-grams that occur in the references."""
    minutes: float | None
    updates: int | None
    curve: tuple[CurvePoint, ...]
    wins: tuple[Example, ...]
    """Where its chrF is furthest above the baseline's, largest first."""
    losses: tuple[Example, ...]
    """Where its chrF is furthest below the baseline's, largest first."""

    def metric(self, name: str) -> MetricResult:
        """Return the result of one of `METRICS`."""
        return {"bleu": self.bleu, "chrf": self.chrf, "ter": self.ter}[name]

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes: each metric flat, as ``bleu``, ``bleu_interval`` and so on.

        BLEU's p-values are ``p_value`` and ``p_value_randomisation``; the others' begin with the metric's
        name.
        """
        values: dict[str, Any] = {"name": self.name}
        for metric in METRICS:
            result = self.metric(metric)
            tests = "" if metric == "bleu" else f"{metric}_"
            values[metric] = result.score
            values[f"{metric}_interval"] = list(result.interval)
            values[f"{metric}_difference"] = result.difference
            values[f"{metric}_difference_interval"] = (
                None if result.difference_interval is None else list(result.difference_interval)
            )
            values[f"{tests}p_value"] = result.p_value
            values[f"{tests}p_value_randomisation"] = result.p_value_randomisation
        return values | {
            "brevity_penalty": self.brevity_penalty,
            "length_ratio": self.length_ratio,
            "precisions": list(self.precisions),
            "minutes": self.minutes,
            "updates": self.updates,
            "curve": [asdict(point) for point in self.curve],
            "wins": [asdict(example) for example in self.wins],
            "losses": [asdict(example) for example in self.losses],
        }


@dataclass(frozen=True)
class Comparison:
    """Systems compared on the same sentences; the first is the baseline."""

    systems: tuple[SystemResult, ...]
    splits: tuple[str, ...]
    """The sets of sentences, one after the other."""
    sentences: int
    signatures: Mapping[str, str]
    """sacrebleu's signature of each metric."""
    resamples: int
    """Of the bootstrap."""
    trials: int
    """Of the approximate randomisation."""
    seed: int
    """Of both."""

    @property
    def baseline(self) -> SystemResult:
        """The first system."""
        return self.systems[0]

    def to_json(self) -> dict[str, Any]:
        """Return what ``comparison.json`` holds."""
        return {
            "splits": list(self.splits),
            "sentences": self.sentences,
            "signatures": dict(self.signatures),
            "bootstrap_resamples": self.resamples,
            "randomisation_trials": self.trials,
            "seed": self.seed,
            "systems": [system.to_json() for system in self.systems],
        }


def compare(
    systems: Sequence[System],
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    splits: Sequence[str] = (),
    examples: int = 10,
    resamples: int = RESAMPLES,
    trials: int = TRIALS,
    seed: int = SEED,
) -> Comparison:
    """Compare systems with the first of them.

    Args:
        systems: one or more, under different names.
        sources: the source sentences.
        references: for each sentence its one or more references.
        splits: the names of the sets that the sentences come from.
        examples: how many of the largest wins and of the largest losses to keep for each system.
        resamples: of the bootstrap.
        trials: of the approximate randomisation.
        seed: of both.

    Raises:
        UserError: no systems or no sentences, two systems of one name, a sentence without a reference, or
            numbers of sentences that differ.
    """
    _check(systems, sources, references)
    metrics = new_metrics()
    statistics = {
        name: [sentence_statistics(metric, system.hypotheses, references) for system in systems]
        for name, metric in metrics.items()
    }
    results = {
        name: _metric_results(metric, statistics[name], resamples, trials, seed)
        for name, metric in metrics.items()
    }
    chrf = [sentence_scores(metrics["chrf"], rows) for rows in statistics["chrf"]]
    return Comparison(
        systems=tuple(
            _system_result(
                system,
                {name: results[name][number] for name in METRICS},
                metrics["bleu"]._compute_score_from_stats(statistics["bleu"][number].sum(axis=0)),
                _examples(systems[0], system, sources, references, chrf[0], chrf[number], examples),
            )
            for number, system in enumerate(systems)
        ),
        splits=tuple(splits),
        sentences=len(references),
        signatures={name: str(metric.get_signature()) for name, metric in metrics.items()},
        resamples=resamples,
        trials=trials,
        seed=seed,
    )


def _check(systems: Sequence[System], sources: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not systems:
        raise UserError("nothing to compare: give at least one run or file of translations")
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two of the systems are called {name!r}: give them different names")
    first = systems[0]
    for system in systems[1:]:
        if len(system.hypotheses) != len(first.hypotheses):
            raise UserError(
                f"{system.name} has {len(system.hypotheses)} translations, but {first.name} has "
                f"{len(first.hypotheses)}: both must translate the same sentences"
            )
    for what, count in (("references", len(references)), ("source sentences", len(sources))):
        if len(first.hypotheses) != count:
            raise UserError(
                f"{first.name} has {len(first.hypotheses)} translations, but there are {count} {what}: "
                "both must belong to the same sentences"
            )
    check_aligned(len(first.hypotheses), references)


def _metric_results(
    metric: Any, systems: Sequence[Floats], resamples: int, trials: int, seed: int
) -> list[MetricResult]:
    """Score every system with one metric and test it against the first."""
    scores = [score_of_sum(metric, rows.sum(axis=0)) for rows in systems]
    resampled = bootstrap_scores(metric, systems, resamples=resamples, seed=seed)
    results = [MetricResult(scores[0], interval(resampled[0]))]
    for number in range(1, len(systems)):
        difference = scores[number] - scores[0]
        differences = resampled[number] - resampled[0]
        results.append(
            MetricResult(
                score=scores[number],
                interval=interval(resampled[number]),
                difference=difference,
                difference_interval=interval(differences),
                p_value=bootstrap_p_value(difference, differences),
                p_value_randomisation=randomisation_p_value(
                    metric, systems[0], systems[number], trials=trials, seed=seed
                ),
            )
        )
    return results


def _system_result(
    system: System,
    results: Mapping[str, MetricResult],
    bleu: Any,
    examples: tuple[tuple[Example, ...], tuple[Example, ...]],
) -> SystemResult:
    return SystemResult(
        name=system.name,
        bleu=results["bleu"],
        chrf=results["chrf"],
        ter=results["ter"],
        brevity_penalty=float(bleu.bp),
        length_ratio=float(bleu.ratio),
        precisions=tuple(float(precision) for precision in bleu.precisions),
        minutes=system.minutes,
        updates=system.updates,
        curve=tuple(system.curve),
        wins=examples[0],
        losses=examples[1],
    )


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
            baseline=baseline.hypotheses[number],
            system=system.hypotheses[number],
            baseline_chrf=float(baseline_chrf[number]),
            system_chrf=float(system_chrf[number]),
        )

    wins = [example(number) for number in reversed(order) if gains[number] > 0]
    losses = [example(number) for number in order if gains[number] < 0]
    return tuple(wins[:count]), tuple(losses[:count])
