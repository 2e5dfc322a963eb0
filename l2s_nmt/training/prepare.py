"""From a recipe to encoded data, a tokenizer and a model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece
import torch
import transformers
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from l2s_nmt.architecture import has_dropout, load_model, new_model, start_with_language
from l2s_nmt.build_cost import Texts, texts
from l2s_nmt.data.batches import Rows, TokenBatches, lengths_of, load_batch, split_batch
from l2s_nmt.data.corpus import describe_split, load_split, open_split, stamp_split
from l2s_nmt.data.encode import encode_split
from l2s_nmt.data.filters import apply_filters
from l2s_nmt.data.locate import Wanted
from l2s_nmt.data.overlap import shared_pairs
from l2s_nmt.data.store import REPORT, Report, kept
from l2s_nmt.data.stream import Opened, Stream
from l2s_nmt.data.ticker import Say
from l2s_nmt.data.tokenizer import encode_sources, load_tokenizer, train_tokenizer
from l2s_nmt.data.training_data import TrainingData, in_one_block
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.translate import check_lengths
from l2s_nmt.files import whole_folder
from l2s_nmt.languages import new_bleu
from l2s_nmt.model import Policy
from l2s_nmt.processes import ALONE, Processes
from l2s_nmt.recipe import Fold, Recipe
from l2s_nmt.recipe import Tokenizer as TokenizerSettings
from l2s_nmt.run import Run, corpus_place, hub_data
from l2s_nmt.search.parts import part_of
from l2s_nmt.search.search import Search
from l2s_nmt.training.build import build_limit, build_objective
from l2s_nmt.training.build_search import build_search
from l2s_nmt.training.other_models import load_cross_trained, load_experts
from l2s_nmt.training.trackers import check_trackers

DEFAULT_DROPOUT = 0.1

_FORMAT = "1"  # of tokenizers that are remembered: raise it when the same text is to make another
_SAMPLE = 1_000_000  # pairs at the head of a streamed corpus, for the tokenizer


@dataclass(frozen=True)
class Corpus:
    """The training and validation sentences, as text."""

    train: Dataset | Opened
    """Filtered; without references where the recipe asks for none. Or as it is in its files, to be streamed."""
    valid: Dataset
    train_origin: str
    valid_origin: str
    stamps: dict[str, str]
    """Of each split, what tells it from others."""


def read_corpus(recipe: Recipe, say: Say) -> Corpus:
    """Read and filter the text; where it is streamed, find it.

    Raises:
        UserError: it is missing or unsound.
    """
    place = corpus_place(recipe.data)
    filters = recipe.data.filters
    targets = recipe.data.train_targets == "required"
    new_bleu(recipe.bleu_tokenizer)  # what it needs is missed now, and not at the first validation
    valid = load_split("valid", **place)
    origins = describe_split("train", **place, targets=targets), describe_split("valid", **place)
    if _looks_tokenized(valid):
        say(
            f"warning: {origins[1]}: the references look tokenized (' .' ends a third of them or more); BLEU is meant "
            "for text as it is written, so these scores cannot be compared with those of others: detokenize the data"
        )
    if recipe.data.streaming:
        say(f"training data: {origins[0]}, read in blocks of {recipe.data.block:,} rows while training")
        opened, stamp = _open_train(recipe)
        return Corpus(opened, valid, *origins, {"train": stamp, "valid": valid._fingerprint})
    train, report = apply_filters(
        load_split("train", **place, targets=targets, say=say),
        max_ratio=filters.max_ratio,
        drop_duplicates=filters.duplicates == "drop",
        cache_directory=cache_folder(),
        say=say,
    )
    say(f"training data: {report}")
    shared = shared_pairs(train, valid)
    if 2 * shared > len(valid):  # of everyday phrases some are always
        say(
            f"warning: {shared:,} of the {len(valid):,} validation pairs are training pairs as well: validation tells "
            "how well these are known by heart; leave them out of either"
        )
    return Corpus(train, valid, *origins, {"train": train._fingerprint, "valid": valid._fingerprint})


def _looks_tokenized(valid: Dataset) -> bool:
    """A period by itself ends a third of the references, or more: of " ?" and " !" some languages write the space."""
    ends = sum(1 for references in valid["references"] if references[0].endswith(" ."))
    return ends * 3 >= len(valid)


def _open_train(recipe: Recipe) -> tuple[Opened, str]:
    """The training data to be streamed, and what tells them from others."""
    data = recipe.data
    given = Wanted(
        "train", data.source_language, data.target_language, targets=data.train_targets == "required"
    )
    return (
        open_split(given, files=data.files, hub=hub_data(data)),
        stamp_split(given, files=data.files, hub=hub_data(data)),
    )


def _look_at_test(recipe: Recipe, say: Say) -> None:
    """Training does not read the test split: what is wrong with it would be told after days."""
    try:
        load_split("test", **corpus_place(recipe.data))
    except UserError as error:
        say(f"warning: evaluate and compare want a test split, unless they are given another: {error}")


def find_tokenizer(recipe: Recipe, corpus: Corpus, folder: Path) -> PreTrainedTokenizerBase:
    """The run's tokenizer: the one in the folder, else the starting model's or the recipe's, else a new one.

    Raises:
        UserError: there is none, and none can be trained.
    """
    languages = recipe.data.codes
    if (folder / "tokenizer_config.json").exists():
        return load_tokenizer(folder, **languages)
    start = model_start(recipe) or recipe.tokenizer.pretrained
    if start is None:
        if recipe.data.train_targets == "none":
            raise UserError(
                "data.train_targets is none, so there is no target text to train a tokenizer from; give one "
                "(tokenizer.pretrained), or a trained model (model.from_run or model.pretrained)"
            )
        return _train(recipe.tokenizer, corpus, folder, recipe.seed)
    with whole_folder(folder) as temporary:
        load_tokenizer(start, **languages).save_pretrained(temporary)
    return load_tokenizer(folder, **languages)  # as every later sitting has it, with files that stay


def model_start(recipe: Recipe) -> str | Path | None:
    """The folder or id of the model that training starts from.

    Raises:
        UserError: it is a run without weights, or one that translates the other way.
    """
    if recipe.model.from_run is None:
        return recipe.model.pretrained
    run = Run(Path(recipe.model.from_run))
    weights, data = run.weights(), run.read_recipe().data
    if (data.source_language, data.target_language) == (
        recipe.data.target_language,
        recipe.data.source_language,
    ):
        raise UserError(
            f"model.from_run: {run.path} translates {data.source_language} to {data.target_language}, and the recipe "
            "asks for the other way; give a run of the same direction (to start from its weights all the same: "
            f"model.pretrained={weights})"
        )
    return weights


def _train(settings: TokenizerSettings, corpus: Corpus, folder: Path, seed: int) -> PreTrainedTokenizerBase:
    def train(directory: Path) -> Report:
        train_tokenizer(
            _texts(corpus.train, "source"),
            _texts(corpus.train, "references"),
            algorithm=settings.algorithm,
            vocab_size=settings.vocabulary,
            joint=settings.joint,
            byte_fallback=settings.byte_fallback,
            character_coverage=settings.character_coverage,
            directory=directory,
            seed=seed,
        )
        return {}

    with whole_folder(folder) as temporary:
        if isinstance(corpus.train, Dataset):
            versions = [_FORMAT, sentencepiece.__version__, transformers.__version__]
            key = [*versions, corpus.train._fingerprint, asdict(settings), seed]
            remembered = (
                cache_folder() / hashlib.blake2b(json.dumps(key).encode(), digest_size=16).hexdigest()
            )
            kept(remembered, train)
            shutil.copytree(remembered, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(REPORT))
        else:
            train(temporary)
    return load_tokenizer(folder)


def _texts(train: Dataset | Opened, side: Literal["source", "references"]) -> Iterator[str]:
    """The sources, or the first references."""
    if isinstance(train, Dataset):
        for chunk in train.select_columns([side]).iter(10_000):
            yield from chunk[side] if side == "source" else (texts[0] for texts in chunk[side])
        return
    for source, references, _ in islice(train(0), _SAMPLE):
        yield source if side == "source" else references[0]


def find_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model that training starts from."""
    start = model_start(recipe)
    if start is not None:
        model = load_model(start, recipe.model.dropout)
        if recipe.training.consistency and not has_dropout(model.config):
            raise UserError(
                f"training.consistency asks two readings to agree that differ by dropout alone, and {start} has none; "
                "set model.dropout above 0, or training.consistency 0"
            )
        start_with_language(model, tokenizer)
        return model
    sizes = recipe.model.architecture
    return new_model(
        tokenizer,
        d_model=sizes.d_model,
        feed_forward=sizes.feed_forward,
        heads=sizes.heads,
        encoder_layers=sizes.encoder_layers,
        decoder_layers=sizes.decoder_layers,
        positions=sizes.positions,
        dropout=DEFAULT_DROPOUT if recipe.model.dropout is None else recipe.model.dropout,
        seed=recipe.seed,
    )


