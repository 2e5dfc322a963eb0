from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import make_recipe, read_recipe
from l2s_nmt.run import (
    Run,
    command_line,
    environment,
    flatten,
    locked,
    open_run,
    read_metrics,
    read_stamps,
    same_data,
)
from tests.helpers import ROOT

DATA = {"files": "/corpus", "source_language": "de", "target_language": "en"}
STAMPS = {"train": "a", "valid": "b"}


def recipe(**more: Any) -> Recipe:
    return make_recipe({"data": DATA, **more})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "run", recipe(), ["l2s-nmt", "train", "x.yaml"])


def train(run: Run) -> None:
    """What the first update leaves."""
    run.metrics.write_text('{"kind": "train", "update": 1}\n')


def refused(path: Path, new: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        open_run(path, new, [])
    assert str(path) in str(caught.value)
    return str(caught.value)


# ---- making and taking up ------------------------------------------------------------------------


def test_a_new_run_holds_its_recipe_and_its_environment(run: Run) -> None:
    assert run.read_recipe() == recipe()
    assert read_recipe(run.path / "recipe.yaml") == recipe()
    written = json.loads((run.path / "environment.json").read_text())
    assert written["command"] == ["l2s-nmt", "train", "x.yaml"]
    assert written["seed"] == 1


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/x/bin/l2s-nmt", "train", "a b"], ["l2s-nmt", "train", "a b"]),
        ([str(ROOT / "l2s_nmt" / "__main__.py"), "train"], ["l2s-nmt", "train"]),
        (["/x/__main__.py", "train"], []),
        (["/x/mine.py", "--token", "secret"], []),
        ([""], []),
    ],
)
def test_the_command_is_ours_or_none(
    argv: list[str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == command


def test_the_commit_is_of_this_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, its files may be inside somebody else's repository."""
    for arguments in (["init"], ["commit", "--allow-empty", "-m", "theirs"]):
        git = ["git", "-c", "user.name=x", "-c", "user.email=x", *arguments]
        subprocess.run(git, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "run.py").touch()
    monkeypatch.setattr("l2s_nmt.run.__file__", str(tmp_path / "run.py"))
    assert environment(1, [])["git_commit"] is None
    subprocess.run(["git", "add", "run.py"], cwd=tmp_path, check=True)
    assert len(environment(1, [])["git_commit"].removesuffix("-dirty")) == 40


def test_a_run_is_taken_up_with_the_same_recipe_only(run: Run) -> None:
    train(run)
    before = (run.path / "environment.json").read_bytes()
    assert open_run(run.path, recipe(), ["again"]) == run
    assert (run.path / "environment.json").read_bytes() == before
    message = refused(run.path, recipe(seed=2, training={"learning_rate": 0.7, "max_updates": 7}))
    assert "holds a run of another recipe" in message
    assert "seed: 1 there, 2 now" in message
    assert "training.learning_rate: 0.001 there, 0.7 now" in message
    assert "label_smoothing" not in message
    assert "choose another --output" in message
    assert run.read_recipe() == recipe()


@pytest.mark.parametrize("there", ["metrics.jsonl", "best", "last", "checkpoints"])
def test_anything_trained_keeps_another_recipe_out(there: str, run: Run) -> None:
    (run.path / there).mkdir()
    assert "another recipe" in refused(run.path, recipe(seed=2))


def test_a_start_that_failed_before_training_does_not_keep_a_corrected_recipe_out(run: Run) -> None:
    run.tokenizer.mkdir()
    (run.tokenizer / "tokenizer_config.json").touch()
    (run.path / ".recipe.yaml.17.tmp").touch()  # of a process that was killed
    open_run(run.path, recipe(seed=2), ["corrected"])
    assert run.read_recipe().seed == 2
    assert json.loads((run.path / "environment.json").read_text())["command"] == ["corrected"]
    assert not run.tokenizer.exists()  # it may be of other data


def test_a_start_that_was_killed_before_the_recipe_was_written_is_no_obstacle(run: Run) -> None:
    run.recipe_path.unlink()
    assert open_run(run.path, recipe(), []).read_recipe() == recipe()


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert "is not empty and no run directory; choose another --output" in refused(tmp_path, recipe())
    with pytest.raises(UserError, match="is not empty and no run directory"), locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_recipe_of_the_user_s_own_is_not_overwritten(tmp_path: Path) -> None:
    text = "# mine\n" + json.dumps({"data": DATA, "seed": 5})
    (tmp_path / "recipe.yaml").write_text(text)
    assert "another recipe (seed: 5 there, 1 now)" in refused(tmp_path, recipe())
    assert (tmp_path / "recipe.yaml").read_text() == text


def test_a_run_is_found_from_wherever_a_command_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"from_run": "runs/base"}
    data = {**DATA, "files": "corpus"}
    search = {
        "algorithm": "imitkd",
        "roll_in": {"cross_trained": ["runs/one", "runs/two"]},
        "roll_out": {"experts": ["runs/expert"]},
    }
    monkeypatch.chdir(tmp_path)
    given = make_recipe({"data": data, "model": model, "search": search})
    run = open_run(tmp_path / "run", given, [])
    train(run)
    monkeypatch.chdir("/")
    written = run.read_recipe()
    assert written.data.files == str(tmp_path / "corpus")
    assert written.model.from_run == str(tmp_path / "runs" / "base")
    assert written.search.roll_in.cross_trained == (
        str(tmp_path / "runs" / "one"),
        str(tmp_path / "runs" / "two"),
    )
    assert written.search.roll_out.experts == (str(tmp_path / "runs" / "expert"),)
    assert "model.from_run: " in refused(run.path, given)
    monkeypatch.chdir(tmp_path)
    open_run(run.path, given, [])


def test_a_model_on_the_hub_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for number, (name, written) in enumerate({"a/b": "a/b", "mine": str(tmp_path / "mine")}.items()):
        run = open_run(tmp_path / f"run{number}", recipe(model={"pretrained": name}), [])
        assert run.read_recipe().model.pretrained == written


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({"schedule": "constant"}, True),
        ({"schedule": "cosine"}, False),
        ({"schedule": "constant", "averaging": {"starts": 2}}, False),
    ],
)
def test_limits_may_be_raised_unless_training_went_by_them(
    settings: dict[str, Any], may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["/bin/l2s-nmt", "train", "further"])
    short, long = (recipe(training={"max_updates": n, **settings}) for n in (5, 9))
    train(open_run(path, short, []))
    if may:
        same_data(open_run(path, long, []), long, STAMPS)
        assert Run(path).read_recipe() == long
        noted = json.loads((path / "environment.json").read_text())
        assert noted["command"] == ["l2s-nmt", "train", "further"]
        seeded = recipe(seed=2, training={"max_updates": 9, **settings})
        assert "(seed: 1 there, 2 now)" in refused(path, seeded)
    else:
        assert "(training.max_updates: 5 there, 9 now)" in refused(path, long)


