"""From a corpus to a comparison: the commands one after the other, and the contract of the run directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

import l2s_nmt
from l2s_nmt.evaluation.runs import load_translator
from l2s_nmt.run import locked
from tests.helpers import (
    command,
    done,
    files_below,
    process,
    read_lines,
    sentence_pairs,
    tiny_recipe,
    write_corpus,
    write_recipe,
)

HUGGING_FACE_FOLDER = {"config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json"}
SEARCHED = {
    "roll_in_cost",
    "cost_range",
    "tie_rate",
    "improvable",
    "advantage_where_improvable",
    "length_ratio",
}
LEARNED_BLEU = 90.0


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("end-to-end")
    write_corpus(folder / "corpus", train=1_000, valid=20, test=30)
    return folder


@pytest.fixture(scope="module")
def baseline(work: Path) -> Path:
    """Learns the toy language, in a process of its own."""
    recipe = tiny_recipe(
        work / "corpus",
        model={"dropout": 0.0},
        training={
            "batch_tokens": 512,
            "learning_rate": 0.003,
            "schedule": "cosine",
            "warmup_updates": 50,
            "max_updates": 500,
            "validate_every": 100,
            "label_smoothing": 0.0,
        },
    )
    recipe["model"]["architecture"].update(d_model=64, feed_forward=128)
    write_recipe(work / "teacher_forcing.yaml", recipe)
    outcome = done(process("train", work / "teacher_forcing.yaml", "--output", work / "teacher_forcing"))
    assert outcome.out == ""  # progress goes to the other stream
    return work / "teacher_forcing"


def train_search(algorithm: str, start: Path) -> Path:
    work = start.parent
    recipe = tiny_recipe(
        work / "corpus",
        model={"from_run": str(start)},
        search={"algorithm": algorithm},
        training={"max_updates": 6, "learning_rate": 1e-4, "validate_every": 3, "log_every": 2},
    )
    write_recipe(work / f"{algorithm}.yaml", recipe)
    done(command("train", work / f"{algorithm}.yaml", "--output", work / algorithm))
    return work / algorithm


@pytest.fixture(scope="module")
def aggrevated(baseline: Path) -> Path:
    return train_search("aggrevated", baseline)


@pytest.fixture(scope="module")
def lols(baseline: Path) -> Path:
    return train_search("lols", baseline)


@pytest.fixture(scope="module")
def evaluated(baseline: Path) -> str:
    """What `evaluate` printed about the baseline."""
    return done(command("evaluate", baseline, "--split", "test", "--split", "valid")).out


@pytest.fixture(scope="module")
def report(aggrevated: Path, lols: Path, baseline: Path, evaluated: str) -> dict[str, Any]:
    folder = baseline.parent / "comparison"
    arguments: list[str | Path] = [
        baseline,
        aggrevated,
        lols,
        "--output",
        folder,
        "--split",
        "test",
        "--split",
        "valid",
    ]
    outcome = done(command("compare", *arguments))
    assert outcome.out.count("(scored already)") == 2  # the baseline, as it was evaluated before
    assert files_below(folder) == {f"comparison.{ending}" for ending in ("json", "md", "tex", "html")}
    found: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of writing and content of every file."""
    return {
        name: ((folder / name).stat().st_mtime_ns, (folder / name).read_bytes())
        for name in files_below(folder)
        if name != ".lock"
    }


# ---- training ------------------------------------------------------------------------------------


def test_a_run_holds_what_the_contract_says(baseline: Path) -> None:
    there = files_below(baseline)
    for folder in ("best", "last"):
        assert {f"{folder}/{name}" for name in HUGGING_FACE_FOLDER} <= there
    assert {"recipe.yaml", "environment.json", "metrics.jsonl", "tokenizer/tokenizer_config.json"} <= there
    tops = {path.name for path in baseline.iterdir()}
    assert tops <= {
        "README.md",
        *(
            "recipe.yaml",
            "environment.json",
            "data.json",
            "metrics.jsonl",
            "tokenizer",
            "best",
            "last",
            "checkpoints",
        ),
        *("scores", "translations", ".lock"),
    }
    assert max(path.name for path in (baseline / "checkpoints").iterdir()) == "update-00000500"
    assert l2s_nmt.open_run(baseline).read_recipe() == l2s_nmt.read_recipe(
        baseline.parent / "teacher_forcing.yaml"
    )
    written = json.loads((baseline / "environment.json").read_text())
    assert written["command"][1:] == [
        "train",
        str(baseline.parent / "teacher_forcing.yaml"),
        "--output",
        str(baseline),
    ]


