"""Translate with a trained model: by ``generate``, so that a plain interpreter gives the same, or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from l2s_nmt.arguments import is_whole, texts
from l2s_nmt.data.batches import longest_first
from l2s_nmt.data.tokenizer import decode, encode_sources
from l2s_nmt.decoder_state import CACHE, beam_cache
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.draw import Sampling, draw
from l2s_nmt.evaluation.probability import log_probabilities
from l2s_nmt.model import Policy
from l2s_nmt.processes import ALONE, Processes

T = TypeVar("T")
Batch = dict[str, Tensor]
"""input_ids and attention_mask of some sources, (B, S) each."""


@dataclass(frozen=True)
class Decoding:
    """How translations are searched for."""

    beam: int = 5
    """1 is greedy."""
    length_penalty: float = 1.0
    max_length: int = 256
    """Longest translation in tokens."""

    def to_json(self) -> dict[str, Any]:
        """What a scores file says about it."""
        return asdict(self)

    def configure(self, model: PreTrainedModel) -> None:
        """Make this the model's own generation configuration, which is saved with its weights."""
        config, own = model.config, model.generation_config
        positions = getattr(config, "max_position_embeddings", None) or self.max_length
        pad = config.pad_token_id
        model.generation_config = GenerationConfig(
            num_beams=self.beam,
            length_penalty=self.length_penalty,
            # One for the start token, which counts in transformers but is no token of the translation.
            max_length=min(self.max_length, positions) + 1,
            early_stopping=False,
            do_sample=False,
            suppress_tokens=[pad],
            pad_token_id=pad,
            eos_token_id=config.eos_token_id,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=_start_token(model),
            forced_bos_token_id=own.forced_bos_token_id,
        )


def _start_token(model: PreTrainedModel) -> int:
    start = model.generation_config.decoder_start_token_id
    return int(model.config.decoder_start_token_id if start is None else start)


@dataclass(frozen=True)
class Hypothesis:
    """A translation, and what the model thinks of it."""

    text: str
    log_probability: float
    """Natural logarithm of the probability of its tokens, EOS included, given the source."""
    score: float
    """What beam search ranks by: that, divided by the number of tokens to the power of the length penalty."""


