from __future__ import annotations

import json
import random
from typing import Any

import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation import compare as comparing
from l2s_nmt.evaluation.compare import compare
from l2s_nmt.evaluation.curves import CurvePoint
from l2s_nmt.evaluation.score import METRICS, score
from l2s_nmt.evaluation.seeds import estimate
from l2s_nmt.evaluation.types import (
    Comparison,
    Expense,
    ExposureRange,
    Replicate,
    System,
    mean_known,
)

WORDS = ["alder", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "yew"]


def corpus(sentences: int) -> list[str]:
    rng = random.Random(11)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 12))) for _ in range(sentences)]


def worsened(references: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choice(WORDS) if rng.random() < share else word for word in reference.split())
        for reference in references
    ]


REFERENCES = corpus(120)
ONE_EACH = [[text] for text in REFERENCES]
SOURCES = [text.upper() for text in REFERENCES]
BASELINE = worsened(REFERENCES, 0.4, seed=1)
BETTER = worsened(REFERENCES, 0.2, seed=2)
EQUAL = worsened(REFERENCES, 0.4, seed=3)


def one(name: str, hypotheses: list[str]) -> System:
    """A system of one seed."""
    return System(name, [Replicate(name, hypotheses)])


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    systems = [
        System(
            "baseline",
            [Replicate("b", BASELINE, 1, Expense(minutes=30.5, updates=9000), [CurvePoint(10, 0.5, 12.0)])],
        ),
        one("better", BETTER),
        one("equal", EQUAL),
        one("copy", BASELINE),
    ]
    return compare(systems, SOURCES, ONE_EACH, splits=["valid", "test"], resamples=400, trials=500)


def test_scores_are_those_of_score(comparison: Comparison) -> None:
    for system, hypotheses in zip(comparison.systems, (BASELINE, BETTER, EQUAL, BASELINE), strict=True):
        expected = score(hypotheses, ONE_EACH)
        assert system.bleu.score == pytest.approx(expected.bleu.score)
        assert system.chrf.score == pytest.approx(expected.chrf.score)
        assert system.ter.score == pytest.approx(expected.ter.score)
        assert system.brevity_penalty == pytest.approx(expected.bleu.brevity_penalty)
        assert system.length_ratio == pytest.approx(expected.bleu.length_ratio)
        assert system.precisions == pytest.approx(expected.bleu.precisions)
        assert comparison.signatures == {
            "bleu": expected.bleu.signature, "chrf": expected.chrf.signature, "ter": expected.ter.signature,
        }  # fmt: skip


def test_intervals_contain_what_they_are_about(comparison: Comparison) -> None:
    for system in comparison.systems:
        for name in METRICS:
            result = system.metrics[name]
            assert result.interval[0] <= result.score <= result.interval[1]
            assert result.interval[1] - result.interval[0] > 0.5
            if result.difference is not None and result.difference_interval is not None:
                low, high = result.difference_interval
                assert low <= result.difference <= high


def test_the_baseline_is_not_tested_and_the_others_are(comparison: Comparison) -> None:
    baseline, better, equal, copy = comparison.systems
    for name in METRICS:
        first = baseline.metrics[name]
        assert first.p_value is first.p_value_randomisation is first.difference is None
        for p_value in (better.metrics[name].p_value, better.metrics[name].p_value_randomisation):
            assert p_value is not None
            assert p_value < 0.01
        two_sided = equal.metrics[name].p_value_randomisation
        assert two_sided is not None
        assert two_sided > 0.05
        assert copy.metrics[name].p_value == copy.metrics[name].p_value_randomisation == 1.0
        assert copy.metrics[name].difference == 0.0
    assert better.bleu.difference == pytest.approx(better.bleu.score - baseline.bleu.score)
    assert better.ter.difference is not None
    assert better.ter.difference < 0


