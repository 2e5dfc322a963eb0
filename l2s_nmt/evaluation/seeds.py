"""Could a difference between two systems be luck, of the training as well as of the sentences?

A system that was trained with several seeds is as good as their mean. What another seed and other sentences would
have given is estimated by resampling both: the pigeonhole bootstrap of crossed factors (Owen 2007), for which the
seeds are drawn one fewer than there are (Rao & Wu 1988), since so few draws with replacement would understate their
variance. Two systems whose seeds belong together are resampled together: run k of one started where run k of the other
did, or is what it started from, or saw the same batches.

The standard error that comes out stands on few seeds, so it is itself uncertain: p-values and intervals are those of
Student's t where it comes from the seeds, and of the normal distribution where it comes from the sentences, each with
its share of the variance (after Cochran & Cox 1950), and the degrees of freedom of two systems that are not resampled
together those of Welch (1947). Assumed is that the seeds are drawn independently, and that means over them are about
normal. In simulations without a difference at most 5 to 7 % of these tests say p < 0.05, with two seeds resampled
together 8 %, with two seeds against ten 9 %; where seeds differ little from each other fewer do. A system of one seed
says nothing about others: its seed then counts as given, and against one of three 16 % say so.

Approximate randomisation over the translations of all seeds (Clark et al. 2011) asks something else: whether these
very models differ, were the sentences others. It counts every translation as a draw of its own, so where seeds differ
it finds differences that another training would not show: in the same simulations up to 70 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from l2s_nmt.evaluation.significance import (
    SEED,
    TIE,
    TRIALS,
    Floats,
    in_parts,
    score_sums,
    share_at_least,
)
from l2s_nmt.evaluation.types import Seeds

_LEVEL = 0.05
_GRID = 20_001
"""Points at which Student's t is integrated."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two, with its standard error over seeds and sentences."""

    value: float
    error: float
    degrees: float
    """Of freedom, of the seeds."""
    share: float
    """Of the variance that comes from the seeds."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval."""
        reach = quantile(self.degrees, self.share) * self.error
        return self.value - reach, self.value + reach

    @property
    def p_value(self) -> float:
        """Two-sided, of the value being 0."""
        if self.error < TIE:
            return 1.0 if abs(self.value) < TIE else 0.0
        return tails(abs(self.value) / self.error, self.degrees, self.share)


def estimate(value: float, resampled: Floats, seeds: Sequence[Floats]) -> Estimate:
    """Make an estimate from its two-level resamples.

    Args:
        value: what is estimated.
        resampled: (resamples,) the same on each resample.
        seeds: what the seeds gave, (k,) with k > 1, independently drawn; of two systems with other seeds both, of two
            with the same seeds their differences.
    """
    total = float(resampled.var(ddof=1)) if len(resampled) > 1 else 0.0
    each = [float(scores.var(ddof=1)) / len(scores) for scores in seeds]
    of_seeds = sum(each)
    free = [len(scores) - 1 for scores in seeds]
    degrees = float(sum(free))
    if of_seeds > 0:  # Welch–Satterthwaite
        degrees = of_seeds**2 / sum(part**2 / own for part, own in zip(each, free, strict=True))
    return Estimate(value, math.sqrt(total), degrees, min(of_seeds / total, 1.0) if total else 1.0)


def belong_together(first: Seeds | None, second: Seeds | None) -> bool:
    """Whether run k of one system is of the same seed as run k of the other, or of the same start."""
    if first is None or second is None or len(first) != len(second):
        return False
    pairs = list(zip(first, second, strict=True))
    common = [one[:1] for one, _ in pairs]
    if any(one[0] != other[0] for one, other in pairs) or len(set(common)) < len(common):
        common = [_common_end(one, other) for one, other in pairs]
    return all(common) and len(set(common)) == len(common)


def _common_end(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    return first[len(first) - length :]


def draw_seeds(count: int, resamples: int, seed: int, stream: int) -> Floats:
    """Draw one seed fewer than there are, with replacement, for each resample.

    Args:
        count: how many there are; a single one is always drawn.
        resamples: how many draws.
        seed: of the draws.
        stream: systems with the same are drawn alike.

    Returns:
        (count, resamples) weights, which sum up to 1 for each resample.
    """
    if count == 1:
        return np.ones((1, resamples))
    rng = np.random.default_rng([seed, stream])
    drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=resamples)
    return drawn.T.astype(np.float64) / (count - 1)


def randomisation_over_seeds(
    metric: Any,
    baseline: Sequence[Floats],
    system: Sequence[Floats],
    *,
    trials: int = TRIALS,
    seed: int = SEED,
) -> float:
    """Return the two-sided p-value of approximate randomisation over the translations of all seeds.

    Were the two systems equally good, it would not matter which of them wrote which of a sentence's translations: each
    trial deals those of all seeds of both anew, sentence by sentence, and looks whether the means differ as much as
    they really do.

    Args:
        metric: a metric as sacrebleu's.
        baseline: the statistics of each seed, (sentences, statistics).
        system: the other's, aligned by sentence; the numbers of seeds may differ.
        trials: how many shuffles.
        seed: of the shuffles.
    """
    rows = np.stack([*baseline, *system])  # (runs, sentences, statistics)
    runs, sentences, _ = rows.shape
    first = len(baseline)
    rng = np.random.default_rng(seed)
    places = np.arange(sentences)

    def difference(dealt: Floats) -> float:
        scores = score_sums(metric, dealt.sum(axis=1))
        return float(scores[first:].mean() - scores[:first].mean())

    def deal(count: int) -> Floats:
        """(count,) differences, where whose translation stands in the place of each run is by chance."""
        dealt = rng.permuted(np.broadcast_to(np.arange(runs), (count, sentences, runs)), axis=2)
        return np.array([difference(rows[whose.T, places]) for whose in dealt])

    observed = difference(rows)
    differences = np.empty(trials)
    for part, found in in_parts(trials, deal):
        differences[part] = found
    return share_at_least(np.abs(differences), abs(float(observed)))


def tails(value: float, degrees: float, share: float) -> float:
    """Return the probability of lying further from 0 than a value of at least 0.

    Args:
        value: in standard errors.
        degrees: of freedom, of Student's t.
        share: of Student's t in the mixture with the normal distribution.
    """
    angles, outside = _student(degrees)
    student = float(np.interp(math.atan(value / math.sqrt(degrees)), angles, outside))
    return share * student + (1 - share) * math.erfc(value / math.sqrt(2))


def quantile(degrees: float, share: float) -> float:
    """Return the value beyond which, in both directions together, `tails` has 5 %."""
    low, high = 1.0, 20.0  # of the normal distribution 1.96, of Student's t with one degree of freedom 12.7
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if tails(middle, degrees, share) > _LEVEL else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=32)
def _student(degrees: float) -> tuple[Floats, Floats]:
    """The probability outside ±t, at angles with t = √degrees · tan(angle), where the density is cos^(degrees−1)."""
    angles = np.linspace(0.0, math.pi / 2, _GRID)
    density = np.maximum(np.cos(angles), 0.0) ** (degrees - 1)
    steps = (density[1:] + density[:-1]) / 2
    beyond = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    return angles, beyond / beyond[0]