def training_data(
    recipe: Recipe,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    say: Say,
    processes: Processes = ALONE,
) -> TrainingData:
    """Encoded sentences and their order.

    Args:
        recipe: of the run.
        corpus: as `read_corpus` returns it.
        tokenizer: of the model.
        model: that is trained.
        say: is told what was found.
        processes: that share the work where the corpus is streamed.

    Raises:
        UserError: none is short enough, or a validation sentence is too long for the model.
    """
    check_lengths(encode_sources(tokenizer, corpus.valid["source"][:]), model, corpus.valid_origin)
    longest = recipe.data.filters.max_tokens
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = min(longest, positions) if positions else longest
    pad = int(model.config.pad_token_id)
    if not isinstance(corpus.train, Dataset):
        stream = Stream(
            corpus.train,
            tokenizer,
            block_rows=recipe.data.block,
            max_ratio=recipe.data.filters.max_ratio,
            max_tokens=limit,
            batch_tokens=recipe.training.batch_tokens,
            seed=recipe.seed,
            pad=pad,
            sources_alone=recipe.data.train_targets == "none",
            processes=processes,
            say=say,
        )
        return TrainingData(stream.block, stream.split, stream.load, lambda: stream.blocks, stream.close)
    encoded, report = encode_split(
        corpus.train,
        tokenizer,
        max_tokens=limit,
        cache_directory=cache_folder(),
        origin=corpus.train_origin,
        say=say,
    )
    say(f"training data: {report}")
    source, target = lengths_of(encoded)
    rows, widths = _rows(len(encoded), recipe.data.fold), np.maximum(source, target)
    if recipe.data.fold is not None:
        say(
            f"training data: {len(rows):,} of {len(encoded):,} pairs, without part {recipe.data.fold.left_out}"
        )
    batches = TokenBatches(source[rows], target[rows], recipe.training.batch_tokens, recipe.seed)
    return TrainingData(
        block=in_one_block(lambda epoch: [rows[numbers] for numbers in batches.epoch(epoch)]),
        split=lambda chosen, parts: split_batch(chosen, widths[chosen], parts),
        load=lambda chosen: load_batch(encoded, chosen, pad),
    )


