"""What is kept on disk to be found again: folders that are whole and as they were written, or are made again.

Such a folder is named after what its content was made from, and holds files and their checksums. It is written beside
its place and moved there when complete, so an interrupted run leaves nothing that could be taken for finished. Rows
are in a memory-mapped Arrow file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from filelock import FileLock

from l2s_nmt.errors import UserError
from l2s_nmt.files import whole_folder, writing

Report = dict[str, Any]

TABLE = "table.arrow"
REPORT = "report.json"


def kept(folder: Path, write: Callable[[Path], Report]) -> Report:
    """The report on a folder, which is written first where there is none that is whole.

    Several processes may call this at once: one writes and the others wait for it.

    Args:
        folder: named after what its content is made from.
        write: writes files to the folder that it is given, and returns the report (as JSON has it); an error in it
            leaves nothing behind.

    Raises:
        UserError: the cache cannot be written at all.
        TrainingFailed: the disk is full or the like.
    """
    with _alone(folder):
        found = _found(folder)
        if found is None:
            with writing(folder), whole_folder(folder) as temporary:
                report = write(temporary)
                saved = {"report": report, "checksums": _checksums(temporary)}
                (temporary / REPORT).write_text(json.dumps(saved), encoding="utf-8")
            found = _found(folder)
    if found is None:
        raise OSError(f"{folder}: what was written cannot be read back; is the disk full or failing?")
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"{folder.parent}: what is prepared once and kept cannot be written there ({error.strerror or error}); "
            "choose folders that you may write with the environment variables L2S_NMT_CACHE and HF_DATASETS_CACHE"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_table(folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write the table of a folder, a batch at a time."""
    with pa.OSFile(str(folder / TABLE), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def checksum(path: Path) -> str:
    """Hash of a file's content, to notice damage and change; not meant against forgery."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.name != REPORT}


def _found(folder: Path) -> Report | None:
    try:
        saved = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return dict(saved["report"]) if saved["checksums"] == _checksums(folder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
