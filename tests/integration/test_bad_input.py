"""Bad input gets one clear error and status 2, and nothing stands in the way of the corrected command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from l2s_nmt.evaluation.systems import recipe_but_for_seed
from l2s_nmt.run import Run
from tests.helpers import (
    command,
    done,
    files_below,
    read_lines,
    sentence_pairs,
    tiny_recipe,
    write_corpus,
    write_recipe,
)
from tests.processes import copied


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", tiny_recipe(corpus, training={"max_updates": 2}))


def drop_a_line(corpus: Path) -> None:
    path = corpus / "train.xb"
    path.write_text(path.read_text().removesuffix("\n").rpartition("\n")[0] + "\n")


def empty(corpus: Path) -> None:
    (corpus / "train.xa").write_bytes(b"")


def not_utf8(corpus: Path) -> None:
    lines = (corpus / "valid.xb").read_bytes().split(b"\n")
    lines[6] = "fü".encode("latin-1")
    (corpus / "valid.xb").write_bytes(b"\n".join(lines))


def no_valid(corpus: Path) -> None:
    (corpus / "valid.xa").unlink()
    (corpus / "valid.xb").unlink()


def reversed_pair(corpus: Path) -> None:
    for path in sorted(corpus.iterdir()):
        path.rename(corpus / f"{path.stem}.xb-xa{path.suffix}")


def other_language(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.xb")):
        path.rename(path.with_suffix(".xc"))


def long_valid(corpus: Path) -> None:
    lines = (corpus / "valid.xa").read_text().split("\n")
    lines[4] = " ".join(["balu"] * 70)
    (corpus / "valid.xa").write_text("\n".join(lines))


BAD: dict[Callable[[Path], None], tuple[str, ...]] = {
    drop_a_line: ("train.xa has 300 lines", "train.xb has 299 lines"),
    empty: ("train.xa: the file is empty",),
    not_utf8: ("valid.xb, line 7: byte 2 (0xfc) is not UTF-8",),
    no_valid: ("split valid is missing", "valid.xa"),
    reversed_pair: ("names the pair the other way round, xb to xa instead of xa to xb",),
    other_language: ("but xa to xb is asked for", "xc"),
    long_valid: ("valid.xa", "line 5: ", "tokens, but the model has 64 positions"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_corpus_is_refused_and_the_mended_one_is_taken(
    spoil: Callable[[Path], None], corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    spoil(corpus)
    message = command("train", recipe, "--output", run).error()
    for part in BAD[spoil]:
        assert part in message
    assert {name.partition("/")[0] for name in files_below(run)} <= {
        ".lock",
        "recipe.yaml",
        "environment.json",
        "data.json",
        "tokenizer",
    }
    assert message in command("train", recipe, "--dry-run").err
    shutil.rmtree(corpus)
    write_corpus(corpus)
    done(command("train", recipe, "--output", run))
    assert (run / "best" / "model.safetensors").is_file()


def test_a_bad_corpus_ends_a_process_with_2_and_one_message(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    not_utf8(corpus)
    message = copied("train", recipe, "--output", tmp_path / "run").error()
    assert f"{corpus / 'valid.xb'}, line 7: byte 2 (0xfc) is not UTF-8" in message


def test_a_corrected_recipe_may_use_the_same_output(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    message = command("train", recipe, "tokenizer.vocabulary=5000", "--output", run).error()
    assert "too small for a vocabulary of 5000 pieces" in message
    done(command("train", recipe, "tokenizer.vocabulary=70", "--output", run))
    message = command("train", recipe, "tokenizer.vocabulary=71", "--output", run).error()
    assert "another recipe (tokenizer.vocabulary: 70 there, 71 now)" in message


def test_a_start_that_translates_the_other_way_is_refused(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(command("train", recipe, "--output", run))
    back = tiny_recipe(corpus, training={"max_updates": 2}, model={"from_run": str(run)})
    back["data"] |= {"source_language": "xb", "target_language": "xa"}
    message = command("train", write_recipe(tmp_path / "back.yaml", back), "--dry-run").error()
    assert f"model.from_run: {run} translates xa to xb" in message
    allowed = message.partition("all the same: ")[2].strip().removesuffix(")")
    assert allowed == f"model.pretrained={run / 'best'}"
    del back["model"]
    done(command("train", write_recipe(tmp_path / "back.yaml", back), allowed, "--dry-run"))


def test_a_test_set_that_is_missing_is_refused_when_it_is_asked_for(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (corpus / "test.xb").unlink()
    done(command("train", recipe, "--output", run))
    assert "split test is there in xa, but xa to xb" in command("evaluate", run).error()
    for split in ("none", "*", "(", "../test", ""):
        assert str(corpus) in command("evaluate", run, "--split", split).error()
    assert not (run / "scores").exists()
    assert not (run / "translations").exists()


def test_validation_data_that_are_training_data_are_told(corpus: Path, recipe: Path) -> None:
    assert "pairs as well" not in done(command("train", recipe, "--dry-run")).err
    for side in ("xa", "xb"):
        first = (corpus / f"train.{side}").read_text().splitlines(keepends=True)[:30]
        (corpus / f"valid.{side}").write_text("".join(first))
    error = done(command("train", recipe, "--dry-run")).err
    assert "warning: 30 of the 30 validation pairs are training pairs as well" in error


def test_a_dry_run_looks_at_the_test_set_too(corpus: Path, recipe: Path) -> None:
    assert "warning" not in done(command("train", recipe, "--dry-run")).err
    (corpus / "test.xb").write_bytes(b"\xfc\n")
    warned = "warning: evaluate and compare want a test split, unless they are given another: "
    for problem in ("test.xb, line 1: byte 1 (0xfc) is not UTF-8", "split test is there in xa, but xa to xb"):
        error = done(command("train", recipe, "--dry-run")).err
        assert warned in error
        assert problem in error
        (corpus / "test.xb").unlink(missing_ok=True)


def test_training_sentences_that_are_too_long_are_dropped_and_counted(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    longer = sentence_pairs(3, seed=9, longest=3)
    with (corpus / "train.xa").open("a") as source, (corpus / "train.xb").open("a") as target:
        for side, other in longer:
            source.write(side + " balu" * 70 + "\n")
            target.write(other + " fixa" * 70 + "\n")
        source.write("\n")
        target.write("fixa\n")
    outcome = done(command("train", recipe, "--output", tmp_path / "run"))
    assert "kept 303 of 304 sentence pairs; dropped 1 empty" in outcome.err
    assert "300 sentence pairs" in outcome.err
    assert "dropped 3 long sources and 0 long targets" in outcome.err


@pytest.mark.parametrize("algorithm", ["teacher_forcing", "aggrevated", "lols"])
def test_no_roll_in_is_longer_than_the_positions(algorithm: str, corpus: Path, tmp_path: Path) -> None:
    """Sentences just short enough for the model, whose length limit (factor 1.5, and 10) is beyond its positions."""
    settings = tiny_recipe(
        corpus, search={"algorithm": algorithm}, training={"max_updates": 3, "log_every": 1}
    )
    settings["model"]["architecture"]["positions"] = 16
    path = write_recipe(tmp_path / "recipe.yaml", settings)
    done(command("train", path, "--output", tmp_path / "run"))
    assert len(read_lines(tmp_path / "run" / "metrics.jsonl")) >= 4
    done(command("evaluate", tmp_path / "run", "--beam", "2"))


def test_parts_of_the_users_own_that_are_unfit_are_found_before_training(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unfit_parts.py").write_text("def reference(cost):\n    return cost\n")
    monkeypatch.chdir(tmp_path)
    for settings, message in {
        "search={algorithm: lols, loss: {name: own, function: 'unfit_parts:loss'}}": "unfit_parts.py has no loss",
        "search={algorithm: lols, reference: {name: own, function: 'unfit_parts:reference'}}": (
            "without the method complete; it must return a reference"
        ),
    }.items():
        assert message in command("train", recipe, settings, "--dry-run").error()


def test_the_code_of_ones_own_stays_what_it_was(
    recipe: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "code_of_ones_own.py"
    own.write_text(text := "def cost(sources, translations, references):\n    return [0.5] * len(sources)\n")
    cost = "{name: own, function: 'code_of_ones_own:cost'}"
    searches = f"search={{algorithm: lols, cost: {{name: sum, terms: [{cost}, {{name: chrf}}]}}}}"
    given = ("train", recipe, searches)
    done(command(*given, "--output", "run"))
    assert (tmp_path / "run" / "code" / "code_of_ones_own.py").read_text() == text
    own.write_text(text.replace("0.5", "0.6"))
    for limit in ("training.max_updates=2", "training.max_updates=3"):
        message = command(*given, limit, "--output", "run").error()
        assert "was begun with another code_of_ones_own: " in message
        assert "bring that back" in message
    done(command(*given, "seed=2", "--output", "other"))
    own.write_text(text)
    done(command(*given, "seed=2", "--output", "seed"))
    done(command(*given, "training.max_updates=3", "--output", "run"))
    done(command(*given, "--output", "first"))
    first, other, seed = (Run(tmp_path / name) for name in ("first", "other", "seed"))
    assert recipe_but_for_seed(first) == recipe_but_for_seed(seed) != recipe_but_for_seed(other)


def test_a_cache_that_cannot_be_written_is_named(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("L2S_NMT_CACHE", str(tmp_path / "file" / "cache"))
    message = command("train", recipe, "--dry-run").error()
    assert message.startswith(
        f"error: {tmp_path / 'file' / 'cache'}: what is prepared once and kept cannot be written"
    )
    assert "L2S_NMT_CACHE" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in fp16")
def test_fp16_is_of_gpus(recipe: Path, tmp_path: Path) -> None:
    message = command("train", recipe, "training.mixed_precision=fp16", "--output", tmp_path / "run").error()
    assert "training.mixed_precision: fp16 needs a GPU; use bf16 or no" in message


def test_a_run_is_not_gone_on_with_on_other_data(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(command("train", recipe, "--output", run))
    longer = ("training.max_updates=3", "--output", run)
    lines = (corpus / "train.xb").read_text().splitlines()
    (corpus / "train.xb").write_text("\n".join(reversed(lines)) + "\n")
    assert "was begun with other data (train); bring them back" in command("train", recipe, *longer).error()
    (corpus / "train.xb").write_text("\n".join(lines) + "\n")
    assert "update 3, " in done(command("train", recipe, *longer)).err
