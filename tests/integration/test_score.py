"""The command that scores given translations; what it refuses; and the function of its name."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import l2s_nmt
from l2s_nmt.evaluation.likelihood import likelihood_by_run
from l2s_nmt.evaluation.runs import TestSet
from l2s_nmt.run import Run
from scripts.minimum_bayes_risk import measure
from tests.helpers import ROOT, Outcome, command, done, tiny_recipe, write_recipe
from tests.processes import copied

HEADER = ["line", "log_probability", "tokens", "per_token"]


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    recipe = tiny_recipe(
        corpus,
        training={"max_updates": 60},
        evaluation={"batch_tokens": 64, "beam": 2},
        search={"cost": {"name": "ter"}},
    )
    done(command("train", write_recipe(folder / "recipe.yaml", recipe), "--output", folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def written(run: Path, corpus: Path) -> Path:
    """The run's translations of the test sentences."""
    path = run.parent / "written"
    done(command("translate", run, "--input", corpus / "test.xa", "--output", path))
    return path


def table(outcome: Outcome) -> tuple[list[str], list[list[float]]]:
    """Header and numbers; the lines are counted."""
    header, *rows = [line.split("\t") for line in done(outcome).out.splitlines()]
    numbers = [[float(value) for value in row] for row in rows]
    assert [row[0] for row in numbers] == list(range(1, len(rows) + 1))
    return header, [row[1:] for row in numbers]


def test_a_translation_of_the_test_set_and_its_totals(run: Path, written: Path) -> None:
    outcome = done(copied("score", run, written))
    header, rows = table(outcome)
    assert header == [*HEADER, "ter"]
    assert len(rows) == 30
    total, tokens, cost = (sum(row[column] for row in rows) for column in (0, 1, 3))
    for part in (
        f"30 translations, {tokens:,.0f} tokens, log-probability {total:.2f}, {total / tokens:.4f} per token",
        f"mean ter {cost / 30:.4f}",
    ):
        assert part in outcome.err
    assert all(row[2] == pytest.approx(row[0] / row[1], abs=1e-5) for row in rows)
    assert command("score", run, written).out == outcome.out


def test_translations_from_standard_input(run: Path, written: Path) -> None:
    outcome = done(command("score", run, "-", stdin=written.read_bytes()))
    assert outcome.out == command("score", run, written).out
    assert "standard input has 1 lines" in command("score", run, "-", stdin=b"one").error()
    twice = command("score", run, "-", "--sources", "-", stdin=b"one\n").error()
    assert "standard input (-) is given twice" in twice
    assert "standard input, line 2: not UTF-8" in command("score", run, "-", stdin=b"a\n\xff\n").error()


