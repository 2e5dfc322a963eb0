"""Sentence BLEU from its statistics, one sentence at a time, and the most that any continuation of one can reach.

The bound is admissible (Hart, Nilsson and Raphael 1968): it lets every order of n-grams match as if the others did
not compete with it, up to what the target has left. All arguments are numbers, so that results are remembered.
"""

from __future__ import annotations

import math
from functools import lru_cache

from l2s_nmt.search.costs.bleu import ADDED, FLOOR, MAX_ORDER, Smoothing

Counts = tuple[int, ...]
"""One number for each order of n-grams, that of single words first."""
Openings = tuple[tuple[bool, ...], ...]
"""Of each order n, whether the n-gram that ends with the first, ..., (n-1)-th new word, and so begins before the end,
can still match."""

_REMEMBERED = 1 << 16


@lru_cache(maxsize=_REMEMBERED)
def bleu(smoothing: Smoothing, matches: Counts, words: int, target_words: int) -> float:
    """Compute the sentence BLEU that `bleu_cost` subtracts from 1.

    Args:
        smoothing: what an order without a match counts for.
        matches: clipped n-gram matches of each order.
        words: of the sentence.
        target_words: of its target.
    """
    if not matches[0]:
        return 0.0
    logs, missing = [], 0
    for order, match in enumerate(matches):
        added = ADDED if smoothing == "add_k" and order > 0 else 0.0
        found, total = match + added, max(0, words - order) + added
        if not total:
            break
        if not found:
            missing += 1
            found = FLOOR if smoothing == "floor" else 0.5**missing
        logs.append(math.log(found / total))
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - target_words / words))


@lru_cache(maxsize=_REMEMBERED)
def bleu_bound(
    smoothing: Smoothing, matches: Counts, words: int, target_words: int, openings: Openings
) -> float:
    """Bound the sentence BLEU of every continuation of a sentence, the empty one included, from above.

    Args:
        smoothing: what an order without a match counts for.
        matches: clipped n-gram matches of each order so far.
        words: written so far.
        target_words: of the target.
        openings: which of the next n-grams can match.
    """
    room = [max(0, target_words - order) - match for order, match in enumerate(matches)]
    lost = [opening.count(False) for opening in openings]
    # Then all orders exist, no brevity is left to be punished, and no n-gram to match: more words only lower BLEU.
    steps = max(
        target_words - words, MAX_ORDER - words, *(r + lack for r, lack in zip(room, lost, strict=True))
    )
    columns = [_reachable(*order, steps) for order in zip(matches, room, openings, strict=True)]
    return max(
        bleu(smoothing, most, words + step, target_words)
        for step, most in enumerate(zip(*columns, strict=True))
    )


@lru_cache(maxsize=_REMEMBERED)
def _reachable(matches: int, room: int, opening: tuple[bool, ...], steps: int) -> Counts:
    """The most matches of one order after 0, 1, ..., so many more words."""
    fits = (*opening, *[True] * steps)[:steps]
    reached, new = [matches], 0
    for one in fits:
        new += one
        reached.append(matches + min(new, room))
    return tuple(reached)
