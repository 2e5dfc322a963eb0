"""The oracle under sentence BLEU: the best completion of a prefix, searched and as a rule proven to be the best.

BLEU does not fall apart into the words of a sentence, so there is no dynamic programme for it as there is for edit
distance; oracles for it approximate (Dreyer, Hall and Khudanpur 2007; Sokolov, Wisniewski and Yvon 2012). Here branch
and bound starts from the best suffix of a reference, and stops when nothing better can exist or at its budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.bleu import SentenceBleu, Smoothing
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.reference.bleu_search import Found, Target, Words, search
from l2s_nmt.search.reference.copy import append, is_finished
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.reference.suffix import best_suffixes
from l2s_nmt.search.reference.vocabulary import vocabulary_costs
from l2s_nmt.search.types import CostVectors, Decisions

_ABSENT = -1
"""Stands for all words that no reference of a sentence has."""


@dataclass(frozen=True)
class BleuCompletions(Completions):
    """Completions, and how far from the best ones they can be."""

    bounds: Tensor
    """(M,) float32: no completion of the prefix has a smaller loss; the loss itself where that is proven."""
    proven: Tensor
    """(M,) bool: it is known that no completion is better."""

    @property
    def mean_gap(self) -> float:
        """By how much the losses can be above those of the best completions, on average; 0 if all are proven."""
        return float((self.losses - self.bounds).mean()) if len(self.losses) else 0.0

    @property
    def share_proven(self) -> float:
        """The share of completions known to be the best; 1 of none."""
        return float(self.proven.float().mean()) if len(self.proven) else 1.0


@dataclass(frozen=True)
class BleuOracle:
    """Continue a prefix so that 1 - sentence BLEU on tokens is smallest, against the best of its references.

    Args:
        smoothing: as for `SentenceBleu`.
        budget: most nodes that are expanded for a prefix.
    """

    smoothing: Smoothing
    budget: int

    def complete(
        self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor
    ) -> BleuCompletions:
        """See `Reference`; of any length, whatever the limit of the policy. The best suffix stays where it is best."""
        return self._complete(context, prefixes, lengths, sentence, _Searches(context, self))

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`; exact over the vocabulary as far as the budget suffices."""
        searches = _Searches(context, self)

        def losses(prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Tensor:
            return self._complete(context, prefixes, lengths, sentence, searches).losses

        return vocabulary_costs(context, tokens, sentence, position, losses)

    def _complete(
        self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor, searches: _Searches
    ) -> BleuCompletions:
        cost = OnTokens(SentenceBleu(self.smoothing))
        losses, which, starts = best_suffixes(context, prefixes, lengths, sentence, cost)
        tokens, whole = append(context, prefixes, lengths, sentence, which, starts)
        rows = zip(
            sentence.tolist(),
            prefixes.tolist(),
            lengths.tolist(),
            losses.tolist(),
            is_finished(prefixes, lengths, context.policy.eos).tolist(),
            strict=True,
        )
        found = [
            Found(None, 1 - loss, True) if ended else searches.find(owner, prefix[:length], 1 - loss)
            for owner, prefix, length, loss, ended in rows
        ]
        better = {row: one.words for row, one in enumerate(found) if one.words is not None}
        tokens, whole = _rewritten(context, tokens, whole, lengths, better)
        losses = cost(tokens, whole - 1, sentence, context.batch)
        proven = torch.tensor([one.proven for one in found], dtype=torch.bool, device=losses.device)
        bounds = torch.tensor([1 - one.bound for one in found], dtype=losses.dtype, device=losses.device)
        # The search is in double precision: the bound of what is proven is off by rounding.
        bounds = torch.where(proven, losses, torch.minimum(bounds, losses))
        completions = BleuCompletions(tokens, whole, losses, bounds, proven)
        context.notes["oracle_asked"] += len(losses)
        context.notes["oracle_gap"] += completions.mean_gap * len(losses)
        context.notes["oracle_proven"] += completions.share_proven * len(losses)
        return completions


class _Searches:
    """The searches of one call; equal ones are made once."""

    def __init__(self, context: Context, oracle: BleuOracle) -> None:
        self._batch = context.batch
        self._oracle = oracle
        self._targets: dict[int, tuple[list[Target], frozenset[int]]] = {}
        self._found: dict[tuple[int, Words], Found] = {}

    def find(self, sentence: int, prefix: list[int], known: float) -> Found:
        """Search from a prefix of a sentence, some completion of which is known to have so high a BLEU."""
        targets, vocabulary = self._of(sentence)
        words = tuple(word if word in vocabulary else _ABSENT for word in prefix)
        if (sentence, words) not in self._found:
            found = search(self._oracle.smoothing, targets, words, known, self._oracle.budget)
            self._found[sentence, words] = found
        return self._found[sentence, words]

    def _of(self, sentence: int) -> tuple[list[Target], frozenset[int]]:
        """The references of a sentence, and all words that they have."""
        if sentence not in self._targets:
            lengths = self._batch.reference_lengths[sentence].tolist()
            rows = zip(self._batch.references[sentence].tolist(), lengths, strict=True)
            targets = [Target(row[: length - 1]) for row, length in rows if length]
            every = frozenset(word for target in targets for word in target.vocabulary)
            self._targets[sentence] = targets, every
        return self._targets[sentence]


def _rewritten(
    context: Context, tokens: Tensor, whole: Tensor, lengths: Tensor, better: Mapping[int, Words]
) -> tuple[Tensor, Tensor]:
    """Put other words behind the prefixes of some rows.

    Args:
        context: for the special tokens.
        tokens: (M, L) completed sentences.
        whole: (M,) their lengths, EOS included.
        lengths: (M,) of the prefixes.
        better: what is to follow the prefix in each row that changes, without EOS.

    Returns:
        Tokens, wider if need be, and lengths.
    """
    if not better:
        return tokens, whole
    rows = torch.tensor(list(better), device=tokens.device)
    ends = [[*words, context.policy.eos] for words in better.values()]
    added = torch.tensor([len(end) for end in ends], device=tokens.device)
    whole = whole.index_copy(0, rows, lengths[rows] + added)
    width = int(whole.max())
    pad = context.policy.pad
    tokens = F.pad(tokens, (0, max(0, width - tokens.shape[1])), value=pad)[:, :width].clone()
    for row, start, end in zip(rows.tolist(), lengths[rows].tolist(), ends, strict=True):
        tokens[row, start:] = tokens.new_tensor(end + [pad] * (width - start - len(end)))
    return tokens, whole
