"""The best completion of a prefix under sentence BLEU, by best-first branch and bound (Land and Doig 1960).

Nodes are continuations; the one that could become best by `bleu_bound` is expanded first, as in A* (Hart, Nilsson and
Raphael 1968), so that the search is over as soon as no node could become better than the best sentence found.

Only words of the target are appended. A word that the target lacks may make a sentence longer, but so does any word of
the target, which takes no match away from the n-grams around it: BLEU does not fall if one replaces the other.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from l2s_nmt.search.costs.bleu import MAX_ORDER, Smoothing
from l2s_nmt.search.reference.bleu_bound import Counts, Openings, bleu, bleu_bound

Words = tuple[int, ...]

_TOLERANCE = 1e-6
"""Differences of BLEU below it are rounding: costs are in single precision."""


class State(NamedTuple):
    """All of a sentence that matters for how it can go on."""

    words: int
    """How many it has."""
    end: Words
    """The longest sequence of words, 3 at most, that ends it and that the target has."""
    matches: Counts
    """Clipped n-gram matches of each order."""
    used: bytes
    """How many of each of the target's n-grams are matched."""


class Found(NamedTuple):
    """What a search found."""

    words: Words | None
    """The best continuation; None if none is better than what was known."""
    bound: float
    """No continuation has a higher BLEU."""
    proven: bool
    """Nothing is better than the best that was found or known."""


class Target:
    """A target whose n-grams are numbered.

    Args:
        words: of the target, without EOS.
    """

    def __init__(self, words: Sequence[int]) -> None:
        self.words = len(words)
        self.vocabulary = tuple(dict.fromkeys(words))
        self._number: dict[Words, int] = {}
        self._counts: list[int] = []
        self._ahead: defaultdict[tuple[int, Words], list[int]] = defaultdict(list)
        for order in range(1, MAX_ORDER + 1):
            for start in range(len(words) - order + 1):
                self._add(tuple(words[start : start + order]))
        self._steps: dict[tuple[Words, int], tuple[Words, tuple[tuple[int, int], ...]]] = {}

    def _add(self, gram: Words) -> None:
        if gram not in self._number:
            self._number[gram] = len(self._counts)
            self._counts.append(0)
            for begun in range(1, len(gram)):
                self._ahead[len(gram), gram[:begun]].append(self._number[gram])
        self._counts[self._number[gram]] += 1

    def state(self, words: Sequence[int]) -> State:
        """Return the state of a sentence."""
        state = State(0, (), (0,) * MAX_ORDER, bytes(len(self._counts)))
        for word in words:
            state = self.step(state, word)
        return state

    def step(self, state: State, word: int) -> State:
        """Return the state after one more word."""
        end, grams = self._step(state.end, word)
        matches, used = list(state.matches), bytearray(state.used)
        for order, number in grams:
            if used[number] < self._counts[number]:
                used[number] += 1
                matches[order] += 1
        return State(state.words + 1, end, tuple(matches), bytes(used))

    def _step(self, end: Words, word: int) -> tuple[Words, tuple[tuple[int, int], ...]]:
        """The new end, and the order and number of each n-gram of the target that the word completes."""
        known = self._steps.get((end, word))
        if known is None:
            grams = [(*end[len(end) - order :], word) for order in range(len(end) + 1)]
            here = [gram for gram in grams if gram in self._number]
            longest = max((gram for gram in here if len(gram) < MAX_ORDER), key=len, default=())
            known = longest, tuple((len(gram) - 1, self._number[gram]) for gram in here)
            self._steps[end, word] = known
        return known

    def openings(self, state: State) -> Openings:
        """Return which of the next n-grams can match."""
        return tuple(
            tuple(self._can_match(order, order - new, state) for new in range(1, order))
            for order in range(1, MAX_ORDER + 1)
        )

    def _can_match(self, order: int, written: int, state: State) -> bool:
        """Whether an n-gram of the target, not matched so far, begins with the last ``written`` words."""
        if written > len(state.end):
            return False
        numbers = self._ahead.get((order, state.end[len(state.end) - written :]), ())
        return any(state.used[number] < self._counts[number] for number in numbers)


def search(
    smoothing: Smoothing, targets: Sequence[Target], prefix: Sequence[int], known: float, budget: int
) -> Found:
    """Search for the completion of a prefix whose BLEU against any of the targets is highest.

    Args:
        smoothing: what an order without a match counts for.
        targets: of the sentence, at least one.
        prefix: its words, without EOS.
        known: BLEU that a completion is known to reach, that of the prefix itself at least.
        budget: most nodes to expand.
    """
    best, words = known, None
    ticket = count()
    nodes: list[tuple[float, int, int, int, State, Words]] = []
    seen: set[tuple[int, State]] = set()

    def push(which: int, state: State, path: Words) -> None:
        target = targets[which]
        bound = bleu_bound(smoothing, state.matches, state.words, target.words, target.openings(state))
        if bound > best + _TOLERANCE and (which, state) not in seen:
            seen.add((which, state))
            # Of equally promising nodes the longest comes first: it is nearest to a sentence.
            heapq.heappush(nodes, (-bound, -len(path), next(ticket), which, state, path))

    for which, target in enumerate(targets):
        push(which, target.state(prefix), ())
    expanded = 0
    while nodes and -nodes[0][0] > best + _TOLERANCE:
        if expanded == budget:
            return Found(words, -nodes[0][0], False)
        expanded += 1
        _, _, _, which, state, path = heapq.heappop(nodes)
        target = targets[which]
        for word in target.vocabulary:
            after = target.step(state, word)
            value = bleu(smoothing, after.matches, after.words, target.words)
            if value > best + _TOLERANCE:
                best, words = value, (*path, word)
            push(which, after, (*path, word))
    return Found(words, best, True)
