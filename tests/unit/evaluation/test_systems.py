from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.errors import UserError
from l2s_nmt.evaluation import compare as comparing
from l2s_nmt.evaluation import systems
from l2s_nmt.evaluation.runs import decoding_of
from l2s_nmt.evaluation.systems import (
    Group,
    Options,
    Prepared,
    compare_prepared,
    group_systems,
    prepare,
    read_expense,
    seeds_of,
)
from l2s_nmt.evaluation.types import Comparison, System
from l2s_nmt.languages import BleuTokenizer
from l2s_nmt.recipe_file import dump_recipe, read_recipe
from l2s_nmt.run import Run
from tests.helpers import tiny_recipe, write_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(path: Path, seed: int, start: Path | None = None, language: str = "xb", **training: Any) -> str:
    """A run directory with nothing but a recipe."""
    model = {} if start is None else {"model": {"from_run": str(start)}}
    recipe = tiny_recipe(Path("corpus"), data={"target_language": language}, training=training, **model)
    given = write_recipe(path.parent / "given" / f"{path.name}.yaml", recipe | {"seed": seed})
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(dump_recipe(read_recipe(given)))
    return str(path)


def names(arguments: list[str]) -> dict[str, list[str]]:
    return {group.name: [str(path) for path in group.paths] for group in group_systems(arguments)}


def test_runs_that_differ_in_their_seed_alone_are_one_system(folder: Path) -> None:
    first, second = make_run(Path("runs/mle-seed1"), 1), make_run(Path("runs/mle-seed2"), 2)
    other = make_run(Path("runs/longer"), 1, max_updates=20)
    assert names([first, other, second]) == {"mle": [first, second], "longer": [other]}
    assert list(names([other, first, second])) == ["longer", "mle"], "the first is the baseline"
    assert names([second, first]) == {"mle": [first, second]}, (
        "by seed, so that those of two systems are paired"
    )


def test_seeds_that_have_nothing_else_in_their_names_are_called_by_their_folder(folder: Path) -> None:
    runs = [make_run(Path(f"runs/search/seed{seed}"), seed) for seed in (1, 2)]
    other = make_run(Path("runs/longer"), 1, max_updates=20)
    assert names([other, *runs]) == {"longer": [other], "search": runs}


def test_what_they_started_from_may_differ_in_its_seed_as_well(folder: Path) -> None:
    starts = [Path("runs/start1"), Path("runs/start2"), Path("runs/other")]
    for seed, path in enumerate(starts):
        make_run(path, seed, max_updates=30 if path.name == "other" else 10)
    runs = [make_run(Path(f"runs/search{k}"), k, path) for k, path in enumerate(starts)]
    assert names(runs) == {"search": runs[:2], "search2": [runs[2]]}
    further = [make_run(Path(f"runs/further{k}"), k, Path(runs[k])) for k in range(3)]
    assert [len(paths) for paths in names(further).values()] == [2, 1]


def test_seeds_of_the_start_alone_are_seeds_of_a_system(folder: Path) -> None:
    starts = [make_run(Path(f"runs/base-{k}"), k) for k in (1, 2, 3)]
    runs = [make_run(Path(f"runs/search-{k}"), 1, Path(start)) for k, start in enumerate(starts)]
    assert names([*reversed(starts), *reversed(runs)]) == {"base": starts, "search": runs}
    assert seeds_of(Run(Path(runs[1]))) == (1, 2)


def test_seeds_are_in_the_order_of_those_of_the_first_start(folder: Path) -> None:
    starts = [Path(make_run(Path(f"runs/base-{k}"), k)) for k in (1, 2)]
    runs = [make_run(Path(f"runs/search-{k}"), 3 - k, start) for k, start in enumerate(starts, 1)]
    assert names(runs[::-1]) == {"search": runs}


def test_runs_that_start_from_each_other_have_a_history_that_ends(folder: Path) -> None:
    one, two = (make_run(Path(f"runs/{k}"), k, Path(f"runs/{3 - k}")) for k in (1, 2))
    assert list(names([one, two]).values()) == [[one], [two]]


