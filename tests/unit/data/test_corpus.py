from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2s_nmt.data.corpus import EmbeddedCorpus, HubData, describe_split, load_split, open_split
from l2s_nmt.data.store import REPORT, TABLE
from l2s_nmt.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def load(
    folder: Path, split: str = "train", source: str = "de", target: str = "en", targets: bool = True
) -> list[dict[str, Any]]:
    dataset = load_split(
        split,
        files=str(folder),
        hub=None,
        embedded=None,
        source_language=source,
        target_language=target,
        targets=targets,
    )
    return list(dataset)


def refused(
    folder: Path, split: str = "train", source: str = "de", target: str = "en", targets: bool = True
) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, split, source, target, targets)
    return str(caught.value)


def row(source: str, references: list[str], line: int) -> dict[str, object]:
    return {"source": source, "references": references, "line": line}


EXPECTED = [row('ein "Hund', ["a dog", "one dog"], 1), row("zwei\u2028Hunde\x85", ["two dogs"], 2)]


def write_text(folder: Path) -> None:
    (folder / "train.de").write_bytes('\ufeffein "Hund\nzwei\u2028Hunde\x85\r\n'.encode())
    (folder / "train.en").write_text("a dog\ntwo dogs", encoding="utf-8")  # no newline at the end
    (folder / "train.en.1").write_text("one dog\n\n", encoding="utf-8")


def write_gz(folder: Path) -> None:
    write_text(folder)
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def write_tsv(folder: Path) -> None:
    lines = 'ein "Hund\ta dog\tone dog\nzwei\u2028Hunde\x85\ttwo dogs\t\n'
    (folder / "train.tsv").write_text(lines, encoding="utf-8")


def write_jsonl(folder: Path) -> None:
    first = {"de": 'ein "Hund', "en": ["a dog", "one dog"]}
    second = {"translation": {"en": "two dogs", "de": "zwei\u2028Hunde\x85"}}
    text = "\n".join(json.dumps(record, ensure_ascii=False) for record in (first, second))
    (folder / "train.jsonl").write_text(text, encoding="utf-8")


def write_parquet(folder: Path) -> None:
    records = [{"id": 7, "de": r["source"], "en": r["references"]} for r in EXPECTED]
    pq.write_table(pa.Table.from_pylist(records), folder / "train.parquet")


def write_parquet_translation(folder: Path) -> None:
    records = [{"translation": {"de": r["source"], "en": r["references"]}} for r in EXPECTED]
    pq.write_table(pa.Table.from_pylist(records), folder / "train.parquet")


def write_pair_in_name(folder: Path) -> None:
    write_text(folder)
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("train.", "train.de-en."))


