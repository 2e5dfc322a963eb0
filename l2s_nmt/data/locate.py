"""Find the files of a split in a folder, or say what is wrong with what is there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from l2s_nmt.errors import UserError
from l2s_nmt.files import is_file, is_folder

ALIASES = {"valid": ("valid", "validation", "dev", "val")}
"""Names under which a split is found, where there are several."""

_TABLES = {".tsv": "tsv", ".tsv.gz": "tsv", ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a corpus."""

    split: str
    source: str
    """Code of the source language."""
    target: str
    targets: bool
    """False: the sources alone."""

    @property
    def sides(self) -> tuple[str, ...]:
        """The languages that are to be read."""
        return (self.source, self.target) if self.targets else (self.source,)

    @property
    def key(self) -> list[bytes]:
        """Its part of a fingerprint."""
        return [self.source.encode(), self.target.encode(), *([] if self.targets else [b"sources alone"])]


@dataclass(frozen=True)
class Located:
    """The files of a split."""

    kind: str
    """text, tsv, jsonl or parquet."""
    paths: tuple[Path, ...]
    """Of text: source, target, further references, or the source alone; else one."""

    @property
    def name(self) -> str:
        """The place for messages."""
        return " + ".join(str(path) for path in self.paths[:2])


def locate(folder: Path, wanted: Wanted) -> Located:
    """Find a split.

    Raises:
        UserError: it is missing, incomplete, or there more than once.
    """
    split, source = wanted.split, wanted.source
    if not is_folder(folder):
        raise UserError(
            f"{folder}: there is no such folder; give the folder that holds {split}.{source} etc."
        )
    try:
        names = {name for name in os.listdir(folder) if is_file(folder / name)}
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    for alias in ALIASES.get(split, (split,)):
        for stem in (alias, f"{alias}.{source}-{wanted.target}"):
            found = _candidates(folder, stem, names, wanted)
            if len(found) > 1:
                listed = ", ".join(located.name for located in found)
                raise UserError(
                    f"{folder}: split {split} is there more than once ({listed}); keep one of them"
                )
            if found:
                return found[0]
    raise UserError(f"{folder}: {_why_missing(names, wanted)}")


def _candidates(folder: Path, stem: str, names: set[str], wanted: Wanted) -> list[Located]:
    found = {
        kind: Located(kind, (folder / (stem + suffix),))
        for suffix, kind in reversed(_TABLES.items())  # the uncompressed file wins
        if stem + suffix in names
    }
    sides = [_plain_or_gz(f"{stem}.{language}", names) for language in wanted.sides]
    if all(sides):
        further = _further_references(folder, f"{stem}.{wanted.target}", names) if wanted.targets else []
        found["text"] = Located("text", tuple(folder / name for name in (*sides, *further) if name))
    return list(found.values())


def _plain_or_gz(name: str, names: set[str]) -> str | None:
    return next((candidate for candidate in (name, name + ".gz") if candidate in names), None)


def _further_references(folder: Path, stem: str, names: set[str]) -> list[str]:
    matches = [re.fullmatch(re.escape(stem) + r"\.([0-9]+)(\.gz)?", name) for name in names]
    there = {match[0].removesuffix(".gz"): int(match[1]) for match in matches if match}
    further = [_plain_or_gz(f"{stem}.{number}", names) for number in range(1, len(there) + 1)]
    missing = next((number for number, name in enumerate(further, 1) if name is None), None)
    if missing is not None:
        other = max(
            set(there) - {f"{stem}.{number}" for number in range(1, missing)}, key=lambda name: there[name]
        )
        raise UserError(
            f"{folder}: further references are numbered from 1 without gaps; {other} is there, {stem}.{missing} is "
            "missing; rename them"
        )
    return [name for name in further if name]


def _why_missing(names: set[str], wanted: Wanted) -> str:
    split, source, target = wanted.split, wanted.source, wanted.target
    aliases = "|".join(map(re.escape, ALIASES.get(split, (split,))))
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
        absent = [side for side in wanted.sides if side not in languages] or wanted.sides
        return (
            f"split {split} is there in {', '.join(languages)}, but {source} to {target} is asked for; set "
            f"the source and the target language to what is there, or add "
            f"{' and '.join(f'{split}.{language}' for language in absent)}"
        )
    listed = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    text = " and ".join(f"{split}.{side}" for side in wanted.sides)
    return (
        f"split {split} is missing; add {text} (or {split}.tsv, .jsonl, .parquet). "
        f"The folder holds {listed or 'no files'}"
    )