def test_a_start_that_is_gone_counts_by_its_path(folder: Path) -> None:
    runs = [make_run(Path(f"runs/{k}"), k, Path("gone") / str(k // 2)) for k in range(4)]
    assert sorted(map(len, names(runs).values())) == [2, 2]


def test_the_same_seed_twice_says_nothing_about_others(folder: Path) -> None:
    one, two, three = (make_run(Path(f"runs/{name}"), seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert names([one, two, three]) == {"a": [one], "b": [two], "c": [three]}


def test_names_say_which_runs_belong_together(folder: Path) -> None:
    one, two, three = (make_run(Path(f"runs/{k}"), k) for k in (1, 2, 3))
    assert names([f"all={one},{two}", three]) == {"all": [one, two], "3": [three]}
    assert names([f"a={one}", f"b={two}"]) == {"a": [one], "b": [two]}, "a name keeps a seed by itself"


def test_files_are_systems_of_their_own_unless_named_together(folder: Path) -> None:
    for name in ("one.txt", "two.txt", "odd=name"):
        Path(name).write_text("x\n")
    assert names(["one.txt", "two.txt"]) == {"one.txt": ["one.txt"], "two.txt": ["two.txt"]}
    assert names(["both=one.txt,two.txt"]) == {"both": ["one.txt", "two.txt"]}
    assert names(["odd=name"]) == {"odd=name": ["odd=name"]}, "a path that exists is a path"


def test_groups_have_different_names(folder: Path) -> None:
    short = [make_run(Path(f"runs/{k}/run"), k) for k in (1, 2)]
    long = [make_run(Path(f"runs/{k}/run"), k, max_updates=20) for k in (3, 4)]
    found = names([*short, *long])
    assert list(found.values()) == [short, long]
    assert all(found)
    trained = [make_run(Path(f"x/s{k}"), k) for k in (1, 2)] + [
        make_run(Path(f"x/s{k}"), k, max_updates=20) for k in (3, 4)
    ]
    assert names(trained) == {"s1": trained[:2], "s3": trained[2:]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "none: no such run or file of translations"),
        (["one.txt", "./one.txt"], "the same system is given twice"),
        (["a=one.txt,one.txt"], "the same system is given twice"),
        (["a="], "name a system as NAME=RUN"),
        (["=one.txt"], "name a system as NAME=RUN"),
        (["empty"], "empty: not a run directory"),
    ],
)
def test_what_is_no_system_is_refused(folder: Path, arguments: list[str], words: str) -> None:
    Path("one.txt").write_text("x\n")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=words):
        group_systems(arguments)


@pytest.mark.parametrize("lines", [1, 3])
def test_a_file_of_more_or_fewer_translations_than_sentences_is_refused(folder: Path, lines: int) -> None:
    Path("one.txt").write_text("x\n" * lines)
    with pytest.raises(UserError, match=f"one.txt: {lines} translations of 2 sentences"):
        prepare(group_systems(["one.txt"]), Options(), (["a", "b"], [["a"], ["b"]]))


def prepared(
    groups: Mapping[str, Sequence[str]],
    written: Mapping[str, Sequence[str]],
    sources: list[str],
    references: list[list[str]],
    options: Options | None = None,
) -> Prepared:
    """Groups of runs that all wrote the same of each split."""
    runs = {Path(path): Run(Path(path)) for paths in groups.values() for path in paths}
    for run in runs.values():
        for split, texts in written.items():
            run.translations(split).parent.mkdir(exist_ok=True)
            run.translations(split).write_text("".join(f"{text}\n" for text in texts))
    decodings = {path: decoding_of(run.read_recipe()) for path, run in runs.items()}
    named = [Group(name, tuple(map(Path, paths))) for name, paths in groups.items()]
    return Prepared(named, options or Options(), runs, decodings, {}, sources, references)


CHINESE = {"valid": ["昨天他买了一本书", "我喜欢喝茶"], "test": ["两个城市之间有火车"]}


def compared(
    splits: tuple[str, ...], language: str = "zh", tokenizer: BleuTokenizer | None = None
) -> Comparison:
    """A run that wrote what the references say, in the order of the splits."""
    run = make_run(Path("run"), 1, language=language)
    references = [[text] for split in splits for text in CHINESE[split]]
    options = Options(splits, bleu_tokenizer=tokenizer)
    sources = ["a"] * len(references)
    return compare_prepared(prepared({"run": [run]}, CHINESE, sources, references, options))


@pytest.mark.parametrize("splits", [("valid", "test"), ("test", "valid")])
def test_splits_are_compared_in_the_order_in_which_they_are_named(
    folder: Path, splits: tuple[str, str]
) -> None:
    assert compared(splits).baseline.metrics["chrf"].score == pytest.approx(100)


@pytest.mark.parametrize(
    ("language", "tokenizer", "expected"), [("zh", None, "zh"), ("zh", "char", "char"), ("xb", None, "13a")]
)
def test_words_are_those_of_the_first_runs_language_unless_others_are_named(
    folder: Path, language: str, tokenizer: BleuTokenizer | None, expected: str
) -> None:
    assert f"tok:{expected}|" in compared(("test",), language, tokenizer).signatures["bleu"]


SOURCES, REFERENCES = ["balu keri", "keri"], [["fixa tepil"], ["tepil"]]


def test_words_of_the_training_data_are_counted_on_both_sides(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = {"xa": "balu balu\nkeri fixa\n", "xb": "fixa tepil\ntepil\n", "xb.1": "gordu tepil\n\n"}
    Path("corpus").mkdir()
    for ending, text in corpus.items():
        Path("corpus", f"train.{ending}").write_text(text)
    given: dict[str, Any] = {}
    monkeypatch.setattr(comparing, "compare", lambda *_, **options: given.update(options))
    written = {"test": ["gordu", "fixa nothing"]}
    compare_prepared(prepared({"a": [make_run(Path("run"), 1)]}, written, SOURCES, REFERENCES))
    counted = given["training_words"]
    # Of the sources: those translated. Of the targets: of all references, those written and those wanted.
    assert dict(counted.source) == {"balu": 2, "keri": 1}
    assert dict(counted.target) == {"fixa": 1, "tepil": 3, "gordu": 1}


def test_words_of_streamed_data_are_not_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For counting reads the whole corpus."""
    run = make_run(Path("run"), 1)
    recipe = Run(Path(run)).read_recipe()
    streamed = replace(recipe, data=replace(recipe.data, streaming=True))
    monkeypatch.setattr(Run, "read_recipe", lambda self: streamed)
    monkeypatch.setattr(systems, "load_split", lambda *_, **__: pytest.fail("it was read"))
    found = compare_prepared(prepared({"a": [run]}, {"test": ["gordu", "fixa"]}, SOURCES, REFERENCES))
    assert (found.baseline.by_frequency, found.baseline.by_word) == ((), ())


def test_the_seeds_of_what_runs_started_from_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that searches from the same starts are paired, whatever their own seeds."""
    starts = [make_run(Path(f"base-{k}"), k) for k in (1, 2)]
    runs = [make_run(Path(f"search-{k}"), 10 + k, Path(start)) for k, start in enumerate(starts, 1)]
    told: list[System] = []
    monkeypatch.setattr(comparing, "compare", lambda given, *_, **__: told.extend(given))
    groups = {"base": starts, "search": runs}
    compare_prepared(prepared(groups, {"test": ["a", "b"]}, SOURCES, REFERENCES))
    assert [system.seeds for system in told] == [((1,), (2,)), ((11, 1), (12, 2))]


def test_what_a_run_cost_is_in_its_last_line(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert read_expense(run).minutes is None
    lines = [
        {"kind": "train", "update": 10, "minutes": 0.5, "sentences": 300, "roll_outs": 40},
        {"kind": "validation", "update": 20, "minutes": 1.0, "sentences": 600, "roll_outs": 80},
        {"kind": "end", "update": 20, "minutes": 1.2, "sentences": 600, "roll_outs": 80, "joules": 5400.0},
    ]
    run.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    environment = {"gpus": [], "processor": "CPU 3000", "cores": 4, "threads": 2}
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    found = read_expense(run)
    assert (found.minutes, found.updates, found.sentences, found.roll_outs) == (1.2, 20, 600, 80)
    assert (found.joules, found.hardware) == (5400.0, "CPU 3000, 2 of 4 cores")
    (tmp_path / "environment.json").write_text(json.dumps(environment | {"gpus": ["H200", "H200"]}))
    assert read_expense(run).hardware == "2 × H200"
    (tmp_path / "environment.json").write_text("{")
    assert read_expense(run).hardware is None
