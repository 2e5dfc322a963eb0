"""Hostile text goes in by every door: what survives trains, and a translation is one line for each line given."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.helpers import command, done, sentence_pairs, tiny_recipe, write_recipe

HOSTILE = (
    "a\0b",
    "\x1b[31mred\x07",
    "\u202eright\u2066to\u2069left",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven",
    "lone\rcarriage",
    '"lone quote',
    "'",
    "</s> <pad> <unk> <s> >>fr<< de_DE",
    "\ufeffmark\ufffe",
    "\U0010ffff\ue000",
    "e" + "\u0301" * 300,
    "<script>alert(1)</script> &amp; | ` $(true)",
    "\u3000\u00a0\u200b",
    "🏳️‍🌈" * 20,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in a folder of an odd name, half of it hostile."""
    folder = tmp_path_factory.mktemp("odd") / " a\n\x1b[31m'\"é|<b>"
    folder.mkdir()
    texts = [*HOSTILE, *(source for source, _ in sentence_pairs(150, seed=1))]
    rows = "".join(f"{text}\t{text}\n" for text in texts)
    (folder / "train.tsv.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
    (folder / "valid.jsonl").write_text(
        "".join(json.dumps({"xa": text + "\n", "xb": ["\r", text]}) + "\r\n" for text in HOSTILE)
    )
    for side in ("xa", "xb"):
        (folder / f"test.{side}").write_bytes("\r\n".join(HOSTILE).encode())
    (folder / "loop").symlink_to(folder)
    (folder / os.fsdecode(b"\xff\xfe")).write_bytes(b"\xff")
    return folder


@pytest.fixture(scope="module")
def run(hostile: Path) -> Path:
    recipe = tiny_recipe(
        hostile,
        tokenizer={"vocabulary": 480, "byte_fallback": True},
        model={"architecture": {**tiny_recipe(hostile)["model"]["architecture"], "positions": 512}},
        search={"algorithm": "aggrevated"},
        training={"max_updates": 3},
        evaluation={"max_length": 20},  # such a model does not end by itself
    )
    path = write_recipe(hostile.parent / "recipe.yaml", recipe)
    done(command("train", path, "--output", hostile.parent / "run \n\x1b[31m"))
    return hostile.parent / "run \n\x1b[31m"


def test_what_survives_trains_and_is_evaluated_and_compared(run: Path, tmp_path: Path) -> None:
    outcome = done(command("evaluate", run, "--beam", "1"))
    assert "\x1b" not in outcome.out + outcome.err
    path = run / "translations" / "test.beam1.txt"
    text = path.read_bytes().decode()
    assert len(text.splitlines()) == text.count("\n") == len(HOSTILE)
    outcome = done(command("compare", run, path, "--beam", "1", "--output", tmp_path / "report"))
    assert "\x1b" not in outcome.out + outcome.err
    page = (tmp_path / "report" / "comparison.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not set("\x1b\0\u202e\u2028") & set(page)


LINES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12) | st.sampled_from(HOSTILE),
    max_size=6,
)


@given(LINES, st.booleans())
@example(["", " ", "\t", "\u3000", "\0"], True)
@example([*HOSTILE], False)
@settings(
    deadline=None,
    derandomize=True,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_line_out_for_each_line_in(run: Path, lines: list[str], mark: bool) -> None:
    given = ("\ufeff" if mark else "") + "".join(f"{line}\n" for line in lines)
    outcome = done(command("translate", run, "--beam", "1", stdin=given.encode()))
    assert outcome.out.count("\n") == len(outcome.out.splitlines()) == len(lines)
    for line, translation in zip(lines, outcome.out.split("\n"), strict=False):
        assert line.strip() or not translation


@given(st.binary(max_size=30))
@example(b"ba\n\xed\xa0\x80\n")
@example(b"\xc0\x80")
@example("ba\n".encode("utf-16"))
@settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_bytes_are_translated_or_refused_with_their_line(run: Path, content: bytes) -> None:
    outcome = command("translate", run, "--beam", "1", stdin=content)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        assert outcome.error() == f"error: standard input, line {line}: not UTF-8 text; convert it first\n"
    else:
        count = content.count(b"\n") + (not content.endswith(b"\n") and content not in (b"", b"\xef\xbb\xbf"))
        assert done(outcome).out.count("\n") == count


def test_a_sentence_beyond_the_positions_is_named_by_its_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("ba\n" + "ba " * 100_000 + "\nke\n")
    begun = time.process_time()
    message = command("translate", run, "--input", tmp_path / "long").error()
    assert time.process_time() - begun < 20
    assert f"{tmp_path / 'long'}, line 2: " in message
    assert "but the model has 512 positions; split the sentence" in message


def test_hostile_files_of_translations_are_compared_or_refused(tmp_path: Path) -> None:
    files = {
        "sources": "\r\n".join(HOSTILE).encode(),
        "references": "\n".join(HOSTILE).encode(),
        "same": "\r\n".join(HOSTILE).encode(),
        "empty lines": b"\n" * len(HOSTILE),
        os.fsdecode(b"\xff"): b"ba\n" * len(HOSTILE),
        "[red]|`*": "\n".join(reversed(HOSTILE)).encode(),
        "bytes": b"\xff\n" * len(HOSTILE),
        "nothing": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    options: list[str | Path] = ["--sources", tmp_path / "sources", "--references", tmp_path / "references"]
    options += ["--output", tmp_path / "report"]
    done(
        command(
            "compare",
            *(tmp_path / name for name in ("same", "empty lines", os.fsdecode(b"\xff"), "[red]|`*")),
            *options,
        )
    )
    scores = json.loads((tmp_path / "report" / "comparison.json").read_text())["systems"]
    assert [round(system["chrf"]) for system in scores[:2]] == [100, 0]
    message = command("compare", tmp_path / "same", tmp_path / "bytes", *options).error()
    assert f"{tmp_path / 'bytes'}, line 1: not UTF-8 text" in message
    assert "0 translations" in command("compare", tmp_path / "same", tmp_path / "nothing", *options).error()


def test_a_run_directory_whose_name_is_not_utf8_is_refused_before_training(
    hostile: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(hostile))
    message = command("train", recipe, "--output", os.fsdecode(b"\xff")).error()
    assert message == (
        "error: \ufffd: the name is not UTF-8, which the libraries that write weights need; choose another\n"
    )


def test_a_line_of_fifty_megabytes_is_dropped_in_seconds(hostile: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(hostile, tmp_path / "corpus", symlinks=True))
    rows = gzip.decompress((corpus / "train.tsv.gz").read_bytes()).decode()
    (corpus / "train.tsv.gz").unlink()
    with (corpus / "train.tsv").open("w") as file:
        file.write(rows.replace("\r", " ") + "ba " * 17_000_000 + "\tfi\n")
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        tiny_recipe(corpus, tokenizer={"vocabulary": 480, "byte_fallback": True}, evaluation={"beam": 1}),
    )
    begun = time.process_time()
    outcome = command("train", recipe, "model.architecture.positions=512", "--dry-run")
    assert time.process_time() - begun < 60
    assert "1 unequal" in done(outcome).err
