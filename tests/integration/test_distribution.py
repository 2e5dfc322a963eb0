"""Several processes, of a launcher's or on their own, do what one does: each sentence once, the same results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.helpers import PATIENCE, ROOT, command, done, launcher, process, read_lines, write_recipe
from tests.processes import ends, start_together, together
from tests.same_training import assert_same_training, assert_same_weights, recipe

SHARDED = "--config_file recipes/accelerate/fsdp.yaml"
ZERO = "--config_file recipes/accelerate/deepspeed.yaml"
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def launched(processes: int, kind: str, *arguments: str | Path) -> None:
    """Let accelerate's launcher start them."""
    outcome = process(*arguments, launcher=launcher(processes, kind))
    assert outcome.status == 0, outcome.err


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    settings = recipe(corpus, "teacher_forcing", 256, max_updates=100, validate_every=100)
    settings["evaluation"] = {"batch_tokens": 128}  # so that there are many batches
    path = write_recipe(folder / "recipe.yaml", settings)
    done(command("train", path, "--output", folder / "run"))
    return folder / "run"


def assert_trains_as_one(
    processes: int,
    whole: Any,
    folder: Path,
    search: str,
    batch_tokens: int,
    *changes: str,
    **settings: Any,
) -> None:
    path, run = whole(search, batch_tokens, **settings)
    together(processes, "train", path, *changes, "--output", folder / "run")
    assert json.loads((folder / "run" / "environment.json").read_text())["processes"] == processes
    assert_same_training(run, folder / "run")


def test_some_processes_may_have_no_sentence(whole: Any, tmp_path: Path) -> None:
    """With 8 tokens an update many updates are a single sentence."""
    assert_trains_as_one(3, whole, tmp_path, "teacher_forcing", 8)


def test_several_processes_go_on_from_a_run_as_one_does(whole: Any, trained: Path, tmp_path: Path) -> None:
    """In several parts each, of which the last alone sends its gradient."""
    assert_trains_as_one(2, whole, tmp_path, "lols", 48, "training.accumulation=2", start=trained)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(
    "search",
    [
        "teacher_forcing",
        "scheduled_sampling",  # no roll-out
        "dagger",
        "aggrevate",  # the reference's
        "aggrevated",
        "lols_learned",  # the model's
        "lols",  # mixed by the decision
        "searn",  # mixed by the state
        "searnn",  # mixed by the sentence
        "bandit_lols",
        "reinforce",  # the whole trajectory
        "minimum_risk",
    ],
)
def test_every_kind_of_roll_out_is_the_same_on_several(
    processes: int, search: str, whole: Any, tmp_path: Path
) -> None:
    assert_trains_as_one(processes, whole, tmp_path, search, 96)


def test_each_sentence_is_trained_on_once_an_epoch(whole: Any, corpus: Path, tmp_path: Path) -> None:
    """What DAgger keeps names the sentences that each process has had."""
    path, run = whole("dagger", 200, max_updates=None, max_epochs=1)
    together(3, "train", path, "--output", tmp_path / "run")
    assert_same_training(run, tmp_path / "run")
    rows: dict[str, list[int]] = {}
    for kept in (tmp_path / "run" / "aggregated").glob("*.safetensors"):
        _, process_index, _ = kept.stem.split("-")
        rows.setdefault(process_index, []).extend(load_file(kept)["rows"].tolist())
    assert set(rows) == {"00000", "00001", "00002"}
    sentences = len((corpus / "train.xa").read_text().splitlines())
    assert sorted(row for had in rows.values() for row in had) == list(range(sentences))


def test_several_processes_evaluate_as_one_does(trained: Path, tmp_path: Path) -> None:
    shared = tmp_path / "run"
    shutil.copytree(trained, shared)
    options = ("--split", "test", "--split", "valid", "--beam", "2")
    alone = done(command("evaluate", trained, *options)).out
    assert together(3, "evaluate", shared, *options) == alone.replace(str(trained), str(shared))
    for split in ("test", "valid"):
        translations = (trained / "translations" / f"{split}.beam2.txt").read_text()
        assert len(set(translations.splitlines())) > 3
        assert (shared / "translations" / f"{split}.beam2.txt").read_text() == translations
        scores = (trained / "scores" / f"{split}.beam2.json").read_text()
        assert (shared / "scores" / f"{split}.beam2.json").read_text() == scores


