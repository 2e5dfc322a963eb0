"""A whole plan: trained, interrupted and gone on with, compared, drawn, and drawn again from the figures alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.errors import UserError
from l2s_nmt.recipe_yaml import dump_yaml, load_yaml
from l2s_nmt.run import Run
from scripts.experiments import scorings, trainings
from scripts.experiments.drawing import draw
from scripts.experiments.jobs import command
from scripts.experiments.plan import Study, Training
from scripts.experiments.results import keep_results
from scripts.experiments.scorings import score_all
from scripts.experiments.trainings import is_trained, train_all
from scripts.run_experiments import main
from scripts.which_settings import HEAD, sections
from tests.helpers import ROOT, files_below, read_lines, tiny_recipe, write_recipe
from tests.processes import start_copy

PLANS = sorted((ROOT / "recipes").glob("*/experiments/*.yaml"))


@pytest.fixture
def plan(corpus: Path, tmp_path: Path) -> Path:
    """A start, its continuation and a search, two seeds each."""
    recipes = tmp_path / "recipes" / "little"
    (recipes / "experiments").mkdir(parents=True)
    start = tiny_recipe(corpus, training={"max_updates": 6, "validate_every": 3})
    write_recipe(recipes / "start.yaml", start)
    del start["model"], start["tokenizer"]
    write_recipe(recipes / "more.yaml", {**start, "model": {"from_run": "given by the plan"}})
    written = {
        "title": "A little | comparison",
        "question": "Search or not?",
        "start": "start.yaml",
        "seeds": [1, 2],
        "splits": ["test"],
        "exposure": 5,
        "settings": {"training": {"max_updates": 4, "log_every": 1}},
        "systems": {
            "continued": {"recipe": "more.yaml", "label": "teacher forcing"},
            "search": {"recipe": "more.yaml", "settings": {"search": {"algorithm": "aggrevated"}}},
        },
    }
    path = recipes / "experiments" / "first.yaml"
    path.write_text(dump_yaml(written))
    return path


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in copies of this process, which has all libraries loaded; only the time that takes is another."""

    def forked(arguments: Sequence[str], threads: int) -> str | None:
        ended = start_copy(*arguments).outcome()
        return ended.err.strip().splitlines()[-1] if ended.status else None

    monkeypatch.setattr(trainings, "command", forked)
    monkeypatch.setattr(scorings, "command", forked)


def run(plan: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/run_experiments.py", str(plan), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "L2S_NMT_DATA"},
    )