def test_wins_and_losses_are_the_largest_differences(comparison: Comparison) -> None:
    equal = comparison.systems[2]
    chrf = [
        CHRF().sentence_score(mine, [reference]).score - CHRF().sentence_score(theirs, [reference]).score
        for mine, theirs, reference in zip(EQUAL, BASELINE, REFERENCES, strict=True)
    ]
    ordered = sorted(chrf)
    assert [win.system_chrf - win.baseline_chrf for win in equal.wins] == pytest.approx(ordered[:-11:-1])
    assert [loss.system_chrf - loss.baseline_chrf for loss in equal.losses] == pytest.approx(ordered[:10])
    win = equal.wins[0]
    row = win.sentence - 1
    assert chrf[row] == pytest.approx(max(chrf))
    assert (win.source, win.references) == (SOURCES[row], (REFERENCES[row],))
    assert (win.baseline, win.system) == (BASELINE[row], EQUAL[row])
    assert comparison.systems[3].wins == comparison.systems[3].losses == ()
    assert comparison.baseline.wins == ()


def test_json_has_the_names_that_scripts_rely_on(comparison: Comparison) -> None:
    values = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert values["splits"] == ["valid", "test"]
    assert values["sentences"] == 120
    assert set(values["signatures"]) == set(METRICS)
    baseline, better = values["systems"][:2]
    assert baseline["name"] == "baseline"
    assert baseline["p_value"] is None
    assert baseline["bleu_interval"][0] < baseline["bleu"] < baseline["bleu_interval"][1]
    assert baseline["minutes"] == 30.5
    assert baseline["updates"] == 9000
    (run,) = baseline["runs"]
    assert (run["name"], run["seed"], run["scores"]["ter"]) == ("b", 1, baseline["ter"])
    assert run["curve"] == [
        {"update": 10, "minutes": 0.5, "bleu": 12.0, "length_ratio": None, "loss": None, "sentences": None}
    ]
    result = comparison.systems[1]
    assert better["p_value"] == result.bleu.p_value
    assert better["p_value_randomisation"] == result.bleu.p_value_randomisation
    assert better["chrf_p_value"] == result.chrf.p_value
    assert better["ter_p_value_randomisation"] == result.ter.p_value_randomisation
    assert better["ter_interval"] == list(result.ter.interval)
    assert better["bleu_difference_interval"] == list(result.bleu.difference_interval or ())


def test_ragged_references() -> None:
    references = [[text, EQUAL[row]] if row % 2 else [text] for row, text in enumerate(REFERENCES)]
    found = compare([one("a", BASELINE), one("b", BETTER)], SOURCES, references, resamples=40, trials=40)
    streams = [
        REFERENCES,
        [alternatives[1] if len(alternatives) > 1 else None for alternatives in references],
    ]
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
        for system, hypotheses in zip(found.systems, (BASELINE, BETTER), strict=True):
            expected = metric.corpus_score(hypotheses, streams).score
            assert system.metrics[name].score == pytest.approx(expected)
        assert found.signatures[name].startswith("nrefs:var|")
    assert any(len(win.references) == 2 for win in found.systems[1].wins)


def test_translations_that_systems_share_count_for_each() -> None:
    """Also where one text translates several sentences, each with another reference."""
    texts = {
        "half": BASELINE[:60] + BETTER[60:],
        "same": [BASELINE[0]] * len(REFERENCES),
        "other half": BETTER[:60] + BASELINE[60:],
    }
    references = [[text, EQUAL[row]] if row % 3 else [text] for row, text in enumerate(REFERENCES)]
    systems = [System(name, [Replicate("1", own), Replicate("2", BETTER)]) for name, own in texts.items()]
    found = compare(systems, SOURCES, references, resamples=40, trials=40)
    second = score(BETTER, references)
    for system, own in zip(found.systems, texts.values(), strict=True):
        first = score(own, references)
        for name in METRICS:
            expected = [getattr(each, name).score for each in (first, second)]
            assert [run.scores[name] for run in system.runs] == pytest.approx(expected)


