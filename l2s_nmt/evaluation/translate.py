"""Translate with a trained model: beam search by ``generate``, so that a plain interpreter gives the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import decode, encode_sources
from l2s_nmt.errors import UserError
from l2s_nmt.processes import ALONE, Processes


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
            max_length=min(self.max_length + 1, positions),
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
class Translator:
    """A model with its tokenizer and its generation configuration.

    Args:
        model: an encoder-decoder, on its device.
        tokenizer: its tokenizer.
        batch_tokens: padded source tokens times beams decoded at a time.
        processes: share the sentences, and all get every translation.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_tokens: int
    processes: Processes = ALONE

    @torch.no_grad()
    def __call__(
        self,
        sources: Sequence[str],
        *,
        origin: str = "input",
        done: Callable[[int], None] = lambda count: None,
    ) -> list[str]:
        """Translations of the sources, in their order.

        Args:
            sources: B sentences; an empty one has an empty translation.
            origin: names the sources in errors.
            done: told how many more sentences are done.

        Raises:
            UserError: a sentence is longer than the model's positions.
        """
        self.model.eval()
        encoded = self.processes.from_main(lambda: self._encoded(sources, origin))
        filled = [row for row, text in enumerate(sources) if text.strip()]
        done(len(sources) - len(filled))
        budget = max(1, self.batch_tokens // (self.model.generation_config.num_beams or 1))
        batches = list(_batches(filled, [len(ids) for ids in encoded], budget))
        index, count = self.processes.index, self.processes.count
        mine: dict[int, str] = {}
        for first in range(0, len(batches), count):  # the processes translate that many batches at a time
            if first + index < len(batches):
                rows = batches[first + index]
                output = self.model.generate(**_pad([encoded[row] for row in rows], self.model))
                mine |= zip(rows, decode(self.tokenizer, output.tolist()), strict=True)
            done(sum(map(len, batches[first : first + count])))
        found = {row: text for share in self.processes.gather(mine) for row, text in share.items()}
        return [found.get(row, "") for row in range(len(sources))]

    def _encoded(self, sources: Sequence[str], origin: str) -> list[list[int]]:
        encoded = encode_sources(self.tokenizer, list(sources)) if sources else []
        check_lengths(encoded, self.model, origin)
        return encoded


def check_lengths(encoded: Sequence[Sequence[int]], model: PreTrainedModel, origin: str) -> None:
    """Refuse sources that the model has no positions for.

    Args:
        encoded: tokens of each source.
        model: that shall read them.
        origin: names the sources in errors.

    Raises:
        UserError: names the line of the first that is too long.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:  # relative positions
        return
    for line, ids in enumerate(encoded, start=1):
        if len(ids) > positions:
            raise UserError(
                f"{origin}, line {line}: {len(ids)} tokens, but the model has {positions} positions; "
                "split the sentence"
            )


def _batches(rows: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows in batches of similar length, the longest first so that memory runs out early or never."""
    batch: list[int] = []
    for row in sorted(rows, key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _pad(encoded: list[list[int]], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    rows = [torch.tensor(ids) for ids in encoded]
    source = pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": source.to(model.device), "attention_mask": mask.to(model.device)}
