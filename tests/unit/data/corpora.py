"""One small corpus in every form that is read, and what it is to give."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l2s_nmt.data.corpus import load_split, open_split
from l2s_nmt.data.locate import Wanted
from l2s_nmt.errors import UserError


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


ALONE = [{**expected, "references": []} for expected in EXPECTED]


def opened(folder: Path, targets: bool = True, target_language: str = "en", **changes: Any) -> Any:
    wanted = Wanted("train", "de", target_language, targets)
    return open_split(wanted, **{"files": str(folder), "hub": None} | changes)


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
