"""Read the files of a split, row by row; every error names file and line."""

from __future__ import annotations

import codecs
import gzip
import json
import reprlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from l2s_nmt.data.locate import Located, Wanted
from l2s_nmt.data.rows import Row, fingerprint
from l2s_nmt.data.store import checksum
from l2s_nmt.errors import UserError
from l2s_nmt.plain_text import shorten

_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError)
"""What reading parquet raises; the last two at a text that is not UTF-8, or a date that is none."""
_SHOWN = 20
"""Keys of a record that a message lists."""


def read_files(located: Located, wanted: Wanted, skip: int = 0) -> Iterator[Row]:
    """Rows of the files of a split.

    Args:
        located: the files.
        wanted: what of them.
        skip: rows to leave out at the head, which are not looked at.

    Raises:
        UserError: while iterating, at what is unsound.
    """
    path = located.paths[0]
    if located.kind == "text":
        return _read_text(located.paths, skip)
    if located.kind == "tsv":
        return _read_tsv(path, wanted, skip)
    records = _json_records(path, skip) if located.kind == "jsonl" else _parquet_records(path, skip)
    return read_records(records, wanted, str(path), skip)


def fingerprint_files(located: Located, wanted: Wanted) -> str:
    """Hash of the content of the files and of what is wanted of them.

    Raises:
        UserError: a file cannot be read.
    """
    # Of records, empty references were some once.
    parts = [located.kind.encode() + (b"2" if located.kind in ("jsonl", "parquet") else b""), *wanted.key]
    for path in located.paths:
        try:
            parts.append(path.suffix.encode() + checksum(path).encode())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
    return fingerprint(parts)


def _read_text(paths: tuple[Path, ...], skip: int) -> Iterator[Row]:
    for line, texts in enumerate(zip_longest(*(_lines(path, skip) for path in paths)), skip + 1):
        if None in texts:
            counts = ", ".join(f"{path} has {sum(1 for _ in _lines(path))} lines" for path in paths)
            raise UserError(
                f"the two sides do not belong together: {counts}; line n of each must say the same"
            )
        yield texts[0], [*texts[1:2], *filter(None, texts[2:])], line


def _read_tsv(path: Path, wanted: Wanted, skip: int) -> Iterator[Row]:
    fewest, width = len(wanted.sides), 0
    if skip:
        width = 1 + next(_lines(path)).count("\t")
    for line, text in enumerate(_lines(path, skip), skip + 1):
        columns = text.split("\t")
        width = width or len(columns)
        if line == 1 and wanted.targets and sorted(columns[:2]) == sorted(wanted.sides):
            turned = "" if tuple(columns[:2]) == wanted.sides else ", and source and target change places"
            raise UserError(
                f"{path}, line 1: names the languages; a table has no header, remove this line{turned}"
            )
        if len(columns) < fewest or len(columns) != width:
            known = f"the {width} of line 1"
            expected = known if width >= fewest else "source TAB target [TAB further references]"
            raise UserError(f"{path}, line {line}: {len(columns)} columns between tabs instead of {expected}")
        yield columns[0], [columns[1], *filter(None, columns[2:])] if wanted.targets else [], line


def _json_records(path: Path, skip: int) -> Iterator[tuple[int, object]]:
    for line, text in enumerate(_lines(path, skip), skip + 1):
        try:
            yield line, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {line}: not JSON ({error}); each line must be one object"
            ) from None


def _parquet_records(path: Path, skip: int) -> Iterator[tuple[int, object]]:
    row = skip
    try:
        with pq.ParquetFile(path) as table:
            group, row = _row_group(table.metadata, skip)
            groups = range(group, table.num_row_groups)
            for batch in table.iter_batches(batch_size=1_000, row_groups=groups):
                begin = min(max(skip - row, 0), len(batch))
                yield from enumerate(batch.slice(begin).to_pylist(), row + begin + 1)
                row += len(batch)
    except _UNREADABLE as error:
        raise UserError(f"{path}: not a readable parquet file, behind row {row} ({error})") from None


def _row_group(metadata: pq.FileMetaData, row: int) -> tuple[int, int]:
    """The row group that holds a row, and the first row of that group."""
    first = 0
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if row < first + count:
            return group, first
        first += count
    return metadata.num_row_groups, first


def read_records(
    records: Iterable[tuple[int, object]], wanted: Wanted, origin: str, skip: int = 0
) -> Iterator[Row]:
    """Rows from (line, record) pairs, where a record maps language codes to text.

    Args:
        records: pairs in order.
        wanted: which languages.
        origin: for messages.
        skip: how many were left out before the first of them.

    Raises:
        UserError: a record has another form, or there is none.
    """
    line = skip
    for line, record in records:
        where = f"{origin}, line {line}"
        if isinstance(record, Mapping) and isinstance(record.get("translation"), Mapping):
            record = record["translation"]
        if not isinstance(record, Mapping):
            raise UserError(
                f"{where}: {type(record).__name__} instead of an object with "
                f"{'the keys' if wanted.targets else 'the key'} {', '.join(wanted.sides)}"
            )
        sources, *further = (_texts(record, language, where) for language in wanted.sides)
        if len(sources) > 1:
            raise UserError(
                f"{where}: {wanted.source} has {len(sources)} texts; only the target may have several"
            )
        references = [*further[0][:1], *filter(None, further[0][1:])] if further else []
        yield sources[0], references, line
    if line == 0:
        raise UserError(f"{origin}: empty; there must be at least one sentence")


def _texts(record: Mapping[str, Any], language: str, where: str) -> list[str]:
    if language not in record:
        there = [shorten(str(key)) for key in islice(record, _SHOWN)]
        found = ", ".join(there) + (", ..." if len(record) > _SHOWN else "") if there else "nothing"
        hint = "Set the source and the target language to two of them"
        raise UserError(f"{where}: no {language!r}; found {found}. {hint}")
    value = record[language]
    texts: list[str] = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: {language} is {reprlib.repr(value)}; it must be a text or a list of texts")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise UserError(
            f"{where}: {language} holds half of a surrogate pair, which is no character; remove it"
        )
    return texts


def _lines(path: Path, skip: int = 0) -> Iterator[str]:
    line = skip
    for line, raw in enumerate(islice(_raw_lines(path), skip, None), skip + 1):
        try:
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, line {line}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8; "
                "convert the file, for example with iconv -f ISO-8859-1 -t UTF-8 OLD > NEW"
            ) from None
    if line == 0:
        raise UserError(f"{path}: the file is empty; there must be at least one sentence")


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            first = stream.readline().removeprefix(codecs.BOM_UTF8)
            if first:
                yield first
            yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
