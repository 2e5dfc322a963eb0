"""The command that explains sentences, from trained runs to the page; what it refuses; and the function of its name."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l2s_nmt
from l2s_nmt.recipe_file import dump_recipe
from tests.helpers import (
    ROOT,
    Outcome,
    command,
    done,
    files_below,
    process,
    tiny_recipe,
    translate_word,
    write_corpus,
    write_recipe,
)

FILES = {"explanation.html", "explanation.json"}


@pytest.fixture(scope="module")
def before(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that searches for nothing."""
    folder = tmp_path_factory.mktemp("explain")
    path = write_recipe(folder / "before.yaml", tiny_recipe(corpus, training={"max_updates": 30}))
    done(command("train", path, "--output", folder / "before"))
    return folder / "before"


@pytest.fixture(scope="module")
def after(before: Path, corpus: Path) -> Path:
    """A run that searches, from there."""
    recipe = tiny_recipe(
        corpus,
        model={"from_run": str(before)},
        search={"algorithm": "lols"},
        training={"max_updates": 5, "learning_rate": 1e-3},
    )
    path = write_recipe(before.parent / "after.yaml", recipe)
    done(command("train", path, "--output", before.parent / "after"))
    return before.parent / "after"


def explained(folder: Path) -> dict[str, Any]:
    """What was written for scripts."""
    assert files_below(folder) == FILES
    found: dict[str, Any] = json.loads((folder / "explanation.json").read_text())
    return found


def test_one_run_and_the_first_test_sentence(before: Path, corpus: Path, tmp_path: Path) -> None:
    outcome = done(process("explain", before, "--output", tmp_path / "out"))
    found = explained(tmp_path / "out")
    assert outcome.out.endswith(f"page: {tmp_path / 'out' / 'explanation.html'}\n")
    assert outcome.err == ""
    assert found["runs"] == ["before"]
    assert [sentence["pair"]["name"] for sentence in found["sentences"]] == ["test, sentence 1"]
    source = (corpus / "test.xa").read_text().splitlines()[0]
    assert found["sentences"][0]["pair"]["source"] == source
    assert source in outcome.out
    (view,) = found["sentences"][0]["views"]
    whole = view["translation"]
    translated = done(command("translate", before, "--beam", "1", stdin=source.encode())).out
    # The roll-in is greedy decoding, cut where the search would cut it.
    assert translated.startswith(whole["text"])
    assert translated == f"{whole['text']}\n" or not whole["finished"]
    assert len(view["states"]) == len(view["tokens"])
    assert "what the expected cost would push" in " ".join(outcome.out.split())  # it searches for nothing


def test_two_runs_are_looked_at_with_the_search_of_the_one_that_searches(
    before: Path, after: Path, tmp_path: Path
) -> None:
    options = ["--split", "valid", "--index", "3", "--index", "2", "--candidates", "3"]
    outcome = done(command("explain", before, after, *options, "--output", tmp_path / "out"))
    found = explained(tmp_path / "out")
    assert found["runs"] == ["before", "after"]
    assert (found["search"]["run"], found["search"]["algorithm"]) == ("after", "lols")
    names = [sentence["pair"]["name"] for sentence in found["sentences"]]
    assert names == ["valid, sentence 3", "valid, sentence 2"]
    for sentence in found["sentences"]:
        assert len(sentence["views"]) == 2
        for view in sentence["views"]:
            for state in view["states"]:
                assert 3 <= len(state["candidates"]) <= 6  # the reference's action, the end, the model's own
                assert all(candidate["beside"] is not None for candidate in state["candidates"])
    assert outcome.out.count("by before") == outcome.out.count("by after") == 2
    page = (tmp_path / "out" / "explanation.html").read_text()
    assert all(name in page for name in (*names, ">before</span>", ">after</span>"))


def test_a_sentence_of_ones_own(after: Path, tmp_path: Path) -> None:
    words = ["balu", "keri", "mosat"]
    reference = " ".join(map(translate_word, words))
    given = ["--sentence", " ".join(words), "--reference", reference, "--reference", "fixa"]
    outcome = done(command("explain", after, *given, "--output", tmp_path / "out"))
    pair = explained(tmp_path / "out")["sentences"][0]["pair"]
    assert pair == {
        "name": "the sentence given",
        "source": " ".join(words),
        "references": [reference, "fixa"],
        "languages": ["xa", "xb"],
    }
    assert reference in outcome.out


