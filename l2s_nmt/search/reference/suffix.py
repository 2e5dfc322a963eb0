"""The best-suffix reference: it finishes a sentence with that suffix of the target which makes it cheapest.

For any cost, every completion ``prefix + target[j:]`` can be built and scored. Two costs need no building.
For sentence BLEU, the n-gram matches of all suffixes are counted at once: those inside the prefix, those
inside the suffix, and those across the border between them, clipped together. For edit distance, the
distance between ``prefix + target[j:]`` and the target is that between prefix and ``target[:j]``: to align
the suffix otherwise than with itself takes at least as many edits as it is shifted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from l2s_nmt.search.costs import (
    MAX_ELEMENTS,
    MAX_ORDER,
    Cost,
    SentenceBleu,
    bleu_cost,
    count_type,
    edit_distance_cost,
    positions_first,
    prefix_distances,
    row_blocks,
)
from l2s_nmt.search.reference.edit_distance import target_actions
from l2s_nmt.search.types import CostVectors, Decisions

_NO_PREFIX, _NO_TARGET, _ABSENT = -1, -2, -3
"""Stand for padding and for a token that the target lacks: token ids are not negative."""


def best_suffix_costs(
    prefixes: Tensor,
    lengths: Tensor,
    target: Tensor,
    target_lengths: Tensor,
    cost: Cost,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[Tensor, Tensor]:
    """Find the cheapest completion of each prefix by a suffix of its target, the empty one included.

    A prefix that ends with EOS is finished, and nothing is appended to it.

    Args:
        prefixes: (M, P) tokens, padded with anything; P is at least 1, even if all are empty.
        lengths: (M,) their lengths, a final EOS included.
        target: (M, R) references, each ending with EOS; padded with anything.
        target_lengths: (M,) their lengths, EOS included.
        cost: of a finished sentence; fastest as a `SentenceBleu` or as `edit_distance_cost`.
        max_elements: entries of the largest temporary; more rows are computed in blocks.

    Returns:
        The cost (M,) of the cheapest completion, and where its suffix starts (M,): at ``target[j]``; the
        longest suffix where several are cheapest. A start at the EOS of the target appends no word.
    """
    words = lengths - _is_finished(prefixes, lengths, target, target_lengths).long()
    volume = target.shape[1] * (prefixes.shape[1] + target.shape[1])
    costs, starts = [], []
    for rows in row_blocks(len(prefixes), volume, max_elements):
        table = _suffix_table(prefixes[rows], words[rows], target[rows], target_lengths[rows] - 1, cost)
        column = torch.arange(len(table), device=table.device)[:, None]
        last = target_lengths[rows] - 1
        first = torch.where(words[rows] < lengths[rows], last, 0)
        table = table.masked_fill((column < first) | (column > last), math.inf)
        start = table.argmin(0)
        starts.append(start)
        costs.append(table.gather(0, start[None])[0])
    return torch.cat(costs), torch.cat(starts)


def complete(
    prefixes: Tensor, lengths: Tensor, target: Tensor, target_lengths: Tensor, starts: Tensor, pad: int
) -> tuple[Tensor, Tensor]:
    """Append suffixes of the targets to the prefixes.

    Args:
        prefixes: (M, P) tokens, padded with anything.
        lengths: (M,) their lengths, a final EOS included.
        target: (M, R) references, each ending with EOS; padded with anything.
        target_lengths: (M,) their lengths, EOS included.
        starts: (M,) where the suffixes start, as from `best_suffix_costs`.
        pad: id that fills the rest.

    Returns:
        The sentences (M, P + R), each ending with EOS, padded; and their lengths (M,), EOS included.
    """
    words = lengths - _is_finished(prefixes, lengths, target, target_lengths).long()
    whole = words + target_lengths - starts
    sentences = _joined(prefixes, words, target, starts)
    outside = torch.arange(sentences.shape[1], device=sentences.device) >= whole[:, None]
    return sentences.masked_fill(outside, pad), whole


def full_vocabulary_costs(
    tokens: Tensor,
    sentence: Tensor,
    position: Tensor,
    target: Tensor,
    target_lengths: Tensor,
    cost: Cost,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> tuple[Decisions, CostVectors]:
    """Compute the exact cost of every token of the vocabulary when the best suffix finishes the sentence.

    The listed actions are the distinct tokens of the target, EOS among them, each in the place of its first
    occurrence. All others are no match anywhere, so that they share one cost: this holds for costs that
    compare tokens for equality with those of the target.

    Args:
        tokens: (B, T) trajectories, padded with anything.
        sentence: (N,) row of the batch of each state.
        position: (N,) the state is the prefix ``tokens[sentence, :position]``; below T.
        target: (B, R) references, each ending with EOS; padded with an id of the vocabulary.
        target_lengths: (B,) their lengths, EOS included.
        cost: of a finished sentence; fastest as a `SentenceBleu` or as `edit_distance_cost`.
        max_elements: entries of the largest temporary; more states are computed in blocks.

    Returns:
        The N decisions with K = R actions, and their costs, with the cheapest subtracted.
    """
    mask = target_actions(target, target_lengths)[0][sentence]
    actions = target[sentence]
    tried = torch.cat([actions, actions.new_full((len(actions), 1), _ABSENT)], 1)
    losses = []
    volume = tried.shape[1] * (tokens.shape[1] + target.shape[1])
    for rows in row_blocks(len(sentence), volume, max_elements):
        branches = tokens[sentence[rows], None].repeat(1, tried.shape[1], 1)
        ends = position[rows, None, None].expand(-1, tried.shape[1], 1)
        branches.scatter_(2, ends, tried[rows, :, None])
        owner = sentence[rows].repeat_interleave(tried.shape[1])
        block, _ = best_suffix_costs(
            branches.flatten(0, 1),
            ends.flatten() + 1,
            target[owner],
            target_lengths[owner],
            cost,
            max_elements=max_elements,
        )
        losses.append(block.view(-1, tried.shape[1]))
    table = torch.cat(losses)
    listed = table[:, :-1].masked_fill(~mask, math.inf)
    other = table[:, -1]
    best = torch.minimum(listed.amin(1), other)
    costs = (listed - best[:, None]).masked_fill(~mask, 0)
    return Decisions(sentence, position, actions, mask), CostVectors(costs, other - best)


def _is_finished(prefixes: Tensor, lengths: Tensor, target: Tensor, target_lengths: Tensor) -> Tensor:
    """(M,) bool: the prefix ends with the token that ends the target, EOS."""
    last = prefixes.gather(1, (lengths - 1).clamp(min=0)[:, None])
    return ((last == target.gather(1, target_lengths[:, None] - 1)) & (lengths[:, None] > 0))[:, 0]


def _joined(prefixes: Tensor, words: Tensor, target: Tensor, starts: Tensor) -> Tensor:
    """(M, P + R): the words of the prefixes, the targets from their starts on, and anything behind."""
    size, width = prefixes.shape[1], target.shape[1]
    index = torch.arange(size + width, device=prefixes.device)
    behind = (index - words[:, None] + starts[:, None]).clamp(max=width - 1) + size
    return torch.cat([prefixes, target], 1).gather(1, torch.where(index < words[:, None], index, behind))


def _suffix_table(
    prefixes: Tensor, words: Tensor, target: Tensor, target_words: Tensor, cost: Cost
) -> Tensor:
    """(R, m) cost of each prefix with each suffix; anything where the suffix starts behind the EOS."""
    width = target.shape[1]
    column = torch.arange(width, device=target.device)
    lengths = words + (target_words - column[:, None]).clamp(min=0)
    if isinstance(cost, SentenceBleu):
        matches = _bleu_matches(prefixes, words, target[:, :-1], target_words)
        return bleu_cost(
            matches,
            lengths,
            target_words,
            smoothing=cost.smoothing,
            smoothing_value=cost.smoothing_value,
        )
    if cost is edit_distance_cost:
        index = torch.arange(len(words), device=words.device)
        distances = prefix_distances(prefixes, target[:, :-1])[index, words]
        return (distances / target_words.clamp(min=1)[:, None]).t()
    prefixes, words, target, target_words = (
        values.repeat(width, *[1] * (values.dim() - 1)) for values in (prefixes, words, target, target_words)
    )
    completions = _joined(prefixes, words, target, column.repeat_interleave(lengths.shape[1]))
    return cost(completions, lengths.flatten(), target, target_words).view(lengths.shape)


def _bleu_matches(prefixes: Tensor, words: Tensor, target: Tensor, target_words: Tensor) -> Tensor:
    """(4, R + 1, m) clipped matches of ``prefix + target[j:]`` for targets (m, R) of words.

    Counted for each n-gram of the target, at its first occurrence k: how often it is in the completion, at
    most as often as in the target.
    """
    ours = positions_first(prefixes, words, _NO_PREFIX)
    theirs = positions_first(target, target_words, _NO_TARGET)
    dtype = count_type(len(ours) + len(theirs))
    equal = (theirs[:, None] == theirs) & (theirs != _NO_TARGET)
    in_prefix = equal_prefix = theirs[:, None] == ours
    in_target = [equal]
    tails: list[Tensor] = []
    matches = []
    for n in range(1, MAX_ORDER + 1):
        if n > 1:
            in_prefix = in_prefix[:-1, :-1] & equal_prefix[n - 1 :, n - 1 :]
            in_target.append(in_target[-1][:-1, :-1] & equal[n - 1 :, n - 1 :])
        matches.append(_suffix_matches(in_prefix.sum(1, dtype=dtype), in_target, tails, len(theirs)))
        tails.append(_tail(ours, words, theirs, tails))
    return torch.stack(matches)


def _suffix_matches(in_prefix: Tensor, in_target: list[Tensor], tails: list[Tensor], width: int) -> Tensor:
    """(R + 1, m) clipped matches of order n.

    Args:
        in_prefix: (R - n + 1, m) how often n-gram k of the target is in the prefix.
        in_target: of each order up to n, (R - n + 1, R - n + 1, m): n-gram k of the target equals n-gram j.
        tails: of each order a below n, (R - a + 1, m): the a-gram k of the target ends the prefix.
        width: R.
    """
    dtype, grams = in_prefix.dtype, len(in_prefix)
    if not grams:
        return in_prefix.new_zeros(width + 1, in_prefix.shape[1])
    seen = in_target[-1].cumsum(1, dtype=dtype)
    in_whole = seen[:, -1]
    is_first = seen.diagonal().t() == 1
    limit = in_whole.masked_fill(~is_first, 0)
    # Of the prefix, of the target less those cut away before j, and across the border.
    count = (in_prefix + in_whole)[:, None].repeat(1, width + 1, 1)
    count[:, 1 : grams + 1] -= seen
    count[:, grams + 1 :] -= in_whole[:, None]
    for a, tail in enumerate(tails, start=1):
        rest = in_target[-1 - a]
        count[:, : rest.shape[1]] += rest[a : a + grams] & tail[:grams, None]
    return torch.minimum(count, limit[:, None]).sum(0, dtype=dtype)


def _tail(ours: Tensor, words: Tensor, theirs: Tensor, tails: list[Tensor]) -> Tensor:
    """(R - n + 1, m) bool: the prefix ends with the n words of the target from k on, for the next n."""
    n = len(tails) + 1
    first = ours.gather(0, (words - n).clamp(min=0)[None]).masked_fill(words < n, _NO_PREFIX)
    starts = theirs[: max(0, len(theirs) - n + 1)] == first
    return starts & tails[-1][1:] if tails else starts
