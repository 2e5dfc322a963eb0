"""Runs that learn with other runs: with how these translate what they have left out, or with what they expect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    command,
    done,
    read_lines,
    tiny_recipe,
    without_times,
    write_corpus,
    write_recipe,
)

TRAINING = {"max_updates": 6, "validate_every": 6, "checkpoint_every": 3, "log_every": 1}


@pytest.fixture(scope="module")
def halves(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run without one half of the sentences, and one without the other."""
    folder = tmp_path_factory.mktemp("halves")
    for part in (0, 1):
        recipe = tiny_recipe(corpus, training=TRAINING)
        recipe["data"]["fold"] = {"of": 2, "left_out": part}
        done(
            command(
                "train", write_recipe(folder / f"{part}.yaml", recipe), "--output", folder / f"half{part}"
            )
        )
    return [folder / "half0", folder / "half1"]


def student(corpus: Path, experts: list[Path]) -> dict[str, Any]:
    search = {
        "algorithm": "imitkd",
        "roll_in": {"policy": "learned"},
        "roll_out": {"experts": [*map(str, experts)]},
        "length_limit": {"factor": 1.0, "constant": 3},
    }
    return tiny_recipe(corpus, search=search, training=TRAINING)


def learner(corpus: Path, runs: list[Path], **sections: Any) -> dict[str, Any]:
    search = {
        "algorithm": "aggrevated",
        "roll_in": {"cross_trained": [*map(str, runs)]},
        "length_limit": {"factor": 1.0, "constant": 3},
    }
    return tiny_recipe(corpus, **{"search": search, "training": TRAINING, **sections})


def test_learns_from_what_the_others_wrote_and_goes_on_exactly(
    corpus: Path, halves: list[Path], tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", learner(corpus, halves))
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    done(command("train", path, "--output", straight))
    shutil.copytree(straight, resumed)
    for newest in sorted((resumed / "checkpoints").iterdir())[1:]:
        shutil.rmtree(newest)
    done(command("train", path, "--output", resumed))
    lines = without_times(read_lines(straight / "metrics.jsonl"))
    assert without_times(read_lines(resumed / "metrics.jsonl")) == lines
    weights = [(run / "last" / "model.safetensors").read_bytes() for run in (straight, resumed)]
    assert weights[0] == weights[1]

    swapped = learner(corpus, halves)
    del swapped["search"]["roll_in"]
    own = tmp_path / "own"
    done(command("train", write_recipe(tmp_path / "own.yaml", swapped), "--output", own))
    first = [read_lines(run / "metrics.jsonl")[0]["roll_in_cost"] for run in (straight, own)]
    assert first[0] != first[1]  # the learner alone knows less after no update than the others after six
    done(command("explain", straight, "--output", tmp_path / "page", "--index", "1"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("order", "needs data.fold {of: 2, left_out: 0}, and it has {of: 2, left_out: 1}"),
        ("whole", "it has none, so it learned from all sentences"),
        ("filters", "its data.filters are others"),
        ("tokenizer", "its vocabulary is not the learner's"),
        ("missing", "not a run directory"),
        ("positions", "64 positions are fewer than the learner's"),
        ("fewer positions", "with its 64 positions it has kept longer sentences than the learner"),
        ("corpus", "its training data are others"),
        ("targets", "its data.train_targets is another"),
        ("languages", "it translates xa to xb, and the learner xb to xa"),
    ],
)
def test_runs_that_do_not_fit_are_refused(
    change: str, expected: str, corpus: Path, halves: list[Path], tmp_path: Path
) -> None:
    recipe = learner(corpus, halves[::-1] if change == "order" else halves)
    if change == "whole":
        whole = tmp_path / "whole"
        start = write_recipe(tmp_path / "whole.yaml", tiny_recipe(corpus, training={"max_updates": 1}))
        done(command("train", start, "--output", whole))
        recipe = learner(corpus, [whole, halves[1]])
    if change == "filters":
        recipe["data"]["filters"] = {"max_tokens": 60}
    if change == "tokenizer":
        recipe["tokenizer"]["vocabulary"] = 70
    if change == "missing":
        recipe["search"]["roll_in"]["cross_trained"][1] = str(tmp_path / "nothing")
    if "positions" in change:
        recipe["model"]["architecture"]["positions"] = 40 if change == "fewer positions" else 70
    if change in ("corpus", "languages"):  # with the same vocabulary all the same
        recipe["tokenizer"] = {"pretrained": str(halves[0] / "tokenizer")}
    if change == "corpus":
        recipe["data"]["files"] = str(write_corpus(tmp_path / "another", train=40))
    if change == "languages":
        recipe["data"].update(source_language="xb", target_language="xa")
    if change == "targets":
        recipe["data"]["train_targets"] = "none"
        recipe["tokenizer"] = {"pretrained": str(halves[0] / "tokenizer")}
        recipe["search"].update(roll_out={"policy": "learned"}, decisions={"candidates": "top_k"})
        recipe["search"].update(loss={"cross_entropy": 0.0}, cost={"name": "own", "function": "json:loads"})
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    assert expected in command("train", path, "--dry-run").error()
    assert expected in command("train", path, "--output", tmp_path / "run").error()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("tokenizer", "search.roll_out.experts: {run}: its vocabulary is not the learner's"),
        ("missing", "not a run directory"),
        ("positions", "search.roll_out.experts: {run}: 64 positions are fewer than the learner's"),
        ("languages", "search.roll_out.experts: {run}: it translates xa to xb, and the learner xb to xa"),
    ],
)
def test_experts_that_do_not_fit_are_refused(
    change: str, expected: str, corpus: Path, halves: list[Path], tmp_path: Path
) -> None:
    recipe = student(corpus, halves)
    if change == "tokenizer":
        recipe["tokenizer"]["vocabulary"] = 70
    if change == "missing":
        recipe["search"]["roll_out"]["experts"][1] = str(tmp_path / "nothing")
    if change == "positions":
        recipe["model"]["architecture"]["positions"] = 70
    if change == "languages":
        recipe["tokenizer"] = {"pretrained": str(halves[0] / "tokenizer")}
        recipe["data"].update(source_language="xb", target_language="xa")
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    problem = expected.format(run=halves[0])
    assert problem in command("train", path, "--dry-run").error()
    assert problem in command("train", path, "--output", tmp_path / "run").error()