def test_teacher_forcing_learns_the_toy_language(baseline: Path) -> None:
    lines = read_lines(baseline / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.1 * losses[0]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["update"] for line in validations] == [100, 200, 300, 400, 500]
    assert max(line["bleu"] for line in validations) > LEARNED_BLEU
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["best_bleu"] == max(line["bleu"] for line in validations)


@pytest.mark.parametrize("algorithm", ["aggrevated", "lols"])
def test_search_goes_on_from_the_baseline(algorithm: str, request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(algorithm)
    lines = read_lines(run / "metrics.jsonl")
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["update"] for line in trained] == [2, 4, 6]
    for line in trained:
        assert line.keys() >= SEARCHED - ({"advantage_where_improvable"} if not line["improvable"] else set())
        assert 0.8 < line["length_ratio"] < 1.2
    assert (trained[-1]["roll_outs"] > 0) == (algorithm == "lols")
    assert max(line["bleu"] for line in lines if line["kind"] == "validation") > LEARNED_BLEU - 5
    assert (run / "best" / "config.json").is_file()


def test_a_finished_run_is_left_as_it_is(baseline: Path) -> None:
    before = snapshot(baseline)
    outcome = done(command("train", baseline.parent / "teacher_forcing.yaml", "--output", baseline))
    assert "trained already, 500 updates; nothing is left to do" in outcome.err
    assert snapshot(baseline) == before


@pytest.mark.parametrize("limits", [["max_updates=3"], ["max_minutes=0.00001", "max_updates=null"]])
def test_limits_lower_than_what_was_trained_change_nothing(limits: list[str], aggrevated: Path) -> None:
    before = snapshot(aggrevated)
    recipe = aggrevated.parent / "aggrevated.yaml"
    overrides = [f"training.{limit}" for limit in limits]
    outcome = done(command("train", recipe, *overrides, "--output", aggrevated))
    assert "trained already, 6 updates; nothing is left to do" in outcome.err
    assert snapshot(aggrevated) == before


def test_a_run_from_another_is_taken_up_again(aggrevated: Path) -> None:
    before = snapshot(aggrevated)
    outcome = done(command("train", aggrevated.parent / "aggrevated.yaml", "--output", aggrevated))
    assert "trained already" in outcome.err
    assert snapshot(aggrevated) == before


def test_another_recipe_is_kept_out_of_a_run(baseline: Path) -> None:
    before = snapshot(baseline)
    recipe = baseline.parent / "teacher_forcing.yaml"
    message = command("train", recipe, "training.learning_rate=0.5", "--output", baseline).error()
    assert "holds a run of another recipe (training.learning_rate: 0.003 there, 0.5 now)" in message
    assert snapshot(baseline) == before


def test_a_run_that_another_process_writes_is_refused(baseline: Path) -> None:
    with locked(baseline):
        message = command("train", baseline.parent / "teacher_forcing.yaml", "--output", baseline).error()
    assert "another process is writing this run" in message


def test_dry_run_says_what_would_be_trained_and_writes_nothing(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(work / "corpus"))
    monkeypatch.chdir(tmp_path)
    before = snapshot(work)
    outcome = done(command("train", recipe, "seed=7", "--output", tmp_path / "run", "--dry-run"))
    resolved, _, summary = outcome.out.rpartition("# ")
    (tmp_path / "resolved.yaml").write_text(resolved)
    assert l2s_nmt.read_recipe(tmp_path / "resolved.yaml") == l2s_nmt.read_recipe(recipe, ["seed=7"])
    parameters, pairs, updates = (int(part.split()[0].replace(",", "")) for part in summary.split(", "))
    assert pairs == 1_000
    # Embeddings of 80 pieces, tied; attention has four matrices, feed-forward two; layer norms two vectors each.
    attention, feed_forward, norm = 4 * (32 * 32 + 32), 2 * 32 * 64 + 64 + 32, 64
    assert parameters == 80 * 32 + (attention + feed_forward + 2 * norm) + (
        2 * attention + feed_forward + 3 * norm
    )
    assert 10 < updates < 40
    assert files_below(tmp_path) == {"recipe.yaml", "resolved.yaml"}
    assert snapshot(work) == before


