"""The ways to translate with a run: from a file, a pipe or a terminal; the n best; samples; after an interruption."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import l2s_nmt
from tests.helpers import PATIENCE, ROOT, command, done, start, write_recipe
from tests.processes import lines_of, start_copy, wait_until
from tests.same_training import recipe


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translate")
    settings = recipe(corpus, "teacher_forcing", 256, max_updates=100, validate_every=100)
    settings["evaluation"] = {"batch_tokens": 64, "beam": 3}
    done(command("train", write_recipe(folder / "recipe.yaml", settings), "--output", folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def source(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a line without words."""
    path = tmp_path_factory.mktemp("source") / "source"
    path.write_text("\n" + (corpus / "test.xa").read_text())
    return path


@pytest.fixture(scope="module")
def lines(run: Path, source: Path) -> list[str]:
    translated = done(command("translate", run, "--input", source)).out.splitlines()
    assert len(translated) == 31
    assert len(set(translated)) > 5
    return translated


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_pipe_gives_what_a_file_does(run: Path, source: Path, lines: list[str]) -> None:
    assert done(command("translate", run, stdin=source.read_bytes())).out.splitlines() == lines


def test_a_line_is_translated_before_the_next_is_written(run: Path, source: Path, lines: list[str]) -> None:
    started = start("translate", run)
    assert started.stdin is not None
    assert started.stdout is not None
    for line, translation in list(zip(source.read_text().splitlines(), lines, strict=True))[:4]:
        started.stdin.write(f"{line}\n".encode())
        started.stdin.flush()
        assert started.stdout.readline().decode() == f"{translation}\n"
    out, err = started.communicate(b"balu", timeout=PATIENCE)
    assert (started.returncode, out.count(b"\n"), err) == (0, 1, b"")


def test_what_comes_before_a_line_that_is_refused_is_translated(
    run: Path, source: Path, lines: list[str]
) -> None:
    good = b"".join(source.read_bytes().splitlines(keepends=True)[:3])
    for bad, reason in ((b"\xff\n", "not UTF-8"), (b"balu " * 600 + b"\n", "64 positions")):
        outcome = command("translate", run, stdin=good + bad + good)
        assert outcome.error().startswith("error: standard input, line 4: ")
        assert reason in outcome.err
        assert outcome.out.splitlines() == lines[:3]


def on_a_terminal(run: Path, typed: list[bytes], prompts: int) -> str:
    """What a person sees who types lines, each when asked to, and Ctrl-D in the end."""
    person, terminal = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-m", "l2s_nmt", "translate", str(run)],
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(terminal)
    seen, waiting = b"", [*typed, b"\x04"]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([person], [], [], 0.2)[0]:
            continue
        try:
            seen += os.read(person, 4096)
        except OSError:  # the other end is closed
            break
        if waiting and seen.count(b"> ") > len(typed) + 1 - len(waiting):
            os.write(person, waiting.pop(0))
    started.wait(10)
    os.close(person)
    assert started.returncode == 0
    assert seen.count(b"> ") == prompts
    return seen.decode().replace("\r", "")


def test_a_person_is_asked_for_each_line(run: Path, source: Path, lines: list[str]) -> None:
    first = source.read_text().splitlines()[1]
    seen = on_a_terminal(run, [f"{first}\n".encode(), b"balu " * 600 + b"\n", b"\n"], prompts=4)
    assert f"{first}\n{lines[1]}\n" in seen
    assert "line 2: " in seen
    assert "64 positions; split the sentence\n" in seen
    assert "Traceback" not in seen


def test_the_n_best_are_json_with_their_scores(
    run: Path, source: Path, lines: list[str], tmp_path: Path
) -> None:
    found = records(done(command("translate", run, "--input", source, "--n-best", "3")).out)
    assert [record["line"] for record in found] == list(range(1, 32))
    assert found[0]["translations"] == []
    for record, line in zip(found[1:], lines[1:], strict=True):
        group = record["translations"]
        assert len(group) == 3
        assert group[0]["text"] == line
        assert group[0]["score"] >= group[1]["score"] >= group[2]["score"]
    best = [record["translations"][0] for record in found[1:]]
    (tmp_path / "best").write_text("".join(f"{one['text']}\n" for one in best))
    (tmp_path / "sources").write_text("".join(source.read_text().splitlines(keepends=True)[1:]))
    given = (run, tmp_path / "best", "--sources", tmp_path / "sources")
    scored = [line.split("\t") for line in done(command("score", *given)).out.splitlines()[1:]]
    same = [
        float(row[1]) == pytest.approx(one["log_probability"], abs=1e-3)
        for row, one in zip(scored, best, strict=True)
    ]
    assert sum(same) > 20  # others were written in tokens that the tokenizer joins


