"""Token ids of a whole split, kept on disk and reused while data, tokenizer and settings stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.encoder import SCHEMA, Encoder
from l2s_nmt.data.store import TABLE, Report, kept, write_table
from l2s_nmt.data.ticker import Say, Ticker, silent
from l2s_nmt.errors import UserError

_FORMAT = "3"  # part of every fingerprint: raise it when the same input is to be encoded differently
_CHUNK = 10_000  # rows encoded at a time

Limits = tuple[int | None, int | None]
"""Most tokens of a source and of a target."""


@dataclass(frozen=True)
class EncodingReport:
    """What became of a split; lengths count EOS."""

    total: int
    """Sentence pairs given."""
    kept: int
    long_source: int
    """Pairs dropped because the source has too many tokens."""
    long_target: int
    """Pairs dropped because the first reference has too many tokens (and the source has not)."""
    source_tokens: int
    """Sum over the pairs that were kept."""
    target_tokens: int
    """Likewise; 0 where there are no references."""

    def __str__(self) -> str:
        pairs = max(self.kept, 1)
        source, target = self.source_tokens / pairs, self.target_tokens / pairs
        if self.target_tokens:
            text = f"{self.kept:,} sentence pairs, {source:.1f} source and {target:.1f} target tokens each"
        else:
            text = f"{self.kept:,} source sentences, {source:.1f} tokens each"
        if self.kept < self.total:
            text += f"; dropped {self.long_source:,} long sources and {self.long_target:,} long targets"
        return text


def encode_split(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_source_tokens: int | None,
    max_target_tokens: int | None,
    drop_too_long: bool,
    cache_directory: Path,
    origin: str,
    say: Say = silent,
) -> tuple[Dataset, EncodingReport]:
    """Encode source and references of each row; the columns are those of `encoder.SCHEMA`.

    Several processes may call this at once: one writes and the others wait for it.

    Args:
        dataset: as `load_split` or `apply_filters` returns it.
        tokenizer: of the model.
        max_source_tokens: most tokens of a source, EOS included; None: any number.
        max_target_tokens: most tokens of the first reference, EOS included; None: any number.
        drop_too_long: drop and count longer pairs instead of refusing them.
        cache_directory: where encodings are kept; made if missing.
        origin: where the split lives, as `describe_split` names it.
        say: is told how far the encoding is.

    Raises:
        UserError: a sentence is too long and may not be dropped, or none is left.
    """
    limits = (max_source_tokens, max_target_tokens)
    given = [_FORMAT, dataset._fingerprint, tokenizer_fingerprint(tokenizer), limits, drop_too_long]
    name = hashlib.blake2b(json.dumps(given).encode(), digest_size=16).hexdigest()

    def write(temporary: Path) -> Report:
        encoder = Encoder(tokenizer, threads=_cores())
        counts: Counter[str] = Counter()
        batches = _batches(dataset, encoder, limits, counts, None if drop_too_long else origin)
        ticker = Ticker(say, "encoding", len(dataset))
        write_table(temporary, SCHEMA, _watched(batches, ticker))
        if not counts["kept"]:
            raise UserError(f"{origin}: {nothing_short_enough(limits)}")
        return asdict(encoding_report(counts))

    folder = cache_directory / name
    report = EncodingReport(**kept(folder, write))
    return Dataset.from_file(str(folder / TABLE)), report


def nothing_short_enough(limits: Limits) -> str:
    """What to say where every pair is too long."""
    return (
        f"every sentence pair is longer than {limits[0]} source or {limits[1]} target tokens; raise the limit or "
        "check the corpus"
    )


def encoding_report(counts: Counter[str]) -> EncodingReport:
    """The report on what `drop_long` counted."""
    return EncodingReport(
        total=counts["total"],
        kept=counts["kept"],
        long_source=counts["long_source"],
        long_target=counts["long_target"],
        source_tokens=counts["source_tokens"],
        target_tokens=counts["target_tokens"],
    )


def drop_long(encoded: pa.RecordBatch, limits: Limits, counts: Counter[str]) -> pa.RecordBatch:
    """The sentences (of `encoder.SCHEMA`) within the limits; what became of the others is added to the counts."""
    long_source, long_target = (_longer(encoded, side, limit) for side, limit in _sides(limits))
    short = encoded.filter(pc.invert(pc.or_(long_source, long_target)))
    referenced = pc.greater(pc.list_value_length(short["reference_ids"]), 0)
    counts["total"] += len(encoded)
    counts["kept"] += len(short)
    counts["long_source"] += pc.sum(long_source).as_py() or 0
    counts["long_target"] += pc.sum(pc.and_not(long_target, long_source)).as_py() or 0
    counts["source_tokens"] += pc.sum(short["source_length"]).as_py() or 0
    counts["target_tokens"] += pc.sum(short["target_length"].filter(referenced)).as_py() or 0
    return short


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything a tokenizer saves, and of the languages it is set to: equal if they encode alike."""
    total = hashlib.blake2b(digest_size=16)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                total.update(path.name.encode() + hashlib.blake2b(path.read_bytes()).digest())
    languages = [getattr(tokenizer, name, None) for name in ("src_lang", "tgt_lang")]
    total.update(repr((type(tokenizer).__name__, languages)).encode())
    return total.hexdigest()


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(
    dataset: Dataset, encoder: Encoder, limits: Limits, counts: Counter[str], origin: str | None
) -> Iterator[pa.RecordBatch]:
    """The sentences within the limits; with an origin, a longer one is refused."""
    row = 0
    for chunk in dataset.select_columns(["source", "references"]).iter(_CHUNK):
        encoded = encoder(chunk["source"], chunk["references"], row)
        row += len(encoded)
        short = drop_long(encoded, limits, counts)
        if origin is not None and len(short) < len(encoded):
            raise _refusal(encoded, limits, dataset, origin)
        yield short


def _watched(batches: Iterator[pa.RecordBatch], ticker: Ticker) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        ticker(len(batch))


def _sides(limits: Limits) -> Iterator[tuple[str, int | None]]:
    return zip(("source", "target"), limits, strict=True)


def _longer(encoded: pa.RecordBatch, side: str, limit: int | None) -> pa.BooleanArray:
    return pc.greater(encoded[f"{side}_length"], (1 << 31) - 1 if limit is None else limit)


def _refusal(encoded: pa.RecordBatch, limits: Limits, dataset: Dataset, origin: str) -> UserError:
    """Of the first sentence that is too long, its source before its target."""
    found = {
        pc.index(longer, True).as_py(): (side, limit)
        for side, limit, longer in reversed(
            [(side, limit, _longer(encoded, side, limit)) for side, limit in _sides(limits)]
        )
    }
    first = min(index for index in found if index >= 0)
    side, limit = found[first]
    line = dataset[encoded["row"][first].as_py()]["line"]
    return UserError(
        f"{origin}, line {line}: the {side} has {encoded[f'{side}_length'][first]} tokens, at most {limit} are "
        f"allowed; split or remove the sentence, or give the model more positions"
    )