# ---- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["test", "valid"])
def test_scores_are_sacrebleu_s_of_the_translations(split: str, baseline: Path, evaluated: str) -> None:
    scores = json.loads((baseline / "scores" / f"{split}.json").read_text())
    translations = (baseline / "translations" / f"{split}.txt").read_text().splitlines()
    references = (baseline.parent / "corpus" / f"{split}.xb").read_text().splitlines()
    for metric in (sacrebleu.BLEU(), sacrebleu.CHRF(), sacrebleu.TER()):
        found = scores[type(metric).__name__.lower()]
        assert found["score"] == pytest.approx(
            metric.corpus_score(translations, [references]).score, abs=1e-9
        )
        assert found["signature"] == str(metric.get_signature())
        assert f"{found['score']:.2f}" in evaluated
        assert found["signature"] in evaluated
    if split == "valid":
        assert scores["bleu"]["score"] > LEARNED_BLEU
    else:  # with sentences longer than all in training; what follows needs translations that are not perfect
        assert 10 < scores["bleu"]["score"] < 99
    assert scores["sentences"] == len(translations)


def test_evaluating_again_reuses_what_is_there(baseline: Path, evaluated: str) -> None:
    before = snapshot(baseline)
    assert "(scored already)" in done(command("evaluate", baseline)).out
    assert snapshot(baseline) == before


def test_another_decoding_has_files_of_its_own(baseline: Path, evaluated: str) -> None:
    before = snapshot(baseline)
    done(command("evaluate", baseline, "--beam", "1"))
    done(command("evaluate", baseline, "--length-penalty", "0.5"))
    after = snapshot(baseline)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"README.md", "best/README.md", "last/README.md"}  # the card has the new scores
    assert after.keys() - before.keys() == {
        f"{kind}.{ending}"
        for kind, ending in (
            ("scores/test.beam1", "json"),
            ("translations/test.beam1", "txt"),
            ("scores/test.beam5-penalty0.5", "json"),
            ("translations/test.beam5-penalty0.5", "txt"),
        )
    }


def copy_of(run: Path, place: Path, corpus: Path) -> Path:
    """A copy of a run, not evaluated yet, whose corpus is another."""
    shutil.copytree(run, place, ignore=shutil.ignore_patterns("scores", "translations"))
    text = (place / "recipe.yaml").read_text()
    (place / "recipe.yaml").write_text(text.replace(str(run.parent / "corpus"), str(corpus)))
    return place