def _rows(sentences: int, fold: Fold | None) -> Rows:
    """The rows of the training data that are learned from."""
    rows: Rows = np.arange(sentences)
    if fold is None:
        return rows
    part = part_of(torch.from_numpy(rows), fold.of).numpy()
    learned: Rows = rows[part != fold.left_out]
    if not len(learned):
        raise UserError(
            f"data.fold: leaves out part {fold.left_out} of {fold.of}, which are all {sentences} sentences; choose "
            "another part, or give more sentences"
        )
    return learned


def find_search(
    recipe: Recipe, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, policy: Policy, in_words: Texts
) -> Search | None:
    """The stages of the search, with the other models that have a part in it; None for teacher forcing.

    Args:
        recipe: of the run.
        corpus: as `read_corpus` returns it.
        tokenizer: of the policy.
        policy: on its device.
        in_words: how ids become text.

    Raises:
        UserError: another model is missing or does not fit.
    """
    device = policy.model.device
    return build_search(
        recipe.search,
        build_limit(recipe.search, policy),
        in_words,
        has_targets=recipe.data.train_targets == "required",
        cross_trained=load_cross_trained(recipe, tokenizer, policy, device, corpus.stamps),
        experts=load_experts(recipe, tokenizer, policy, device),
    )


def cache_folder() -> Path:
    """Where encoded corpora and tokenizers are kept: $L2S_NMT_CACHE, else l2s_nmt in the user's cache."""
    own = os.environ.get("L2S_NMT_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "l2s_nmt"


def dry_run(recipe: Recipe, say: Say) -> dict[str, Any]:
    """Everything that training does before its first update, with nothing written to a run directory.

    The test split is looked at as well.

    Returns:
        "parameters"; "sentences" of an epoch, None where they are streamed; and "batches" of the first epoch or, where
        they are streamed, of its first block.

    Raises:
        UserError: recipe, data or model are unsound.
    """
    check_trackers(recipe.training.trackers)
    corpus = read_corpus(recipe, say)
    _look_at_test(recipe, say)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = find_tokenizer(recipe, corpus, Path(folder) / "tokenizer")
        model = find_model(recipe, tokenizer)
        policy = Policy(model)
        build_objective(recipe)
        find_search(recipe, corpus, tokenizer, policy, texts(tokenizer, recipe.bleu_tokenizer))
        data = training_data(recipe, corpus, tokenizer, model, say)
        with closing(data):
            batches = data.block(0, 0) or []
    return {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "sentences": sum(map(len, batches)) if isinstance(corpus.train, Dataset) else None,
        "batches": len(batches),
    }
