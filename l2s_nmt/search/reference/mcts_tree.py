"""The tree of a Monte Carlo tree search for the cheapest sentence that begins with a prefix.

It is guided by the rule of AlphaGo Zero (PUCT; Silver et al. 2017): follow the next token a with the greatest

    value(a) + c · prior(a) · √(visits of all) / (1 + visits of a).

Sentences are the same each time they are written, so a token is worth its best sentence, not the mean of all; and
where all sentences below a token were written, it is closed and never followed again. Each simulation thus writes a
sentence that is new, until there is no other.

Several sentences can be under way at once. They count as visits from the beginning, so that the rule leads the next
ones elsewhere, though nothing is known of them yet (WU-UCT; Liu et al. 2020, Watch the Unobserved); and as nobody can
go on behind a token that is being tried, it is closed meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Listed(NamedTuple):
    """The next tokens considered after some prefix, the most probable first."""

    actions: list[int]
    prior: list[float]


class Edge:
    """A next token that was tried."""

    __slots__ = ("child", "closed", "loss", "visits")

    def __init__(self, child: Node | None) -> None:
        self.child = child
        """None where the token finishes the sentence, and while its first sentence is under way."""
        self.visits = 1
        self.loss = math.inf
        """Of the best sentence."""
        self.closed = False
        """There is no sentence below that has not been written, or is not under way."""


class Node:
    """A prefix of a sentence.

    Args:
        listed: the tokens considered.
        first: the loss of the first sentence through it, which is that of decoding greedily.
    """

    __slots__ = ("edges", "first", "listed")

    def __init__(self, listed: Listed, first: float) -> None:
        self.listed = listed
        self.first = first
        self.edges: list[Edge] = []
        """Of the tokens tried, in the order of ``listed``: of those untried the most probable is the next."""

    @property
    def closed(self) -> bool:
        """There is no sentence below to begin."""
        return len(self.edges) == len(self.listed.actions) and all(edge.closed for edge in self.edges)


class Walk(NamedTuple):
    """Down to a token that is untried."""

    tokens: list[int]
    """The prefix of the tree and all tokens to the untried one."""
    path: list[tuple[Node, int]]
    """The nodes passed, and which of their tokens was followed."""


class Tree:
    """The sentences that begin with a prefix, as far as they were written.

    Args:
        prefix: tokens, with EOS only at the end, if at all: then it is the one sentence.
        limit: most tokens of a sentence, EOS included; there is one more token than those of the prefix at least.
        eos: id of EOS.
        exploration: the constant c.
    """

    def __init__(self, prefix: Sequence[int], limit: int, eos: int, exploration: float) -> None:
        self.prefix = list(prefix)
        self.limit = max(limit, len(self.prefix) + 1)
        self.root: Node | None = None
        self.best = self.prefix
        """The cheapest sentence; of equally cheap ones the first."""
        self.loss = math.inf
        self.closed = False
        """All sentences were written, or are under way."""
        self._eos = eos
        self._exploration = exploration
        self._highest = -math.inf

    def finished(self, tokens: list[int]) -> bool:
        """Whether tokens of the tree are a whole sentence."""
        return tokens[-1:] == [self._eos] or len(tokens) >= self.limit

    def select(self) -> Walk:
        """Begin a sentence: follow the rule to a token that is untried; before all else, write from the prefix on.

        Not for a tree that is closed.
        """
        walk = Walk(list(self.prefix), [])
        node = self.root
        while node is not None:
            index = self._follow(node)
            walk.path.append((node, index))
            walk.tokens.append(node.listed.actions[index])
            if index == len(node.edges):
                node.edges.append(Edge(None))
            else:
                node.edges[index].visits += 1
            node = node.edges[index].child
        self._close(walk.path)
        return walk

    def receive(self, walk: Walk, sentence: list[int], listed: Sequence[Listed], loss: float) -> None:
        """Take in a sentence that was begun.

        Args:
            walk: how it was begun.
            sentence: all of it.
            listed: the tokens considered at each of the positions from there on; the first of each was written.
            loss: of the sentence.
        """
        # A loss of the user's may be no number, and then there is no cheaper sentence than the first.
        known = loss < self.loss or (math.isnan(self.loss) and not math.isnan(loss))
        if self.root is None or known:
            self.best, self.loss = sentence, loss
        self._highest = max(self._highest, loss)
        nodes = [Node(each, loss) for each in listed]
        for node, child in zip(nodes, [*nodes[1:], None], strict=False):
            node.edges.append(Edge(child))
        first = nodes[0] if nodes else None
        if walk.path:
            node, index = walk.path[-1]
            node.edges[index].child = first
        else:
            self.root = first
        path = [*walk.path, *((node, 0) for node in nodes)]
        for node, index in path:
            node.edges[index].loss = min(node.edges[index].loss, loss)
        self._close(path)

    def _close(self, path: Sequence[tuple[Node, int]]) -> None:
        """Close the tokens on a path from the root behind which there is nothing to begin, and open the others."""
        closed = True
        for node, index in reversed(path):
            node.edges[index].closed = closed
            closed = node.closed
        self.closed = closed

    def _follow(self, node: Node) -> int:
        """Which of the tokens considered the rule chooses; of equally good ones the most probable."""
        weight = self._exploration * math.sqrt(sum(edge.visits for edge in node.edges))
        choices = [
            (self._value(edge.loss) + weight * node.listed.prior[index] / (1 + edge.visits), -index)
            for index, edge in enumerate(node.edges)
            if not edge.closed
        ]
        untried = len(node.edges)
        if untried < len(node.listed.actions):
            # Until it is known better, a token is worth what decoding greedily was.
            choices.append((self._value(node.first) + weight * node.listed.prior[untried], -untried))
        return -max(choices)[1]

    def _value(self, loss: float) -> float:
        """From 0 for the worst sentence of the tree to 1 for the best."""
        spread = self._highest - self.loss
        return (self._highest - loss) / spread if spread > 0 else 0.0
