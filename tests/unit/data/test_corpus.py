"""Every form of a corpus gives the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.data.corpus import EmbeddedCorpus, HubData, describe_split, load_split
from l2s_nmt.data.store import REPORT, TABLE
from l2s_nmt.errors import UserError
from tests.unit.data.corpora import (
    ALONE,
    EXPECTED,
    WRITERS,
    load,
    opened,
    refused,
    row,
    write_source_gz,
    write_source_jsonl,
    write_source_pair_in_name,
    write_source_parquet,
    write_source_text,
    write_source_tsv,
    write_text,
)


@pytest.mark.parametrize("write", WRITERS)
def test_every_form_gives_the_same_rows(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    assert load(tmp_path) == EXPECTED


@pytest.mark.parametrize("targets", [True, False])
@pytest.mark.parametrize("write", WRITERS)
def test_a_split_opened_anywhere_gives_the_rest_of_its_rows(
    tmp_path: Path, cache: Path, write: Any, targets: bool
) -> None:
    write(tmp_path)
    rows = [(r["source"], r["references"] if targets else [], r["line"]) for r in EXPECTED]
    for skip in range(4):
        assert list(opened(tmp_path, targets)(skip)) == rows[skip:]
    assert not list(cache.rglob("*.arrow")), "nothing is kept"


@pytest.mark.parametrize("group", [1, 3, 700, 2_500])
def test_rows_of_parquet_are_skipped_by_groups(tmp_path: Path, group: int) -> None:
    numbers = [str(number) for number in range(2_500)]
    pq.write_table(pa.table({"de": numbers, "en": numbers}), tmp_path / "train.parquet", row_group_size=group)
    for skip in (0, 1, 699, 700, 999, 1_000, 2_099, 2_499, 2_500, 9_999):
        assert [row for row, _, _ in opened(tmp_path)(skip)] == numbers[skip:]


def test_errors_behind_what_was_skipped_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\tb\nc\td\te\nf\tg\nh\n")
    rows = opened(tmp_path)(2)
    assert next(rows) == ("f", ["g"], 3)
    with pytest.raises(UserError, match="line 4: 1 columns between tabs instead of the 2 of line 1"):
        next(rows)
    (tmp_path / "train.tsv").unlink()
    (tmp_path / "train.de").write_text("a\nb\nc\n")
    (tmp_path / "train.en").write_text("a\nb\n")
    with pytest.raises(UserError, match="the two sides do not belong together"):
        list(opened(tmp_path)(2))
    (tmp_path / "train.en").write_bytes(b"a\nb\n\xff\n")
    with pytest.raises(UserError, match=r"train\.en, line 3: byte 1"):
        list(opened(tmp_path)(2))


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])


@pytest.mark.parametrize("how", ["gone", "cut off", "changed"])
@pytest.mark.parametrize("name", [TABLE, REPORT])
def test_rows_that_were_damaged_are_read_anew(tmp_path: Path, cache: Path, name: str, how: str) -> None:
    write_text(tmp_path)
    load(tmp_path)
    (kept,) = cache.rglob(name)
    whole = kept.read_bytes()
    damage(kept, how)
    assert load(tmp_path) == EXPECTED
    assert kept.read_bytes() == whole


def test_what_is_whole_is_not_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path)
    load(tmp_path)
    monkeypatch.setattr("l2s_nmt.data.corpus.read_files", lambda *_: pytest.fail("read again"))
    assert load(tmp_path) == EXPECTED


@pytest.mark.parametrize("write", WRITERS)
def test_sources_alone_of_every_form_of_pairs(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    assert load(tmp_path, targets=False) == ALONE
    assert load(tmp_path) == EXPECTED, "one must not be taken for the other"
    assert load(tmp_path, targets=False) == ALONE


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (write_source_text, "train is there in de, but de to en is asked for"),
        (write_source_gz, "add train.en"),
        (write_source_pair_in_name, "add train.en"),
        (write_source_tsv, "line 1: 1 columns between tabs instead of source TAB target"),
        (write_source_jsonl, "line 1: no 'en'; found de"),
        (write_source_parquet, "line 1: no 'en'; found de"),
    ],
)
def test_sources_alone_without_a_target_side(tmp_path: Path, write: Any, says: str) -> None:
    write(tmp_path)
    assert load(tmp_path, targets=False) == ALONE
    assert says in refused(tmp_path)


def test_what_is_wrong_with_sources_alone(tmp_path: Path) -> None:
    assert "add train.de (or train.tsv" in refused(tmp_path, targets=False)
    (tmp_path / "train.en").write_text("a\n")
    message = refused(tmp_path, targets=False)
    assert "train is there in en" in message
    assert message.endswith("or add train.de")
    (tmp_path / "train.de").write_text("")
    assert f"{tmp_path / 'train.de'}: the file is empty" in refused(tmp_path, targets=False)
    (tmp_path / "valid.tsv").write_text("a\nb\tc\n")
    assert "line 2: 2 columns between tabs instead of the 1 of line 1" in refused(
        tmp_path, "valid", targets=False
    )
    (tmp_path / "test.jsonl").write_text('{"en": "x"}\n')
    assert "line 1: no 'de'; found en" in refused(tmp_path, "test", targets=False)
    (tmp_path / "test.jsonl").write_text("[]\n")
    assert refused(tmp_path, "test", targets=False).endswith("instead of an object with the key de")


def test_origin_of_sources_alone_names_one_file(tmp_path: Path) -> None:
    write_text(tmp_path)
    origin = describe_split(
        "train",
        files=str(tmp_path),
        hub=None,
        embedded=None,
        source_language="de",
        target_language="en",
        targets=False,
    )
    assert origin == str(tmp_path / "train.de")


def test_columns_have_the_documented_types(tmp_path: Path) -> None:
    write_text(tmp_path)
    dataset = load_split(
        "train",
        files=str(tmp_path),
        hub=HubData("not/used"),
        embedded=EmbeddedCorpus(train=1, valid=1, test=1, references=1, seed=0),
        source_language="de",
        target_language="en",
    )
    assert dataset.features["source"].dtype == "string"
    assert dataset.features["references"].feature.dtype == "string"
    assert dataset.features["line"].dtype == "int64"
    assert dataset.cache_files, "the rows must be memory-mapped"


sentences = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12)


@settings(max_examples=15, deadline=None)
@given(pairs=st.lists(st.tuples(sentences, sentences), min_size=1, max_size=5))
def test_any_text_survives(pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("text")
    pairs = [("start", "start"), *pairs]  # a byte order mark at the head of a file is not text
    for side, language in enumerate(("de", "en")):
        text = "".join(pair[side] + "\n" for pair in pairs)
        (folder / f"train.{language}").write_bytes(text.encode())
    assert [(r["source"], r["references"]) for r in load(folder)] == [(s, [t]) for s, t in pairs]


@pytest.mark.parametrize("name", ["validation", "dev", "val", "valid"])
def test_valid_has_other_names(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.de").write_text("a\n")
    (tmp_path / f"{name}.en").write_text("b\n")
    assert load(tmp_path, "valid") == [row("a", ["b"], 1)]


def test_changed_content_is_read_anew_and_equal_content_is_not(tmp_path: Path, cache: Path) -> None:
    write_text(tmp_path)
    load(tmp_path)
    written = set(cache.rglob("*.arrow"))
    (tmp_path / "train.de").touch()
    load(tmp_path)
    assert set(cache.rglob("*.arrow")) == written
    (tmp_path / "train.en").write_text("a cat\ntwo cats", encoding="utf-8")
    assert load(tmp_path)[0]["references"] == ["a cat", "one dog"]


def test_the_other_direction_of_the_same_table_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"de": "ein", "en": "one"}')
    assert load(tmp_path) == [row("ein", ["one"], 1)]
    assert load(tmp_path, source="en", target="de") == [row("one", ["ein"], 1)]


def test_origin_names_the_files(tmp_path: Path) -> None:
    write_text(tmp_path)
    where: dict[str, Any] = {
        "embedded": None,
        "source_language": "de",
        "target_language": "en",
    }
    assert describe_split("train", files=str(tmp_path), hub=None, **where) == (
        f"{tmp_path / 'train.de'} + {tmp_path / 'train.en'}"
    )
    assert describe_split("train", files=None, hub=HubData("a/b", "x"), **where) == "a/b (x), split train"


def test_no_corpus() -> None:
    with pytest.raises(UserError, match="no corpus"):
        load_split(
            "train",
            files=None,
            hub=None,
            embedded=None,
            source_language="de",
            target_language="en",
        )


def load_embedded(corpus: EmbeddedCorpus, split: str, targets: bool = True) -> list[dict[str, Any]]:
    return list(
        load_split(
            split,
            files=None,
            hub=None,
            embedded=corpus,
            source_language="vo",
            target_language="ta",
            targets=targets,
        )
    )


def test_embedded_corpus() -> None:
    corpus = EmbeddedCorpus(train=4, valid=3, test=2, references=2, seed=1)
    splits = {split: load_embedded(corpus, split) for split in ("train", "valid", "test")}
    assert [len(rows) for rows in splits.values()] == [4, 3, 2]
    assert [r["line"] for r in splits["train"]] == [1, 2, 3, 4]
    assert all(len(r["references"]) == 1 for r in splits["train"])
    assert all(len(r["references"]) == 2 for r in splits["valid"] + splits["test"])


def test_embedded_training_data_with_several_references_or_none() -> None:
    one = load_embedded(EmbeddedCorpus(train=4, valid=3, test=2, references=1, seed=1), "train")
    several = EmbeddedCorpus(train=4, valid=3, test=2, references=1, seed=1, train_references=3)
    rows = load_embedded(several, "train")
    assert [len(r["references"]) for r in rows] == [3] * 4
    assert [{**r, "references": r["references"][:1]} for r in rows] == one, "the first stays what it was"
    assert [len(r["references"]) for r in load_embedded(several, "valid")] == [1] * 3
    assert load_embedded(several, "train", targets=False) == [{**r, "references": []} for r in one]
    assert load_embedded(several, "train") == rows


@pytest.mark.parametrize("kind", ["text", "tsv", "jsonl", "parquet"])
def test_further_references_that_are_empty_are_none(tmp_path: Path, kind: str) -> None:
    sources, texts = ["ein", "zwei"], [["one", "", "a"], ["two", "", ""]]
    files: dict[str, list[str]] = {}
    if kind == "text":
        columns = zip(*texts, strict=True)
        files = {"train.de": sources} | {
            f"train.en{ending}": [*column] for ending, column in zip(("", ".1", ".2"), columns, strict=True)
        }
    elif kind == "tsv":
        files["train.tsv"] = ["\t".join([source, *row]) for source, row in zip(sources, texts, strict=True)]
    elif kind == "jsonl":
        files["train.jsonl"] = [
            json.dumps({"de": source, "en": row}) for source, row in zip(sources, texts, strict=True)
        ]
    else:
        pq.write_table(pa.table({"de": sources, "en": texts}), tmp_path / "train.parquet")
    for name, lines in files.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    assert [r["references"] for r in load(tmp_path)] == [["one", "a"], ["two"]]
