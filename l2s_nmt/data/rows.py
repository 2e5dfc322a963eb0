"""Rows of text as a memory-mapped `datasets.Dataset`, kept in the cache of `datasets` by their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset

from l2s_nmt.data.store import TABLE, Report, checksum, kept, write_table
from l2s_nmt.data.ticker import Say, Ticker, silent

SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "references": pa.list_(pa.string()),  # the first is the target; none: sources alone
        "line": pa.int64(),  # counted from 1 in the file, or the row in the table
    }
)

FEATURES = datasets.Features.from_arrow_schema(SCHEMA)

_FORMAT = b"2"  # part of every fingerprint: raise it when the same files are to be read differently
_CHUNK = 10_000  # rows written at a time

Row = tuple[str, list[str], int]
"""Source, references and line, as in `SCHEMA`."""


def build(
    rows: Callable[[], Iterator[Row]], fingerprint: str, say: Say = silent, *, by_content: bool = False
) -> Dataset:
    """Write the rows to the cache of `datasets`, whole or not at all; or find them there.

    Args:
        rows: reads them.
        fingerprint: of all that they depend on.
        say: is told how far the reading is.
        by_content: the dataset's own fingerprint is of the rows, where what they depend on changes without them.
    """
    ticker = Ticker(say, "reading")

    def write(temporary: Path) -> Report:
        write_table(temporary, SCHEMA, _batches(rows(), ticker))
        return {"content": checksum(temporary / TABLE)}

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "l2s_nmt" / fingerprint
    found = kept(folder, write)
    dataset = Dataset.from_file(str(folder / TABLE))
    # Its own would depend on the time of the file.
    dataset._fingerprint = found["content"] if by_content else fingerprint
    return dataset


def _batches(rows: Iterator[Row], ticker: Ticker) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(rows, _CHUNK)):
        yield _batch(chunk)
        ticker(len(chunk))


def _batch(rows: Iterable[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of `datasets`, which would tear the command's own."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def fingerprint(parts: list[bytes]) -> str:
    """Hash of the parts, each on its own: moving a byte from one to the next changes it."""
    total = hashlib.blake2b(_FORMAT, digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()
