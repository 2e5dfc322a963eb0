"""What a comparison is made of and what it finds; and ``comparison.json``, the same for scripts.

The file holds one object. ``format`` is "l2s_nmt.comparison" and ``version`` 2; a version may gain keys, but none
changes its meaning. Scores, intervals and differences are in points of 100, intervals 95 %; null is what is not
known, and what the first system would have against itself.

| key | what it holds |
|---|---|
| ``splits``, ``sentences`` | the sets of sentences, and how many sentences they have together |
| ``metrics``, ``signatures`` | the metrics' names; of each, with what it can be computed again |
| ``bootstrap_resamples``, ``randomisation_trials``, ``seed`` | of the tests |
| ``systems`` | the systems, the baseline first |

A system has, for each metric M among ``bleu``, ``chrf``, ``ter`` and, where it was asked for, ``comet``:

| key | what it holds |
|---|---|
| ``name`` | of the system |
| M, ``M_deviation`` | mean over its seeds, and their standard deviation (null for one seed) |
| ``M_interval`` | of the mean |
| ``M_difference``, ``M_difference_interval`` | from the baseline |
| ``M_p_value``, ``M_p_value_randomisation`` | against the baseline; BLEU's are ``p_value``, ``p_value_randomisation`` |
| ``M_over_seeds`` | whether the interval and the p-value count the seeds in; BLEU's is ``over_seeds`` |
| ``brevity_penalty``, ``length_ratio``, ``precisions`` | of BLEU, means over the seeds; precisions in percent |
| ``repetition``, ``empty`` | shares (0 to 1) of repeated word pairs and of empty translations |
| ``minutes``, ``updates`` | of training, means over the seeds |
| ``by_length``, ``by_frequency`` | ``label``, ``sentences``, ``bleu`` and ``chrf`` of each group of sentences |
| ``by_word`` | ``label``, ``words``, ``precision`` and ``recall`` of the target words of each frequency |
| ``by_position`` | ``label``, ``pairs`` and ``precision`` of each fifth of the translations |
| ``exposure`` | for each range of positions ``first`` to ``last`` the tokens ``own`` and ``reference``, and how many of
them were right: ``own_right``, ``reference_right``; null where it was not measured |
| ``runs`` | of each seed ``name``, ``seed``, ``scores`` by metric, ``decoding`` (``beam``, ``length_penalty``,
``max_length``; null for a file), ``expense`` (``minutes``, ``updates``,
``sentences``, ``roll_outs``, ``joules``, ``hardware``) and ``curve``: for each validation ``update``, ``minutes``,
``bleu``, ``length_ratio``, ``loss``, ``sentences`` |
| ``wins``, ``losses`` | ``sentence`` (from 1), ``source``, ``references``, ``baseline``, ``system``, ``baseline_chrf``,
``system_chrf`` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from l2s_nmt.evaluation.curves import CurvePoint
from l2s_nmt.notebook import framed

FORMAT = "l2s_nmt.comparison"
VERSION = 2


Seeds = tuple[tuple[int, ...], ...]
"""Of the runs of a system: each one's own, that of the run it started from, and so on."""


@dataclass(frozen=True)
class Expense:
    """What a run cost; None where it is not known. What it started from is not counted in."""

    minutes: float | None = None
    """Wall-clock minutes of training."""
    updates: int | None = None
    sentences: int | None = None
    """Training sentences seen, over all epochs."""
    roll_outs: int | None = None
    joules: float | None = None
    """Energy of the processors and GPUs while it trained, where they tell."""
    hardware: str | None = None


@dataclass(frozen=True)
class ExposureRange:
    """How often the next token is right at a range of positions, after the model's own prefix and the reference's."""

    first: int
    """Position of the range's first token in the sentence, counted from 1."""
    last: int | None
    """Its last one; None: no end."""
    own: int
    """Tokens looked at after the model's own prefix."""
    own_right: int
    """Those that a best completion goes on with."""
    reference: int
    """Likewise after the reference's prefix."""
    reference_right: int


def add_ranges(measured: Sequence[Sequence[ExposureRange]]) -> tuple[ExposureRange, ...]:
    """The sums of several measurements, of other sentences or of other seeds."""
    return tuple(
        ExposureRange(
            first=rows[0].first,
            last=rows[0].last,
            own=sum(row.own for row in rows),
            own_right=sum(row.own_right for row in rows),
            reference=sum(row.reference for row in rows),
            reference_right=sum(row.reference_right for row in rows),
        )
        for rows in zip(*measured, strict=True)
    )


