from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data import encode, store
from l2s_nmt.data.batches import load_batch
from l2s_nmt.data.encode import EncodingReport, encode_split, tokenizer_fingerprint
from l2s_nmt.data.encoder import SCHEMA
from l2s_nmt.data.rows import FEATURES
from l2s_nmt.data.tokenizer import encode_sources, encode_targets, train_tokenizer
from l2s_nmt.errors import UserError

ROWS = [("der Hund", ["the dog", "a dog"]), ("x " * 30, ["x"]), ("ein Tier", ["y " * 30]), ("", [""])]


def corpus(rows: list[tuple[str, list[str]]] = ROWS) -> Dataset:
    return Dataset.from_list(
        [{"source": s, "references": r, "line": n} for n, (s, r) in enumerate(rows, 11)], features=FEATURES
    )


def make_tokenizer(directory: Path, vocab_size: int = 290) -> PreTrainedTokenizerBase:
    return train_tokenizer(
        ["der Hund ist ein Tier", "x y"] * 20,
        ["the dog is an animal", "x y"] * 20,
        algorithm="bpe",
        vocab_size=vocab_size,
        joint=True,
        byte_fallback=True,
        character_coverage=1.0,
        directory=directory,
        seed=0,
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def run(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    def call(**changes: Any) -> tuple[Dataset, EncodingReport]:
        arguments: dict[str, Any] = {
            "dataset": corpus(),
            "tokenizer": tokenizer,
            "max_tokens": 1000,
            "cache_directory": tmp_path / "cache",
            "origin": "some/train.de",
        }
        return encode_split(**(arguments | changes))

    return call


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a split was really encoded."""
    calls: list[int] = []
    original = encode._batches

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(encode, "_batches", counted)
    return calls


def test_columns(run: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    dataset, report = run()
    assert dataset.column_names == SCHEMA.names
    for row, (encoded, (source, references)) in enumerate(zip(dataset, ROWS, strict=True)):
        assert encoded["row"] == row
        assert encoded["source_ids"] == encode_sources(tokenizer, [source])[0]
        assert encoded["reference_ids"] == encode_targets(tokenizer, references)
        assert encoded["target_ids"] == encoded["reference_ids"][0]
        assert encoded["source_length"] == len(encoded["source_ids"])
        assert encoded["target_length"] == len(encoded["target_ids"])
    assert report.source_tokens == sum(dataset["source_length"])
    assert report.target_tokens == sum(dataset["target_length"])
    assert (report.total, report.kept) == (4, 4)


def test_sources_alone(run: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    sources = [source for source, _ in ROWS]
    dataset, report = run(
        dataset=corpus([(source, []) for source in sources]),
        max_tokens=20,
    )
    assert dataset["row"][:] == [0, 2, 3]
    assert dataset["source_ids"][:] == encode_sources(tokenizer, [sources[row] for row in (0, 2, 3)])
    assert dataset["target_ids"][:] == [[tokenizer.eos_token_id]] * 3
    assert dataset["target_length"][:] == [1] * 3
    assert dataset["reference_ids"][:] == [[]] * 3
    assert (report.long_source, report.long_target, report.target_tokens) == (1, 0, 0)
    mean = report.source_tokens / 3
    assert (
        str(report)
        == f"3 source sentences, {mean:.1f} tokens each; dropped 1 long sources and 0 long targets"
    )
    batch = load_batch(dataset, np.array([2, 0]), pad=tokenizer.pad_token_id)
    assert batch.source[1].tolist() == dataset["source_ids"][0]
    assert batch.reference_lengths.tolist() == [[0], [0]]
    assert batch.target_lengths.tolist() == [1, 1]


def test_with_and_without_references_in_one_chunk(run: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    dataset, report = run(dataset=corpus([("der Hund", []), ("ein Tier", ["an animal", "animal"])]))
    assert dataset["reference_ids"][:] == [[], encode_targets(tokenizer, ["an animal", "animal"])]
    assert report.target_tokens == dataset["target_length"][1]
    batch = load_batch(dataset, np.array([0, 1]), pad=tokenizer.pad_token_id)
    lengths = [len(ids) for ids in encode_targets(tokenizer, ["an animal", "animal"])]
    assert batch.reference_lengths.tolist() == [[0, 0], lengths]


def test_chunks_do_not_matter(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = run()[0].to_list()
    monkeypatch.setattr(encode, "_CHUNK", 3)
    assert run(cache_directory=tmp_path / "other")[0].to_list() == whole


def test_too_long_is_dropped_and_counted(run: Any) -> None:
    dataset, report = run(max_tokens=20)
    assert dataset["row"][:] == [0, 3]
    assert (report.total, report.kept, report.long_source, report.long_target) == (4, 2, 1, 1)
    assert "dropped 1 long sources and 1 long targets" in str(report)


def test_limit_counts_eos_and_is_included(run: Any) -> None:
    rows = [("x " * 30, ["x"]), ("x", ["x " * 30])]
    for number, side in enumerate(("source", "target")):
        one = corpus([rows[number], ("x", ["x"])])
        length = run(dataset=one)[0][f"{side}_length"][0]
        assert run(dataset=one, max_tokens=length)[1].kept == 2
        assert run(dataset=one, max_tokens=length - 1)[1].kept == 1


def test_nothing_left(run: Any, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"some/train\.de: every sentence pair has more than 0 tokens on a side"
    ):
        run(max_tokens=0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"], "nothing half-written"


def test_reused_when_nothing_changed(run: Any, writes: list[int], tokenizer: PreTrainedTokenizerBase) -> None:
    first, first_report = run()
    again, report = run(origin="elsewhere")
    assert len(writes) == 1
    assert again.to_list() == first.to_list()
    assert report == first_report


def test_made_anew_when_something_changed(run: Any, writes: list[int], tmp_path: Path) -> None:
    run()
    changes: list[dict[str, Any]] = [
        {"dataset": corpus([("der Hund", ["the cat"])])},
        {"dataset": corpus().select([0, 1])},
        {"tokenizer": make_tokenizer(tmp_path / "tokenizer", vocab_size=291)},
        {"max_tokens": 100},
    ]
    for count, change in enumerate(changes, 2):
        run(**change)
        assert len(writes) == count, change


def test_tokenizer_fingerprint_depends_on_content_not_on_place(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    assert tokenizer_fingerprint(make_tokenizer(tmp_path / "copy")) == tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(make_tokenizer(tmp_path / "b", 291)) != tokenizer_fingerprint(tokenizer)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / store.TABLE).write_bytes((folder / store.TABLE).read_bytes()[:100]),
        lambda folder: flip(folder / store.TABLE),
        lambda folder: (folder / store.TABLE).unlink(),
        lambda folder: (folder / store.REPORT).write_text("{"),
        lambda folder: (folder / store.REPORT).write_text("[]"),
        lambda folder: (folder / store.REPORT).unlink(),
        shutil.rmtree,
    ],
)
def test_damaged_cache_is_made_anew(run: Any, writes: list[int], tmp_path: Path, damage: Any) -> None:
    expected = run()[0].to_list()
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    damage(folder)
    assert run()[0].to_list() == expected
    assert len(writes) == 2
    run()
    assert len(writes) == 2


def test_interruption_leaves_nothing_that_looks_finished(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "checksum", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert run()[1].kept == 4
