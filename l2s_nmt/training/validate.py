"""Validation while training: greedy translations, scored by sacrebleu, shared between processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sacrebleu.metrics import BLEU
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from l2s_nmt.data.tokenizer import decode, encode_sources
from l2s_nmt.evaluation.score import reference_streams
from l2s_nmt.model import Policy
from l2s_nmt.processes import Processes
from l2s_nmt.search.context import LengthLimit
from l2s_nmt.search.sampling import greedy


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    bleu: float
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
    """

    policy: Policy
    tokenizer: PreTrainedTokenizerBase
    sources: Sequence[str]
    references: Sequence[Sequence[str]]
    limit: LengthLimit
    batch_tokens: int
    processes: Processes

    def __call__(self) -> Validation:
        """Translate this process's sentences, gather all, score."""
        encoded = encode_sources(self.tokenizer, list(self.sources))
        ordered = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
        ordered = ordered[self.processes.index :: self.processes.count]
        mine: dict[int, tuple[str, bool]] = {}
        while ordered:
            count = max(1, self.batch_tokens // len(encoded[ordered[0]]))
            batch, ordered = ordered[:count], ordered[count:]
            mine |= zip(batch, self._translate([encoded[row] for row in batch]), strict=True)
        found = {row: pair for share in self.processes.gather(mine) for row, pair in share.items()}
        translations, ended = zip(*(found[row] for row in range(len(encoded))), strict=True)
        score = BLEU().corpus_score(list(translations), reference_streams(self.references))
        middle = len(translations) // 2
        sample = (self.sources[middle], translations[middle], self.references[middle][0])
        return Validation(
            bleu=score.score,
            length_ratio=score.sys_len / max(score.ref_len, 1),
            empty=sum(not text.strip() for text in translations) / len(translations),
            endless=1 - sum(ended) / len(ended),
            sample=sample,
        )

    @torch.no_grad()
    def _translate(self, encoded: list[list[int]]) -> list[tuple[str, bool]]:
        """Text, and whether it ended before it was cut."""
        device = self.policy.model.device
        rows = [torch.tensor(ids, device=device) for ids in encoded]
        source = pad_sequence(rows, batch_first=True, padding_value=self.policy.pad)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        tokens, _ = self.policy.roll(self.policy.encode(source, mask), self.limit(mask), greedy)
        ended = (tokens == self.policy.eos).any(1)
        return list(zip(decode(self.tokenizer, tokens.tolist()), ended.tolist(), strict=True))