@pytest.mark.slow
def test_several_processes_translate_and_compare_as_one_does(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    sources = (
        b"\n" + (corpus / "test.xa").read_bytes()[:-1]
    )  # a line without words, and none that ends the text
    alone = done(command("translate", trained, stdin=sources)).out
    assert together(2, "translate", trained, stdin=sources) == alone
    assert together(2, "translate", trained, stdin=b"") == ""
    source = tmp_path / "source"
    source.write_bytes(sources)
    assert together(3, "translate", trained, "--input", source, "--output", tmp_path / "target") == ""
    assert (tmp_path / "target").read_text() == alone
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    out = together(2, "compare", trained, other, "--output", tmp_path / "comparison")
    assert out.count("report:") == 1
    assert (tmp_path / "comparison" / "comparison.html").is_file()


@pytest.mark.slow
def test_a_source_that_is_refused_ends_all_processes(trained: Path) -> None:
    outcome = process("translate", trained, launcher=launcher(3), stdin=b"balu " * 100)
    assert outcome.status != 0
    assert outcome.err.count("error: standard input, line 1: ") == 1
    assert "/l2s_nmt/" not in outcome.err


def test_a_launch_that_is_refused_fails_without_a_traceback_of_ours(corpus: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", recipe(corpus / "none", "teacher_forcing", 256))
    outcomes = ends(start_together(2, "train", path, "--output", tmp_path / "run"), within=PATIENCE)
    assert all(outcome.status != 0 for outcome in outcomes)
    err = "".join(outcome.err for outcome in outcomes)
    assert err.count(f"error: {corpus / 'none'}: there is no such folder") == 1
    assert "/l2s_nmt/" not in err.replace(str(path), "")


AVERAGED: dict[str, Any] = {
    "averaging": {"kind": "ema", "decay": 0.9, "starts": 2},
    "checkpoint_every": 3,
}


def assert_same_checkpoint(run: Path, other: Path) -> None:
    """The newest ones hold tensors of the same names and shapes, each once."""
    for name in ("model.safetensors", "average.safetensors"):
        one, two = (load_file(sorted((r / "checkpoints").iterdir())[-1] / name) for r in (run, other))
        assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}


def test_weights_that_are_dealt_out_are_trained_as_whole_ones(whole: Any, tmp_path: Path) -> None:
    path, run = whole("aggrevated", 256, **AVERAGED)
    outcome = process("train", path, "--output", tmp_path / "run", launcher=launcher(2, SHARDED))
    assert outcome.status == 0, outcome.err
    assert "weights are dealt out to 2 processes" in outcome.err + outcome.out
    assert_same_training(run, tmp_path / "run")
    for name in ("best", "average"):
        assert_same_weights(run, tmp_path / "run", name)
    assert_same_checkpoint(run, tmp_path / "run")


DEALT_OUT = [SHARDED, pytest.param(ZERO, marks=needs_deepspeed)]


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "2"])
def test_zero_trains_as_if_nothing_were_dealt_out(stage: str, whole: Any, tmp_path: Path) -> None:
    path, run = whole("aggrevated", 256, **AVERAGED)
    kind = f"{ZERO} --zero_stage {stage}"
    outcome = process("train", path, "--output", tmp_path / "run", launcher=launcher(2, kind))
    assert outcome.status == 0, outcome.err
    assert (
        f"the optimiser's state is dealt out to 2 processes (ZeRO stage {stage})" in outcome.err + outcome.out
    )
    assert_same_training(run, tmp_path / "run")
    for name in ("best", "average"):
        assert_same_weights(run, tmp_path / "run", name)
    assert_same_checkpoint(run, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEALT_OUT)
@pytest.mark.parametrize(
    "search", ["teacher_forcing", "dagger", "lols", "bandit_lols", "minimum_risk", "minimum_risk_of_a_beam"]
)
def test_dealt_out_in_parts_of_unequal_work(search: str, kind: str, whole: Any, tmp_path: Path) -> None:
    """Three processes, accumulation, and updates with fewer sentences than parts."""
    path, run = whole(search, 40)
    launched(3, kind, "train", path, "training.accumulation=2", "--output", tmp_path / "run")
    assert_same_training(run, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEALT_OUT)
def test_what_is_dealt_out_is_taken_up_again(kind: str, whole: Any, tmp_path: Path) -> None:
    path, run = whole("aggrevated", 256, **AVERAGED)
    straight = tmp_path / "straight"
    launched(2, kind, "train", path, "--output", straight)
    for name, one in (("sharded", run), ("whole", straight)):  # a checkpoint serves whoever goes on from it
        again = tmp_path / name
        shutil.copytree(one, again)
        shutil.rmtree(again / "checkpoints" / "update-00000006")
        for folder in ("last", "average"):
            shutil.rmtree(again / folder)
    launched(2, kind, "train", path, "--output", tmp_path / "sharded")
    done(command("train", path, "--output", tmp_path / "whole"))
    for name in ("sharded", "whole"):
        assert_same_training(run, tmp_path / name)
        assert_same_weights(run, tmp_path / name, "average")
        assert len(read_lines(tmp_path / name / "metrics.jsonl")) == len(read_lines(run / "metrics.jsonl"))


@pytest.mark.slow
def test_sharding_that_would_not_work_is_refused(whole: Any, tmp_path: Path) -> None:
    path, _ = whole("teacher_forcing", 8)
    outcome = process(
        "train",
        path,
        "--output",
        tmp_path / "run",
        launcher=launcher(2, f"{SHARDED} --fsdp_offload_params true"),
    )
    assert outcome.status != 0
    assert "error: fsdp_offload_params of accelerate's configuration" in outcome.err


@needs_deepspeed
@pytest.mark.slow
def test_under_zero_an_update_that_is_not_finite_is_skipped_by_all(whole: Any, tmp_path: Path) -> None:
    path, _ = whole("teacher_forcing", 256)
    code = (
        "import sys, torch, l2s_nmt.training.objective as o\n"
        "call, count = o.Objective.__call__, iter(range(1000))\n"
        "def once(self, *given, **named):\n"
        "    loss, terms = call(self, *given, **named)\n"
        "    bad = next(count) == 2 and torch.distributed.get_rank() == 1\n"
        "    return loss * float('inf') if bad else loss, terms\n"
        "o.Objective.__call__ = once\n"
        "from l2s_nmt.__main__ import main; main()"
    )
    (tmp_path / "faulty.py").write_text(code)
    ended = subprocess.run(
        [
            sys.executable,
            *launcher(2, ZERO),
            tmp_path / "faulty.py",
            "train",
            path,
            "--output",
            tmp_path / "run",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    assert "update 3 skipped: the loss or its gradient is not finite" in ended.stderr + ended.stdout
    state = json.loads((sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "state.json").read_text())
    assert (state["progress"]["update"], state["progress"]["skipped"]) == (6, 1)
    assert all(
        weight.isfinite().all() for weight in load_file(tmp_path / "run/last/model.safetensors").values()
    )
