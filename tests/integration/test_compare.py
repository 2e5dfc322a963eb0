"""Two systems of two seeds each, from training to the report, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import l2s_nmt
from tests.helpers import command, done, files_below, tiny_recipe, write_corpus, write_recipe
from tests.unit.evaluation.test_comet import install


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two seeds of teacher forcing, and of a search that goes on from each of them."""
    folder = tmp_path_factory.mktemp("compared")
    corpus = write_corpus(folder / "corpus")
    base = write_recipe(
        folder / "base.yaml", tiny_recipe(corpus, training={"max_updates": 60, "validate_every": 20})
    )
    for seed in (1, 2):
        start = folder / f"base-{seed}"
        done(command("train", base, f"seed={seed}", "--output", start))
        recipe = tiny_recipe(
            corpus,
            model={"from_run": str(start)},
            search={"algorithm": "lols"},
            training={"max_updates": 4, "validate_every": 2},
        )
        path = write_recipe(folder / f"search-{seed}.yaml", recipe)
        done(command("train", path, f"seed={seed}", "--output", folder / f"search-{seed}"))
    return folder


@pytest.fixture(scope="module")
def paths(runs: Path) -> list[Path]:
    return [runs / name for name in ("base-1", "search-1", "base-2", "search-2")]


@pytest.fixture(scope="module")
def report(runs: Path, paths: list[Path]) -> Path:
    outcome = done(command("compare", *paths, "--beam", "1", "--exposure", "12", "--output", runs / "report"))
    assert "2 seeds" in outcome.out
    return runs / "report"