def test_the_same_command_writes_the_same_bytes_over_the_old(after: Path, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        done(command("explain", after, "--output", tmp_path / "out"))
        written.append([(tmp_path / "out" / name).read_bytes() for name in sorted(FILES)])
    assert written[0] == written[1]


def test_the_run_is_left_as_it_is(after: Path, tmp_path: Path) -> None:
    there = {name: (after / name).stat().st_mtime_ns for name in files_below(after)}
    done(command("explain", after, "--output", tmp_path / "out"))
    assert {name: (after / name).stat().st_mtime_ns for name in files_below(after)} == there


def test_text_that_means_harm_is_shown_and_not_obeyed(after: Path, tmp_path: Path) -> None:
    harm = "<script>alert(1)</script> \x1b[31m \u202e balu"
    given = ["--sentence", harm, "--reference", harm]
    outcome = done(command("explain", after, *given, "--output", tmp_path / "out"))
    page = (tmp_path / "out" / "explanation.html").read_text()
    assert not {"\x1b", "\u202e"} & set(outcome.out + page)
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page


# ---- what is refused -----------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_in_a_line(before: Path, after: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other", test=7)
    path = write_recipe(tmp_path / "other.yaml", tiny_recipe(other, training={"max_updates": 1}))
    elsewhere = tmp_path / "elsewhere"
    done(command("train", path, "--output", elsewhere))
    untrained = write_recipe(tmp_path / "untrained" / "recipe.yaml", tiny_recipe(other)).parent
    a_file = tmp_path / "file"
    a_file.write_text("")
    words: list[str | Path] = ["--sentence", "balu"]
    refused: list[tuple[list[str | Path], str]] = [
        ([tmp_path / "none"], f"{tmp_path / 'none'}: not a run directory"),
        ([untrained], f"{untrained}: no weights yet"),
        ([before, after, elsewhere], "3 runs are given; give one, or one before and one after"),
        ([before, before], "the same system is given twice"),
        ([before, elsewhere], "have different sentences in their test data"),
        ([before, *words], "a sentence needs its translation"),
        ([before, *words, "--reference", " "], "a sentence needs its translation"),
        ([before, "--sentence", " ", "--reference", "fixa"], "the sentence is empty"),
        ([before, "--reference", "fixa"], "give --sentence TEXT, too"),
        ([before, *words, "--reference", "fixa", "--index", "1"], "leave out --split and --index"),
        ([before, *words, "--reference", "fixa", "--split", "test"], "leave out --split and --index"),
        ([before, "--index", "31"], "has 30 sentences; give a number from 1 to 30"),
        ([before, "--split", "none"], "none"),
        ([before, "--sentence", "balu " * 80, "--reference", "fixa"], "has 64 positions; split the sentence"),
    ]
    for arguments, message in refused:
        outcome = command("explain", *arguments, "--output", tmp_path / "out")
        assert message in outcome.error()
        assert outcome.out == ""
        assert not (tmp_path / "out").exists()
    message = command("explain", before, "--output", a_file).error()
    assert message.startswith(f"error: {a_file}: cannot be written: ")


def test_sentences_without_words_are_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", test=3)
    (corpus / "test.xb").write_text("fixa\n\nfixa\n")
    path = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(corpus, training={"max_updates": 1}))
    done(command("train", path, "--output", tmp_path / "run"))
    message = command("explain", tmp_path / "run", "--index", "2", "--output", tmp_path / "out").error()
    assert "--index 2: " in message
    assert "choose another" in message
    assert not (tmp_path / "out").exists()


# ---- Python, and what the README says ------------------------------------------------------------


def test_the_function_gives_what_the_command_writes(before: Path, after: Path, tmp_path: Path) -> None:
    runs = [l2s_nmt.open_run(before), l2s_nmt.open_run(after)]
    explanation = l2s_nmt.explain(runs, numbers=[2], candidates=2, output=tmp_path / "function")
    options = ["--index", "2", "--candidates", "2"]
    done(command("explain", before, after, *options, "--output", tmp_path / "command"))
    assert explained(tmp_path / "function") == explained(tmp_path / "command")
    assert json.loads(json.dumps(explanation.to_json())) == explained(tmp_path / "function")
    assert files_below(tmp_path) == {f"{of}/{name}" for of in ("function", "command") for name in FILES}
    own = l2s_nmt.explain(runs[1:], sentence="balu", references=["fixa"])
    assert own.sentences[0].pair.source == "balu"
    with pytest.raises(l2s_nmt.UserError, match="a number of a sentence is 0; give 1 or more"):
        l2s_nmt.explain(runs, numbers=[0])