def test_one_system_alone_gets_scores_and_intervals() -> None:
    found = compare([one("alone", ["a b", "c"])], ["x", "y"], [["a b"], ["c d"]], resamples=50, trials=50)
    assert found.systems[0].bleu.p_value is None
    assert found.systems[0].chrf.interval[0] <= found.systems[0].chrf.score


def test_the_order_of_the_seeds_does_not_matter() -> None:
    runs = {
        name: [Replicate(f"{name}{seed}", texts[seed:] + texts[:seed], seed) for seed in (1, 2, 3)]
        for name, texts in (("a", BASELINE), ("b", BETTER))
    }

    def found(order: list[int]) -> dict[str, Any]:
        systems = [System("a", runs["a"]), System("b", [runs["b"][place] for place in order])]
        return compare(systems, SOURCES, ONE_EACH, resamples=40, trials=40).to_json()

    assert found([2, 0, 1]) == found([0, 1, 2])


def test_one_sentence_says_nothing_about_others() -> None:
    for seeds in ((1,), (1, 2)):
        systems = [
            System(name, [Replicate(f"{name}{seed}", [text], seed) for seed in seeds])
            for name, text in (("a", "a b c x"), ("b", "a b c d"))
        ]
        better = compare(systems, ["x"], [["a b c d"]], resamples=50, trials=50).systems[1]
        assert better.chrf.score > 99
        assert (better.chrf.p_value, better.chrf.p_value_randomisation) == (1.0, 1.0)


def test_empty_translations_are_scored() -> None:
    systems = [one("empty", ["", ""]), one("full", ["a b c d", "e f g h"])]
    found = compare(systems, ["x", "y"], [["a b c d"], ["e f g h"]], resamples=50, trials=50)
    assert found.systems[0].bleu.score == 0.0
    assert found.systems[1].bleu.score == pytest.approx(100.0)
    assert len(found.systems[1].wins) == 2