@dataclass(frozen=True)
class Replicate:
    """One training of a system, or one file of translations."""

    name: str
    hypotheses: Sequence[str]
    """One translation a sentence."""
    seed: int | None = None
    """Of the training, where it is known."""
    expense: Expense = field(default_factory=Expense)
    curve: Sequence[CurvePoint] = ()
    """The validations during training."""
    exposure: Sequence[ExposureRange] | None = None
    decoding: Mapping[str, Any] | None = None
    """How it was decoded: ``beam``, ``length_penalty``, ``max_length``; None for a file."""
    earlier_seeds: tuple[int, ...] = ()
    """Of the training that it started from, of what that started from, and so on."""

    @property
    def seeds(self) -> tuple[int, ...] | None:
        """Its own and the earlier ones, where they are known."""
        return None if self.seed is None else (self.seed, *self.earlier_seeds)


@dataclass(frozen=True)
class System:
    """What is compared: one or several trainings that differ in nothing but their seed."""

    name: str
    replicates: Sequence[Replicate]
    """In the order of their seeds, the first training's first, where all are known."""

    def __post_init__(self) -> None:
        if self.seeds is not None:
            in_order = sorted(self.replicates, key=lambda one: (one.seeds or ())[::-1])
            object.__setattr__(self, "replicates", in_order)

    @property
    def seeds(self) -> Seeds | None:
        """Of each replicate, where all are known."""
        known = tuple(one.seeds for one in self.replicates if one.seeds is not None)
        return known if len(known) == len(self.replicates) else None


@dataclass(frozen=True)
class MetricResult:
    """One metric of one system; what is against the baseline is None for the first system, which is the baseline."""

    score: float
    """With several seeds their mean."""
    interval: tuple[float, float]
    """95 % confidence interval: from bootstrap resampling; with several seeds as `seeds.Estimate` says."""
    difference: float | None = None
    """This score minus the baseline's."""
    difference_interval: tuple[float, float] | None = None
    """95 % confidence interval of the difference, likewise."""
    p_value: float | None = None
    """Paired bootstrap resampling against the baseline; with several seeds the t test of `seeds.Estimate`."""
    p_value_randomisation: float | None = None
    """Approximate randomisation against the baseline, two-sided; with several seeds over all their translations."""
    deviation: float | None = None
    """Standard deviation over the seeds; None for one."""
    over_seeds: bool = False
    """Whether ``p_value`` is the t test over seeds and sentences."""

    @property
    def deciding_p_value(self) -> float | None:
        """The p-value that a verdict goes by: two-sided, and with several seeds the one that counts these in."""
        return self.p_value if self.over_seeds else self.p_value_randomisation


@dataclass(frozen=True)
class TrainingWords:
    """How often words occur in the training data."""

    source: Mapping[str, int]
    """Those of the source sentences that were translated."""
    target: Mapping[str, int] | None
    """Those of the translations and references; None where the training data are sources alone."""


@dataclass(frozen=True)
class Example:
    """A sentence that the baseline and a system translate differently."""

    sentence: int
    """Its number, counted from 1."""
    source: str
    references: tuple[str, ...]
    baseline: str
    """The baseline's translation; with several seeds the first one's."""
    system: str
    """The system's translation, likewise."""
    baseline_chrf: float
    """chrF of this sentence alone."""
    system_chrf: float
    """chrF of this sentence alone."""


@dataclass(frozen=True)
class Bucket:
    """The scores of a part of the sentences, means over the seeds."""

    label: str
    sentences: int
    bleu: float
    chrf: float


@dataclass(frozen=True)
class WordBucket:
    """How many of the words that are equally frequent in the training data are right, over all seeds."""

    label: str
    words: int
    """In the references."""
    precision: float
    """Percentage of those in the translations that the reference has."""
    recall: float
    """Percentage of those in the references that the translation has."""


@dataclass(frozen=True)
class PositionBucket:
    """How much of a fifth of the translations is right."""

    label: str
    pairs: int
    """Pairs of neighbouring words that end there; the mean over the seeds, rounded."""
    precision: float
    """Percentage of them that a reference has."""


