"""Parallel text as one `datasets.Dataset`, whatever it comes from: files, the Hugging Face hub, the
generator.

Every split has the columns of `rows.FEATURES`. Files lie in one folder, in one of these forms:

- `train.de` + `train.en`: one sentence a line, line-aligned; further references of a sentence in
  `train.en.1`, `train.en.2`, ... (an empty line there: no further reference);
- `train.tsv`: source TAB target [TAB further references], without quoting;
- `train.jsonl` or `train.parquet`: the language codes are keys (or keys inside `translation`); the target
  may be a list of references.

Text, TSV and JSON lines may be compressed (`.gz`). The pair may stand in the name, in its direction:
`train.de-en.de`, `train.de-en.tsv`. `valid` is also found as `validation`, `dev` or `val`.

Where the sources alone are asked for, the target is not looked at and need not be there: `train.de`, one
column of `train.tsv`, one key of `train.jsonl` or `train.parquet` are enough.

A line ends at "\\n" and nowhere else: Unicode's other line separators are text. A "\\r" before it and a byte
order mark at the head of a file are dropped. Nothing else of the text is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset, IterableDataset

from l2s_nmt.data.locate import ALIASES, Wanted, locate
from l2s_nmt.data.read import fingerprint_files, read_files, read_records
from l2s_nmt.data.rows import Row, build, fingerprint, quiet
from l2s_nmt.data.ticker import Say, silent
from l2s_nmt.errors import UserError

_SAMPLES, _SAMPLE_BYTES = 16, 2**16
"""Of a file that is not read whole: how many parts tell it from others, and how large they are."""


@dataclass(frozen=True)
class EmbeddedCorpus:
    """The corpus that the project generates: sizes of its splits, and what it is drawn from."""

    train: int
    """Number of sentence pairs of each split."""
    valid: int
    test: int
    references: int
    """References of each valid and test sentence."""
    seed: int
    train_references: int = 1
    """References of each training sentence."""


@dataclass(frozen=True)
class HubData:
    """A data set on the Hugging Face hub."""

    id: str
    config: str | None = None
    """Its configuration, where it has several."""
    revision: str | None = None
    """Its branch, tag or commit; None: the newest."""
    folder: str | None = None
    """The folder in it that holds the data; None: what it says of itself."""

    def __str__(self) -> str:
        inside = ", ".join(part for part in (self.config, self.revision, self.folder) if part)
        return f"{self.id} ({inside})" if inside else self.id


def load_split(
    split: str,
    *,
    files: str | None,
    hub: HubData | None,
    embedded: EmbeddedCorpus | None,
    source_language: str,
    target_language: str,
    targets: bool = True,
    say: Say = silent,
) -> Dataset:
    """Read one split: from `files`, else from `hub`, else from `embedded`, the first that is given.

    The result is memory-mapped from the cache of `datasets` and has the columns of `rows.FEATURES`. Its
    fingerprint depends on the content of the files alone, so equal content is read once and changed content
    is read anew. Nothing is kept of a split with an error in it.

    Args:
        split: its name.
        files: a folder.
        hub: a data set on the hub.
        embedded: the generated corpus.
        source_language: code, as in the names of files or the keys of records.
        target_language: likewise.
        targets: False: read the sources alone; the lists of references are empty.
        say: is told how far the reading is, where it takes long.

    Raises:
        UserError: a split, file, language or data set is missing, or its content is unsound; names file and
        line.
    """
    wanted = Wanted(split, source_language, target_language, targets)
    if files is not None:
        located = locate(Path(files), wanted)
        return build(lambda: read_files(located, wanted), fingerprint_files(located, wanted), say)
    if hub is not None:
        return _load_hub(wanted, hub, say)
    if embedded is not None:
        return _load_embedded(split, embedded, targets, say)
    raise UserError(
        "no corpus is given: name a folder of files, a data set on the hub, or the embedded corpus"
    )


def open_split(wanted: Wanted, *, files: str | None, hub: HubData | None) -> Callable[[int], Iterator[Row]]:
    """A split to be read row by row, from `files` or else from `hub`, with nothing kept on disk.

    Returns:
        Gives the rows of the split, in their order, after so many that are skipped without being looked at.

    Raises:
        UserError: a split, file or data set is missing; while iterating, the content is unsound.
    """
    if files is not None:
        located = locate(Path(files), wanted)
        return lambda skip: read_files(located, wanted, skip)
    if hub is None:
        raise UserError("no corpus is given: name a folder of files or a data set on the hub")
    table = _of_hub(wanted.split, hub, streaming=True)
    origin = f"{hub}, split {wanted.split}"
    return lambda skip: read_records(
        _readable(enumerate(table.skip(skip), skip + 1), origin), wanted, origin, skip
    )


def stamp_split(wanted: Wanted, *, files: str | None, hub: HubData | None) -> str:
    """What tells a split from others without reading it: sizes and parts of its files, or the data set's name.

    Raises:
        UserError: it is missing, or cannot be read.
    """
    if files is None:
        return fingerprint([str(hub).encode(), *wanted.key])
    located = locate(Path(files), wanted)
    looks = [look for path in located.paths for look in (path.suffix.encode(), *_samples(path))]
    return fingerprint([located.kind.encode(), *wanted.key, *looks])


def _samples(path: Path) -> Iterator[bytes]:
    """The size of a file, and some of it from its beginning to its end."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            yield str(size).encode()
            for part in range(_SAMPLES):
                file.seek(part * max(size - _SAMPLE_BYTES, 0) // (_SAMPLES - 1))
                yield file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def describe_split(
    split: str,
    *,
    files: str | None,
    hub: HubData | None,
    embedded: EmbeddedCorpus | None,
    source_language: str,
    target_language: str,
    targets: bool = True,
) -> str:
    """Name the place of a split for messages: `"{describe_split(...)}, line 7"`. Takes what `load_split`
    takes.

    Raises:
        UserError: the split is not in the folder.
    """
    if files is not None:
        return locate(Path(files), Wanted(split, source_language, target_language, targets)).name
    if hub is not None:
        return f"{hub}, split {split}"
    return f"embedded corpus, split {split}"


def _load_hub(wanted: Wanted, hub: HubData, say: Say) -> Dataset:
    table = _of_hub(wanted.split, hub, streaming=False)
    origin = f"{hub}, split {wanted.split}"
    return build(
        lambda: read_records(_readable(enumerate(table, 1), origin), wanted, origin),
        fingerprint([b"2", table._fingerprint.encode(), *wanted.key]),
        say,
        by_content=True,  # a commit to its page makes it no other data set
    )


def _of_hub(split: str, hub: HubData, streaming: bool) -> Dataset | IterableDataset:
    try:
        with quiet():
            splits = datasets.load_dataset(
                hub.id, hub.config, data_dir=hub.folder, revision=hub.revision, streaming=streaming
            )
    except Exception as error:  # whatever goes wrong there is the id, the configuration or the connection
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"hub data set {hub} cannot be loaded: {reason}. Check the id, the configuration and the "
            f"connection, or use a folder of files instead"
        ) from error
    for alias in ALIASES.get(split, (split,)):
        if alias in splits:
            return splits[alias]
    raise UserError(f"hub data set {hub} has no split {split}; it has {', '.join(splits)}")


def _readable(records: Iterable[tuple[int, object]], origin: str) -> Iterator[tuple[int, object]]:
    try:
        yield from records
    except (pa.ArrowException, datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{origin}: cannot be read ({reason}); check the connection, or remove the copy in "
            f"{datasets.config.HF_DATASETS_CACHE}"
        ) from error


def _load_embedded(split: str, corpus: EmbeddedCorpus, targets: bool, say: Say) -> Dataset:
    from l2s_nmt.data import embedded

    sizes = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    if split not in sizes:
        raise UserError(f"the embedded corpus has no split {split}; it has {', '.join(sizes)}")
    references = corpus.train_references if split == "train" else corpus.references
    kept = references if targets else 0

    def rows() -> Iterator[Row]:
        pairs = embedded.generate(split, sizes[split], seed=corpus.seed, references=references)
        for line, (source, texts) in enumerate(pairs, 1):
            yield source, texts[:kept], line

    # The generator's own code is part of what the sentences depend on.
    code = [path.read_bytes() for path in sorted(Path(embedded.__file__).parent.rglob("*.py"))]
    key = fingerprint([split.encode(), repr((sizes[split], corpus.seed, kept)).encode(), *code])
    return build(rows, key, say)