@pytest.mark.parametrize(
    ("systems", "sources", "references", "words"),
    [
        ([], ["x"], [["x"]], "nothing to compare"),
        ([("a", ["x"]), ("a", ["y"])], ["x"], [["x"]], "two of the systems are called 'a'"),
        ([("a", ["x"]), ("b", ["y", "z"])], ["x"], [["x"]], "b has 2 translations, but a has 1"),
        ([("a", ["x"])], ["x"], [["x"], ["y"]], "a has 1 translations, but there are 2 references"),
        ([("a", ["x"])], ["x", "y"], [["x"]], "a has 1 translations, but there are 2 source sentences"),
        ([("a", [])], [], [], "no sentences"),
        ([("a", ["x"])], ["x"], [[]], "sentence 1 has no reference"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    systems: list[tuple[str, list[str]]], sources: list[str], references: list[list[str]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        compare([one(name, hypotheses) for name, hypotheses in systems], sources, references)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Numbers of the seeds that each estimate draws: those of one sample, or of two."""
    counts: list[list[int]] = []

    def noted(score: float, resampled: Any, scores: Any) -> Any:
        counts.append([len(each) for each in scores])
        return estimate(score, resampled, scores)

    monkeypatch.setattr(comparing, "estimate", noted)
    return counts


def test_the_same_seeds_are_paired_and_no_others(drawn: list[list[int]]) -> None:
    rng = random.Random(5)
    references = [" ".join(rng.choices("abcdefghijklmn", k=8)) for _ in range(60)]

    def system(name: str, gain: float, seeds: list[int]) -> System:
        """Seeds differ much, and the gain within a seed is steady."""
        shares = zip((0.1, 0.3, 0.5), seeds, strict=True)
        return System(
            name,
            [
                Replicate(f"{name}{seed}", without(references, share - gain, number), seed)
                for number, (share, seed) in enumerate(shares)
            ],
        )

    widths = []
    for seeds, samples in (([1, 2, 3], 1), ([4, 5, 6], 2)):
        drawn.clear()
        systems = [system("a", 0.0, [1, 2, 3]), system("b", 0.05, seeds)]
        found = compare(systems, references, [[text] for text in references], resamples=200, trials=20)
        assert max(map(len, drawn)) == samples
        interval = found.systems[1].metrics["chrf"].difference_interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[0] < widths[1] / 3


def without(references: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(100 + seed)
    return [" ".join(word if rng.random() >= share else "zz" for word in text.split()) for text in references]


def test_the_seeds_of_a_baseline_count_against_a_system_of_one(
    drawn: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "randomisation_p_value", lambda *_, **__: pytest.fail("of one seed"))
    texts = (BASELINE, EQUAL, BETTER)
    baseline = System("a", [Replicate(f"a{seed}", text, seed) for seed, text in enumerate(texts)])
    found = compare([baseline, one("b", BETTER)], SOURCES, ONE_EACH, resamples=20, trials=20)
    assert drawn == [[3], [3]] * 3, "its own interval, and that of the difference; for each metric"
    assert found.systems[1].chrf.over_seeds


def test_of_several_seeds_the_examples_are_the_first_ones_and_the_rest_are_means() -> None:
    cut = [text.rsplit(" ", 3)[0] for text in BETTER]
    systems = [
        System("a", [Replicate("a1", BASELINE, 1), Replicate("a2", EQUAL, 2)]),
        System("b", [Replicate("b1", cut, 1), Replicate("b2", BETTER, 2)]),
    ]
    found = compare(systems, SOURCES, ONE_EACH, resamples=20, trials=20).systems[1]
    assert found.wins
    assert found.losses
    for example in (*found.wins, *found.losses):
        row = example.sentence - 1
        assert (example.baseline, example.system) == (BASELINE[row], cut[row])
        for text, told in (
            (example.baseline, example.baseline_chrf),
            (example.system, example.system_chrf),
        ):
            assert told == pytest.approx(CHRF().sentence_score(text, [REFERENCES[row]]).score)
    first, second = (score(texts, ONE_EACH).bleu for texts in (cut, BETTER))
    assert first.brevity_penalty < 0.9 < second.brevity_penalty
    assert found.brevity_penalty == pytest.approx((first.brevity_penalty + second.brevity_penalty) / 2)
    assert found.length_ratio == pytest.approx((first.length_ratio + second.length_ratio) / 2)
    assert found.bleu.deviation == pytest.approx(abs(first.score - second.score) / 2**0.5)


def test_exposure_is_that_of_all_seeds_or_unknown() -> None:
    ranges = [ExposureRange(1, None, 4, 3, 4, 2)]
    known = [Replicate("1", BETTER, 1, exposure=ranges), Replicate("2", EQUAL, 2, exposure=ranges)]
    half_known = [known[0], Replicate("2", EQUAL, 2)]
    whole, partly = compare(
        [System("a", known), System("b", half_known)], SOURCES, ONE_EACH, resamples=20, trials=20
    ).systems
    assert whole.exposure == (ExposureRange(1, None, 8, 6, 8, 4),)
    assert partly.exposure is None


def test_means_are_of_what_is_known() -> None:
    assert mean_known([1.0, None, 3.0]) == 2.0
    assert mean_known([None]) is None
    seeds = [Replicate("1", BETTER, 1, Expense(minutes=3.0, updates=10)), Replicate("2", EQUAL, 2)]
    found = compare([System("a", seeds)], SOURCES, ONE_EACH, resamples=20, trials=20).baseline
    assert (found.minutes, found.updates) == (3.0, 10)


def test_words_of_chinese_are_counted_where_they_are_told(tmp_path: Any) -> None:
    texts = ["我喜欢喝茶。", "他昨天买了一本书。"]
    close = ["我喜欢喝水。", "他昨天买了两本书。"]
    systems = [one("a", texts), one("b", close)]
    by_space, by_character = (
        compare(systems, texts, [[text] for text in texts], bleu_tokenizer=name, resamples=20, trials=20)
        for name in ("13a", "zh")
    )
    assert by_space.systems[1].bleu.score < 5
    assert 40 < by_character.systems[1].bleu.score < 90
    assert "tok:zh" in by_character.signatures["bleu"]
