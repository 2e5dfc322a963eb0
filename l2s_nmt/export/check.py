"""Whether an exported model translates as the run does, and how fast both are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import decode, encode_sources
from l2s_nmt.evaluation.runs import TestSet
from l2s_nmt.evaluation.score import BleuScore, score
from l2s_nmt.evaluation.translate import Translator
from l2s_nmt.export.convert import ctranslate2, pieces
from l2s_nmt.languages import BleuTokenizer

TOLERANCE = 0.1
"""BLEU by which translations may differ, where more of them than `FEW` are not the same."""
FEW = 0.02
"""Of the sentences: rounding may lead a beam another way, and of a small test set one weighs a lot."""


@dataclass(frozen=True)
class Side:
    """One of the two models on the sentences."""

    bleu: BleuScore
    per_second: float
    """Sentences a second."""
    device: str


@dataclass(frozen=True)
class Check:
    """Both models on the same sentences."""

    sentences: int
    run: Side
    exported: Side
    same: int
    """Sentences whose translations are equal, letter for letter."""

    @property
    def difference(self) -> float:
        """BLEU that the exported model gains (or loses, below 0)."""
        return self.exported.bleu.score - self.run.bleu.score

    @property
    def holds(self) -> bool:
        """The translations are as good, as far as BLEU can tell, or nearly all the same."""
        return abs(self.difference) <= TOLERANCE or self.sentences - self.same <= FEW * self.sentences


@dataclass(frozen=True)
class Exported:
    """An exported model that translates as a run's `Translator` does.

    Args:
        model: CTranslate2's translator.
        tokenizer: of the run.
        options: of its ``translate_batch``.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    options: dict[str, Any]

    def __call__(self, sources: Sequence[str]) -> list[str]:
        """Translations of the sources, in their order; an empty one has an empty translation."""
        filled = [row for row, text in enumerate(sources) if text.strip()]
        source, target = pieces(self.tokenizer)
        encoded = encode_sources(self.tokenizer, [sources[row] for row in filled]) if filled else []
        found = self.model.translate_batch(
            [[source[token] for token in ids] for ids in encoded], **self.options
        )
        number = {piece: token for token, piece in enumerate(target)}
        ids = [[number[piece] for piece in result.hypotheses[0]] for result in found]
        translations = dict(zip(filled, decode(self.tokenizer, ids) if ids else [], strict=True))
        return [translations.get(row, "") for row in range(len(sources))]


def load_exported(folder: Path, translator: Translator) -> Exported:
    """An exported model on the run's device, to decode as the run does."""
    own = translator.model.generation_config
    package = ctranslate2()
    seen = translator.model.device.type == "cuda" and package.get_cuda_device_count() > 0
    options = {
        **search_options(own),
        "max_batch_size": max(1, translator.batch_tokens // own.num_beams),
        "batch_type": "tokens",
    }
    model = package.Translator(
        str(folder), device="cuda" if seen else "cpu", intra_threads=torch.get_num_threads()
    )
    return Exported(model, translator.tokenizer, options)


def search_options(own: GenerationConfig) -> dict[str, Any]:
    """A generation configuration in CTranslate2's words."""
    return {
        "beam_size": own.num_beams,
        "length_penalty": own.length_penalty,
        "max_decoding_length": own.max_length - 1,  # without the start token
        "min_decoding_length": 0,  # a translation may be empty
        "max_input_length": 0,  # what is too long is refused and not cut
        "patience": 4 if own.num_beams > 1 else 1,  # with less it stops before the best was found
    }


def check(
    folder: Path,
    translator: Translator,
    test_set: TestSet,
    done: Callable[[int], None] = lambda count: None,
    bleu_tokenizer: BleuTokenizer = "13a",
) -> Check:
    """Translate sentences by both models.

    Args:
        folder: the exported model.
        translator: the run.
        test_set: the sentences.
        done: told how many more translations are done, of two for each sentence.
        bleu_tokenizer: what cuts text into BLEU's words.

    Raises:
        UserError: there are no sentences, or one is too long for the model.
    """
    exported = load_exported(folder, translator)
    sources = test_set.sources

    def timed(translate: Callable[[], list[str]], device: str) -> tuple[list[str], Side]:
        begin = time.perf_counter()
        translations = translate()
        rate = len(translations) / (time.perf_counter() - begin)
        bleu = score(translations, test_set.references, bleu_tokenizer).bleu
        return translations, Side(bleu, rate, device)

    def ask_run() -> list[str]:
        return translator(sources, origin=test_set.origin, done=done)

    ours, run = timed(ask_run, translator.model.device.type)
    theirs, other = timed(lambda: exported(sources), exported.model.device)
    done(len(sources))
    same = sum(one == another for one, another in zip(ours, theirs, strict=True))
    return Check(len(sources), run, other, same)
