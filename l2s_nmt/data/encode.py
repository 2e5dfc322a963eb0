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
    max_tokens: int,
    cache_directory: Path,
    origin: str,
    say: Say = silent,
) -> tuple[Dataset, EncodingReport]:
    """Encode source and references of each row, and drop what is too long; the columns are those of `encoder.SCHEMA`.

    Several processes may call this at once: one writes and the others wait for it.

    Args:
        dataset: as `load_split` or `apply_filters` returns it.
        tokenizer: of the model.
        max_tokens: most tokens of a source, and of the first reference, EOS included.
        cache_directory: where encodings are kept; made if missing.
        origin: where the split lives, as `describe_split` names it.
        say: is told how far the encoding is.

    Raises:
        UserError: none is left.
    """
    given = [_FORMAT, dataset._fingerprint, tokenizer_fingerprint(tokenizer), max_tokens]
    name = hashlib.blake2b(json.dumps(given).encode(), digest_size=16).hexdigest()

    def write(temporary: Path) -> Report:
        encoder = Encoder(tokenizer, threads=_cores())
        counts: Counter[str] = Counter()
        batches = _batches(dataset, encoder, max_tokens, counts)
        ticker = Ticker(say, "encoding", len(dataset))
        write_table(temporary, SCHEMA, _watched(batches, ticker))
        if not counts["kept"]:
            raise UserError(f"{origin}: {nothing_short_enough(max_tokens)}")
        return asdict(encoding_report(counts))

    folder = cache_directory / name
    report = EncodingReport(**kept(folder, write))
    return Dataset.from_file(str(folder / TABLE)), report


def nothing_short_enough(max_tokens: int) -> str:
    """What to say where every pair is too long."""
    return f"every sentence pair has more than {max_tokens} tokens on a side; raise the limit or check the corpus"


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


def drop_long(encoded: pa.RecordBatch, max_tokens: int, counts: Counter[str]) -> pa.RecordBatch:
    """The sentences (of `encoder.SCHEMA`) within the limit; what became of the others is added to the counts."""
    long_source, long_target = (
        pc.greater(encoded[f"{side}_length"], max_tokens) for side in ("source", "target")
    )
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
    dataset: Dataset, encoder: Encoder, max_tokens: int, counts: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """The sentences within the limit."""
    row = 0
    for chunk in dataset.select_columns(["source", "references"]).iter(_CHUNK):
        encoded = encoder(chunk["source"], chunk["references"], row)
        row += len(encoded)
        yield drop_long(encoded, max_tokens, counts)


def _watched(batches: Iterator[pa.RecordBatch], ticker: Ticker) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        ticker(len(batch))