@pytest.mark.usefixtures("at_once")
def test_from_nothing_to_table_and_picture(
    plan: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = tmp_path / "runs"
    study = Study.read(plan, runs, None)
    first, *_, last = (training.run for training in study.trainings())
    train_all(study, 1, 1)
    before = (first / "metrics.jsonl").stat().st_mtime_ns
    shutil.rmtree(last)

    monkeypatch.delenv("L2S_NMT_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["run_experiments.py", str(plan), "--runs", str(runs), "--threads", "1"])
    main()
    said = capsys.readouterr().out
    assert (first / "metrics.jsonl").stat().st_mtime_ns == before
    assert all(is_trained(training) for training in study.trainings())
    results = plan.parent.parent / "results" / "first"
    kept = {str(path) for path in files_below(results)}
    assert kept == {
        "environment.json",
        "table.md",
        "curves.svg",
        "test.beam1.json",
        "test.beam5.json",
        "start/recipe.yaml",
        "start/metrics.jsonl",
        *(
            f"{name}/seed{seed}/{file}"
            for name in ("continued", "search")
            for seed in (1, 2)
            for file in ("recipe.yaml", "metrics.jsonl")
        ),
    }
    table = (results / "table.md").read_text()
    found = json.loads((results / "test.beam1.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["teacher forcing", "the start", "search"]
    assert [len(system["runs"]) for system in found["systems"]] == [2, 1, 2]
    assert "the start" not in (results / "curves.svg").read_text()
    for system in (found["systems"][0], found["systems"][2]):
        assert f"{system['bleu']:.2f} ± {system['bleu_deviation']:.2f}" in table
        assert system["exposure"] is not None
    reasons = table.partition("## What the searches saw")[2]
    assert "\n| search | " in reasons.partition("## Exposure bias")[0]
    assert "\n| teacher forcing | " not in reasons.partition("## Exposure bias")[0]
    first_range = [row for row in found["systems"][2]["exposure"] if row["last"] and row["last"] <= 5]
    right = sum(row["own_right"] for row in first_range) / sum(row["own"] for row in first_range)
    assert f"\n| search | {right:.1%} | " in reasons.partition("## Exposure bias, test, greedy")[2]
    rare = found["systems"][2]["by_word"][0]
    words = reasons.partition("## Words by their frequency, test, greedy")[2]
    assert f"\n| search | {rare['precision']:.1f} / {rare['recall']:.1f} | " in words.partition("\n## ")[0]
    assert found["signatures"]["bleu"] in table
    assert said.strip().endswith(table.strip())
    # Figures only: none of the corpus, and nothing of this machine.
    text = "".join((results / name).read_text() for name in kept)
    sentence = (corpus / "test.xb").read_text().splitlines()[0]
    assert sentence not in text
    assert str(runs) not in text
    assert "from_run: runs/little/start" in (results / "search" / "seed2" / "recipe.yaml").read_text()
    assert read_lines(results / "search" / "seed2" / "metrics.jsonl")[-1]["kind"] == "end"

    for name in ("table.md", "curves.svg"):
        (results / name).rename(tmp_path / name)
    runs.rename(tmp_path / "gone")
    never_run = plan.with_name("another.yaml")
    never_run.write_text(plan.read_text())
    drawn = run(never_run, str(plan), "--runs", str(runs), "--redraw")
    assert drawn.returncode == 2
    assert drawn.stderr.count("error: ") == 1
    assert "another/test.beam1.json: no figures to draw" in drawn.stderr
    never_run.unlink()
    for name in ("table.md", "curves.svg"):
        assert (results / name).read_text() == (tmp_path / name).read_text()

    page = recipes_page(plan.parent.parent.parent)
    assert page.count("\n## ") == 1
    assert "\n## Search or not?\n" in page
    assert table.split("\n\n")[1] in page
    best = max(found["systems"], key=lambda system: float(system["bleu"]))
    assert f"Best: {best['name']} greedily (test); " in page
    assert (results.parent.parent.parent / "little/results/first/table.md").exists()
    assert "(little/results/first/table.md)" in page


@pytest.mark.usefixtures("at_once")
def test_what_stands_in_two_plans_is_trained_and_scored_once(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(os.path.relpath(tmp_path / "runs"))  # a run keeps absolute paths
    plan.write_text(plan.read_text().replace("- 2\n", "") + "beams: [1]\n")
    first = Study.read(plan, runs, None)
    train_all(first, 1, 1)
    score_all(first, 1, 1)
    said: list[list[str]] = []
    monkeypatch.setattr(trainings, "command", lambda arguments, threads: said.append(list(arguments)))
    monkeypatch.setattr(scorings, "command", lambda arguments, threads: said.append(list(arguments)))

    other = plan.with_name("second.yaml")
    other.write_text(plan.read_text())
    second = Study.read(other, runs, None)
    train_all(second, 1, 1)
    score_all(second, 1, 1)
    assert not said
    for one, twin in zip(first.trainings(), second.trainings(), strict=True):
        assert twin.run != one.run
        weights = [run / "best" / "model.safetensors" for run in (one.run, twin.run)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        assert is_trained(twin)

    # Another setting makes another run, and other weights are scored again.
    other.write_text(plan.read_text().replace("max_updates: 4", "max_updates: 5"))
    shutil.rmtree(runs / "little" / "second")
    train_all(Study.read(other, runs, None), 1, 1)
    assert [arguments[0] for arguments in said] == ["train", "train"]
    said.clear()
    shutil.copytree(runs / "little" / "start" / "best", first.trainings()[0].run / "best", dirs_exist_ok=True)
    score_all(first, 1, 1)
    assert [arguments[:2] for arguments in said] == [["evaluate", str(first.trainings()[0].run)]]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("place", ["roll_in.cross_trained", "roll_out.experts"])
def test_what_systems_learn_with_is_trained_before_them(place: str, plan: Path, tmp_path: Path) -> None:
    parts: dict[str, dict[str, Any]] = {
        f"half_{part}": {"recipe": "start.yaml", "settings": {"data": {"fold": {"of": 2, "left_out": part}}}}
        for part in (0, 1)
    }
    parts["half_1"]["settings"]["tokenizer"] = {"pretrained": "runs/little/start/tokenizer"}
    paths = [f"runs/little/{name}" for name in parts]
    written = load_yaml(plan.read_text(), str(plan), "a plan", numbered=False)[0]
    written["others"] = parts
    written["seeds"] = [1]
    written["beams"] = [1]
    section, key = place.split(".")
    if key == "experts":
        paths.append("runs/little/start")
        written["systems"]["search"]["settings"]["search"] = {"algorithm": "imitkd"}
    written["systems"]["search"]["settings"]["search"][section] = {key: paths}
    plan.write_text(dump_yaml(written))
    runs = tmp_path / "elsewhere"
    study = Study.read(plan, runs, None)
    train_all(study, 1, 1)
    assert [one.run for one in study.others()] == [runs / "little" / name for name in parts]
    borrowed = Run(runs / "little" / "half_1").read_recipe().tokenizer.pretrained
    assert borrowed == str(runs / "little" / "start" / "tokenizer")
    learner = Run(study.trainings()[1].run).read_recipe()
    here = tuple(str(runs / "little" / Path(path).name) for path in paths)
    assert getattr(getattr(learner.search, section), key) == here
    score_all(study, 1, 1)
    keep_results(study)
    for part, name in enumerate(parts):
        assert f"left_out: {part}" in (study.results / name / "recipe.yaml").read_text()
    assert "pretrained: runs/little/start/tokenizer" in (study.results / "half_1" / "recipe.yaml").read_text()
    published = (study.results / "search" / "seed1" / "recipe.yaml").read_text()
    assert all(path in published for path in paths)
    assert str(runs) not in published


def recipes_page(recipes: Path) -> str:
    """The page of all plans, as the script writes it."""
    script = ROOT / "scripts" / "which_settings.py"
    subprocess.run([sys.executable, script, "--recipes", recipes], check=True, cwd=ROOT, capture_output=True)
    return (recipes / "which_settings.md").read_text()


def test_a_page_of_nothing_is_refused(plan: Path) -> None:
    with pytest.raises(UserError, match="no plan that asks a question has figures"):
        sections(plan.parent.parent.parent)


def test_a_command_tells_the_last_that_it_said_where_it_failed(tmp_path: Path) -> None:
    assert (
        command(["train", str(tmp_path / "none.yaml")], 1) == f"error: {tmp_path}/none.yaml: no such recipe"
    )


@pytest.mark.usefixtures("at_once")
def test_a_training_that_fails_does_not_keep_the_others(plan: Path, tmp_path: Path) -> None:
    plan.write_text(plan.read_text().replace("start: start.yaml", "start: null"))
    recipes = plan.parent.parent
    (recipes / "start.yaml").rename(recipes / "more.yaml")
    plan.write_text(plan.read_text().replace("- 2\n", ""))
    study = Study.read(plan, tmp_path / "runs", None)
    foreign = study.trainings()[0].run
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("not a run")
    with pytest.raises(UserError, match=r"continued/seed1: .*no run directory"):
        train_all(study, 1, 1)
    assert [is_trained(training) for training in study.trainings()] == [False, True]
    with pytest.raises(UserError):
        keep_results(study)


@pytest.mark.usefixtures("at_once")
def test_finished_runs_of_another_recipe_are_refused_or_trained_further(
    plan: Path, corpus: Path, tmp_path: Path
) -> None:
    runs, text = tmp_path / "runs", plan.read_text().replace("- 2\n", "")
    plan.write_text(text)
    study = Study.read(plan, runs, None)
    train_all(study, 1, 1)
    moved = Study.read(plan, runs, shutil.copytree(corpus, tmp_path / "elsewhere"))
    assert all(is_trained(training) for training in moved.trainings()), "the same corpus in another place"
    assert "max_updates: 4" in text
    for change, limit in (("max_updates: 4\n    learning_rate: 0.5", 4), ("max_updates: 6", 6)):
        plan.write_text(text.replace("max_updates: 4", change))
        changed = Study.read(plan, runs, None)
        assert not any(is_trained(training) for training in changed.trainings())
        if limit == 4:
            with pytest.raises(UserError, match=r"another recipe \(training.learning_rate: .* 0.5 now\)"):
                train_all(changed, 1, 1)
        else:
            train_all(changed, 1, 1)
            assert all(is_trained(training) for training in changed.trainings())
        for training in changed.trainings():
            assert read_lines(training.run / "metrics.jsonl")[-1]["update"] == limit


@pytest.mark.usefixtures("at_once")
def test_runs_that_began_from_another_start_are_refused(plan: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    plan.write_text(plan.read_text().replace("- 2\n", ""))
    study = Study.read(plan, runs, None)
    train_all(study, 1, 1)
    trained_on = study.trainings()[0].run / "last" / "model.safetensors"
    shutil.copy(trained_on, runs / "little" / "start" / "best" / "model.safetensors")
    with pytest.raises(
        UserError, match=r"continued/seed1: was trained from other weights than .*start has now; remove"
    ):
        train_all(study, 1, 1)
    assert not any(is_trained(training) for training in study.trainings())
    other = plan.with_name("other.yaml")
    other.write_text(plan.read_text())
    second = Study.read(other, runs, None)
    train_all(second, 1, 1)
    for old, new in zip(study.trainings(), second.trainings(), strict=True):
        assert is_trained(new)
        weights = [run / "last" / "model.safetensors" for run in (old.run, new.run)]
        assert weights[0].read_bytes() != weights[1].read_bytes(), "no twin of what began elsewhere"
    shutil.rmtree(study.trainings()[0].run)
    shutil.rmtree(study.trainings()[1].run)
    train_all(study, 1, 1)
    assert all(is_trained(training) for training in study.trainings())


@pytest.mark.usefixtures("at_once")
def test_finished_runs_with_other_code_of_ones_own_are_refused(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / "cost_of_a_plan.py"
    own.write_text(text := "def cost(sources, translations, references):\n    return [0.5] * len(sources)\n")
    written = load_yaml(plan.read_text(), str(plan), "a plan", numbered=False)[0]
    cost = {"name": "own", "function": "cost_of_a_plan:cost"}
    written["systems"]["search"]["settings"]["search"] = {"algorithm": "lols", "cost": cost}
    written["seeds"] = [1]
    plan.write_text(dump_yaml(written))
    study = Study.read(plan, tmp_path / "runs", None)
    train_all(study, 1, 1)
    own.write_text(text.replace("0.5", "0.6"))
    assert [is_trained(training) for training in study.trainings()] == [True, False]
    with pytest.raises(UserError, match="was begun with another cost_of_a_plan"):
        train_all(study, 1, 1)
    other = plan.with_name("other.yaml")
    other.write_text(plan.read_text())
    train_all(Study.read(other, tmp_path / "runs", None), 1, 1)  # no twin of the other's
    kept = tmp_path / "runs" / "little" / "other" / "search" / "seed1" / "code" / "cost_of_a_plan.py"
    assert kept.read_text() == own.read_text()


@pytest.mark.usefixtures("at_once")
def test_what_was_kept_of_other_systems_is_not_drawn(plan: Path, tmp_path: Path) -> None:
    plan.write_text(plan.read_text().replace("- 2\n", "").replace("- test\n", "- test\n- valid\n"))
    study = Study.read(plan, tmp_path / "runs", None)
    train_all(study, 1, 1)
    score_all(study, 1, 1)
    environment = study.trainings()[0].run / "environment.json"
    whole = environment.read_text()
    environment.write_text("{")
    with pytest.raises(UserError, match=r"continued/seed1/environment.json: cannot be read"):
        keep_results(study)
    environment.write_text(whole)
    keep_results(study)
    draw(study)
    figures = study.results / "valid.beam1.json"
    figures.write_text(figures.read_text().replace("teacher forcing", "what it was called"))
    with pytest.raises(UserError, match="not all figures are of the same systems"):
        draw(study)


def test_without_figures_there_is_nothing_to_draw(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the plan first"):
        draw(Study.read(plan, tmp_path / "runs", None))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "{",
        "[" * 100_000,
        '{"systems": []}',
        '{"systems": [{}]}',
        '{"systems": [1]}',
        '{"systems": {"name": 1}}',
    ],
)
def test_damaged_figures_are_not_drawn(text: str, plan: Path, tmp_path: Path) -> None:
    study = Study.read(plan, tmp_path / "runs", None)
    study.results.mkdir(parents=True)
    (study.results / "test.beam1.json").write_text(text)
    with pytest.raises(UserError, match=r"test.beam1.json: cannot be read \(.*\); run the plan again"):
        draw(study)


def test_figures_that_are_not_whole_are_not_drawn(plan: Path, tmp_path: Path) -> None:
    study = Study.read(plan, tmp_path / "runs", None)
    study.results.mkdir(parents=True)
    for split in study.plan.splits:
        for beam in study.plan.beams:
            (study.results / f"{split}.beam{beam}.json").write_text('{"systems": [{"name": "a"}]}')
    with pytest.raises(UserError, match=r"damaged figures \(KeyError.*\); run the plan again"):
        draw(study)
    assert not (study.results / "table.md").exists()


@pytest.mark.parametrize("option", ["--jobs=0", "--threads=0", "--threads=-3"])
def test_no_jobs_and_no_threads_are_refused(option: str) -> None:
    outcome = run(PLANS[0], option, "--redraw")
    name, _, value = option.partition("=")
    assert outcome.returncode == 2
    assert f"argument {name}: {value} is too few; give 1 or more" in outcome.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sedes: [1]", "first.yaml: sedes: Unexpected"),
        ("seeds: one", "first.yaml: seeds: Input should be a valid"),
        ("seeds: []", "first.yaml: seeds: Tuple should have at least 1 item"),
        ("seeds: [1, 2, 1]", "first.yaml: seeds: Value error, the same more than once"),
        ("beams: []", "first.yaml: beams: Tuple should have at least 1 item"),
        ("beams: [1, 0]", "first.yaml: beams.1: Input should be greater than or equal to 1"),
        ("splits: []", "first.yaml: splits: Tuple should have at least 1 item"),
        (
            "systems: {a: {recipe: more.yaml, label: the start}}",
            "first.yaml: systems: two rows of the table are called 'the start'",
        ),
        (
            "systems: {a: {recipe: more.yaml}, b: {recipe: more.yaml, label: a}}",
            "first.yaml: systems: two rows of the table are called 'a'",
        ),
        ("systems: {}", "first.yaml: systems: Dictionary should have at least 1 item"),
        ("systems: {Search: {recipe: more.yaml}}", "first.yaml: systems"),
        (
            "settings: {training: {max_update: 4}}",
            "first.yaml: systems.continued: recipe: unknown key training.max_",
        ),
        ("systems: {other: {recipe: other.yaml}}", "other.yaml"),
        ("question: [2020-01-01]", "first.yaml: question: Input should be a valid string"),
        (
            "systems: {a: {recipe: more.yaml, settings: {search: lols}}}",
            "first.yaml: systems.a: recipe: search: found",
        ),
        ("settings: {model: 3}", "first.yaml: systems.continued: recipe: model: found 3"),
        (
            "others: {a: {recipe: start.yaml, settings: {tokenizer: runs/x}}}",
            "first.yaml: others.a: recipe: tokenizer: found",
        ),
        ("others: {start: {recipe: start.yaml}}", "first.yaml: others.start: the plan has that name"),
        ("others: {first: {recipe: start.yaml}}", "first.yaml: others.first: the plan has that name"),
        ("[", "first.yaml"),
    ],
)
def test_a_plan_that_is_unsound_is_refused(plan: Path, tmp_path: Path, change: str, message: str) -> None:
    key = change.partition(":")[0]
    lines = plan.read_text()
    if f"\n{key}:" in lines:
        head, _, rest = lines.partition(f"\n{key}:")
        following = rest.splitlines()[1:]
        while following and following[0].startswith((" ", "-")):
            following.pop(0)
        lines = "\n".join([head, *following, ""])
    plan.write_text(f"{lines}{change}\n")

    def read() -> list[Training]:
        study = Study.read(plan, tmp_path / "runs", None)
        return [*study.trainings(), *study.others()]

    with pytest.raises(UserError) as error:
        read()
    assert message in str(error.value)


def test_a_title_may_be_a_date_and_a_section_empty(plan: Path, tmp_path: Path) -> None:
    first = Study.read(plan, tmp_path, None).trainings()
    text = plan.read_text().replace("title: A little | comparison", "title: 2020-01-01")
    plan.write_text(text.replace("settings:\n  training:", "settings:\n  model:\n  search:\n  training:", 1))
    study = Study.read(plan, tmp_path, None)
    assert study.plan.title == "2020-01-01"
    assert [training.recipe() for training in study.trainings()] == [training.recipe() for training in first]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_the_shipped_plans_are_sound(path: Path, tmp_path: Path) -> None:
    study = Study.read(path, tmp_path, None)
    planned = study.trainings()
    assert len(planned) == len(study.plan.systems) * len(study.plan.seeds)
    assert len({training.run for training in planned}) == len(planned)


def test_the_data_of_one_corpus_are_not_for_plans_of_several(tmp_path: Path) -> None:
    first, other = PLANS[0], PLANS[-1]
    outcome = run(first, str(other), "--data", str(tmp_path), "--redraw")
    assert outcome.returncode == 2
    assert "--data is the folder of one corpus" in outcome.stderr


DRAWN = [path for path in PLANS if [*(path.parent.parent / "results" / path.stem).glob("*.beam*.json")]]


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_the_shipped_tables_and_pictures_are_those_of_the_shipped_figures(path: Path, tmp_path: Path) -> None:
    corpus = path.parent.parent
    there = tmp_path / corpus.name
    for part in ("experiments", f"results/{path.stem}"):
        shutil.copytree(corpus / part, there / part)
    study = Study.read(there / "experiments" / path.name, tmp_path, None)
    for name in ("table.md", "curves.svg"):
        (study.results / name).unlink()
    draw(study)
    for name in ("table.md", "curves.svg"):
        shipped = corpus / "results" / path.stem / name
        assert (study.results / name).read_text() == shipped.read_text()


def test_the_shipped_page_of_settings_is_that_of_the_shipped_figures() -> None:
    recipes = ROOT / "recipes"
    assert "\n".join([HEAD, *sections(recipes)]) == (recipes / "which_settings.md").read_text()
