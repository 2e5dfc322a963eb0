"""The best-suffix reference: it finishes a sentence with that suffix of the target which makes it cheapest.

So do the references of LOLS (Chang et al. 2015) and SEARNN (Leblond et al. 2018) for BLEU. For any cost, every
completion ``prefix + reference[j:]`` can be built and scored. Two costs need no building. For sentence BLEU, the
n-gram matches of all suffixes are counted at once: those inside the prefix, those inside the suffix, and those
across the border between them, clipped together. For edit distance, the distance between ``prefix +
reference[j:]`` and the reference is that between prefix and ``reference[:j]``: to align the suffix otherwise than
with itself takes at least as many edits as it is shifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.bleu import MAX_ORDER, SentenceBleu, bleu_cost
from l2s_nmt.search.costs.cost import Cost, OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost, prefix_distances
from l2s_nmt.search.costs.ngrams import MAX_ELEMENTS, count_type, positions_first, row_blocks
from l2s_nmt.search.reference.copy import append, is_finished
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.reference.vocabulary import vocabulary_costs
from l2s_nmt.search.types import CostVectors, Decisions

_NO_PREFIX, _NO_TARGET, _NO_SUFFIX = -1, -2, -3
"""Stand for padding: token ids are not negative, so these equal no token and not each other."""


@dataclass(frozen=True)
class Suffix:
    """Continue a prefix with the best suffix of any of its references, the empty one included.

    Args:
        cost: of a finished sentence; fast for `SentenceBleu` and `edit_distance_cost` on tokens.
    """

    cost: Cost

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """See `Reference`."""
        losses, which, starts = best_suffixes(context, prefixes, lengths, sentence, self.cost)
        tokens, whole = append(context, prefixes, lengths, sentence, which, starts)
        return Completions(tokens, whole, losses)

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`; exact over the vocabulary for costs that compare tokens."""

        def losses(prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Tensor:
            return best_suffixes(context, prefixes, lengths, sentence, self.cost)[0]

        return vocabulary_costs(context, tokens, sentence, position, losses)


def best_suffixes(
    context: Context,
    prefixes: Tensor,
    lengths: Tensor,
    sentence: Tensor,
    cost: Cost,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the cheapest completion of each prefix by a suffix of a reference.

    A prefix that ends with EOS is finished, and nothing is appended to it.

    Args:
        context: of B sentences.
        prefixes: (M, P) tokens, padded with anything; P may be 0.
        lengths: (M,) their lengths, a final EOS included.
        sentence: (M,) the row of the batch each belongs to.
        cost: of a finished sentence.
        max_elements: entries of the largest temporary; more rows are computed in blocks.

    Returns:
        The cost (M,) of the cheapest completion; of which reference its suffix is (M,); and where that starts (M,),
        at its EOS if no word is appended. Where several are cheapest, it is the longest suffix of the first
        reference that has one.
    """
    references, reference_lengths = context.batch.references, context.batch.reference_lengths
    if not prefixes.shape[1]:
        prefixes = F.pad(prefixes, (0, 1))
    ended = is_finished(prefixes, lengths, context.policy.eos)
    count, width = references.shape[1:]
    column = torch.arange(width, device=references.device)[:, None]
    costs, places = [], []
    for rows in row_blocks(len(prefixes), count * width * (prefixes.shape[1] + width), max_elements):
        last = reference_lengths[sentence[rows]].t()[:, None] - 1
        first = torch.where(ended[rows], last, 0)
        table = _suffix_table(context, prefixes[rows], lengths[rows], sentence[rows], cost)
        table = table.masked_fill((column < first) | (column > last), math.inf).flatten(0, 1)
        place = table.argmin(0)
        places.append(place)
        costs.append(table.gather(0, place[None])[0])
    best = torch.cat(places)
    return torch.cat(costs), best // width, best % width


def _suffix_table(
    context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor, cost: Cost
) -> Tensor:
    """(M, R, m) cost of each of m prefixes with each suffix of each reference; anything where there is none."""
    kernel = cost.kernel if isinstance(cost, OnTokens) else None
    if not isinstance(kernel, SentenceBleu) and kernel is not edit_distance_cost:
        return _built(context, prefixes, lengths, sentence, cost)
    words = lengths - is_finished(prefixes, lengths, context.policy.eos).long()
    references = context.batch.references[sentence, :, :-1].unbind(1)
    reference_words = (context.batch.reference_lengths[sentence] - 1).unbind(1)
    if isinstance(kernel, SentenceBleu):
        return _bleu_table(prefixes, words, references, reference_words, kernel)
    # The nearest reference of the best completion is the one that its suffix is from.
    index = torch.arange(len(words), device=words.device)
    tables = [
        (prefix_distances(prefixes, target)[index, words] / target_words.clamp(min=1)[:, None]).t()
        for target, target_words in zip(references, reference_words, strict=True)
    ]
    return torch.stack(tables)


def _built(context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor, cost: Cost) -> Tensor:
    """`_suffix_table` for any cost; infinite where there is no suffix, since such a cost may be dear."""
    last = context.batch.reference_lengths[sentence] - 1
    ended = is_finished(prefixes, lengths, context.policy.eos)
    first = torch.where(ended[:, None], last, 0)
    column = torch.arange(context.batch.references.shape[2], device=prefixes.device)
    there = (column >= first[:, :, None]) & (column <= last[:, :, None])
    row, which, start = there.nonzero(as_tuple=True)
    tokens, whole = append(context, prefixes[row], lengths[row], sentence[row], which, start)
    losses = cost(tokens, whole - 1, sentence[row], context.batch)
    table = losses.new_full(there.shape, math.inf)
    table[row, which, start] = losses
    return table.permute(1, 2, 0)


def _bleu_table(
    prefixes: Tensor,
    words: Tensor,
    references: tuple[Tensor, ...],
    reference_words: tuple[Tensor, ...],
    kernel: SentenceBleu,
) -> Tensor:
    """`_suffix_table` for sentence BLEU: each suffix against the reference that it comes nearest to.

    One that is absent matches nothing, so it costs 1, and nothing costs more.
    """
    column = torch.arange(references[0].shape[1] + 1, device=words.device)[:, None]
    tables = []
    for suffixes, suffix_words in zip(references, reference_words, strict=True):
        lengths = words + (suffix_words - column).clamp(min=0)
        found = []
        for target, target_words in zip(references, reference_words, strict=True):
            matches = _bleu_matches(prefixes, words, suffixes, suffix_words, target, target_words)
            found.append(bleu_cost(matches, lengths, target_words, smoothing=kernel.smoothing))
        tables.append(torch.stack(found).amin(0))
    return torch.stack(tables)


def _bleu_matches(
    prefixes: Tensor,
    words: Tensor,
    suffixes: Tensor,
    suffix_words: Tensor,
    target: Tensor,
    target_words: Tensor,
) -> Tensor:
    """(4, R + 1, m) clipped matches of ``prefix + suffixes[j:]`` with the targets, both (m, R) words.

    Counted for each n-gram of the target, at its first occurrence k: how often it is in the completion, at
    most as often as in the target.
    """
    ours = positions_first(prefixes, words, _NO_PREFIX)
    theirs = positions_first(target, target_words, _NO_TARGET)
    copied = positions_first(suffixes, suffix_words, _NO_SUFFIX)
    dtype = count_type(len(ours) + len(theirs))
    in_prefix = equal_prefix = theirs[:, None] == ours
    in_copied = [theirs[:, None] == copied]
    # What is copied is the target itself, where there is one reference.
    in_target = in_copied if suffixes is target else [theirs[:, None] == theirs]
    tails: list[Tensor] = []
    matches = []
    for n in range(1, MAX_ORDER + 1):
        if n > 1:
            in_prefix = in_prefix[:-1, :-1] & equal_prefix[n - 1 :, n - 1 :]
            for equal in [in_copied] if in_target is in_copied else [in_copied, in_target]:
                equal.append(equal[-1][:-1, :-1] & equal[0][n - 1 :, n - 1 :])
        found = in_prefix.sum(1, dtype=dtype)
        matches.append(_suffix_matches(found, in_copied, in_target, tails, len(theirs)))
        tails.append(_tail(ours, words, theirs, tails))
    return torch.stack(matches)


def _suffix_matches(
    in_prefix: Tensor, in_copied: list[Tensor], in_target: list[Tensor], tails: list[Tensor], width: int
) -> Tensor:
    """(R + 1, m) clipped matches of order n.

    Args:
        in_prefix: (R - n + 1, m) how often n-gram k of the target is in the prefix.
        in_copied: of each order up to n, (R - n + 1, R - n + 1, m): n-gram k of the target equals n-gram j of what
            the suffixes are from.
        in_target: likewise, of the target; the same list where the suffixes are the target's.
        tails: of each order a below n, (R - a + 1, m): the a-gram k of the target ends the prefix.
        width: R.
    """
    dtype, grams = in_prefix.dtype, len(in_prefix)
    if not grams:
        return in_prefix.new_zeros(width + 1, in_prefix.shape[1])
    seen = in_copied[-1].cumsum(1, dtype=dtype)
    in_whole = seen[:, -1]
    own = seen if in_target is in_copied else in_target[-1].cumsum(1, dtype=dtype)
    is_first = own.diagonal().t() == 1
    limit = own[:, -1].masked_fill(~is_first, 0)
    # Of the prefix, of what is copied less what is cut away before j, and across the border.
    count = (in_prefix + in_whole)[:, None].repeat(1, width + 1, 1)
    count[:, 1 : grams + 1] -= seen
    count[:, grams + 1 :] -= in_whole[:, None]
    for a, tail in enumerate(tails, start=1):
        rest = in_copied[-1 - a]
        count[:, : rest.shape[1]] += rest[a : a + grams] & tail[:grams, None]
    return torch.minimum(count, limit[:, None]).sum(0, dtype=dtype)


def _tail(ours: Tensor, words: Tensor, theirs: Tensor, tails: list[Tensor]) -> Tensor:
    """(R - n + 1, m) bool: the prefix ends with the n words of the target from k on, for the next n."""
    n = len(tails) + 1
    first = ours.gather(0, (words - n).clamp(min=0)[None]).masked_fill(words < n, _NO_PREFIX)
    starts = theirs[: max(0, len(theirs) - n + 1)] == first
    return starts & tails[-1][1:] if tails else starts
