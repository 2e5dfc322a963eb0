"""Validation while training: BLEU of greedy translations, and the references' perplexity; shared between processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.batches import longest_first
from l2s_nmt.data.tokenizer import decode, encode_sources, encode_targets
from l2s_nmt.decoder_state import Memory
from l2s_nmt.evaluation.probability import log_probabilities
from l2s_nmt.evaluation.score import reference_streams
from l2s_nmt.languages import BleuTokenizer, new_bleu
from l2s_nmt.model import Policy
from l2s_nmt.processes import Processes
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.sampling import greedy

Outcome = tuple[str, bool, tuple[float, int]]
"""Of a sentence: its translation; whether it ended before it was cut; minus the log-probability of its reference, and
how many tokens that has."""


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    bleu: float
    perplexity: float | None
    """Of the first references, per token, EOS included; None where all are longer than the model's positions."""
    length_ratio: float
    empty: float
    """Share of empty translations."""
    endless: float
    """Share of those that were cut before they ended."""
    sample: tuple[str, str, str]
    """Source, translation and reference of one sentence."""


@dataclass(frozen=True)
class Validator:
    """Scores the policy as it stands on the validation sentences.

    Args:
        policy: on its device.
        tokenizer: of the policy.
        sources: of the validation split.
        references: one or several of each.
        limit: where a translation is cut.
        batch_tokens: padded source tokens decoded at a time.
        processes: share the sentences.
        bleu_tokenizer: what cuts text into BLEU's words.
    """

    policy: Policy
    tokenizer: PreTrainedTokenizerBase
    sources: Sequence[str]
    references: Sequence[Sequence[str]]
    limit: LengthLimit
    batch_tokens: int
    processes: Processes
    bleu_tokenizer: BleuTokenizer = "13a"

    def __call__(self) -> Validation:
        """Translate this process's sentences, gather all, score."""
        encoded = encode_sources(self.tokenizer, list(self.sources))
        targets = encode_targets(self.tokenizer, [texts[0] for texts in self.references])
        lengths = [len(ids) for ids in encoded]
        # Dealt out by length, so that all have about as many tokens.
        ordered = sorted(range(len(encoded)), key=lambda row: -lengths[row])
        dealt = ordered[self.processes.index :: self.processes.count]
        mine: dict[int, Outcome] = {}
        for batch in longest_first(dealt, lengths, self.batch_tokens):
            outcomes = self._look([encoded[row] for row in batch], [targets[row] for row in batch])
            mine |= zip(batch, outcomes, strict=True)
        found = self.processes.union(mine)
        translations, ended, surprise = zip(*(found[row] for row in range(len(encoded))), strict=True)
        # Not told at every validation that the data look tokenized.
        bleu = new_bleu(self.bleu_tokenizer, quiet=True)
        score = bleu.corpus_score(list(translations), reference_streams(self.references))
        middle = len(translations) // 2
        sample = (self.sources[middle], translations[middle], self.references[middle][0])
        return Validation(
            bleu=score.score,
            perplexity=_perplexity(surprise),
            length_ratio=score.sys_len / max(score.ref_len, 1),
            empty=sum(not text.strip() for text in translations) / len(translations),
            endless=1 - sum(ended) / len(ended),
            sample=sample,
        )

    @torch.no_grad()
    def _look(self, sources: list[list[int]], targets: list[list[int]]) -> list[Outcome]:
        """Translate, and see how surprising the references are."""
        source, lengths = self._padded(sources)
        mask = (torch.arange(source.shape[1], device=source.device) < lengths[:, None]).to(source.dtype)
        memory = self.policy.encode(source, mask)
        tokens, _ = self.policy.roll(memory, self.limit(mask), greedy)
        ended = (tokens == self.policy.eos).any(1)
        texts = decode(self.tokenizer, tokens.tolist())
        return list(zip(texts, ended.tolist(), self._surprise(memory, targets), strict=True))

    def _surprise(self, memory: Memory, targets: list[list[int]]) -> list[tuple[float, int]]:
        """Minus the log-probability of each target, and its tokens; nothing of one that is too long for the model."""
        longest = self.policy.positions or max(map(len, targets))
        tokens, lengths = self._padded([ids if len(ids) <= longest else [self.policy.eos] for ids in targets])
        sums = log_probabilities(self.policy, memory, tokens, lengths).tolist()
        return [
            (-total, len(ids)) if len(ids) <= longest else (0.0, 0)
            for total, ids in zip(sums, targets, strict=True)
        ]

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """(B, T) tokens and (B,) their numbers."""
        device = self.policy.model.device
        tensors = [torch.tensor(ids, device=device) for ids in rows]
        lengths = torch.tensor([len(ids) for ids in rows], device=device)
        return pad_sequence(tensors, batch_first=True, padding_value=self.policy.pad), lengths


def _perplexity(surprise: Sequence[tuple[float, int]]) -> float | None:
    """From sums of minus log-probabilities, and of how many tokens they are; at most what a float holds.

    None where there are no tokens, or the model's numbers are not finite.
    """
    tokens = sum(count for _, count in surprise)
    if not tokens or not all(math.isfinite(nats) for nats, _ in surprise):
        return None
    return math.exp(min(math.fsum(nats for nats, _ in surprise) / tokens, 700.0))
