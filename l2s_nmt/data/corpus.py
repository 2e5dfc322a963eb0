"""Parallel text as one `datasets.Dataset`, whatever it comes from: files, the Hugging Face hub, the
generator.

Every split has the columns of `FEATURES`. Files lie in one folder, in one of these forms:

- `train.de` + `train.en`: one sentence a line, line-aligned; further references of a sentence in
  `train.en.1`, `train.en.2`, ... (an empty line there: no further reference);
- `train.tsv`: source TAB target [TAB further references], without quoting;
- `train.jsonl` or `train.parquet`: the language codes are keys (or keys inside `translation`); the target
  may be a list of references.

Text, TSV and JSON lines may be compressed (`.gz`). The pair may stand in the name, in its direction:
`train.de-en.de`, `train.de-en.tsv`. `valid` is also found as `validation`, `dev` or `val`.

A line ends at "\\n" and nowhere else: Unicode's other line separators are text. A "\\r" before it and a byte
order mark at the head of a file are dropped. Nothing else of the text is changed.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from l2s_nmt.errors import UserError

FEATURES = datasets.Features(
    {
        "source": datasets.Value("string"),
        "references": datasets.List(datasets.Value("string")),  # one or several; the first is trained on
        "line": datasets.Value("int64"),  # counted from 1 in the file, or the row in the table
    }
)

_ALIASES = {"valid": ("valid", "validation", "dev", "val")}
_TABLES = {".tsv": "tsv", ".tsv.gz": "tsv", ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}
_FORMAT = b"1"  # part of every fingerprint: raise it when the same files are to be read differently

_Row = tuple[str, list[str], int]


@dataclass(frozen=True)
class EmbeddedCorpus:
    """The corpus that the project generates: sizes of its splits, and what it is drawn from."""

    train: int
    """Number of sentence pairs of each split."""
    valid: int
    test: int
    references: int
    """References of each valid and test sentence; train has one."""
    seed: int


def load_split(
    split: str,
    *,
    files: str | None,
    hub: str | None,
    hub_config: str | None,
    embedded: EmbeddedCorpus | None,
    source_language: str,
    target_language: str,
) -> Dataset:
    """Read one split: from `files`, else from `hub`, else from `embedded`, the first that is given.

    The result is memory-mapped from the cache of `datasets` and has the columns of `FEATURES`. Its
    fingerprint depends on the content of the files alone, so equal content is read once and changed content
    is read anew. Nothing is kept of a split with an error in it.

    Raises:
        UserError: a split, file, language or data set is missing, or its content is unsound; names file and
        line.
    """
    if files is not None:
        located = _locate(Path(files), split, source_language, target_language)
        fingerprint = _fingerprint_files(located, source_language, target_language)
        return _build(lambda: _read(located, source_language, target_language), fingerprint)
    if hub is not None:
        table = _load_hub(split, hub, hub_config)
        origin = f"{hub}, split {split}"
        fingerprint = _digest(
            [table._fingerprint.encode(), source_language.encode(), target_language.encode()]
        )
        return _build(
            lambda: _read_records(enumerate(table, 1), source_language, target_language, origin), fingerprint
        )
    if embedded is not None:
        return _load_embedded(split, embedded)
    raise UserError(
        "no corpus is given: name a folder of files, a data set on the hub, or the embedded corpus"
    )


def describe_split(
    split: str,
    *,
    files: str | None,
    hub: str | None,
    hub_config: str | None,
    embedded: EmbeddedCorpus | None,
    source_language: str,
    target_language: str,
) -> str:
    """Name the place of a split for messages: `"{describe_split(...)}, line 7"`. Takes what `load_split`
    takes.

    Raises:
        UserError: the split is not in the folder.
    """
    if files is not None:
        return _locate(Path(files), split, source_language, target_language).name
    if hub is not None:
        return f"{hub}{f' ({hub_config})' if hub_config else ''}, split {split}"
    return f"embedded corpus, split {split}"


# ---- where a split lies --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Located:
    kind: str  # text, tsv, jsonl or parquet
    paths: tuple[Path, ...]  # text: source, target, further references; else one

    @property
    def name(self) -> str:
        return " + ".join(str(path) for path in self.paths[:2])


def _locate(folder: Path, split: str, source: str, target: str) -> _Located:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; give the folder that holds {split}.{source} etc."
        )
    names = {path.name for path in folder.iterdir() if path.is_file()}
    for alias in _ALIASES.get(split, (split,)):
        for stem in (alias, f"{alias}.{source}-{target}"):
            found = _candidates(folder, stem, names, source, target)
            if len(found) > 1:
                listed = ", ".join(located.name for located in found)
                raise UserError(
                    f"{folder}: split {split} is there more than once ({listed}); keep one of them"
                )
            if found:
                return found[0]
    raise UserError(f"{folder}: {_why_missing(split, names, source, target)}")


def _candidates(folder: Path, stem: str, names: set[str], source: str, target: str) -> list[_Located]:
    found = {
        kind: _Located(kind, (folder / (stem + suffix),))
        for suffix, kind in reversed(_TABLES.items())  # the uncompressed file wins
        if stem + suffix in names
    }
    sides = [_plain_or_gz(f"{stem}.{language}", names) for language in (source, target)]
    if sides[0] and sides[1]:
        further = _further_references(folder, f"{stem}.{target}", names)
        found["text"] = _Located("text", tuple(folder / name for name in (*sides, *further) if name))
    return list(found.values())


def _plain_or_gz(name: str, names: set[str]) -> str | None:
    return next((candidate for candidate in (name, name + ".gz") if candidate in names), None)


def _further_references(folder: Path, stem: str, names: set[str]) -> list[str]:
    matches = (re.fullmatch(re.escape(stem) + r"\.([0-9]+)(\.gz)?", name) for name in names)
    numbers = sorted({int(match[1]) for match in matches if match})
    further = [_plain_or_gz(f"{stem}.{number}", names) for number in range(1, len(numbers) + 1)]
    missing = next((number for number, name in enumerate(further, 1) if name is None), None)
    if missing is not None:
        raise UserError(
            f"{folder}: further references are numbered from 1 without gaps; {stem}.{numbers[-1]} is there, "
            f"{stem}.{missing} is missing"
        )
    return [name for name in further if name]


def _why_missing(split: str, names: set[str], source: str, target: str) -> str:
    aliases = "|".join(map(re.escape, _ALIASES.get(split, (split,))))
    there = sorted(names)
    reverse = [name for name in there if re.match(rf"({aliases})\.{target}-{source}\.", name)]
    if reverse:
        return (
            f"{reverse[0]} names the pair the other way round, {target} to {source} instead of {source} to "
            f"{target}; swap the source and the target language, or rename the files"
        )
    swapped = [name for name in there if re.fullmatch(rf"({source}|{target})\.({aliases})(\.gz)?", name)]
    if swapped:
        language, alias = swapped[0].split(".")[:2]
        return f"{swapped[0]} is named the wrong way round; rename it to {alias}.{language} etc."
    pattern = rf"({aliases})(?:\.[A-Za-z]+-[A-Za-z]+)?\.(?!tsv|jsonl|parquet)([A-Za-z_-]+)(\.gz)?"
    languages = sorted({match[2] for match in (re.fullmatch(pattern, name) for name in there) if match})
    if languages:
        absent = [language for language in (source, target) if language not in languages] or [source, target]
        return (
            f"split {split} is there in {', '.join(languages)}, but {source} to {target} is asked for; set "
            f"the source and the target language to what is there, or add "
            f"{' and '.join(f'{split}.{language}' for language in absent)}"
        )
    listed = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    return (
        f"split {split} is missing; add {split}.{source} and {split}.{target} (or {split}.tsv, .jsonl, "
        f".parquet). The folder holds {listed or 'no files'}"
    )


# ---- reading files -------------------------------------------------------------------------------


def _read(located: _Located, source: str, target: str) -> Iterator[_Row]:
    path = located.paths[0]
    if located.kind == "text":
        return _read_text(located.paths)
    if located.kind == "tsv":
        return _read_tsv(path)
    records = _json_records(path) if located.kind == "jsonl" else _parquet_records(path)
    return _read_records(records, source, target, str(path))


def _read_text(paths: tuple[Path, ...]) -> Iterator[_Row]:
    for line, texts in enumerate(zip_longest(*(_lines(path) for path in paths)), 1):
        if None in texts:
            counts = ", ".join(f"{path} has {sum(1 for _ in _lines(path))} lines" for path in paths)
            raise UserError(
                f"the two sides do not belong together: {counts}; line n of each must say the same"
            )
        yield texts[0], [texts[1], *filter(None, texts[2:])], line


def _read_tsv(path: Path) -> Iterator[_Row]:
    width = 0
    for line, text in enumerate(_lines(path), 1):
        columns = text.split("\t")
        width = width or len(columns)
        if len(columns) < 2 or len(columns) != width:
            expected = f"the {width} of line 1" if width > 1 else "source TAB target [TAB further references]"
            raise UserError(f"{path}, line {line}: {len(columns)} columns between tabs instead of {expected}")
        yield columns[0], [columns[1], *filter(None, columns[2:])], line


def _json_records(path: Path) -> Iterator[tuple[int, object]]:
    for line, text in enumerate(_lines(path), 1):
        try:
            yield line, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {line}: not JSON ({error}); each line must be one object"
            ) from None


def _parquet_records(path: Path) -> Iterator[tuple[int, object]]:
    row = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1_000):
                for record in batch.to_pylist():
                    row += 1
                    yield row, record
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from None


def _read_records(records: Any, source: str, target: str, origin: str) -> Iterator[_Row]:
    """Rows from (line, record) pairs, where a record maps language codes to text."""
    line = 0
    for line, record in records:
        where = f"{origin}, line {line}"
        if isinstance(record, Mapping) and isinstance(record.get("translation"), Mapping):
            record = record["translation"]
        if not isinstance(record, Mapping):
            raise UserError(
                f"{where}: {type(record).__name__} instead of an object with the keys {source}, {target}"
            )
        sources, references = (_texts(record, language, where) for language in (source, target))
        if len(sources) > 1:
            raise UserError(f"{where}: {source} has {len(sources)} texts; only the target may have several")
        yield sources[0], references, line
    if line == 0:
        raise UserError(f"{origin}: empty; there must be at least one sentence pair")


def _texts(record: Mapping[str, Any], language: str, where: str) -> list[str]:
    if language not in record:
        found = ", ".join(map(str, record)) or "nothing"
        hint = "Set the source and the target language to two of them"
        raise UserError(f"{where}: no {language!r}; found {found}. {hint}")
    value = record[language]
    texts: list[str] = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: {language} is {value!r}; it must be a text or a list of texts")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise UserError(
            f"{where}: {language} holds half of a surrogate pair, which is no character; remove it"
        )
    return texts


def _lines(path: Path) -> Iterator[str]:
    line = 0
    for line, raw in enumerate(_raw_lines(path), 1):
        try:
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, line {line}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8; "
                f"convert the file, for example with iconv -t UTF-8"
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


# ---- other places --------------------------------------------------------------------------------


def _load_hub(split: str, hub: str, config: str | None) -> Dataset:
    try:
        with _quiet():
            splits = datasets.load_dataset(hub, config)
    except Exception as error:  # whatever goes wrong there is the id, the configuration or the connection
        reason = str(error).strip().split("\n")[0]
        name = f"{hub} ({config})" if config else hub
        raise UserError(
            f"hub data set {name} cannot be loaded: {reason}. Check the id, the configuration and the "
            f"connection, or use a folder of files instead"
        ) from error
    for alias in _ALIASES.get(split, (split,)):
        if alias in splits:
            return splits[alias]
    raise UserError(f"hub data set {hub} has no split {split}; it has {', '.join(splits)}")


def _load_embedded(split: str, corpus: EmbeddedCorpus) -> Dataset:
    from l2s_nmt.data import embedded

    sizes = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    if split not in sizes:
        raise UserError(f"the embedded corpus has no split {split}; it has {', '.join(sizes)}")
    references = 1 if split == "train" else corpus.references

    def rows() -> Iterator[_Row]:
        pairs = embedded.generate(split, sizes[split], seed=corpus.seed, references=references)
        for line, (source, targets) in enumerate(pairs, 1):
            yield source, list(targets), line

    # The generator's own code is part of what the sentences depend on.
    code = [path.read_bytes() for path in sorted(Path(embedded.__file__).parent.rglob("*.py"))]
    return _build(
        rows, _digest([split.encode(), repr((sizes[split], corpus.seed, references)).encode(), *code])
    )


# ---- to Arrow ------------------------------------------------------------------------------------


def _build(rows: Callable[[], Iterator[_Row]], fingerprint: str) -> Dataset:
    """Write the rows to the cache of `datasets`, which drops what it cannot finish; or find them there."""

    def generate() -> Iterator[dict[str, object]]:
        for source, references, line in rows():
            yield {"source": source, "references": references, "line": line}

    try:
        with _quiet():
            return Dataset.from_generator(generate, features=FEATURES, fingerprint=fingerprint)
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of `datasets`, which would tear the command's own."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _fingerprint_files(located: _Located, source: str, target: str) -> str:
    parts = [located.kind.encode(), source.encode(), target.encode()]
    for path in located.paths:
        try:
            with path.open("rb") as stream:
                parts.append(path.suffix.encode() + hashlib.file_digest(stream, "blake2b").digest())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
    return _digest(parts)


def _digest(parts: list[bytes]) -> str:
    total = hashlib.blake2b(_FORMAT, digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()