@pytest.mark.parametrize("start", ["from_run", "scratch"])
def test_experts_teach_from_sources_alone(
    start: str, corpus: Path, halves: list[Path], tmp_path: Path
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(corpus, sources)
    (sources / "train.xb").unlink()
    recipe = student(sources, halves)
    recipe["data"]["train_targets"] = "none"
    if start == "from_run":
        recipe["model"] = {"from_run": str(halves[0])}
        del recipe["tokenizer"]
    else:
        recipe["tokenizer"] = {"pretrained": str(halves[0] / "tokenizer")}
    recipe["training"] = {**recipe["training"], "max_updates": 30, "validate_every": 30, "log_every": 5}
    outcome = done(
        command("train", write_recipe(tmp_path / "recipe.yaml", recipe), "--output", tmp_path / "run")
    )
    assert "targets' length" not in outcome.out + outcome.err
    lines = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert lines[-1]["search_loss"] < 0.8 * lines[0]["search_loss"]
    of_targets = {"cross_entropy", "target_tokens_per_second", "roll_in_cost", "length_ratio"}
    assert not of_targets & set(lines[-1])


@pytest.mark.parametrize("place", ["search.roll_out.experts", "search.roll_in.cross_trained"])
def test_others_that_were_trained_on_are_noticed(
    place: str, corpus: Path, halves: list[Path], tmp_path: Path
) -> None:
    runs = [shutil.copytree(run, tmp_path / run.name) for run in halves]
    made = student(corpus, runs) if place.endswith("experts") else learner(corpus, runs)
    path = write_recipe(tmp_path / "recipe.yaml", made)
    done(command("train", path, "training.max_updates=3", "--output", tmp_path / "run"))
    shutil.copy(runs[0] / "best" / "model.safetensors", runs[1] / "best" / "model.safetensors")
    message = command("train", path, "--output", tmp_path / "run").error()
    assert f"run: was begun with other data (run 2 of {place}); bring them back" in message
    note = json.loads((tmp_path / "run" / "data.json").read_text())
    (tmp_path / "run" / "data.json").write_text(json.dumps({key: note[key] for key in ("train", "valid")}))
    done(command("train", path, "--output", tmp_path / "run"))  # of a run that had not noted which
