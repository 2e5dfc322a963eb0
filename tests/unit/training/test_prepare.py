"""What of a corpus reaches the batches: one reference, several, or none."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset

from l2s_nmt.architecture import save_model
from l2s_nmt.data.batches import Batch
from l2s_nmt.data.encode import tokenizer_fingerprint
from l2s_nmt.data.tokenizer import (
    encode_sources,
    encode_targets,
    load_tokenizer,
    train_tokenizer,
    vocabularies,
)
from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Fold, Recipe
from l2s_nmt.recipe_file import read_recipe
from l2s_nmt.run import corpus_place
from l2s_nmt.search.parts import part_of
from l2s_nmt.training.prepare import _rows, dry_run, find_model, find_tokenizer, read_corpus, training_data
from tests.helpers import sentence_pairs, tiny_recipe, write_corpus, write_recipe

TRAIN = 30
PAIRS = sentence_pairs(TRAIN, seed=0)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("L2S_NMT_CACHE", str(tmp_path / "encoded"))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    sources, targets = zip(*sentence_pairs(200, seed=1), strict=True)
    train_tokenizer(
        sources,
        targets,
        algorithm="bpe",
        vocab_size=80,
        joint=True,
        byte_fallback=False,
        character_coverage=1.0,
        directory=folder,
        seed=0,
    )
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", train=TRAIN, valid=4, test=4)


BANDIT: dict[str, Any] = {
    "algorithm": "bandit_lols",
    "loss": {"cross_entropy": 0.0},
    "cost": {"name": "own", "function": "module:function"},
}
"""Needs no target."""


def recipe_of(corpus: Path, **data: Any) -> Recipe:
    settings = tiny_recipe(corpus, **({"search": BANDIT} if data.get("train_targets") == "none" else {}))
    settings["data"].update(data)
    return read_recipe(write_recipe(corpus.parent / "recipe.yaml", settings))


def first_rows(recipe: Recipe, tokenizer_folder: Path, folder: Path) -> tuple[Batch, list[str]]:
    """The whole training data as one batch, and what was said on the way."""
    said: list[str] = []
    shutil.copytree(tokenizer_folder, folder / "tokenizer")
    corpus = read_corpus(recipe, said.append)
    tokenizer = find_tokenizer(recipe, corpus, folder / "tokenizer")
    data = training_data(recipe, corpus, tokenizer, find_model(recipe, tokenizer), said.append)
    updates = data.block(0, 0)
    assert updates is not None
    assert sorted(np.concatenate(updates).tolist()) == list(range(TRAIN))
    return data.load(np.arange(TRAIN)), said


def test_sources_alone_from_the_files_to_the_batch(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    (corpus / "train.xb").unlink()
    recipe = recipe_of(corpus, train_targets="none")
    batch, said = first_rows(recipe, tokenizer_folder, tmp_path)
    tokenizer = find_tokenizer(recipe, read_corpus(recipe, print), tmp_path / "tokenizer")
    sources = [source for source, _ in PAIRS]
    assert [
        row[mask].tolist() for row, mask in zip(batch.source, batch.source_mask, strict=True)
    ] == encode_sources(tokenizer, sources)
    assert batch.target.tolist() == [[tokenizer.eos_token_id]] * TRAIN
    assert batch.reference_lengths.tolist() == [[0]] * TRAIN
    assert all("source sentences" in line for line in said)
    assert read_corpus(recipe, print).train_origin == str(corpus / "train.xa")


def test_sources_alone_are_validated_on_references(corpus: Path) -> None:
    found = read_corpus(recipe_of(corpus, train_targets="none"), print)
    assert isinstance(found.train, Dataset)
    assert found.train["references"][:] == [[]] * TRAIN
    assert [len(texts) for texts in found.valid["references"]] == [1] * 4
    (corpus / "valid.xb").unlink()
    with pytest.raises(UserError, match=r"add valid\.xb"):
        read_corpus(recipe_of(corpus, train_targets="none"), print)


def test_no_tokenizer_can_be_trained_from_sources_alone(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_of(corpus, train_targets="none")
    with pytest.raises(UserError, match="no target text to train a tokenizer from"):
        find_tokenizer(recipe, read_corpus(recipe, print), tmp_path / "none")


def test_pairs_are_required_by_default(corpus: Path) -> None:
    (corpus / "train.xb").unlink()
    with pytest.raises(UserError, match=r"add train\.xb"):
        read_corpus(recipe_of(corpus), print)


@pytest.mark.parametrize(("tokenized", "warns"), [(1, False), (2, True), (4, True)])
def test_references_that_look_tokenized_are_warned_of_once(corpus: Path, tokenized: int, warns: bool) -> None:
    said: list[str] = []
    lines = ["a b ."] * tokenized + ["c d?"] * (4 - tokenized)
    (corpus / "valid.xb").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read_corpus(recipe_of(corpus), said.append)
    assert sum("look tokenized" in line and "valid" in line for line in said) == warns


def test_several_references_from_the_files_to_the_batch(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    others = ["" if number % 3 else f"{target} {target}" for number, (_, target) in enumerate(PAIRS)]
    (corpus / "train.xb.1").write_text("".join(f"{text}\n" for text in others))
    recipe = recipe_of(corpus)
    batch, _ = first_rows(recipe, tokenizer_folder, tmp_path)
    tokenizer = find_tokenizer(recipe, read_corpus(recipe, print), tmp_path / "tokenizer")
    for row, ((_, target), other) in enumerate(zip(PAIRS, others, strict=True)):
        expected = encode_targets(tokenizer, [target, *filter(None, [other])])
        lengths = batch.reference_lengths[row].tolist()
        assert lengths == [*map(len, expected), 0][:2]
        ids = zip(batch.references[row].tolist(), lengths, strict=True)
        assert [tokens[:length] for tokens, length in ids if length] == expected


def test_a_part_that_is_all_of_them_cannot_be_left_out() -> None:
    only = int(part_of(torch.tensor([0]), 2)[0])
    assert _rows(1, Fold(2, 1 - only)).tolist() == [0]
    with pytest.raises(UserError, match=f"data.fold: leaves out part {only} of 2, which are all 1 sentences"):
        _rows(1, Fold(2, only))


def test_a_dry_run_counts_what_is_learned_from(corpus: Path) -> None:
    whole, some = (
        dry_run(recipe_of(corpus, **fold), print) for fold in ({}, {"fold": {"of": 3, "left_out": 0}})
    )
    assert whole["sentences"] == TRAIN
    assert some["sentences"] == sum(part != 0 for part in part_of(torch.arange(TRAIN), 3).tolist())


@pytest.mark.parametrize("left_out", [0, 2])
def test_a_part_of_the_sentences_is_left_out_of_training_alone(
    left_out: int, corpus: Path, tmp_path: Path
) -> None:
    whole, without = recipe_of(corpus), recipe_of(corpus, fold={"of": 3, "left_out": left_out})
    texts = read_corpus(without, print)
    tokenizers = [
        find_tokenizer(recipe, texts, tmp_path / name)
        for name, recipe in {"all": whole, "some": without}.items()
    ]
    assert vocabularies(tokenizers[0]) == vocabularies(tokenizers[1])
    every, some = (
        training_data(recipe, texts, tokenizers[0], find_model(recipe, tokenizers[0]), print)
        for recipe in (whole, without)
    )
    for epoch in range(2):
        updates = some.block(epoch, 0)
        assert updates is not None
        parts = part_of(torch.arange(TRAIN), 3).tolist()
        learned = [row for row, part in enumerate(parts) if part != left_out]
        assert 0 < len(learned) < TRAIN
        assert sorted(np.concatenate(updates).tolist()) == learned
        shares = [rows for update in updates for rows in some.split(update, 2)]
        assert sorted(np.concatenate(shares).tolist()) == learned
    one, other = every.load(np.arange(3, 9)), some.load(np.arange(3, 9))
    assert one.rows.tolist() == other.rows.tolist() == list(range(3, 9))
    assert torch.equal(one.target, other.target)


def test_the_generated_corpus_gets_its_numbers_of_references(tmp_path: Path) -> None:
    sizes = {"train": 3, "valid": 2, "test": 2, "references": 2, "train_references": 4, "seed": 5}
    recipe = recipe_of(tmp_path / "corpus", files=None, embedded=sizes)
    embedded = corpus_place(recipe.data)["embedded"]
    assert embedded is not None
    assert {name: getattr(embedded, name) for name in sizes} == sizes
    found = read_corpus(recipe, print)
    assert isinstance(found.train, Dataset)
    assert [len(texts) for texts in found.train["references"]] == [4] * 3
    assert [len(texts) for texts in found.valid["references"]] == [2] * 2


def test_a_trained_tokenizer_is_remembered_and_trained_again_where_it_was_damaged(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    original = train_tokenizer

    def counted(*arguments: Any, **settings: Any) -> Any:
        trained.append(1)
        return original(*arguments, **settings)

    monkeypatch.setattr("l2s_nmt.training.prepare.train_tokenizer", counted)
    recipe = recipe_of(corpus)
    texts = read_corpus(recipe, print)

    def find(name: str, of: Recipe = recipe) -> dict[str, bytes]:
        find_tokenizer(of, texts, tmp_path / name)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first = find("first")
    assert find("second") == first
    assert len(trained) == 1
    (remembered,) = (tmp_path / "encoded").rglob("source.spm")
    remembered.write_bytes(remembered.read_bytes()[:-1])
    assert find("third") == first
    assert len(trained) == 2
    find("fourth", replace(recipe, seed=7))
    find("fifth", replace(recipe, tokenizer=replace(recipe.tokenizer, vocabulary=79)))
    assert len(trained) == 4


def test_a_streamed_corpus_is_left_where_it_is(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(corpus, streaming=True, block=12)
    said: list[str] = []
    shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    texts = read_corpus(recipe, said.append)
    tokenizer = find_tokenizer(recipe, texts, tmp_path / "tokenizer")
    data = training_data(recipe, texts, tokenizer, find_model(recipe, tokenizer), said.append)
    assert not (tmp_path / "encoded").exists()
    assert data.blocks() is None
    found: list[int] = []
    for number in range(3):
        for rows in data.block(0, number) or ():
            batch = data.load(rows)
            found += batch.rows.tolist()
            assert sorted(np.concatenate(data.split(rows, 3)).tolist()) == sorted(rows.tolist())
            for row, source in zip(batch.rows.tolist(), batch.source, strict=True):
                expected = encode_sources(tokenizer, [PAIRS[row][0]])[0]
                assert source[: len(expected)].tolist() == expected
    assert data.block(0, 3) is None
    assert data.blocks() == 3
    assert sorted(found) == list(range(TRAIN))
    assert f"kept {TRAIN} of {TRAIN} sentence pairs" in said[-2]


def test_the_tokenizer_of_a_streamed_corpus_is_trained_on_its_head(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def train(sources: Any, targets: Any, **settings: Any) -> None:
        seen.extend([list(sources), list(targets)])
        raise UserError("enough")

    monkeypatch.setattr("l2s_nmt.training.prepare.train_tokenizer", train)
    monkeypatch.setattr("l2s_nmt.training.prepare._SAMPLE", 11)
    recipe = recipe_of(corpus, streaming=True)
    with pytest.raises(UserError, match="enough"):
        find_tokenizer(recipe, read_corpus(recipe, print), tmp_path / "tokenizer")
    assert seen == [[source for source, _ in PAIRS[:11]], [target for _, target in PAIRS[:11]]]
    assert not (tmp_path / "tokenizer").exists()


def test_a_sentencepiece_file_serves_a_streamed_corpus(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    settings = tiny_recipe(corpus, data={"streaming": True})
    settings["tokenizer"] = {"pretrained": str(tokenizer_folder / "source.spm")}
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", settings))
    texts = read_corpus(recipe, print)
    tokenizer = find_tokenizer(recipe, texts, tmp_path / "tokenizer")
    assert vocabularies(tokenizer) == vocabularies(load_tokenizer(tokenizer_folder))
    data = training_data(recipe, texts, tokenizer, find_model(recipe, tokenizer), print)
    with closing(data):
        batches = data.block(0, 0)
    assert batches is not None
    assert sum(map(len, batches)) == TRAIN
    again = find_tokenizer(recipe, texts, tmp_path / "tokenizer")
    assert tokenizer_fingerprint(again) == tokenizer_fingerprint(tokenizer)


@pytest.mark.parametrize("train_targets", ["required", "none"])
def test_a_tokenizer_that_is_there_already_is_not_trained(
    train_targets: str, corpus: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise AssertionError("a tokenizer was trained")

    monkeypatch.setattr("l2s_nmt.training.prepare.train_tokenizer", train)
    settings = tiny_recipe(corpus, **({"search": BANDIT} if train_targets == "none" else {}))
    settings["data"]["train_targets"] = train_targets
    settings["tokenizer"] = {"pretrained": str(tokenizer_folder)}
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", settings))
    corpus_read = read_corpus(recipe, print)
    theirs = vocabularies(load_tokenizer(tokenizer_folder))
    for _ in range(2):  # the second time from the run's own folder
        tokenizer = find_tokenizer(recipe, corpus_read, tmp_path / "tokenizer")
        assert vocabularies(tokenizer) == theirs
        settings["tokenizer"]["pretrained"] = "gone"
    assert find_model(recipe, tokenizer).get_input_embeddings().num_embeddings == 80


def test_two_readings_of_a_model_without_dropout_are_refused(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    settings = tiny_recipe(corpus)
    settings["model"]["dropout"] = 0.0
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", settings))
    save_model(find_model(recipe, tokenizer), tokenizer, tmp_path / "start")
    settings["model"] = {"pretrained": str(tmp_path / "start")}
    settings["training"]["consistency"] = 3.0
    settings.pop("tokenizer", None)
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", settings))
    with pytest.raises(
        UserError, match=r"differ by dropout alone, and .*start has none; set model.dropout above 0"
    ):
        find_model(recipe, tokenizer)
    settings["model"]["dropout"] = 0.1
    find_model(read_recipe(write_recipe(tmp_path / "recipe.yaml", settings)), tokenizer)
