"""Any bytes in a file of a corpus are rows, or an error that names the file."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l2s_nmt.data.corpus import load_split
from l2s_nmt.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield


def load(folder: Path) -> Dataset:
    return load_split(
        "train",
        files=str(folder),
        hub=None,
        embedded=None,
        source_language="xa",
        target_language="xb",
    )


def rows_or_error(folder: Path) -> Dataset | str:
    """The rows, each sound; or what the error says, which names the folder and is no novel."""
    try:
        found = load(folder)
    except UserError as error:
        message = str(error)
    else:
        for row in found:
            (row["source"] + "".join(row["references"])).encode()
        return found
    assert str(folder) in message
    assert len(message) < 5_000
    return message


PIECES = st.sampled_from([
    b"\n", b"\r\n", b"\r", b"\t", b'"', b"'", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\xc0\x80",
    b'{"xa": "a", "xb": "b"}', b'{"xa": "\\ud800", "xb": ["b"]}', b'{"translation": {"xa": "", "xb": []}}',
    b"[" * 3_000,
    b'{"xa": NaN}', b"9" * 5_000, "\u2028\u202e\x85\x1b".encode(), "ü".encode("utf-16"), b"null", b"PAR1", b"\x1f\x8b",
])  # fmt: skip
CONTENT = st.lists(PIECES | st.binary(max_size=4), max_size=6).map(b"".join)
NAMES = ("train.tsv", "train.tsv.gz", "train.jsonl", "train.jsonl.gz", "train.parquet")


@given(CONTENT, st.sampled_from(NAMES), st.booleans())
@example(b'{"xa": "a", "xb": "b"}\n' * 3, "train.jsonl.gz", True)
@settings(deadline=None, derandomize=True, max_examples=120)
def test_any_table(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, compressed: bool
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / name).write_bytes(gzip.compress(content) if compressed else content)
    rows_or_error(folder)


@given(CONTENT, CONTENT)
@settings(deadline=None, derandomize=True, max_examples=80)
def test_any_two_sides(tmp_path_factory: pytest.TempPathFactory, source: bytes, target: bytes) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train.xa").write_bytes(source)
    (folder / "train.xb").write_bytes(target)
    found = rows_or_error(folder)
    if isinstance(found, Dataset):
        assert len(found) == source.count(b"\n") + (not source.endswith(b"\n"))


def parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def test_a_parquet_file_with_any_byte_changed(tmp_path: Path) -> None:
    whole = parquet(pa.table({"xa": [f"a{n}" for n in range(300)], "xb": ["b"] * 300}))
    draw = random.Random(1)
    refused = 0
    for number in range(60):
        content = bytearray(whole)
        for _ in range(3):
            content[draw.randrange(len(content))] = draw.randrange(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "train.parquet").write_bytes(content)
        refused += isinstance(rows_or_error(folder), str)
    assert refused


def test_text_in_a_parquet_file_that_is_not_utf8(tmp_path: Path) -> None:
    buffers = [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    damaged = pa.Array.from_buffers(pa.string(), 1, buffers)
    (tmp_path / "train.parquet").write_bytes(parquet(pa.table({"xa": damaged, "xb": ["b"]})))
    with pytest.raises(UserError, match="not a readable parquet file, behind row 0"):
        load(tmp_path)


@pytest.mark.parametrize(
    "line", ['{"' + "k" * 100_000 + '": 1}', '{"xa": [' + "1," * 100_000 + '1], "xb": "b"}',
             "{" + ",".join(f'"k{n}": 1' for n in range(50_000)) + "}"],
    ids=["key", "list", "keys"],
)  # fmt: skip
def test_no_record_is_told_at_length(line: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(line)
    assert isinstance(rows_or_error(tmp_path), str)


def test_links_to_themselves_folders_and_broken_links_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "train.xb").write_text("b\n")
    source = tmp_path / "train.xa"
    for target in (source, tmp_path, Path("nowhere")):
        source.symlink_to(target)
        with pytest.raises(UserError, match=r"add train\.xa$"):
            load(tmp_path)
        source.unlink()
    source.mkdir()
    with pytest.raises(UserError, match=r"add train\.xa$"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5_000, "a/" * 3_000, "\0", "none"])
def test_a_name_that_is_no_folder(name: str) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load(Path(name))
