from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from sacrebleu.significance import PairedTest

from l2s_nmt.evaluation.score import new_metrics, reference_streams
from l2s_nmt.evaluation.significance import (
    Floats,
    bootstrap_p_value,
    bootstrap_scores,
    interval,
    randomisation_p_value,
    score_of_sum,
    score_sums,
    sentence_statistics,
)

WORDS = [f"{first}{second}" for first in "bdfgklm" for second in ("a", "elo", "irun", "ost")]


def corpus(sentences: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 14))) for _ in range(sentences)]


def worsened(references: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choice(WORDS) if rng.random() < share else word for word in reference.split())
        for reference in references
    ]


def statistics_of(metric: Any, system: list[str], references: list[str]) -> Floats:
    return sentence_statistics(metric, system, [[reference] for reference in references])


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_the_sum_of_the_statistics_gives_the_corpus_score(name: str) -> None:
    references = corpus(50, seed=1)
    system = worsened(references, 0.3, seed=2)
    metric = new_metrics()[name]
    statistics = statistics_of(metric, system, references)
    expected = new_metrics()[name].corpus_score(system, [references]).score
    assert score_of_sum(metric, statistics.sum(axis=0)) == pytest.approx(expected, abs=1e-9)
    alone = [new_metrics()[name].corpus_score([text], [[reference]]).score
             for text, reference in zip(system, references, strict=True)]  # fmt: skip
    assert score_sums(metric, statistics) == pytest.approx(alone)


@pytest.mark.parametrize("ragged", [False, True])
def test_p_values_are_those_of_sacrebleu(monkeypatch: pytest.MonkeyPatch, ragged: bool) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    first = corpus(150, seed=1)
    second = worsened(first, 0.2, seed=9)
    references = [[text, second[row]] if ragged and row % 3 else [text] for row, text in enumerate(first)]
    systems = [worsened(first, 0.36, seed=2), worsened(first, 0.32, seed=3)]
    named = list(zip("ab", systems, strict=True))
    streams = reference_streams(references)
    # TER takes few values, which often tie with the observed difference; those sacrebleu does not count.
    for (name, metric), most_ties in zip(new_metrics().items(), (0.0, 0.0, 0.05), strict=True):
        statistics = [sentence_statistics(metric, system, references) for system in systems]
        observed = [score_of_sum(metric, rows.sum(axis=0)) for rows in statistics]
        resampled = bootstrap_scores(metric, statistics)
        p_bootstrap = bootstrap_p_value(observed[1] - observed[0], resampled[1] - resampled[0])
        p_randomisation = randomisation_p_value(metric, *statistics, trials=1001)
        for test, trials, p_value in (("bs", 1000, p_bootstrap), ("ar", 1001, p_randomisation)):
            _, found = PairedTest(named, {name: new_metrics()[name]}, streams, test, trials)()
            (_, baseline), (_, results) = found.items()
            theirs = results[1]
            assert results[0].score == pytest.approx(observed[0]), baseline
            assert theirs.p_value - 1e-9 <= p_value <= theirs.p_value + most_ties + 1e-9
            if test == "bs":  # sacrebleu adds up in single precision
                assert theirs.mean == pytest.approx(resampled[1].mean(), abs=1e-3)
                low, high = interval(resampled[1])
                assert theirs.ci == pytest.approx((high - low) / 2, abs=1e-3)


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_a_system_does_not_differ_from_itself(name: str) -> None:
    references = corpus(40, seed=1)
    metric = new_metrics()[name]
    statistics = statistics_of(metric, worsened(references, 0.3, seed=2), references)
    same = bootstrap_scores(metric, [statistics, statistics], resamples=100)
    assert bootstrap_p_value(0.0, same[1] - same[0]) == 1.0
    assert randomisation_p_value(metric, statistics, statistics, trials=100) == 1.0


def test_one_differing_sentence_is_no_evidence() -> None:
    references = corpus(40, seed=1)
    system = worsened(references, 0.3, seed=2)
    metric = new_metrics()["bleu"]
    statistics = [statistics_of(metric, text, references) for text in (system, [references[0], *system[1:]])]
    # Whichever system is given the better sentence, the absolute difference is the observed one.
    assert randomisation_p_value(metric, *statistics, trials=500) == 1.0


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_randomisation_agrees_with_all_shuffles(name: str) -> None:
    references = corpus(9, seed=4)
    metric = new_metrics()[name]
    first, second = (
        statistics_of(metric, worsened(references, share, seed), references)
        for share, seed in ((0.5, 2), (0.25, 3))
    )

    def difference(keep: tuple[bool, ...]) -> float:
        mask = np.array(keep)[:, None]
        mine, other = np.where(mask, first, second), np.where(mask, second, first)
        return abs(score_of_sum(metric, mine.sum(axis=0)) - score_of_sum(metric, other.sum(axis=0)))

    every = [difference(keep) for keep in itertools.product((False, True), repeat=9)]
    exact = np.mean([value >= difference((True,) * 9) - 1e-9 for value in every])
    assert 0.005 < exact < 0.9, "the example says something"
    assert randomisation_p_value(metric, first, second, trials=6000) == pytest.approx(exact, abs=0.03)


def test_bootstrap_agrees_with_all_resamples() -> None:
    references = corpus(4, seed=4)
    metric = new_metrics()["chrf"]
    statistics = statistics_of(metric, worsened(references, 0.4, seed=2), references)
    every = [
        score_of_sum(metric, statistics[list(drawn)].sum(axis=0))
        for drawn in itertools.product(range(4), repeat=4)
    ]
    found = bootstrap_scores(metric, [statistics], resamples=8000)[0]
    values, counts = np.unique(np.round(every, 6), return_counts=True)
    found_values, found_counts = np.unique(np.round(found, 6), return_counts=True)
    assert np.array_equal(found_values, values)
    assert len(values) == 35, "as many as there are multisets of 4 of 4 sentences"
    assert found_counts / 8000 == pytest.approx(counts / 4**4, abs=0.012)


def test_the_interval_leaves_out_a_fortieth_on_each_side() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1000.0))
    assert interval(scores) == (25.0, 974.0)
    assert interval(np.array([3.0])) == (3.0, 3.0)


def test_the_seed_decides_and_other_systems_do_not() -> None:
    references = corpus(70, seed=1)
    metric = new_metrics()["bleu"]
    first, second = (
        statistics_of(metric, worsened(references, share, 5), references) for share in (0.3, 0.4)
    )
    together = bootstrap_scores(metric, [first, second], resamples=130, seed=7)
    alone = bootstrap_scores(metric, [second], resamples=130, seed=7)
    assert np.array_equal(together[1], alone[0])
    assert not np.array_equal(alone, bootstrap_scores(metric, [second], resamples=130, seed=8))
    # The first resamples do not depend on how many follow.
    assert np.array_equal(alone[:, :100], bootstrap_scores(metric, [second], resamples=100, seed=7))


def test_p_values_spread_evenly_where_there_is_no_difference() -> None:
    metric = new_metrics()["chrf"]
    p_values = []
    for seed in range(60):
        references = corpus(30, seed=seed)
        systems = [
            statistics_of(metric, worsened(references, 0.3, 1000 + 2 * seed + k), references) for k in (0, 1)
        ]
        p_values.append(randomisation_p_value(metric, *systems, trials=100))
    assert 0.35 < np.mean(p_values) < 0.65
    assert np.mean(np.array(p_values) <= 0.1) < 0.25
