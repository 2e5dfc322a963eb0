"""Token ids of a whole split, kept on disk and reused while data, tokenizer and settings stay the same.

A finished encoding is a folder named after its fingerprint, with the ids (Arrow, memory-mapped) and their
checksum. It is written beside its place and moved there when complete, so an interrupted run leaves nothing
that could be taken for finished; a folder whose content does not fit its checksum is made again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import encode_sources, encode_targets
from l2s_nmt.errors import UserError
from l2s_nmt.files import whole_folder

SCHEMA = pa.schema(
    {
        "source_ids": pa.list_(pa.int32()),
        "target_ids": pa.list_(pa.int32()),  # of the first reference; EOS alone where there is none
        "reference_ids": pa.list_(pa.list_(pa.int32())),  # of all references; empty where there is none
        "source_length": pa.int32(),  # tokens, EOS included
        "target_length": pa.int32(),
        "row": pa.int64(),  # in the dataset that was encoded
    }
)

_FORMAT = "1"  # part of every fingerprint: raise it when the same input is to be encoded differently
_CHUNK = 1_000  # rows encoded at a time


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
        source, target = self.source_tokens / self.kept, self.target_tokens / self.kept
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
) -> tuple[Dataset, EncodingReport]:
    """Encode source and references of each row; the columns are those of `SCHEMA`.

    Several processes may call this at once: one writes and the others wait for it.

    Args:
        dataset: as `load_split` or `apply_filters` returns it.
        tokenizer: of the model.
        max_source_tokens: most tokens of a source, EOS included; None: any number.
        max_target_tokens: most tokens of the first reference, EOS included; None: any number.
        drop_too_long: drop and count longer pairs instead of refusing them.
        cache_directory: where encodings are kept; made if missing.
        origin: where the split lives, as `describe_split` names it.

    Raises:
        UserError: a sentence is too long and may not be dropped, or none is left.
    """
    limits = (max_source_tokens, max_target_tokens)
    given = [_FORMAT, dataset._fingerprint, tokenizer_fingerprint(tokenizer), limits, drop_too_long]
    name = hashlib.blake2b(json.dumps(given).encode(), digest_size=16).hexdigest()
    cache_directory.mkdir(parents=True, exist_ok=True)
    finished = cache_directory / name
    with FileLock(cache_directory / f"{name}.lock"):
        cached = _open(finished)
        if cached is not None:
            return cached
        with whole_folder(finished) as folder:
            _write(folder, dataset, tokenizer, limits, drop_too_long, origin)
        written = _open(finished)
    if written is None:
        raise OSError(f"{finished}: what was written cannot be read back; is the disk full or failing?")
    return written


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


def _write(
    folder: Path,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    limits: tuple[int | None, int | None],
    drop_too_long: bool,
    origin: str,
) -> None:
    counts = dict.fromkeys(("kept", "long_source", "long_target", "source_tokens", "target_tokens"), 0)
    path = folder / "ids.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for chunk in _encoded_chunks(dataset, tokenizer):
            kept = []
            for record in chunk:
                too_long = _too_long(record, limits)
                if too_long is None:
                    kept.append(record)
                elif drop_too_long:
                    counts[f"long_{too_long}"] += 1
                else:
                    raise _refusal(record, too_long, limits, dataset, origin)
            counts["kept"] += len(kept)
            counts["source_tokens"] += sum(record["source_length"] for record in kept)
            counts["target_tokens"] += sum(r["target_length"] for r in kept if r["reference_ids"])
            if kept:
                writer.write_batch(pa.RecordBatch.from_pylist(kept, schema=SCHEMA))
    if not counts["kept"]:
        raise UserError(
            f"{origin}: every sentence pair is longer than {limits[0]} source or {limits[1]} target tokens; "
            f"raise the limit or check the corpus"
        )
    report = EncodingReport(total=len(dataset), **counts)
    (folder / "report.json").write_text(json.dumps({"report": asdict(report), "checksum": _checksum(path)}))


def _encoded_chunks(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[dict[str, Any]]]:
    row = 0
    for chunk in dataset.select_columns(["source", "references"]).iter(_CHUNK):
        sources = encode_sources(tokenizer, chunk["source"])
        texts = [text for references in chunk["references"] for text in references]
        flat = iter(encode_targets(tokenizer, texts) if texts else [])  # no tokenizer takes an empty list
        records = []
        for source_ids, references in zip(sources, chunk["references"], strict=True):
            reference_ids = [next(flat) for _ in references]
            target_ids = reference_ids[0] if reference_ids else [tokenizer.eos_token_id]
            records.append(
                {
                    "source_ids": source_ids,
                    "target_ids": target_ids,
                    "reference_ids": reference_ids,
                    "source_length": len(source_ids),
                    "target_length": len(target_ids),
                    "row": row,
                }
            )
            row += 1
        yield records


def _too_long(record: dict[str, Any], limits: tuple[int | None, int | None]) -> str | None:
    for side, limit in zip(("source", "target"), limits, strict=True):
        if limit is not None and record[f"{side}_length"] > limit:
            return side
    return None


def _refusal(
    record: dict[str, Any], side: str, limits: tuple[int | None, int | None], dataset: Dataset, origin: str
) -> UserError:
    limit = limits[0] if side == "source" else limits[1]
    line = dataset[record["row"]]["line"]
    return UserError(
        f"{origin}, line {line}: the {side} has {record[f'{side}_length']} tokens, at most {limit} are "
        f"allowed; split or remove the sentence, or give the model more positions"
    )


def _open(folder: Path) -> tuple[Dataset, EncodingReport] | None:
    """The finished encoding in a folder; None where there is none, or none that is whole."""
    try:
        saved = json.loads((folder / "report.json").read_text())
        path = folder / "ids.arrow"
        if saved["checksum"] != _checksum(path):
            return None
        return Dataset.from_file(str(path)), EncodingReport(**saved["report"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
