"""Leave out training pairs that teach nothing or the wrong thing, and count what was left out.

Lengths in tokens are known only after encoding; `encode_split` filters by them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from l2s_nmt.data.store import TABLE, Report, kept, write_table
from l2s_nmt.data.ticker import Say, Ticker, silent
from l2s_nmt.errors import UserError
from l2s_nmt.languages import number_of_words

_CHUNK = 10_000  # rows read at a time
_SCHEMA = pa.schema({"row": pa.int64()})
_FORMAT = "2"  # part of every fingerprint: raise it when the same rows are to be kept otherwise

Reason = Literal["empty", "unequal", "duplicate"]


@dataclass(frozen=True)
class FilterReport:
    """How many pairs each filter dropped; a pair is counted under the first filter that it fails."""

    total: int
    """Pairs looked at."""
    kept: int
    empty: int
    """Nothing but white space on a side."""
    unequal: int
    """One side has too many times the words of the other."""
    duplicate: int
    """Source and first reference occurred before."""
    sources_alone: bool = False
    """There were no references, so the filters looked at the sources."""

    def __str__(self) -> str:
        reasons = {name: getattr(self, name) for name in ("empty", "unequal", "duplicate")}
        dropped = ", ".join(f"{count:,} {name}" for name, count in reasons.items() if count)
        unit = "source sentences" if self.sources_alone else "sentence pairs"
        return f"kept {self.kept:,} of {self.total:,} {unit}" + (f"; dropped {dropped}" if dropped else "")


def apply_filters(
    dataset: Dataset,
    *,
    max_ratio: float | None,
    drop_duplicates: bool,
    cache_directory: Path,
    say: Say = silent,
) -> tuple[Dataset, FilterReport]:
    """Drop pairs with an empty side, and those that fail the given filters. Meant for the training split only.

    The order of what is kept does not change, and neither does its column `line`. A source without references
    counts as a pair that has this side alone. What is kept is remembered, by the dataset's fingerprint.

    Args:
        dataset: as `load_split` returns it.
        max_ratio: largest ratio between the numbers of words of the two sides; None: any.
        drop_duplicates: keep only the first of several pairs with the same source and first reference.
        cache_directory: where it is remembered; made if missing.
        say: is told how far the filtering is.

    Raises:
        UserError: nothing is left.
    """
    settings = (max_ratio, drop_duplicates)
    given = json.dumps([_FORMAT, dataset._fingerprint, settings])
    name = hashlib.blake2b(given.encode(), digest_size=16).hexdigest()

    def write(temporary: Path) -> Report:
        rows, report = _look_through(dataset, max_ratio, drop_duplicates, say)
        write_table(temporary, _SCHEMA, [pa.record_batch([rows], schema=_SCHEMA)])
        return asdict(report)

    folder = cache_directory / name
    report = FilterReport(**kept(folder, write))
    if report.kept == report.total:
        return dataset, report
    with pa.memory_map(str(folder / TABLE)) as source:
        rows = pa.ipc.open_stream(source).read_all()["row"].to_numpy()
    return dataset.select(rows, new_fingerprint=name), report


def _look_through(
    dataset: Dataset, max_ratio: float | None, drop_duplicates: bool, say: Say
) -> tuple[NDArray[np.int64], FilterReport]:
    """The rows that are kept."""
    ticker = Ticker(say, "filtering", len(dataset))
    counts: Counter[Reason] = Counter()
    good = np.zeros(len(dataset), dtype=bool)
    digests = np.zeros(len(dataset) if drop_duplicates else 0, dtype="V16")
    sources_alone = True
    for row, (source, reference) in enumerate(_pairs(dataset, ticker)):
        sources_alone = sources_alone and reference is None
        reason = why_dropped(source, reference, max_ratio)
        if reason is not None:
            counts[reason] += 1
            continue
        good[row] = True
        if drop_duplicates:
            text = f"{len(source)} {source}{reference or ''}"
            digests[row] = hashlib.blake2b(text.encode(), digest_size=16).digest()
    rows = np.flatnonzero(good)
    if drop_duplicates:
        first = _first_of_each(digests[rows])
        counts["duplicate"] = len(rows) - len(first)
        rows = rows[first]
    report = filter_report(len(dataset), counts, sources_alone)
    if not len(rows):
        raise UserError(f"the filters leave no training data: {report}; loosen them or check the corpus")
    return rows, report


def filter_report(total: int, counts: Counter[Reason], sources_alone: bool) -> FilterReport:
    """The report on so many pairs of which some were dropped."""
    return FilterReport(
        total=total,
        kept=total - counts.total(),
        empty=counts["empty"],
        unequal=counts["unequal"],
        duplicate=counts["duplicate"],
        sources_alone=sources_alone,
    )


def _first_of_each(digests: NDArray[np.void]) -> NDArray[np.int64]:
    """Where each digest occurs first, in ascending order."""
    halves = digests.view(np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: the first of equals comes first
    ordered = halves[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    return np.sort(order[new])


def _pairs(dataset: Dataset, ticker: Ticker) -> Iterator[tuple[str, str | None]]:
    """Source and first reference, if it has one."""
    for chunk in dataset.select_columns(["source", "references"]).iter(_CHUNK):
        yield from first_references(chunk["source"], chunk["references"])
        ticker(len(chunk["source"]))


def first_references(
    sources: Iterable[str], references: Iterable[list[str]]
) -> Iterator[tuple[str, str | None]]:
    """Each source with its first reference, if it has one."""
    for source, texts in zip(sources, references, strict=True):
        yield source, texts[0] if texts else None


def why_dropped(source: str, reference: str | None, max_ratio: float | None) -> Reason | None:
    """The first filter that a pair fails, duplicates aside."""
    sides = [number_of_words(side) for side in (source, reference) if side is not None]
    fewer, more = min(sides), max(sides)
    if fewer == 0:
        return "empty"
    if max_ratio is not None and more > max_ratio * fewer:
        return "unequal"
    return None
