"""Could a difference between two systems be luck? Paired bootstrap resampling and approximate randomisation.

Both tests work on a metric's sentence-level sufficient statistics (for BLEU: lengths, matched and total
n-grams), which are computed once; a resampled corpus is then a weighted sum of rows. The scores of the sums
come from sacrebleu itself, and with the same seed the p-values are those of ``sacrebleu --paired-bs`` and
``--paired-ar``, except that chance also counts where it exactly ties with the observed difference (which the
p-value's definition asks for): sacrebleu calls a system significantly different from itself, here p is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2s_nmt.evaluation.score import reference_streams

Floats = NDArray[np.float64]

RESAMPLES = 1000
TRIALS = 10_000
SEED = 12345
"""The numbers that sacrebleu uses where it is not told others."""

TIE = 1e-9
"""Two scores this near to each other (of 100) are the same up to the order of the additions."""
_ROWS = 64
"""Resamples drawn at once, to bound the memory; multiples of 32 give the random numbers of a single draw."""


def sentence_statistics(
    metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> Floats:
    """Return a metric's sufficient statistics, (sentences, statistics); their sum gives the corpus score.

    Args:
        metric: a sacrebleu metric; it learns the number of references for its signature.
        hypotheses: one translation a sentence.
        references: for each sentence its one or more references.
    """
    rows = metric._extract_corpus_statistics(list(hypotheses), reference_streams(references))
    return np.asarray(rows, dtype=np.float64)


def score_of_sum(metric: Any, total: Floats) -> float:
    """Return the corpus score of summed statistics (statistics,)."""
    return float(metric._compute_score_from_stats(total).score)


def bootstrap_scores(
    metric: Any, systems: Sequence[Floats], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Score every system on the same resampled corpora.

    Each resample draws as many sentences as there are, with replacement (Koehn 2004, "Statistical
    Significance Tests for Machine Translation Evaluation").

    Args:
        metric: a sacrebleu metric.
        systems: each system's statistics, (sentences, statistics), aligned by sentence.
        resamples: how many corpora.
        seed: the draws depend on it and on the number of sentences, on nothing else.

    Returns:
        (systems, resamples) corpus scores.
    """
    sentences = len(systems[0])
    rng = np.random.default_rng(seed)

    def draw(rows: int) -> Floats:
        drawn = rng.choice(sentences, size=(rows, sentences), replace=True)
        return np.stack([np.bincount(row, minlength=sentences) for row in drawn]).astype(np.float64)

    scores = np.empty((len(systems), resamples))
    for part, times_drawn in in_parts(resamples, draw):
        for system, statistics in enumerate(systems):
            scores[system, part] = score_sums(metric, times_drawn @ statistics)
    return scores


def interval(scores: Floats) -> tuple[float, float]:
    """Return the 95 % confidence interval of bootstrap scores or differences, (resamples,)."""
    ordered = np.sort(scores)
    outside = len(ordered) // 40
    return float(ordered[outside]), float(ordered[len(ordered) - outside - 1])


def bootstrap_p_value(difference: float, differences: Floats) -> float:
    """Return the p-value of paired bootstrap resampling, as Moses and sacrebleu define it.

    The share of resamples whose absolute difference lies as far above the mean absolute difference as the
    observed one lies above zero. This convention is lenient: it counts about one of the two tails, so that the
    value comes out at about half of the two-sided `randomisation_p_value` or less. Report both.

    Args:
        difference: between the two systems' corpus scores.
        differences: the same on each resample, (resamples,).
    """
    sizes = np.abs(differences)
    return share_at_least(sizes - sizes.mean(), abs(difference))


def randomisation_p_value(
    metric: Any, baseline: Floats, system: Floats, *, trials: int = TRIALS, seed: int = SEED
) -> float:
    """Return the p-value of approximate randomisation, two-sided.

    Were the two systems equally good, it would not matter which of them wrote which translation: each trial
    swaps the two translations of a sentence with probability 1/2 and looks whether the corpus scores differ
    as much as they really do (Riezler & Maxwell 2005, "On Some Pitfalls in Automatic Evaluation and
    Significance Testing for MT").

    Args:
        metric: a sacrebleu metric.
        baseline: one system's statistics, (sentences, statistics).
        system: the other's, aligned by sentence.
        trials: how many shuffles.
        seed: the shuffles depend on it and on the number of sentences, on nothing else.
    """
    sentences = len(baseline)
    rng = np.random.default_rng(seed)

    def draw(rows: int) -> Floats:
        return rng.integers(2, size=(rows, sentences), dtype=np.bool_).astype(np.float64)

    both = baseline.sum(axis=0) + system.sum(axis=0)
    observed = score_of_sum(metric, system.sum(axis=0)) - score_of_sum(metric, baseline.sum(axis=0))
    differences = np.empty(trials)
    for part, kept in in_parts(trials, draw):
        first = kept @ baseline + (1.0 - kept) @ system
        differences[part] = score_sums(metric, first) - score_sums(metric, both - first)
    return share_at_least(np.abs(differences), abs(observed))


def in_parts(rows: int, draw: Callable[[int], Floats]) -> Iterator[tuple[slice, Floats]]:
    """Draw `rows` rows of weights, (rows, sentences), a part at a time."""
    for start in range(0, rows, _ROWS):
        stop = min(start + _ROWS, rows)
        yield slice(start, stop), draw(stop - start)


def score_sums(metric: Any, totals: Floats) -> Floats:
    """Return the score of each row of statistics, (rows,) from (rows, statistics): a sentence's, or a sum's."""
    return np.array([score_of_sum(metric, total) for total in totals])


def share_at_least(values: Floats, observed: float) -> float:
    """Return how often chance reaches the observed value, itself included so that it is never 0."""
    reached = int(np.count_nonzero(values >= observed - TIE))
    return (reached + 1) / (len(values) + 1)