WRITERS = [
    write_text,
    write_gz,
    write_tsv,
    write_jsonl,
    write_parquet,
    write_parquet_translation,
    write_pair_in_name,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_form_gives_the_same_rows(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    assert load(tmp_path) == EXPECTED


ALONE = [{**expected, "references": []} for expected in EXPECTED]


def opened(folder: Path, targets: bool = True, **changes: Any) -> Any:
    place: dict[str, Any] = {"files": str(folder), "hub": None, "target_language": "en"}
    return open_split("train", **place | {"source_language": "de"} | changes, targets=targets)


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


def test_a_hub_data_set_is_opened_anywhere(tmp_path: Path) -> None:
    records = [{"de": f"quelle {number}", "en": f"target {number}"} for number in range(5)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    of_hub = opened(tmp_path, files=None, hub=HubData(str(tmp_path)))
    for skip in (0, 3, 5, 6):
        rows = [(r["de"], [r["en"]], line) for line, r in enumerate(records, 1)]
        assert list(of_hub(skip)) == rows[skip:]
    with pytest.raises(UserError, match=r"split train, line 5: no 'fr'; found de, en"):
        list(opened(tmp_path, files=None, hub=HubData(str(tmp_path)), target_language="fr")(4))


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


def write_source_text(folder: Path) -> None:
    write_text(folder)
    for path in folder.glob("train.en*"):
        path.unlink()


def write_source_gz(folder: Path) -> None:
    write_gz(folder)
    for path in folder.glob("train.en*"):
        path.unlink()


def write_source_pair_in_name(folder: Path) -> None:
    write_source_text(folder)
    (folder / "train.de").rename(folder / "train.de-en.de")


def write_source_tsv(folder: Path) -> None:
    (folder / "train.tsv").write_text('ein "Hund\nzwei\u2028Hunde\x85\n', encoding="utf-8")


def write_source_jsonl(folder: Path) -> None:
    records = ({"de": 'ein "Hund'}, {"translation": {"de": "zwei\u2028Hunde\x85", "fr": 1}})
    text = "\n".join(json.dumps(record) for record in records)
    (folder / "train.jsonl").write_text(text, encoding="utf-8")


def write_source_parquet(folder: Path) -> None:
    pq.write_table(pa.table({"de": [r["source"] for r in EXPECTED]}), folder / "train.parquet")


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


def test_different_line_counts(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "train.de").write_text("a\nb\nc\n")
    (tmp_path / "train.en").write_text("a\nb\n")
    message = refused(tmp_path)
    assert f"{tmp_path / 'train.de'} has 3 lines" in message
    assert f"{tmp_path / 'train.en'} has 2 lines" in message
    assert not list(cache.rglob("*.arrow")), "nothing half-written may remain"


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


def test_hub_data_set(tmp_path: Path) -> None:
    # A folder of JSON lines goes the same way through `datasets.load_dataset` as a data set on the hub.
    (tmp_path / "validation.jsonl").write_text('{"de": "ein", "en": "one"}\n{"de": "zwei", "en": "two"}')
    (tmp_path / "train.jsonl").write_text('{"de": "drei", "en": "three"}')

    def hub(split: str, source: str = "de", targets: bool = True) -> list[dict[str, Any]]:
        dataset = load_split(
            split,
            files=None,
            hub=HubData(str(tmp_path)),
            embedded=None,
            source_language=source,
            target_language="en",
            targets=targets,
        )
        return list(dataset)

    assert hub("valid") == [row("ein", ["one"], 1), row("zwei", ["two"], 2)]
    assert hub("valid", targets=False) == [row("ein", [], 1), row("zwei", [], 2)]
    with pytest.raises(UserError, match="has no split test; it has train, validation"):
        hub("test")
    with pytest.raises(UserError, match=r"split train, line 1: no 'fr'; found de, en"):
        hub("train", source="fr")


def test_a_folder_in_a_hub_data_set(tmp_path: Path) -> None:
    for name, text in (("one", "ein"), ("two", "zwei")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps({"translation": {"de": text, "en": name}}))
    for name, text in (("one", "ein"), ("two", "zwei")):
        hub = HubData(str(tmp_path), folder=name)
        place: dict[str, Any] = {"files": None, "source_language": "de", "target_language": "en"}
        assert list(load_split("train", hub=hub, embedded=None, **place)) == [row(text, [name], 1)]
        streamed = open_split("train", hub=hub, **place)(0)
        assert list(streamed) == [(text, [name], 1)]
        assert describe_split("train", hub=hub, embedded=None, **place) == f"{tmp_path} ({name}), split train"


def test_a_revision_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def load(*given: object, **named: object) -> dict[str, datasets.Dataset]:
        asked.update(given=given, **named)
        return {"train": datasets.Dataset.from_list([{"de": "ein", "en": "one"}])}

    monkeypatch.setattr(datasets, "load_dataset", load)
    hub = HubData("a/b", "c", "refs/convert/parquet", "d")
    rows = load_split("train", files=None, hub=hub, embedded=None, source_language="de", target_language="en")
    assert len(rows) == 1
    assert asked == {
        "given": ("a/b", "c"),
        "revision": "refs/convert/parquet",
        "data_dir": "d",
        "streaming": False,
    }


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> Iterator[None]:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match=r"hub data set a/b \(c, d\) cannot be loaded: no route\."):
        load_split(
            "train",
            files=None,
            hub=HubData("a/b", "c", folder="d"),
            embedded=None,
            source_language="de",
            target_language="en",
        )


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