def test_limits_that_do_not_end_training_later_are_not_written_down(tmp_path: Path) -> None:
    """The recipe of a run that has ended says to which limits it was trained."""
    path, long = tmp_path / "run", recipe(training={"max_updates": 9})
    train(open_run(path, long, ["l2s-nmt", "train", "first"]))
    same_data(Run(path), long, STAMPS)
    short = recipe(training={"max_updates": 5, "max_minutes": 1.0, "patience": 1})
    same_data(open_run(path, short, []), short, STAMPS, ended=True)
    assert Run(path).read_recipe() == long
    environment = json.loads((path / "environment.json").read_text())
    assert environment["command"] == ["l2s-nmt", "train", "first"]


def test_what_is_refused_is_named_and_not_what_may_change(tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(open_run(path, recipe(training={"max_updates": 9}), []))
    limits = {"max_updates": 10, "max_epochs": 9, "max_minutes": 9.0, "max_roll_outs": 99, "patience": 9}
    message = refused(path, recipe(training={**limits, "validate_every": 6}))
    assert "another recipe (training.validate_every: 500 there, 6 now)" in message


def test_files_may_have_moved_but_not_changed(run: Run, tmp_path: Path) -> None:
    same_data(run, recipe(), STAMPS)
    train(run)
    moved = make_recipe({"data": {**DATA, "files": str(tmp_path / "moved")}})
    open_run(run.path, moved, [])
    for split in ("train", "valid"):
        with pytest.raises(UserError, match=rf"was begun with other data \({split}\); bring them back"):
            same_data(run, moved, {**STAMPS, split: "c"})
        assert run.read_recipe() != moved, "what was refused has changed nothing"
    same_data(run, moved, STAMPS)
    assert run.read_recipe() == moved
    run.data.write_text("{")
    with pytest.raises(UserError, match=r"data\.json: damaged.*remove it and train the run on"):
        same_data(run, moved, STAMPS)
    run.data.unlink()
    with pytest.raises(UserError, match=r"has no data\.json.*give the command that trained it once more"):
        read_stamps(run)
    same_data(run, moved, STAMPS)
    assert read_stamps(run) == STAMPS


def test_a_start_that_failed_may_be_of_other_data(run: Run) -> None:
    same_data(run, recipe(), STAMPS)
    open_run(run.path, recipe(), [])
    same_data(run, recipe(), {**STAMPS, "train": "c"})


def test_a_folder_that_holds_nothing_but_its_lock_is_empty(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        open_run(tmp_path / "run", recipe(), [])


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        assert "cannot be made: " in refused(path, recipe())
        with (
            pytest.raises(UserError, match=r"file.*cannot be written: .*; choose another --output"),
            locked(path),
        ):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied; choose another --output" in refused(tmp_path / "run", recipe())


@pytest.mark.parametrize("name", ["best", "last"])
def test_weights_that_a_crash_left_aside_are_brought_back(name: str, run: Run) -> None:
    train(run)
    (run.path / f".{name}.old").mkdir()
    (run.path / f".{name}.old" / "config.json").touch()
    if name == "best":  # who only reads takes them where they are
        assert run.weights() == run.path / ".best.old"
    open_run(run.path, recipe(), [])
    assert (run.path / name / "config.json").exists()


# ---- one process at a time -----------------------------------------------------------------------


def _try_to_lock(path: Path, answers: Any) -> None:
    try:
        with locked(path):
            answers.put("mine")
    except UserError as error:
        answers.put(str(error))


def _from_another_process(path: Path) -> str:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_try_to_lock, args=(path, answers))
    process.start()
    process.join()
    answer: str = answers.get()
    return answer


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with locked(path):
        assert (
            _from_another_process(path)
            == f"{path}: another process is writing this run; wait for it or stop it"
        )
    assert _from_another_process(path) == "mine"
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    assert _from_another_process(path) == "mine"


# ---- what is in it -------------------------------------------------------------------------------


def test_the_environment_says_what_figures_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = environment(17, ["command"])
    assert json.loads(json.dumps(found)) == found
    assert found["seed"] == 17
    assert found["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert set(found["packages"]) >= {"l2s-nmt", "transformers", "accelerate", "datasets", "sacrebleu"}
    assert found["processes"] == 3
    assert found["threads"] == torch.get_num_threads()
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert found["memory_gib"] > 0
    assert found["python"].startswith("3.")
    assert found["processor"]
    in_checkout = (Path(__file__).parents[2] / ".git").exists() and shutil.which("git")
    assert (found["git_commit"] is not None) == bool(in_checkout)


def test_a_path_that_is_no_run_is_refused(tmp_path: Path, run: Run) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"not a run directory \(it has no recipe.yaml\)"):
            Run(path).read_recipe()
        with pytest.raises(UserError, match="not a run directory"):
            Run(path).weights()
    with pytest.raises(UserError, match=r"run: no weights yet \(no best/\)"):
        run.weights()


def test_paths_of_translations_and_scores(run: Run) -> None:
    assert run.translations("test") == run.path / "translations" / "test.txt"
    assert run.scores("valid", "beam1") == run.path / "scores" / "valid.beam1.json"


def test_metrics_are_read_line_by_line(run: Run) -> None:
    assert read_metrics(run) == []
    run.metrics.write_text('{"update": 1}\n{"update": 2}\n')
    assert read_metrics(run) == [{"update": 1}, {"update": 2}]
    run.metrics.write_text('{"update": 1}\n{"upd')  # the process was killed while it wrote
    assert read_metrics(run) == [{"update": 1}]
    run.metrics.write_text('{"update": 1}\n{"upd\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line \d+: damaged"):
        read_metrics(run)


def test_flatten_gives_dotted_keys() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}


def test_of_processes_that_share_a_training_the_main_one_holds_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path / "run"):
        with pytest.raises(UserError, match="another process is writing this run"), locked(tmp_path / "run"):
            pass
        monkeypatch.setenv("RANK", "1")
        with locked(tmp_path / "run"):
            pass