@dataclass(frozen=True)
class Translator:
    """A model with its tokenizer and its generation configuration.

    Args:
        model: an encoder-decoder, on its device.
        tokenizer: its tokenizer.
        batch_tokens: padded source tokens times hypotheses decoded at a time.
        processes: share the sentences, and all get every translation.
        sampling: how to draw translations; None: search for the best.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_tokens: int
    processes: Processes = ALONE
    sampling: Sampling | None = None

    def __call__(
        self,
        sources: Sequence[str],
        *,
        origin: str = "input",
        before: int = 0,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[str]:
        """Translations of the sources, in their order.

        Args:
            sources: B sentences; an empty one has an empty translation.
            origin: names the sources in errors.
            before: sentences of the same input that came before.
            done: told how many more sentences are done.

        Raises:
            UserError: a sentence is longer than the model's positions, or a text stands in place of a list.
        """

        def write(rows: Sequence[int], source: Batch) -> list[str]:
            return decode(self.tokenizer, self._write(source, rows, 1))

        sentences = texts(sources, "sources")
        return [text or "" for text in self._shared(sentences, 1, write, origin, before, done)]

    def best(
        self,
        sources: Sequence[str],
        number: int,
        *,
        origin: str = "input",
        before: int = 0,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[list[Hypothesis]]:
        """The best translations of each source that beam search found, best first, or so many samples.

        Args:
            sources: B sentences; an empty one has none.
            number: of translations of each; at most as many as beams unless they are sampled.
            origin: names the sources in errors.
            before: sentences of the same input that came before.
            done: told how many more sentences are done.

        Raises:
            UserError: a sentence is longer than the model's positions, a text stands in place of a list, or there are
                fewer beams.
        """

        def write(rows: Sequence[int], source: Batch) -> list[list[Hypothesis]]:
            found = self._measured(source, self._write(source, rows, number), number)
            groups = [found[start : start + number] for start in range(0, len(found), number)]
            # Measured anew, two that are all but equal may change places.
            return (
                groups if self.sampling else [sorted(group, key=lambda one: -one.score) for group in groups]
            )

        sentences = texts(sources, "sources")
        beams = self.model.generation_config.num_beams
        if not is_whole(number) or (self.sampling is None and number > beams):
            raise UserError(
                f"number is {number!r}; give 1 {'or more' if self.sampling else f'to {beams}, the beams'}"
            )
        return [group or [] for group in self._shared(sentences, number, write, origin, before, done)]

    def check(self, sources: Sequence[str], origin: str, before: int = 0) -> None:
        """Refuse a sentence that is longer than the model's positions.

        Raises:
            UserError: names its line.
        """
        check_lengths(self._encoded(sources), self.model, origin, before)

    @torch.no_grad()
    def _shared(
        self,
        sources: Sequence[str],
        number: int,
        write: Callable[[Sequence[int], Batch], Sequence[T]],
        origin: str,
        before: int,
        done: Callable[[int], None],
    ) -> list[T | None]:
        """What is written for each source, in batches that the processes share; None for an empty one."""
        self.model.eval()

        def read() -> list[list[int]]:
            encoded = self._encoded(sources)
            check_lengths(encoded, self.model, origin, before)
            return encoded

        encoded = self.processes.from_main(read)
        filled = [row for row, text in enumerate(sources) if text.strip()]
        done(len(sources) - len(filled))
        hypotheses = number if self.sampling else self.model.generation_config.num_beams or 1
        budget = max(1, self.batch_tokens // hypotheses)
        batches = list(longest_first(filled, [len(ids) for ids in encoded], budget))
        index, count = self.processes.index, self.processes.count
        mine: dict[int, T] = {}
        for first in range(0, len(batches), count):  # the processes translate that many batches at a time
            if first + index < len(batches):
                rows = batches[first + index]
                written = write([before + row for row in rows], _pad([encoded[r] for r in rows], self.model))
                mine |= zip(rows, written, strict=True)
            done(sum(map(len, batches[first : first + count])))
        found = self.processes.union(mine)
        return [found.get(row) for row in range(len(sources))]

    def _encoded(self, sources: Sequence[str]) -> list[list[int]]:
        return encode_sources(self.tokenizer, list(sources)) if sources else []

    def _write(self, source: Batch, rows: Sequence[int], number: int) -> list[list[int]]:
        """Tokens of so many translations of each source, one source's after the other's."""
        if self.sampling is None:
            output = self.model.generate(**source, num_return_sequences=number, **{CACHE: beam_cache()})
            return [self._whole(ids) for ids in output[:, 1:].tolist()]
        return draw(self._policy, source, rows, number, self.sampling)

    def _whole(self, ids: list[int]) -> list[int]:
        """Tokens up to the first EOS, that included: behind it is padding."""
        eos = self.model.config.eos_token_id
        return ids[: ids.index(eos) + 1] if eos in ids else ids

    def _measured(self, source: Batch, written: list[list[int]], number: int) -> list[Hypothesis]:
        policy = self._policy
        memory = policy.encode(source["input_ids"], source["attention_mask"])
        row = torch.arange(len(written), device=memory.mask.device) // number
        tokens = _padded(written, policy.pad).to(row.device)
        lengths = torch.tensor([len(ids) for ids in written], device=row.device)
        sums = log_probabilities(policy, memory.select(row), tokens, lengths)
        ranks = sums / lengths.double() ** self.model.generation_config.length_penalty
        texts = decode(self.tokenizer, written)
        return [
            Hypothesis(text, total, rank)
            for text, total, rank in zip(texts, sums.tolist(), ranks.tolist(), strict=True)
        ]

    @cached_property
    def _policy(self) -> Policy:
        return Policy(self.model)


def check_lengths(
    encoded: Sequence[Sequence[int]], model: PreTrainedModel, origin: str, before: int = 0
) -> None:
    """Refuse sources that the model has no positions for.

    Args:
        encoded: tokens of each source.
        model: that shall read them.
        origin: names the sources in errors.
        before: lines before the first.

    Raises:
        UserError: names the line of the first that is too long.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:  # relative positions
        return
    for line, ids in enumerate(encoded, start=before + 1):
        if len(ids) > positions:
            raise UserError(
                f"{origin}, line {line}: {len(ids)} tokens, but the model has {positions} positions; "
                "split the sentence"
            )


def _pad(encoded: list[list[int]], model: PreTrainedModel) -> Batch:
    source = _padded(encoded, model.config.pad_token_id)
    mask = _padded([[1] * len(ids) for ids in encoded], 0)
    return {"input_ids": source.to(model.device), "attention_mask": mask.to(model.device)}


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(ids) for ids in rows], batch_first=True, padding_value=value)
