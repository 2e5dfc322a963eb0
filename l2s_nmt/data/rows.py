"""Rows of text as a memory-mapped `datasets.Dataset`, kept in the cache of `datasets` by their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import datasets
from datasets import Dataset

from l2s_nmt.errors import UserError

FEATURES = datasets.Features(
    {
        "source": datasets.Value("string"),
        "references": datasets.List(datasets.Value("string")),  # the first is the target; none: sources alone
        "line": datasets.Value("int64"),  # counted from 1 in the file, or the row in the table
    }
)

_FORMAT = b"1"  # part of every fingerprint: raise it when the same files are to be read differently

Row = tuple[str, list[str], int]
"""Source, references and line, as in `FEATURES`."""


def build(rows: Callable[[], Iterator[Row]], fingerprint: str) -> Dataset:
    """Write the rows to the cache of `datasets`, which drops what it cannot finish; or find them there."""

    def generate() -> Iterator[dict[str, object]]:
        for source, references, line in rows():
            yield {"source": source, "references": references, "line": line}

    try:
        with quiet():
            return Dataset.from_generator(generate, features=FEATURES, fingerprint=fingerprint)
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


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