@pytest.fixture(scope="module")
def found(report: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((report / "comparison.json").read_text())
    return values


def test_seeds_of_a_recipe_and_of_its_start_are_one_system(found: dict[str, Any]) -> None:
    assert (found["format"], found["version"]) == ("l2s_nmt.comparison", 2)
    systems = found["systems"]
    assert [system["name"] for system in systems] == ["base", "search"]
    for system in systems:
        assert [run["seed"] for run in system["runs"]] == [1, 2]
        scores = [run["scores"]["bleu"] for run in system["runs"]]
        assert system["bleu"] == pytest.approx(sum(scores) / 2)
        assert system["bleu_deviation"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert not systems[0]["over_seeds"]
    assert systems[1]["over_seeds"]
    assert 0 <= systems[1]["p_value"] <= 1


def test_the_report_has_breakdowns_and_costs(found: dict[str, Any]) -> None:
    for number, system in enumerate(found["systems"]):
        assert sum(bucket["sentences"] for bucket in system["by_length"]) == 30
        assert sum(bucket["sentences"] for bucket in system["by_frequency"]) == 30
        assert {bucket["label"] for bucket in system["by_frequency"]} <= {"10–99", "100–999"}
        known = {"1–9", "10–99", "100–999", "1,000 or more"}
        assert {"100–999"} <= {bucket["label"] for bucket in system["by_word"]} <= known
        assert len(system["by_position"]) == 5
        assert 0 <= system["repetition"] <= 1
        for run in system["runs"]:
            expense = run["expense"]
            assert expense["updates"] == (4 if number else 60)
            assert (expense["roll_outs"] > 0) == bool(number)
            assert expense["sentences"] > 0
            assert expense["hardware"]
            assert [point["update"] for point in run["curve"]] == ([2, 4] if number else [20, 40, 60])
            assert all(point["sentences"] > 0 for point in run["curve"])
        first = system["exposure"][0]
        assert (first["own"], first["reference"]) == (24, 24), "12 sentences for each of two seeds"
        assert first["own_right"] == first["reference_right"]


def test_all_four_forms_say_the_same(report: Path, found: dict[str, Any]) -> None:
    assert files_below(report) == {f"comparison.{ending}" for ending in ("json", "md", "tex", "html")}
    search = found["systems"][1]
    for ending in ("md", "html"):
        text = (report / f"comparison.{ending}").read_text()
        for heading in ("By sentence length", "rarest source word", "By position", "Exposure bias", "cost"):
            assert heading in text
        assert f"{search['chrf']:.2f}" in text
    assert f"{search['chrf']:.2f}" in (report / "comparison.tex").read_text()


def test_exposure_is_measured_once_for_the_same_weights(runs: Path, paths: list[Path], report: Path) -> None:
    kept = paths[0] / "exposure" / "test.json"
    before = kept.stat().st_mtime_ns

    def measure(count: str) -> dict[str, Any]:
        done(command("compare", paths[0], "--beam", "1", "--exposure", count, "--output", runs / "again"))
        values: dict[str, Any] = json.loads((runs / "again" / "comparison.json").read_text())
        return values["systems"][0]["exposure"][0]  # type: ignore[no-any-return]

    assert measure("12")["own"] == 12
    assert kept.stat().st_mtime_ns == before
    kept.write_text(kept.read_text()[:40])
    assert measure("12")["own"] == 12, "a damaged file is measured anew"
    assert measure("1000")["own"] == 30, "all there are"
    assert files_below(paths[0] / "exposure") == {"test.json"}


def test_names_and_files_beside_runs(runs: Path, paths: list[Path], report: Path) -> None:
    target = runs / "corpus" / "test.xb"
    one, two = paths[0], paths[2]
    outcome = done(
        command(
            "compare",
            f"first={one}",
            f"second={two}",
            f"oracle={target}",
            "--beam",
            "1",
            "--output",
            runs / "n",
        )
    )
    values = json.loads((runs / "n" / "comparison.json").read_text())
    assert [system["name"] for system in values["systems"]] == ["first", "second", "oracle"]
    assert [len(system["runs"]) for system in values["systems"]] == [1, 1, 1]
    assert values["systems"][2]["bleu"] == pytest.approx(100)
    assert values["systems"][2]["runs"][0]["seed"] is None
    assert values["systems"][2]["exposure"] is None
    assert "seeds" not in outcome.out


def test_a_corpus_whose_training_data_are_gone_leaves_frequencies_out(
    runs: Path, paths: list[Path], report: Path
) -> None:
    data = runs / "corpus" / "train.xa"
    aside = data.rename(data.with_name("aside"))
    try:
        done(command("compare", paths[0], "--beam", "1", "--output", runs / "gone"))
    finally:
        aside.rename(data)
    values = json.loads((runs / "gone" / "comparison.json").read_text())
    assert values["systems"][0]["by_frequency"] == values["systems"][0]["by_word"] == []
    assert "rarest source word" not in (runs / "gone" / "comparison.html").read_text()


def test_comet_is_asked_where_it_is_wanted(
    runs: Path, paths: list[Path], report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str | Path] = [
        *paths,
        "--beam",
        "1",
        "--comet",
        "some/model",
        "--output",
        tmp_path / "report",
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no comet-score on the path" in command("compare", *given).error()
    assert not (tmp_path / "report").exists()
    install(tmp_path)
    outcome = done(command("compare", *given))
    assert "comet: comet-score|model:some/model" in outcome.out
    values = json.loads((tmp_path / "report" / "comparison.json").read_text())
    assert values["systems"][1]["comet_p_value"] is not None
    assert "COMET" in (tmp_path / "report" / "comparison.tex").read_text()


def test_hostile_names_and_texts_stay_text(tmp_path: Path) -> None:
    hostile = "</bdi><script>alert(1)</script> \u202elive & | ` % $ {"
    (tmp_path / "source").write_text(f"{hostile}\nzwei\n")
    (tmp_path / "reference").write_text(f"one {hostile}\ntwo\n")
    (tmp_path / "a").write_text(f"{hostile}\n\n")
    (tmp_path / "b").write_text("one\ntwo\n")
    given: list[str | Path] = ["--sources", tmp_path / "source", "--references", tmp_path / "reference"]
    systems = [f"[*{hostile.replace('/', '')}={tmp_path / 'a'}", f"b={tmp_path / 'b'}"]
    done(command("compare", *systems, *given, "--output", tmp_path / "report"))
    page = (tmp_path / "report" / "comparison.html").read_text()
    assert "<script" not in page
    assert "\u202e" not in page
    for ending in ("md", "tex"):
        text = (tmp_path / "report" / f"comparison.{ending}").read_text()
        assert "<script" not in text.replace("\\<script", "")
        assert "\u202e" not in text


def test_the_python_function_groups_seeds_too(paths: list[Path], tmp_path: Path) -> None:
    runs = [l2s_nmt.open_run(path) for path in paths]
    compared = l2s_nmt.compare(runs, beam=1, output=tmp_path / "report")
    written = (tmp_path / "report" / "comparison.json").read_text()
    assert json.loads(written) == json.loads(json.dumps(compared.to_json()))
    assert (tmp_path / "report" / "comparison.html").is_file()
    assert [len(system.runs) for system in compared.systems] == [2, 2]
    assert compared.systems[1].bleu.p_value is not None
    assert compared.systems[0].exposure is None


@pytest.mark.parametrize(
    "option", [("--split", "valid"), ("--beam", "1"), ("--length-penalty", "0.5"), ("--exposure", "5")]
)
def test_options_of_runs_are_refused_where_files_bring_their_sentences(
    option: tuple[str, str], runs: Path, tmp_path: Path
) -> None:
    texts = runs / "corpus" / "test.xa", runs / "corpus" / "test.xb"
    outcome = command(
        "compare", texts[1], "--sources", texts[0], "--references", texts[1], *option, "--output", tmp_path
    )
    assert f"{option[0]} is of runs" in outcome.error()


def test_exposure_that_cannot_be_kept_is_told_before_it_is_measured(
    paths: list[Path], report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(paths[0], run)
    shutil.rmtree(run / "exposure")
    (run / "exposure").write_text("in the way")

    def measure(*_: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr("l2s_nmt.evaluation.exposure._measure", measure)
    outcome = command("compare", run, "--beam", "1", "--exposure", "5", "--output", tmp_path / "report")
    assert "cannot be written" in outcome.error()


def test_what_cannot_be_compared_is_refused_before_anything_is_translated(
    runs: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2s_nmt.commands.compare.evaluate_split", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "short").write_text("one line\n")
    (tmp_path / "file").touch()
    given: list[str | Path] = [paths[0], "--output", tmp_path / "report"]
    refused: list[tuple[list[str | Path], str]] = [
        ([*given, tmp_path / "short"], "short: 1 translations of 30 sentences"),
        ([*given, f"base-1={paths[1]}"], "two of the systems are called 'base-1'"),
        ([*given, "--bleu-tokenizer", "ja-mecab"], "BLEU's tokenizer ja-mecab cannot be loaded"),
        ([*given, "--comet", "model"], "there is no comet-score on the path"),
        ([paths[0], "--output", tmp_path / "file" / "report"], "cannot be written"),
    ]
    for arguments, message in refused:
        assert message in command("compare", *arguments).error()
