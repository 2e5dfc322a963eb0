"""The model card says what a run is, and holds together whatever stands in it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.evaluation.card import _fenced, on_one_line, render_card, write_card
from l2s_nmt.evaluation.score import score, write_scores
from l2s_nmt.recipe_file import read_recipe
from l2s_nmt.run import Run, open_run
from l2s_nmt.weights import weights_digest
from tests.helpers import tiny_recipe, write_corpus, write_recipe


def run_in(folder: Path, *overrides: str, **sections: dict[str, Any]) -> Run:
    path = write_recipe(folder / "recipe.yaml", tiny_recipe(write_corpus(folder / "corpus"), **sections))
    run = open_run(folder / "run", read_recipe(path, []), ["l2s-nmt", "train", str(path), *overrides])
    (run.path / "best").mkdir()
    (run.path / "best" / "config.json").write_text("{}")
    (run.path / "best" / "model.safetensors").write_bytes(b"weights")
    return run


def measured(run: Run, validations: int) -> None:
    common = {"epoch": 0, "sentences": 12_345, "roll_outs": 678}
    lines = [
        {"kind": "validation", "update": n, "minutes": n / 10, "bleu": 10.0 + n % 7, **common}
        for n in range(1, validations + 1)
    ]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_card_says_where_a_model_comes_from_and_how_good_it_is(tmp_path: Path) -> None:
    run = run_in(tmp_path, search={"algorithm": "lols"})
    measured(run, 40)
    scores = score(["a b c d e", "f g h i"], [["a b c d e"], ["f g h j"]])
    decoding = {"beam": 5, "weights": weights_digest(run)}
    write_scores(run.scores("test"), scores, split="test", decoding=decoding)
    write_scores(run.scores("valid"), scores, split="valid", decoding={**decoding, "weights": "of yesterday"})
    write_card(run)
    card = (run.path / "README.md").read_text()
    assert (run.path / "best" / "README.md").read_text() == card
    assert not (run.path / "last").exists()
    _, front, body = card.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["language"] == ["xa", "xb"]
    assert values["pipeline_tag"] == "translation"
    assert "lols" in values["tags"]
    for part in (
        "Chang et al. 2015",
        f"| {scores.bleu.score:.2f} | {scores.chrf.score:.2f} | {scores.ter.score:.2f} |",
        scores.bleu.signature.replace("|", "\\|"),  # in one cell of the table
        "40 updates, 12,345 sentences, 678 roll-outs, 4.0 minutes",
        "l2s-nmt train recipe.yaml",
        "vocabulary: 80",
        "16.00 (best)",
    ):
        assert part in body, part
    assert "| valid |" not in body, "training has gone on since"
    curve = body.partition("## Validation")[2].partition("## Made by")[0]
    assert 10 <= curve.count("\n| ") - 1 <= 13  # not all forty


def test_a_card_says_where_a_tokenizer_comes_from(tmp_path: Path) -> None:
    settings = tiny_recipe(write_corpus(tmp_path / "corpus"))
    settings["tokenizer"] = {"pretrained": str(tmp_path / "teacher" / "tokenizer")}
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", settings))
    card = render_card(open_run(tmp_path / "run", recipe, []))
    assert "| tokenizer | teacher/tokenizer |" in card
    assert "pretrained: teacher/tokenizer" in card
    assert str(tmp_path) not in card
    assert "`l2s_nmt.train` in a Python program" in card, "whose command is its own"


def test_the_command_can_be_given_again_and_says_of_no_place(tmp_path: Path) -> None:
    overrides = [f"data.files={tmp_path / 'my corpus'}", "training={max_updates: 2}", "seed=3"]
    card = render_card(run_in(tmp_path, *overrides))
    (line,) = re.findall(r"^l2s-nmt train .*$", card, re.MULTILINE)
    given = ["l2s-nmt", "train", "recipe.yaml", "data.files=my corpus", *overrides[1:]]
    assert shlex.split(line) == given
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("search.roll_out.experts=[/home/me/a,/home/me/b]", "search.roll_out.experts=[a,b]"),
        ("model={from_run: /home/me/x}", "model={from_run: x}"),
        ('data={files: "/home/me/x"}', 'data={files: "x"}'),
        ("--output=/home/me/x", "--output=x"),
        ("-o/home/me/x", "-ox"),
        ("data.hub=hf://me/x", "data.hub=hf://me/x"),
        ("runs/me/x", "runs/me/x"),
    ],
)
def test_folders_are_named_by_their_last_part_wherever_they_stand(
    argument: str, shown: str, tmp_path: Path
) -> None:
    run = run_in(tmp_path)
    path = run.path / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"command": ["l2s-nmt", argument]}))
    assert shlex.join(["l2s-nmt", shown]) in render_card(run)


@pytest.mark.parametrize("value", [[], [3], None, 3, {}, "x"])
@pytest.mark.parametrize("key", ["gpus", "processor", "processes", "packages", "command", None])
def test_a_damaged_environment_is_no_traceback(key: str | None, value: object, tmp_path: Path) -> None:
    run = run_in(tmp_path)
    path = run.path / "environment.json"
    path.write_text(json.dumps(value if key is None else json.loads(path.read_text()) | {key: value}))
    assert "## Training" in render_card(run)


def test_a_line_of_metrics_without_its_figures_is_no_traceback(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.metrics.write_text('{"kind": "validation", "update": 3}\n{"update": 7}\n')
    card = render_card(run)
    assert "7 updates" in card
    assert "Validation while training" not in card


def test_a_generated_corpus_is_of_no_language_of_the_hub(tmp_path: Path) -> None:
    settings = tiny_recipe(tmp_path)
    settings["data"] = {"source_language": "vo", "target_language": "ta", "embedded": {"train": 100}}
    path = write_recipe(tmp_path / "recipe.yaml", settings)
    card = render_card(open_run(tmp_path / "run", read_recipe(path), []))
    assert "language" not in yaml.safe_load(card.split("---\n", 2)[1])


def test_a_run_that_was_not_scored_says_so(tmp_path: Path) -> None:
    card = render_card(run_in(tmp_path))
    assert "Not evaluated yet" in card
    assert "Validation while training" not in card


@given(st.text())
def test_no_text_breaks_out_of_its_place(text: str) -> None:
    plain = on_one_line(text)
    assert plain.isprintable()
    assert "|" not in plain.replace("\\|", "")
    assert "<" not in plain.replace("\\<", "")
    first, *inside, last = _fenced(text, "yaml").split("\n")
    fence = first.removesuffix("yaml")
    assert last == fence
    assert all(fence not in line for line in inside)
