"""Data sets of the hub, by folders in their form."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from l2s_nmt.data.corpus import HubData, describe_split, load_split, open_split
from l2s_nmt.data.locate import Wanted
from l2s_nmt.errors import UserError
from tests.unit.data.corpora import opened, row


def test_a_hub_data_set_is_opened_anywhere(tmp_path: Path) -> None:
    records = [{"de": f"quelle {number}", "en": f"target {number}"} for number in range(5)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    of_hub = opened(tmp_path, files=None, hub=HubData(str(tmp_path)))
    for skip in (0, 3, 5, 6):
        rows = [(r["de"], [r["en"]], line) for line, r in enumerate(records, 1)]
        assert list(of_hub(skip)) == rows[skip:]
    with pytest.raises(UserError, match=r"split train, line 5: no 'fr'; found de, en"):
        list(opened(tmp_path, files=None, hub=HubData(str(tmp_path)), target_language="fr")(4))


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
        streamed = open_split(Wanted("train", "de", "en", True), files=None, hub=hub)(0)
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


def test_the_same_sentences_are_the_same_data_whatever_else_changes(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"de": "ein", "en": "one"}\n{"de": "zwei", "en": "two"}\n')
    (tmp_path / "validation.jsonl").write_text('{"de": "drei", "en": "three"}\n')

    def stamps() -> list[str]:
        return [
            load_split(
                split,
                files=None,
                hub=HubData(str(tmp_path)),
                embedded=None,
                source_language="de",
                target_language="en",
            )._fingerprint
            for split in ("train", "valid")
        ]

    before = stamps()
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    assert stamps() == before
    (tmp_path / "validation.jsonl").write_text('{"de": "vier", "en": "four"}\n')
    changed = stamps()
    assert changed[0] == before[0]
    assert changed[1] != before[1]