def test_samples_depend_on_line_and_seed_alone(run: Path, source: Path) -> None:
    def sampled(*options: str) -> str:
        return done(command("translate", run, "--input", source, "--sample", *options)).out

    once = sampled("--seed", "5", "--temperature", "1.3")
    assert sampled("--seed", "5", "--temperature", "1.3", "--batch-tokens", "1") == once
    assert sampled("--seed", "6", "--temperature", "1.3") != once
    several = records(sampled("--seed", "5", "--temperature", "1.3", "--n-best", "2"))
    first = [record["translations"][0]["text"] if record["translations"] else "" for record in several]
    assert first == once.splitlines()
    greedy = done(command("translate", run, "--input", source, "--beam", "1")).out
    assert sampled("--top-k", "1") == sampled("--top-p", "0.00001") == greedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n-best", "4"], "--n-best 4: a beam of 3 has no more than 3; give --beam 4 as well"),
        (["--n-best", "2", "--beam", "1"], "--n-best 2: a beam of 1 has"),
        (["--sample", "--beam", "2"], "--beam is of beam search"),
        (["--sample", "--length-penalty", "2"], "--length-penalty is of beam search"),
        (["--temperature", "2"], "--temperature is of sampling; give --sample"),
        (["--top-k", "2"], "--top-k is of sampling"),
        (["--top-p", "0.2"], "--top-p is of sampling"),
        (["--seed", "2"], "--seed is of sampling"),
        (["--sample", "--temperature", "0"], "temperature of sampling is 0.0; it must be 1e-06 or more"),
        (["--sample", "--temperature", "nan"], "temperature of sampling is nan; it must be 1e-06 or more"),
        (["--sample", "--top-p", "1.5"], "top_p of sampling is 1.5; it must be above 0 and at most 1"),
        (["--sample", "--top-p", "nan"], "top_p of sampling is nan; it must be above 0 and at most 1"),
        (
            ["--beam", "1", "--length-penalty", "2"],
            "the length penalty ranks several beams, and there is one",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Path, options: list[str], message: str) -> None:
    assert message in command("translate", run, *options).error()


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_is_whole_or_can_be_gone_on_with(
    run: Path, source: Path, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again."""
    monkeypatch.setattr("l2s_nmt.commands.lines_in.AT_ONCE", 2)
    output = tmp_path / "out" / "target"
    arguments = ("translate", run, "--input", source, "--output", output)
    partial = output.with_name("target.partial")
    chance = random.Random(3)
    gone_on = 0
    for kills in range(60):
        begun_with = lines_of(partial)
        child = start_copy(*arguments)
        if kills % 2:  # after some progress, however long that takes here
            wait_until(lambda so_far=begun_with: output.exists() or lines_of(partial) > so_far)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.1))
        else:  # anywhere, loading the model too
            time.sleep(chance.uniform(0.1, 0.6))
        child.send(signal.SIGKILL)
        outcome = child.outcome()
        if output.exists():
            break
        assert outcome.status == -signal.SIGKILL
        gone_on += lines_of(partial) > 0
    else:
        done(command(*arguments))
    assert gone_on
    assert output.read_text().splitlines() == lines
    assert list(output.parent.iterdir()) == [output]


def test_what_was_begun_with_other_settings_is_begun_anew(
    run: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "target"
    arguments: list[str | Path] = ["translate", run, "--input", source, "--output", output]
    with monkeypatch.context() as patch:
        patch.setattr("l2s_nmt.commands.lines_in.AT_ONCE", 4)
        patch.setattr(
            "l2s_nmt.commands.lines_out.GrowingFile.finish", lambda file: (_ for _ in ()).throw(SystemExit(9))
        )
        assert command(*arguments, "--beam", "2").status == 9
    assert output.with_name("target.partial").read_text().count("\n") == 31
    assert not output.exists()
    outcome = done(command(*arguments, "--beam", "1"))
    assert "begun anew" in outcome.err
    assert output.read_text() == done(command("translate", run, "--input", source, "--beam", "1")).out
    assert list(tmp_path.iterdir()) == [output]


def test_a_file_that_cannot_be_written_is_named(run: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = command("translate", run, "--input", source, "--output", tmp_path / "file" / "x").error()
    assert message.startswith(f"error: {tmp_path / 'file' / 'x'}: cannot be written")


def test_the_functions_do_the_same(run: Path, source: Path, lines: list[str]) -> None:
    opened = l2s_nmt.open_run(run)
    sentences = source.read_text().splitlines()
    assert l2s_nmt.translate(opened, sentences) == lines
    found = l2s_nmt.n_best(opened, sentences, 2)
    assert [group[0].text for group in found[1:]] == lines[1:]
    drawn = l2s_nmt.translate(opened, sentences, sampling=l2s_nmt.Sampling(temperature=1.3, seed=5))
    assert drawn == (
        done(
            command("translate", run, "--input", source, "--sample", "--seed", "5", "--temperature", "1.3")
        ).out.splitlines()
    )


SAMPLING = l2s_nmt.Sampling()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: l2s_nmt.translate(run, ["a"], beam=0), "beam is 0; give 1 to 1,000"),
        (lambda run: l2s_nmt.evaluate(run, beam=-1), "beam is -1; give 1 to 1,000"),
        (
            lambda run: l2s_nmt.translate(run, ["a"], beams=1),  # type: ignore[call-arg]
            "beams is no option of translating; there are beam, ",
        ),
        (
            lambda run: l2s_nmt.translate(run, ["a"], beam=3, length_penalty=float("nan")),
            "length penalty is nan; give -50 to 50",
        ),
        (
            lambda run: l2s_nmt.evaluate(run, beam=3, length_penalty=250),
            "length penalty is 250; give -50 to 50",
        ),
        (lambda run: l2s_nmt.load_translator(run)("balu"), "'balu' is one text; give a list of texts"),
        (
            lambda run: l2s_nmt.load_translator(run, beam=2).best(["a"], 3),
            "number is 3; give 1 to 2, the beams",
        ),
        (
            lambda run: l2s_nmt.load_translator(run, sampling=SAMPLING).best(["a"], 0),
            "number is 0; give 1 or more",
        ),
        (lambda run: l2s_nmt.compare(run, exposure=0), "exposure is 0; give 1 or more"),
        (lambda run: l2s_nmt.compare(run, splits=[]), "no split is given"),
        (lambda run: l2s_nmt.translate(run, ["a"], batch_tokens=0), "batch_tokens is 0; give 1 or more"),
        (
            lambda run: l2s_nmt.translate(run, ["a"], sampling=SAMPLING, beam=2),
            "which sampling takes the place of",
        ),
        (
            lambda run: l2s_nmt.n_best(run, ["a"], 2, sampling=SAMPLING, length_penalty=2.0),
            "which sampling takes the place of",
        ),
        (
            lambda run: l2s_nmt.translate(run, ["a"], sampling=True),  # type: ignore[arg-type]
            r"sampling is True; give l2s_nmt\.Sampling\(\)",
        ),
        (
            lambda run: l2s_nmt.compare(run, beam=3, length_penalty=250),
            "length penalty is 250; give -50 to 50",
        ),
        (lambda run: l2s_nmt.n_best(run, ["a"], 0), "number is 0; give 1 or more"),
        (lambda run: l2s_nmt.n_best(run, ["a"], 3, beam=2), "a beam of 2 has no 3 best"),
        (lambda run: l2s_nmt.Sampling(temperature=0.0), "temperature of sampling is 0.0"),
        (lambda run: l2s_nmt.Sampling(temperature=-1.0), "temperature of sampling is -1.0"),
        (lambda run: l2s_nmt.Sampling(temperature=1e-40), "temperature of sampling is 1e-40"),
        (lambda run: l2s_nmt.Sampling(top_k=0), "top_k of sampling is 0; it must be 1 or more"),
        (lambda run: l2s_nmt.Sampling(temperature="1"), "temperature of sampling is '1'"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.Sampling(top_k=2.5), "top_k of sampling is 2.5; it must be 1 or more"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.Sampling(seed=1.5), "seed of sampling is 1.5; it must be 0 or more"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.translate(run, None), "sources: None is no list; give one"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.translate(run, ["a"], beam="5"), "beam is '5'; give 1 to 1,000"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.translate(run, ["a"], beam=2.5), "beam is 2.5; give 1 to 1,000"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.evaluate(run, length_penalty="1"), "length penalty is '1'; give -50 to 50"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.translate(run, ["a"], batch_tokens=1.5), "batch_tokens is 1.5; give 1 or more"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.n_best(run, ["a"], "3"), "number is '3'; give 1 or more"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.n_best(run, ["a"], 2, beam="3"), "beam is '3'; give 1 to 1,000"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.load_translator(run)(["a", None]), "sources, number 2: None is no text"),  # type: ignore[list-item]
        (lambda run: l2s_nmt.load_translator(run).best(["a"], "2"), "number is '2'; give 1 to"),  # type: ignore[arg-type]
        (lambda run: l2s_nmt.Sampling(top_p=0.0), "top_p of sampling is 0.0; it must be above 0"),
    ],
)
def test_what_the_functions_cannot_do_is_refused(run: Path, call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(l2s_nmt.UserError, match=message):
        call(l2s_nmt.open_run(run))


def test_the_coldest_sampling_is_greedy(run: Path) -> None:
    opened, sentences = l2s_nmt.open_run(run), ["balu ke", "ba mo"]
    cold = l2s_nmt.translate(opened, sentences, sampling=l2s_nmt.Sampling(temperature=1e-6))
    assert cold == l2s_nmt.translate(opened, sentences, beam=1)


def test_the_name_of_standard_input_is_that_of_shells(run: Path, source: Path, lines: list[str]) -> None:
    arguments = [sys.executable, "-m", "l2s_nmt", "translate", str(run), "--input", "-"]
    outcome = subprocess.run(arguments, input=source.read_bytes(), capture_output=True, cwd=ROOT, check=True)
    assert outcome.stdout.decode().splitlines() == lines


def test_a_folder_is_no_file_of_translations(run: Path, source: Path, tmp_path: Path) -> None:
    message = command("translate", run, "--input", source, "--output", tmp_path).error()
    assert message == f"error: {tmp_path}: is a folder; name a file in it with --output\n"


def test_what_is_translated_is_not_written_over(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("balu\n")
    (tmp_path / "same.txt").symlink_to(tmp_path / "in.txt")
    message = command(
        "translate", run, "--input", tmp_path / "in.txt", "--output", tmp_path / "same.txt"
    ).error()
    assert (
        message
        == f"error: --output {tmp_path}/same.txt: is the file of --input, which would be lost; name another\n"
    )
    (tmp_path / "out.txt.partial").write_text("balu\n")
    message = command(
        "translate", run, "--input", tmp_path / "out.txt.partial", "--output", tmp_path / "out.txt"
    ).error()
    assert "is written as out.txt.partial first, which is the file of --input" in message
    for name in ("in.txt", "out.txt.partial"):
        assert (tmp_path / name).read_text() == "balu\n"


def test_a_symbolic_link_stays_one(run: Path, source: Path, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    done(command("translate", run, "--input", source, "--output", tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text().splitlines() == lines
    assert len(list(tmp_path.iterdir())) == 2


def test_a_named_pipe_is_written_to(run: Path, source: Path, lines: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    done(command("translate", run, "--input", source, "--output", tmp_path / "pipe"))
    out, _ = reader.communicate(timeout=PATIENCE)
    assert out.splitlines() == lines
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_standard_output_by_its_name_is_kept(
    run: Path, source: Path, lines: list[str], tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "l2s_nmt", "translate", run, "--input", source, "--output", "/dev/stdout"],
            stdout=file, cwd=ROOT, check=True,
        )  # fmt: skip
        file.write(b"behind\n")
    assert (tmp_path / "file").read_text().splitlines() == [*lines, "behind"]
