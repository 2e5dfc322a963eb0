"""Sentence pairs that two splits have in common."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset


def shared_pairs(train: Dataset, valid: Dataset) -> int:
    """The number of validation pairs (source and first reference) that are training pairs as well.

    Args:
        train: as `load_split` gives it, with references or without; where it has none, sources alone are compared.
        valid: likewise.
    """
    sources = valid["source"][:]
    sought = pa.array(sources)
    known: set[tuple[str, str]] = set()
    for table in train.select_columns(["source", "references"]).with_format("arrow").iter(100_000):
        found = table.filter(pc.is_in(table["source"], value_set=sought)).to_pydict()
        known.update(zip(found["source"], map(_first, found["references"]), strict=True))
    sources_alone = not any(reference for _, reference in known)
    pairs = zip(sources, map(_first, valid["references"][:]), strict=True)
    return sum((source, "" if sources_alone else reference) in known for source, reference in pairs)


def _first(references: list[str]) -> str:
    return references[0] if references else ""