def test_what_the_function_cannot_do_is_refused(after: Path, tmp_path: Path) -> None:
    run = l2s_nmt.open_run(after)
    assert (
        l2s_nmt.explain(run, candidates=1).sentences[0].pair.source
        == l2s_nmt.explain([run]).sentences[0].pair.source
    )
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: l2s_nmt.explain([]), "no run is given"),
        (lambda: l2s_nmt.explain([3]), "3 is no run; give one that train returned, or its directory"),  # type: ignore[list-item]
        (lambda: l2s_nmt.explain(after.parent), "not a run directory"),
        (lambda: l2s_nmt.translate(run, ["a"], weights="worst"), "weights are best or last or average"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.translate(run, ["a"], beam=2_000), "beam is 2000; give 1 to 1,000"),
        (lambda: l2s_nmt.explain(run, candidates=0), "candidates is 0; give 1 or more"),
        (lambda: l2s_nmt.explain(run, sentence="a", references="b"), "references: 'b' is one text"),
        (lambda: l2s_nmt.explain(run, sentence="\udcff", references=["b"]), "is not UTF-8 text"),
        (lambda: l2s_nmt.compare(run, splits="test"), "splits: 'test' is one text"),
        (lambda: l2s_nmt.translate(run, "balu"), "sources: 'balu' is one text"),
        (lambda: l2s_nmt.translate(run, ["balu", "\udcff"]), "sources, number 2: is not UTF-8 text"),
        (lambda: l2s_nmt.translate(run, [3]), "sources, number 1: 3 is no text"),  # type: ignore[list-item]
        (lambda: l2s_nmt.score(run, ["a"], costs="chrf"), "costs: 'chrf' is one text"),
        (
            lambda: l2s_nmt.score(run, ["a", "b"], sources=["a", "b"], references=[["x"], []]),
            "source 2 has no references; give some of each",
        ),
        (lambda: l2s_nmt.read_recipe(after / "recipe.yaml", "seed=2"), "overrides: 'seed=2' is one text"),
        (lambda: l2s_nmt.read_recipe(after / "recipe.yaml", [1]), "overrides, number 1: 1 is no text"),  # type: ignore[list-item]
        (lambda: l2s_nmt.read_recipe({"seed": 1}), "make a recipe of it by l2s_nmt.make_recipe"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.read_recipe(None), "recipe is None; give the name of a file"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.make_recipe("x"), "'x' is no mapping of keys to values"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.train({"seed": 1}, tmp_path), "make a recipe of it by l2s_nmt.make_recipe"),  # type: ignore[arg-type]
        (
            lambda: l2s_nmt.train(after / "recipe.yaml", None),  # type: ignore[arg-type]
            "output is None; give the name of a file or folder",
        ),
        (lambda: l2s_nmt.open_run(None), "run is None; give the name of a file or folder"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.compare(5), "runs: 5 is no list"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.compare(run, splits=None), "splits: None is no list"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.compare(run, exposure="5"), "exposure is '5'; give 1 or more"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.evaluate(run, split=5), "split, number 1: 5 is no text"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.explain(run, numbers=7), "numbers: 7 is no list"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.explain(run, numbers=["7"]), "a number of a sentence is '7'"),  # type: ignore[list-item]
        (lambda: l2s_nmt.explain(run, sentence=5), "sentence, number 1: 5 is no text"),  # type: ignore[arg-type]
        (lambda: l2s_nmt.explain(run, candidates="5"), "candidates is '5'; give 1 or more"),  # type: ignore[arg-type]
    ]
    for call, message in calls:
        with pytest.raises(l2s_nmt.UserError, match=message):
            call()


def test_a_report_that_cannot_be_written_is_known_before_the_work(after: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("no folder")
    for call in (l2s_nmt.explain, l2s_nmt.compare):
        with pytest.raises(l2s_nmt.UserError, match="taken: cannot be written"):
            call(after, output=taken)
    assert f"{taken}: cannot be written" in command("explain", after, "--output", taken).error()


def test_a_run_that_is_open_may_be_opened(after: Path) -> None:
    run = l2s_nmt.open_run(after)
    assert l2s_nmt.open_run(run).path == run.path


def test_numbers_may_come_from_an_array(after: Path) -> None:
    assert len(l2s_nmt.explain(after, numbers=np.array([2, 1])).sentences) == 2  # type: ignore[arg-type]


def test_a_cost_that_is_not_finite_is_no_traceback(
    after: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text(
        "def odd(sources, texts, references):\n    return [float('inf') for _ in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = shutil.copytree(after, tmp_path / "run")
    recipe = l2s_nmt.read_recipe(run / "recipe.yaml", ["search.cost={name: own, function: odd:odd}"])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    message = command("explain", run, "--output", tmp_path / "out").error()
    assert "explain: the cost of " in message
    assert "is inf; make search.cost finite" in message
    assert not (tmp_path / "out").exists()


def test_the_command_of_the_readme(before: Path, after: Path, tmp_path: Path) -> None:
    lines = re.findall(
        r"^l2s-nmt explain .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert lines
    for line in lines:
        arguments = shlex.split(line)[2:]
        runs = [argument for argument in arguments if re.fullmatch(r"runs/\w+/\w+", argument)]
        assert len(runs) == 2
        places = {runs[0]: before, runs[1]: after, "runs/explanation": tmp_path / "out"}
        outcome: Outcome = done(command("explain", *(places.get(word, word) for word in arguments)))
        assert "page: " in outcome.out
        assert len(explained(tmp_path / "out")["runs"]) == 2
