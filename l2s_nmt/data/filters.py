"""Leave out training pairs that teach nothing or the wrong thing, and count what was left out.

Lengths in tokens are known only after encoding; `encode_split` filters by them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from datasets import Dataset

from l2s_nmt.errors import UserError

_CHUNK = 10_000  # rows read at a time


@dataclass(frozen=True)
class FilterReport:
    """How many pairs each filter dropped; a pair is counted under the first filter that it fails."""

    total: int
    """Pairs looked at."""
    kept: int
    empty: int
    """Nothing but white space on a side."""
    long: int
    """More words than allowed on a side."""
    unequal: int
    """One side has too many times the words of the other."""
    duplicate: int
    """Source and first reference occurred before."""
    sources_alone: bool = False
    """There were no references, so the filters looked at the sources."""

    def __str__(self) -> str:
        reasons = {name: getattr(self, name) for name in ("empty", "long", "unequal", "duplicate")}
        dropped = ", ".join(f"{count:,} {name}" for name, count in reasons.items() if count)
        unit = "source sentences" if self.sources_alone else "sentence pairs"
        return f"kept {self.kept:,} of {self.total:,} {unit}" + (f"; dropped {dropped}" if dropped else "")


def apply_filters(
    dataset: Dataset,
    *,
    max_words: int | None,
    max_ratio: float | None,
    drop_duplicates: bool,
) -> tuple[Dataset, FilterReport]:
    """Drop pairs with an empty side, and those that fail the given filters. Meant for the training split
    only.

    The order of what is kept does not change, and neither does its column `line`. A source without references
    counts as a pair that has this side alone.

    Args:
        dataset: as `load_split` returns it.
        max_words: most words (between white space) on either side; None: any number.
        max_ratio: largest ratio between the numbers of words of the two sides; None: any.
        drop_duplicates: keep only the first of several pairs with the same source and first reference.

    Raises:
        UserError: nothing is left.
    """
    seen: set[bytes] = set()
    counts: Counter[str] = Counter()
    kept = []
    sources_alone = True
    for row, (source, reference) in enumerate(_pairs(dataset)):
        sources_alone = sources_alone and reference is None
        reason = _why_dropped(source, reference, max_words, max_ratio)
        if reason is None and drop_duplicates:
            text = f"{len(source)} {source}{reference or ''}"
            key = hashlib.blake2b(text.encode(), digest_size=16).digest()
            reason = "duplicate" if key in seen else None
            seen.add(key)
        if reason is None:
            kept.append(row)
        else:
            counts[reason] += 1
    report = FilterReport(
        total=len(dataset),
        kept=len(kept),
        empty=counts["empty"],
        long=counts["long"],
        unequal=counts["unequal"],
        duplicate=counts["duplicate"],
        sources_alone=sources_alone,
    )
    if not kept:
        raise UserError(f"the filters leave no training data: {report}; loosen them or check the corpus")
    return (dataset if report.kept == report.total else dataset.select(kept)), report


def _pairs(dataset: Dataset) -> Iterator[tuple[str, str | None]]:
    """Source and first reference, if it has one."""
    for chunk in dataset.select_columns(["source", "references"]).iter(_CHUNK):
        for source, references in zip(chunk["source"], chunk["references"], strict=True):
            yield source, references[0] if references else None


def _why_dropped(
    source: str, reference: str | None, max_words: int | None, max_ratio: float | None
) -> str | None:
    sides = [len(side.split()) for side in (source, reference) if side is not None]
    fewer, more = min(sides), max(sides)
    if fewer == 0:
        return "empty"
    if max_words is not None and more > max_words:
        return "long"
    if max_ratio is not None and more > max_ratio * fewer:
        return "unequal"
    return None
