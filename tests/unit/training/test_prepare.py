"""What of a corpus reaches the batches: one reference, several, or none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from l2s_nmt.data.batches import Batch
from l2s_nmt.data.tokenizer import encode_sources, encode_targets, train_tokenizer
from l2s_nmt.errors import UserError
from l2s_nmt.recipe import Recipe
from l2s_nmt.recipe_file import read_recipe
from l2s_nmt.run import corpus_place
from l2s_nmt.training.prepare import find_model, find_tokenizer, read_corpus, training_data
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
    assert sorted(np.concatenate(data.epoch(0)).tolist()) == list(range(TRAIN))
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


def test_the_generated_corpus_gets_its_numbers_of_references(tmp_path: Path) -> None:
    sizes = {"train": 3, "valid": 2, "test": 2, "references": 2, "train_references": 4, "seed": 5}
    recipe = recipe_of(tmp_path / "corpus", files=None, embedded=sizes)
    embedded = corpus_place(recipe.data)["embedded"]
    assert embedded is not None
    assert {name: getattr(embedded, name) for name in sizes} == sizes
    found = read_corpus(recipe, print)
    assert [len(texts) for texts in found.train["references"]] == [4] * 3
    assert [len(texts) for texts in found.valid["references"]] == [2] * 2