@dataclass(frozen=True)
class ReplicateResult:
    """One training of a system."""

    name: str
    seed: int | None
    scores: Mapping[str, float]
    """By metric."""
    expense: Expense
    curve: tuple[CurvePoint, ...]
    decoding: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SystemResult:
    """Everything the comparison found out about one system; with several seeds, means over them."""

    name: str
    runs: tuple[ReplicateResult, ...]
    metrics: Mapping[str, MetricResult]
    """By name; TER is better when lower."""
    brevity_penalty: float
    length_ratio: float
    """Words of the translations divided by words of the closest references."""
    precisions: tuple[float, ...]
    """Percentages of the 1-grams to 4-grams that occur in the references."""
    repetition: float
    """Share of the word pairs that repeat an earlier one of the sentence, oftener than any reference does."""
    empty: float
    """Share of empty translations."""
    by_length: tuple[Bucket, ...]
    """By the words of the source."""
    by_frequency: tuple[Bucket, ...]
    """By how often the rarest word of the source occurs in the training data; empty where these are not known."""
    by_word: tuple[WordBucket, ...]
    """By how often the target word occurs in the training data; empty where these are not known."""
    by_position: tuple[PositionBucket, ...]
    """By the place in the translation."""
    exposure: tuple[ExposureRange, ...] | None
    """Sums over the seeds."""
    wins: tuple[Example, ...]
    """Where its chrF is furthest above the baseline's, largest first."""
    losses: tuple[Example, ...]
    """Where its chrF is furthest below the baseline's, largest first."""

    @property
    def bleu(self) -> MetricResult:
        """The result of BLEU."""
        return self.metrics["bleu"]

    @property
    def chrf(self) -> MetricResult:
        """The result of chrF."""
        return self.metrics["chrf"]

    @property
    def ter(self) -> MetricResult:
        """The result of TER; lower is better."""
        return self.metrics["ter"]

    @property
    def minutes(self) -> float | None:
        """Mean wall-clock minutes of training."""
        return mean_known([run.expense.minutes for run in self.runs])

    @property
    def updates(self) -> int | None:
        """Mean updates of training, rounded."""
        mean = mean_known([run.expense.updates for run in self.runs])
        return None if mean is None else round(mean)

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes."""
        values: dict[str, Any] = {"name": self.name}
        for metric, result in self.metrics.items():
            tests = "" if metric == "bleu" else f"{metric}_"
            interval = result.difference_interval
            values[metric] = result.score
            values[f"{metric}_deviation"] = result.deviation
            values[f"{metric}_interval"] = list(result.interval)
            values[f"{metric}_difference"] = result.difference
            values[f"{metric}_difference_interval"] = None if interval is None else list(interval)
            values[f"{tests}p_value"] = result.p_value
            values[f"{tests}p_value_randomisation"] = result.p_value_randomisation
            values[f"{tests}over_seeds"] = result.over_seeds
        return values | {
            "brevity_penalty": self.brevity_penalty,
            "length_ratio": self.length_ratio,
            "precisions": list(self.precisions),
            "repetition": self.repetition,
            "empty": self.empty,
            "minutes": self.minutes,
            "updates": self.updates,
            "by_length": [asdict(bucket) for bucket in self.by_length],
            "by_frequency": [asdict(bucket) for bucket in self.by_frequency],
            "by_word": [asdict(bucket) for bucket in self.by_word],
            "by_position": [asdict(bucket) for bucket in self.by_position],
            "exposure": None if self.exposure is None else [asdict(row) for row in self.exposure],
            "runs": [asdict(run) for run in self.runs],
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
    """The signature of each metric: of BLEU, chrF and TER sacrebleu's."""
    resamples: int
    """Of the bootstrap."""
    trials: int
    """Of the approximate randomisation."""
    seed: int
    """Of both."""
    languages: tuple[str, str] | None = None
    """Of sources and targets, as BCP 47 has them, where they are known."""

    @property
    def baseline(self) -> SystemResult:
        """The first system."""
        return self.systems[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, in the order in which they are reported."""
        return tuple(self.signatures)

    def to_json(self) -> dict[str, Any]:
        """Return what ``comparison.json`` holds; see the head of this module."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "splits": list(self.splits),
            "sentences": self.sentences,
            "metrics": list(self.metrics),
            "signatures": dict(self.signatures),
            "bootstrap_resamples": self.resamples,
            "randomisation_trials": self.trials,
            "seed": self.seed,
            "systems": [system.to_json() for system in self.systems],
        }

    def _repr_html_(self) -> str:
        """What a notebook shows: the page of the comparison."""
        from l2s_nmt.evaluation.page import render_page  # which reads these types

        return framed(render_page(self))


def mean_known(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