def test_scores_of_other_weights_are_not_reused(aggrevated: Path, baseline: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(aggrevated, run)
    done(command("evaluate", run))
    shutil.copy(baseline / "best" / "model.safetensors", run / "best" / "model.safetensors")
    assert "(scored already)" not in done(command("evaluate", run)).out
    (run / "translations" / "test.txt").write_text("")
    assert "(scored already)" not in done(command("evaluate", run)).out
    assert (run / "translations" / "test.txt").read_text().count("\n") == 30


def test_scores_are_of_the_weights_that_translated(
    aggrevated: Path, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training may put others in their place while they are loaded."""
    run = tmp_path / "run"
    shutil.copytree(aggrevated, run, ignore=shutil.ignore_patterns("scores", "translations"))
    loaded = []

    def load(*given: Any, **options: Any) -> Any:
        translator = load_translator(*given, **options)
        loaded.append(translator)
        if len(loaded) == 1:
            shutil.rmtree(run / "best")
            shutil.copytree(baseline / "best", run / "best")
        return translator

    with monkeypatch.context() as patch:
        patch.setattr("l2s_nmt.evaluation.runs.load_translator", load)
        first = done(command("evaluate", run, "--split", "valid")).out
    assert len(loaded) == 2, "again, as others came meanwhile"
    again = done(command("evaluate", run, "--split", "valid")).out
    assert again.replace(" (scored already)", "") == first
    assert "(scored already)" in again
    own = json.loads((run / "scores" / "valid.json").read_text())
    done(command("evaluate", baseline, "--split", "valid"))
    assert own["bleu"] == json.loads((baseline / "scores" / "valid.json").read_text())["bleu"]


def test_damaged_scores_are_made_anew(aggrevated: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(aggrevated, run)
    whole = done(command("evaluate", run)).out.replace(" (scored already)", "")
    path = run / "scores" / "test.json"
    values = json.loads(path.read_text())
    del values["chrf"]
    path.write_text(json.dumps(values))
    assert done(command("evaluate", run)).out == whole
    assert json.loads(path.read_text()).keys() == {*values, "chrf"}


def test_scores_of_another_test_set_of_the_same_size_are_not_reused(aggrevated: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    run = copy_of(aggrevated, tmp_path / "run", corpus)
    first = done(command("evaluate", run)).out
    assert done(command("evaluate", run)).out.replace(" (scored already)", "") == first
    lines = (corpus / "test.xb").read_text().splitlines()
    (corpus / "test.xb").write_text("".join(f"{line} {line}\n" for line in lines))
    second = done(command("evaluate", run)).out
    assert "(scored already)" not in second
    assert second != first
    translations = run / "translations" / "test.txt"
    translations.write_text("\n".join(reversed(translations.read_text().splitlines())) + "\n")
    assert done(command("evaluate", run)).out == second, "lines that were changed have no scores"


def test_a_run_that_cannot_be_written_is_refused_before_it_is_translated(
    aggrevated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(aggrevated, run, ignore=shutil.ignore_patterns("scores", "translations"))
    (run / "scores").touch()  # where a folder should be
    monkeypatch.setattr("l2s_nmt.evaluation.runs.load_translator", None)
    message = command("evaluate", run).error()
    assert message.startswith(f"error: {run / 'scores'}: cannot be written: ")


def test_a_comparison_holds_what_scripts_rely_on(report: dict[str, Any], baseline: Path) -> None:
    names = [system["name"] for system in report["systems"]]
    assert names == ["teacher_forcing", "aggrevated", "lols"]
    assert report["sentences"] == 50
    for number, system in enumerate(report["systems"]):
        low, high = system["bleu_interval"]
        assert low <= system["bleu"] <= high
        assert (system["p_value"] is None) == (number == 0)
        assert number == 0 or 0 <= system["p_value"] <= 1
        assert system["updates"] == (500 if number == 0 else 6)
        assert [len(run["curve"]) for run in system["runs"]] == [5 if number == 0 else 2]
    references = [
        line for split in ("test", "valid") for line in (baseline.parent / "corpus" / f"{split}.xb").open()
    ]
    translations = [
        line for split in ("test", "valid") for line in (baseline / "translations" / f"{split}.txt").open()
    ]
    expected = sacrebleu.BLEU().corpus_score(translations, [references]).score
    assert report["systems"][0]["bleu"] == pytest.approx(expected, abs=1e-6)


def test_runs_on_other_sentences_are_not_compared(baseline: Path, evaluated: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    pairs = sentence_pairs(30, seed=99)
    (corpus / "test.xa").write_text("".join(f"{source}\n" for source, _ in pairs))
    (corpus / "test.xb").write_text("".join(f"{target}\n" for _, target in pairs))
    run = copy_of(baseline, tmp_path / "other", corpus)
    message = command("compare", baseline, run, "--output", tmp_path / "report").error()
    assert "other" in message
    assert not (tmp_path / "report").exists()


def test_runs_with_other_references_are_not_compared(baseline: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    lines = (corpus / "test.xb").read_text().splitlines()
    (corpus / "test.xb").write_text("".join(f"{line} {line}\n" for line in lines))
    run = copy_of(baseline, tmp_path / "other", corpus)
    message = command("compare", baseline, run, "--output", tmp_path / "report").error()
    assert "have different references in their test data" in message


def test_a_run_has_sentences_of_its_own(baseline: Path, tmp_path: Path) -> None:
    sources, references = (baseline.parent / "corpus" / f"valid.{side}" for side in ("xa", "xb"))
    texts = ("--sources", sources, "--references", references)
    message = command("compare", baseline, references, *texts, "--output", tmp_path / "report").error()
    assert "is a run, which has sentences of its own; leave out --sources and --references" in message


def test_no_sentence_counts_twice(baseline: Path, tmp_path: Path) -> None:
    twice = ("--split", "test", "--split", "test", "--output", tmp_path / "report")
    assert "--split test is given twice" in command("compare", baseline, *twice).error()


# ---- translating ---------------------------------------------------------------------------------


def test_translate_reads_and_writes_streams_and_files_in_order(baseline: Path, tmp_path: Path) -> None:
    pairs = sentence_pairs(12, seed=5)
    lines = [source for source, _ in pairs]
    lines[3:3], lines[7:7] = [""], ["   "]
    text = "".join(f"{line}\n" for line in lines)
    by_stream = done(command("translate", baseline, stdin=text.encode())).out
    (tmp_path / "in.txt").write_text(text.replace("\n", "\r\n"))  # from another system
    done(
        command("translate", baseline, "--input", tmp_path / "in.txt", "--output", tmp_path / "a" / "out.txt")
    )
    assert (tmp_path / "a" / "out.txt").read_text() == by_stream
    found = by_stream.split("\n")
    assert len(found) == len(lines) + 1
    assert (found[3], found[7], found[-1]) == ("", "", "")
    translations = dict(pairs)
    right = sum(found[row] == translations.get(line, "") for row, line in enumerate(lines))
    assert right >= 12  # of 14; in any other order hardly one is right


@pytest.mark.parametrize(("text", "expected"), [(b"", ""), (b"\n", "\n"), (b"\n\n", "\n\n")])
def test_translate_of_nothing_is_nothing(text: bytes, expected: str, baseline: Path) -> None:
    assert done(command("translate", baseline, stdin=text)).out == expected


def test_a_last_line_without_its_end_is_a_line(baseline: Path) -> None:
    assert done(command("translate", baseline, stdin=b"balu")).out == "fixa\n"


def test_a_sentence_longer_than_the_positions_is_refused(baseline: Path) -> None:
    message = command("translate", baseline, stdin=b"balu\n" + b"balu " * 80).error()
    assert message.startswith("error: standard input, line 2: ")
    assert "tokens, but the model has 64 positions; split the sentence" in message


def test_a_place_that_cannot_be_written_is_refused(baseline: Path) -> None:
    output = baseline.parent / "corpus" / "test.xa" / "out.txt"
    assert (
        f"{output}: cannot be written: "
        in command("translate", baseline, "--output", output, stdin=b"ba").error()
    )


PLAIN_INTERPRETER = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "l2s_nmt":
            raise ImportError("this package is not there")

sys.meta_path.insert(0, Refuse())
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
folder, sources = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
batch = tokenizer(sources, return_tensors="pt", padding=True)
texts = tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)
assert "l2s_nmt" not in sys.modules
print(json.dumps(texts))
"""


@pytest.mark.parametrize("name", ["baseline", "aggrevated"])
def test_a_plain_interpreter_gives_the_same_translations(
    name: str, evaluated: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Path = request.getfixturevalue(name)
    done(command("evaluate", run))
    sources = (run.parent / "corpus" / "test.xa").read_text().splitlines()
    found = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN_INTERPRETER, str(run / "best"), json.dumps(sources)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == (run / "translations" / "test.txt").read_text().splitlines()


def test_the_python_api_does_the_same(baseline: Path, evaluated: str) -> None:
    run = l2s_nmt.open_run(baseline)
    translations = (baseline / "translations" / "test.txt").read_text().splitlines()
    sources = (baseline.parent / "corpus" / "test.xa").read_text().splitlines()
    assert l2s_nmt.translate(run, sources) == translations
    scores = json.loads((baseline / "scores" / "test.json").read_text())
    assert l2s_nmt.evaluate(run).bleu.score == scores["bleu"]["score"]
    compared = l2s_nmt.compare([run])
    assert compared.systems[0].bleu.score == pytest.approx(scores["bleu"]["score"], abs=1e-6)
    with pytest.raises(l2s_nmt.UserError, match="not a run directory"):
        l2s_nmt.open_run(baseline.parent)


def test_trackers_get_what_the_metrics_get(baseline: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = {"max_updates": 4, "log_every": 2, "validate_every": 4, "trackers": ["tensorboard"]}
    recipe = tiny_recipe(baseline.parent / "corpus", training=training)
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    done(command("train", path, "--output", tmp_path / "run"))
    written = EventAccumulator(str(tmp_path / "run" / "l2s_nmt"))
    written.Reload()
    for tag, kind, key in (("train/loss", "train", "loss"), ("validation/bleu", "validation", "bleu")):
        expected = [
            (line["update"], pytest.approx(line[key], rel=1e-5))
            for line in read_lines(tmp_path / "run" / "metrics.jsonl")
            if line["kind"] == kind
        ]
        assert [(event.step, event.value) for event in written.Scalars(tag)] == expected
