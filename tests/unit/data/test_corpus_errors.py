"""What is wrong with a corpus is said with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l2s_nmt.data.corpus import stamp_split
from l2s_nmt.data.locate import Wanted
from l2s_nmt.errors import UserError
from tests.unit.data.corpora import load, refused, write_gz, write_pair_in_name, write_text, write_tsv


def test_different_line_counts(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "train.de").write_text("a\nb\nc\n")
    (tmp_path / "train.en").write_text("a\nb\n")
    message = refused(tmp_path)
    assert f"{tmp_path / 'train.de'} has 3 lines" in message
    assert f"{tmp_path / 'train.en'} has 2 lines" in message
    assert not list(cache.rglob("*.arrow")), "nothing half-written may remain"


def test_a_table_with_a_header(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("de\ten\nder Hund\tthe dog\n")
    assert "train.tsv, line 1: names the languages; a table has no header" in refused(tmp_path)
    (tmp_path / "train.tsv").write_text("en\tde\nthe dog\tder Hund\n")
    assert "remove this line, and source and target change places" in refused(tmp_path)
    (tmp_path / "train.tsv").write_text("der Hund\tthe dog\nde\ten\n")
    assert len(load(tmp_path)) == 2


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.de").write_text("a\n")
    (tmp_path / "train.en").write_bytes(content)
    message = refused(tmp_path)
    assert str(tmp_path / "train.en") in message
    assert "empty" in message


@pytest.mark.parametrize("name", ["train.tsv", "train.jsonl"])
def test_empty_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert f"{tmp_path / name}: the file is empty" in refused(tmp_path)


def test_parquet_without_rows_or_form(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"de": pa.array([], pa.string()), "en": pa.array([], pa.string())}),
        tmp_path / "train.parquet",
    )
    assert "empty" in refused(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 but no more")
    assert "not a readable parquet file" in refused(tmp_path)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "train.de").write_bytes(b"gut\nsch\xf6n\n")
    (tmp_path / "train.en").write_text("good\nnice\n")
    message = refused(tmp_path)
    assert f"{tmp_path / 'train.de'}, line 2: byte 4 (0xf6) is not UTF-8" in message


def test_broken_gzip(tmp_path: Path) -> None:
    write_gz(tmp_path)
    path = tmp_path / "train.en.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: cannot be read" in refused(tmp_path)
    path.write_bytes(b"no gzip")
    assert f"{path}: cannot be read" in refused(tmp_path)


def test_missing_split_lists_what_is_there(tmp_path: Path) -> None:
    write_text(tmp_path)
    message = refused(tmp_path, "test")
    assert "test is missing" in message
    assert "train.de, train.en" in message
    assert "no such folder" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "line"), [("a\tb\nc\n", 2), ("a b\n", 1), ("a\tb\tc\nd\te\n", 2), ("a\tb\nc\td\te\n", 2)]
)
def test_tsv_with_wrong_columns(tmp_path: Path, content: str, line: int) -> None:
    (tmp_path / "train.tsv").write_text(content)
    assert f"{tmp_path / 'train.tsv'}, line {line}: " in refused(tmp_path)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{'de': 1}", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "list instead of an object"),
        ('{"de": "x", "fr": "y"}', "no 'en'; found de, fr"),
        ('{"de": "x", "en": null}', "en is None"),
        ('{"de": "x", "en": []}', "en is []"),
        ('{"de": "x", "en": [1]}', "en is [1]"),
        ('{"de": ["x", "y"], "en": "z"}', "de has 2 texts"),
        ('{"de": "\\ud800", "en": "z"}', "surrogate"),
    ],
)
def test_bad_json_lines(tmp_path: Path, bad: str, says: str) -> None:
    (tmp_path / "train.jsonl").write_text('{"de": "a", "en": "b"}\n' + bad + "\n")
    message = refused(tmp_path)
    assert f"{tmp_path / 'train.jsonl'}, line 2: " in message
    assert says in message


def test_pair_the_other_way_round_in_the_names(tmp_path: Path) -> None:
    write_pair_in_name(tmp_path)
    message = refused(tmp_path, source="en", target="de")
    assert "train.de-en.de names the pair the other way round" in message
    assert "swap" in message


def test_language_before_the_split_in_the_names(tmp_path: Path) -> None:
    (tmp_path / "de.train").write_text("a\n")
    (tmp_path / "en.train").write_text("a\n")
    assert "rename it to train.de" in refused(tmp_path)


def test_language_that_is_not_in_the_names(tmp_path: Path) -> None:
    write_text(tmp_path)
    message = refused(tmp_path, source="fr")
    assert "train is there in de, en, but fr to en is asked for" in message
    assert "train.fr" in message


def test_two_forms_of_one_split(tmp_path: Path) -> None:
    write_text(tmp_path)
    write_tsv(tmp_path)
    assert "more than once" in refused(tmp_path)


def test_gap_in_further_references(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "train.en.3").write_text("x\ny\n")
    assert "train.en.2 is missing" in refused(tmp_path)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (("en.0", "en.1"), "train.en.0 is there, train.en.2 is missing"),
        (("en.01",), "train.en.01 is there, train.en.1 is missing"),
        (("en.1.gz", "en.5"), "train.en.5 is there, train.en.2 is missing"),
    ],
)
def test_references_that_are_numbered_otherwise_are_named(
    there: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    write_text(tmp_path)
    for path in tmp_path.glob("train.en.*"):
        path.unlink()
    for name in there:
        (tmp_path / f"train.{name}").write_text("x\ny\n")
    assert message in refused(tmp_path)


def test_files_of_one_size_are_told_apart_without_reading_them(tmp_path: Path) -> None:
    lines = [f"{number:08d}\n" for number in range(200_000)]
    stamps = []
    for number, swapped in enumerate((None, 0, 100_000, 199_998)):
        own = list(lines)
        if swapped is not None:
            # Where only a part is looked at, a part has to differ.
            own[swapped : swapped + 9_000] = reversed(own[swapped : swapped + 9_000])
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "train.de").write_text("".join(own))
        (folder / "train.en").write_text("".join(lines))
        stamps.append(stamp_split(Wanted("train", "de", "en", True), files=str(folder), hub=None))
    assert len(set(stamps)) == 4
    (tmp_path / "0" / "train.en").touch()
    assert stamp_split(Wanted("train", "de", "en", True), files=str(tmp_path / "0"), hub=None) == stamps[0]


def test_a_streamed_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train.de", "train.en"):
        (tmp_path / name).write_text("a\n")
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "train.de":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"train\.de: cannot be read \(Permission denied\)"):
        stamp_split(Wanted("train", "de", "en", True), files=str(tmp_path), hub=None)