@torch.no_grad()
def test_a_plain_interpreter_finds_the_same(run: Path, written: Path, corpus: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(run / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "best")
    sources, translations = (path.read_text().splitlines() for path in (corpus / "test.xa", written))
    _, rows = table(command("score", run, written))
    for source, translation, row in zip(sources, translations, rows, strict=True):
        labels = tokenizer(text_target=translation, return_tensors="pt").input_ids
        output = model(**tokenizer(source, return_tensors="pt"), labels=labels)
        assert row[1] == labels.shape[1]
        assert row[0] == pytest.approx(-float(output.loss) * labels.shape[1], abs=1e-3)


def test_sentences_of_ones_own_in_any_order(run: Path, written: Path, corpus: Path, tmp_path: Path) -> None:
    header, rows = table(command("score", run, written, "--cost", "chrf", "--cost", "ter"))
    assert header == [*HEADER, "chrf", "ter"]
    order = [(7 * row) % 30 for row in range(30)]
    for name, path in (
        ("translation", written),
        ("source", corpus / "test.xa"),
        ("reference", corpus / "test.xb"),
    ):
        lines = path.read_text().splitlines()
        (tmp_path / name).write_text("".join(f"{lines[row]}\n" for row in order))
    given: list[str | Path] = [tmp_path / "translation", "--sources", tmp_path / "source"]
    costs: list[str | Path] = ["--references", tmp_path / "reference", "--cost", "chrf", "--cost", "ter"]
    header, found = table(command("score", run, *given, *costs))
    assert header == [*HEADER, "chrf", "ter"]
    for row, place in zip(found, order, strict=True):
        assert row == pytest.approx(rows[place], abs=1e-4)
    header, found = table(command("score", run, *given))  # without references there are no costs
    assert header == HEADER
    for row, place in zip(found, order, strict=True):
        assert row == pytest.approx(rows[place][:3], abs=1e-4)


def test_the_references_themselves_cost_nothing(run: Path, corpus: Path) -> None:
    _, rows = table(command("score", run, corpus / "test.xb", "--split", "test"))
    assert {row[3] for row in rows} == {0.0}


def test_an_empty_translation_has_a_probability(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "source").write_text("balu\n")
    _, (row,) = table(command("score", run, tmp_path / "empty", "--sources", tmp_path / "source"))
    assert row[1] == 1
    assert row[0] < 0
    (tmp_path / "nothing").write_text("")
    outcome = done(command("score", run, tmp_path / "nothing", "--sources", tmp_path / "nothing"))
    assert outcome.out == "\t".join(HEADER) + "\n"
    assert "0 translations" in outcome.err


def test_the_function_gives_what_the_command_prints(run: Path, written: Path, corpus: Path) -> None:
    translations = written.read_text().splitlines()
    found = l2s_nmt.score(l2s_nmt.open_run(run), translations, costs=["bleu"])
    _, rows = table(command("score", run, written, "--cost", "bleu"))
    for one, row in zip(found, rows, strict=True):
        assert [one.log_probability, one.tokens, one.per_token, one.costs["bleu"]] == pytest.approx(
            row, abs=1e-5
        )
    sources = (corpus / "test.xa").read_text().splitlines()
    own = l2s_nmt.score(l2s_nmt.open_run(run), translations, sources=sources)
    assert [one.log_probability for one in own] == [one.log_probability for one in found]
    assert own[0].costs == {}
    last = l2s_nmt.score(run, translations, weights="last")
    _, rows = table(command("score", run, written, "--weights", "last"))
    assert [one.log_probability for one in last] == pytest.approx([row[0] for row in rows], abs=1e-5)
    references = [[line] for line in (corpus / "test.xb").read_text().splitlines()]
    own = l2s_nmt.score(
        l2s_nmt.open_run(run), translations, sources=sources, references=references, costs=["bleu"]
    )
    assert [one.costs for one in own] == [one.costs for one in found]
    for given, message in (
        ({"references": references}, "references belong to sources"),
        ({"sources": sources, "split": "test"}, "give one of them"),
        ({"sources": sources, "references": [line for (line,) in references]}, "is one text; give a list"),
        ({"sources": sources[0]}, "is one text; give a list"),
    ):
        with pytest.raises(l2s_nmt.UserError, match=message):
            l2s_nmt.score(l2s_nmt.open_run(run), translations, **given)
    with pytest.raises(l2s_nmt.UserError, match="is one text; give a list"):
        l2s_nmt.translate(l2s_nmt.open_run(run), sources[0])


def test_where_a_sentence_has_no_reference_there_are_no_costs(run: Path) -> None:
    """A cost is told of every sentence or of none."""
    test_set = TestSet("", ["balu", "keri"], [["fixa"], []], "sources")
    found = likelihood_by_run(Run(run), ["fixa", "tepil"], test_set)
    assert [one.costs for one in found] == [{}, {}]
    with pytest.raises(l2s_nmt.UserError, match="--cost ter: compares with references"):
        likelihood_by_run(Run(run), ["fixa", "tepil"], test_set, ["ter"])


def test_what_makes_no_sense_is_refused_in_a_line(
    run: Path, written: Path, corpus: Path, tmp_path: Path
) -> None:
    sources = corpus / "test.xa"
    for name, text in (("one", "fixa\n"), ("long", "balu " * 80 + "\n")):
        (tmp_path / name).write_text(text)
    one, long = tmp_path / "one", tmp_path / "long"
    refused: list[tuple[list[str | Path], str]] = [
        ([tmp_path, one], f"{tmp_path}: not a run directory"),
        ([run, tmp_path / "none"], f"{tmp_path / 'none'}: cannot be read: No such file"),
        ([run, one], f"{one} has 1 lines, but "),
        ([run, written, "--sources", one], f"{written} has 30 lines, but {one} has 1"),
        (
            [run, written, "--sources", sources, "--references", one],
            f"{one} has 1 lines, but {sources} has 30",
        ),
        ([run, written, "--sources", tmp_path / "none"], "cannot be read: No such file"),
        ([run, written, "--references", written], "--references belong to --sources"),
        ([run, written, "--sources", sources, "--split", "test"], "give one of them"),
        ([run, written, "--sources", sources, "--cost", "bleu"], "--cost bleu: compares with references"),
        ([run, written, "--cost", "blue"], "did you mean bleu?"),
        ([run, written, "--split", "none"], "none"),
        ([run, written, "--weights", "average"], "no weights yet"),
        ([run, one, "--sources", long], f"{long}, line 1: "),
        ([run, long, "--sources", one], f"{long}, line 1: "),
    ]
    for arguments, message in refused:
        outcome = command("score", *arguments)
        assert message in outcome.error()
        assert outcome.out == ""


def test_the_commands_of_the_readme(run: Path, written: Path, corpus: Path) -> None:
    lines = re.findall(r"^l2s-nmt score .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 2
    places = {
        "runs/quickstart/search": run,
        "runs/quickstart/search/translations/test.txt": written,
        "my/translations.txt": written,
        "my/sentences.txt": corpus / "test.xa",
    }
    for line in lines:
        arguments = shlex.split(line.partition(" > ")[0])[1:]
        _, rows = table(command(*(places.get(argument, argument) for argument in arguments)))
        assert len(rows) == 30


def test_what_a_model_believes_is_what_it_writes_when_it_is_sure(run: Path) -> None:
    """Drawn at a temperature near zero all samples are the greedy translation, and so is the best of them."""
    for beam in ("1", "5"):
        done(command("evaluate", run, "--split", "test", "--beam", beam))
    found = measure(Run(run), "test", 3, 1e-6)
    assert list(found) == ["greedy", "beam 5", "minimum Bayes risk, 3 samples", "best of 3 samples"]
    for name, tag in (("greedy", "beam1"), ("beam 5", "beam5")):
        written = json.loads((run / "scores" / f"test.{tag}.json").read_text())["bleu"]
        assert found[name] == {key: written[{"bleu": "score"}.get(key, key)] for key in found[name]}
    assert found["minimum Bayes risk, 3 samples"] == found["greedy"]
    assert found["best of 3 samples"] == found["greedy"]

    drawn = measure(Run(run), "test", 8, 1.0)
    assert drawn["best of 8 samples"]["bleu"] > drawn["minimum Bayes risk, 8 samples"]["bleu"]


def test_validation_tells_the_perplexity_of_the_references(run: Path, corpus: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["kind"] == "validation" and line["best"]][-1]
    _, rows = table(command("score", run, corpus / "valid.xb", "--split", "valid"))
    total, tokens = (sum(row[column] for row in rows) for column in (0, 1))
    assert best["perplexity"] == pytest.approx(math.exp(-total / tokens), rel=1e-4)
