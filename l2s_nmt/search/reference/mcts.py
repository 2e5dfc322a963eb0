"""Monte Carlo tree search as the expert (Anthony, Tian & Barber 2017; PUCT of Silver et al. 2017).

From each state a tree grows over next tokens. A simulation walks down by

    argmax_a  Q(s, a) + c · P(a | s) · sqrt(Σ_b n(s, b)) / (1 + n(s, a))

with the policy P as prior, and ends at a token that was not tried there. The policy finishes that sentence greedily,
and its true loss is the value. Writing is deterministic, so what a token is worth is the best sentence found below it:
the smallest loss is what is backed up, scaled into [0, 1] within the tree to be Q. Subtrees that are enumerated are
closed; with enough simulations all is, and the losses are those of exhaustive search over the tokens considered.

All trees take a step at the same time, so that one pass of the model serves the leaves of all sentences and states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from l2s_nmt.search.context import Context
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.types import CostVectors, Decisions

MAX_ROWS = 1_024
"""Trees that grow at the same time: bounds the memory of a pass of the model."""


@dataclass(frozen=True)
class MonteCarloTree:
    """Search for the best sentence with the true loss.

    Args:
        cost: of a finished sentence.
        simulations: for each state.
        exploration: the constant c.
        k: most probable tokens considered at a node, besides EOS and the target's token at that position.
        max_rows: trees that grow at the same time.
    """

    cost: Cost
    simulations: int
    exploration: float
    k: int
    max_rows: int = MAX_ROWS

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """See `Reference`: the best sentence found after each prefix."""
        trees = self._grow(context, prefixes, lengths, sentence)
        # A sentence that was cut by its limit ends there, too.
        found = [
            best if best[-1:] == [context.policy.eos] else [*best, context.policy.eos]
            for best in (tree.best_sentence for tree in trees)
        ]
        tokens = sentence.new_full((len(trees), max(map(len, found))), context.policy.pad)
        for row, best in enumerate(found):
            tokens[row, : len(best)] = tokens.new_tensor(best)
        whole = torch.tensor([len(best) for best in found], device=sentence.device)
        losses = torch.tensor([tree.best for tree in trees], device=sentence.device)
        return Completions(tokens, whole, losses)

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`: of the tokens that were tried."""
        trees = self._grow(context, tokens[sentence], position, sentence)
        count = max((len(tree.root.actions) for tree in trees), default=1)
        actions = sentence.new_full((len(trees), count), context.policy.eos)
        losses = torch.full((len(trees), count), math.inf, device=sentence.device)
        for row, tree in enumerate(trees):
            root = tree.root
            actions[row, : len(root.actions)] = actions.new_tensor(root.actions)
            losses[row, : len(root.actions)] = losses.new_tensor(root.losses)
        mask = losses.isfinite()
        costs = (losses - losses.amin(1, keepdim=True)).masked_fill(~mask, 0.0)
        return Decisions(sentence, position, actions, mask), CostVectors(costs)

    def _grow(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> list[Tree]:
        rows = zip(prefixes.tolist(), lengths.tolist(), sentence.tolist(), strict=True)
        limits = context.limits.tolist()
        trees = [Tree(tokens[:length], row, max(limits[row], length)) for tokens, length, row in rows]
        for first in range(0, len(trees), self.max_rows):
            self._search(context, trees[first : first + self.max_rows])
        return trees

    def _search(self, context: Context, trees: list[Tree]) -> None:
        eos = context.policy.eos
        for tree in trees:
            if tree.prefix[-1:] == [eos]:
                tree.root.closed = True
        self._visit(context, [(tree, [], list(tree.prefix)) for tree in trees])
        for _ in range(self.simulations):
            leaves = []
            for tree in trees:
                if not tree.root.closed:
                    path = tree.descend(self.exploration)
                    written = [node.actions[action] for node, action in path]
                    leaves.append((tree, path, [*tree.prefix, *written]))
            if not leaves:
                return
            self._visit(context, leaves)

    def _visit(self, context: Context, leaves: list[Leaf]) -> None:
        """Value the leaves, make those that can go on into nodes, and back up."""
        eos = context.policy.eos
        going_on = [leaf for leaf in leaves if leaf[2][-1:] != [eos] and len(leaf[2]) < leaf[0].limit]
        ended = [leaf for leaf in leaves if leaf[2][-1:] == [eos] or len(leaf[2]) >= leaf[0].limit]
        sentences = [leaf[2] for leaf in ended]
        for tree, path, _ in ended:
            tree.close(path)
        if going_on:
            finished, nodes = self._roll_out(context, going_on)
            sentences += finished
            for (tree, path, _), node in zip(going_on, nodes, strict=True):
                tree.expand(path, node)
        order = ended + going_on
        losses = self._losses(context, sentences, [tree.row for tree, _, _ in order])
        for (tree, path, _), whole, loss in zip(order, sentences, losses, strict=True):
            tree.back_up(path, whole, loss)

    def _roll_out(self, context: Context, leaves: list[Leaf]) -> tuple[list[list[int]], list[Node]]:
        """Finish the leaves' sentences greedily, and make their nodes: one pass for all."""
        policy, device = context.policy, context.limits.device
        lengths = torch.tensor([len(prefix) for _, _, prefix in leaves], device=device)
        width = int(lengths.max()) + 1  # the state after a prefix is one place behind it
        padded = [prefix + [policy.pad] * (width - len(prefix)) for _, _, prefix in leaves]
        tokens = torch.tensor(padded, device=device)
        rows = torch.arange(len(leaves), device=device)
        owner = torch.tensor([tree.row for tree, _, _ in leaves], device=device)
        scores, trunk = policy.prefill(context.memory.select(owner), tokens, rows * width + lengths)
        limits = torch.tensor([tree.limit for tree, _, _ in leaves], device=device)
        best = scores.argmax(-1)
        written, counts = policy.continue_branches(trunk, rows, lengths, best, limits)
        finished = [
            [*prefix, *row[:count]]
            for (_, _, prefix), row, count in zip(leaves, written.tolist(), counts.tolist(), strict=True)
        ]
        return finished, self._nodes(context, scores, owner, lengths)

    def _nodes(self, context: Context, scores: Tensor, owner: Tensor, lengths: Tensor) -> list[Node]:
        batch, eos, pad = context.batch, context.policy.eos, context.policy.pad
        probabilities = scores.float().softmax(-1)
        best = scores.topk(min(self.k, scores.shape[1]), dim=-1).indices
        golden = batch.target[owner, lengths.clamp(max=batch.target.shape[1] - 1)]
        golden = torch.where(lengths < batch.target_lengths[owner], golden, eos)
        listed = torch.cat([best, golden[:, None], torch.full_like(golden, eos)[:, None]], 1)
        priors = probabilities.gather(1, listed).tolist()
        nodes = []
        for tokens, values in zip(listed.tolist(), priors, strict=True):
            distinct = {token: value for token, value in zip(tokens, values, strict=True) if token != pad}
            nodes.append(Node(list(distinct), list(distinct.values())))
        return nodes

    def _losses(self, context: Context, sentences: list[list[int]], rows: list[int]) -> list[float]:
        eos, device = context.policy.eos, context.limits.device
        words = [sentence[:-1] if sentence[-1:] == [eos] else sentence for sentence in sentences]
        width = max(1, *(len(sentence) for sentence in words))
        tokens = torch.tensor([w + [context.policy.pad] * (width - len(w)) for w in words], device=device)
        lengths = torch.tensor([len(sentence) for sentence in words], device=device)
        losses = self.cost(tokens, lengths, torch.tensor(rows, device=device), context.batch)
        return [float(loss) for loss in losses]


@dataclass
class Node:
    """A state, and what is known about its next tokens."""

    actions: list[int]
    priors: list[float]
    visits: list[int] = field(init=False)
    losses: list[float] = field(init=False)
    """The smallest loss found below each action."""
    children: list[Node | None] = field(init=False)
    exhausted: list[bool] = field(init=False)
    """Below this action everything is enumerated."""
    closed: bool = False

    def __post_init__(self) -> None:
        count = len(self.actions)
        self.visits = [0] * count
        self.losses = [math.inf] * count
        self.children = [None] * count
        self.exhausted = [False] * count


Path = list[tuple[Node, int]]
"""Nodes from the root on, and the index of the action taken at each."""


class Tree:
    """The tree of one state.

    Args:
        prefix: the state.
        row: its sentence.
        limit: most tokens of a sentence.
    """

    def __init__(self, prefix: list[int], row: int, limit: int) -> None:
        self.prefix = prefix
        self.row = row
        self.limit = limit
        self.root = Node([], [])
        self.best, self.worst = math.inf, -math.inf
        self.best_sentence: list[int] = []

    def descend(self, exploration: float) -> Path:
        """From the root to an action that was not tried."""
        path: Path = []
        node: Node | None = self.root
        while node is not None:
            action = self._choose(node, exploration)
            path.append((node, action))
            node = node.children[action]
        return path

    def _choose(self, node: Node, exploration: float) -> int:
        spread = (self.worst - self.best) or 1.0
        weight = exploration * math.sqrt(1 + sum(node.visits))
        chosen, highest = -1, -math.inf
        for action, (visits, loss) in enumerate(zip(node.visits, node.losses, strict=True)):
            if node.exhausted[action]:
                continue
            value = (self.worst - loss) / spread if visits else 0.0
            value += weight * node.priors[action] / (1 + visits)
            if value > highest:
                chosen, highest = action, value
        return chosen

    def expand(self, path: Path, node: Node) -> None:
        """Put a node at the end of the path."""
        if not path:
            self.root = node
        else:
            parent, action = path[-1]
            parent.children[action] = node

    def close(self, path: Path) -> None:
        """The sentence ended at the end of the path: nothing is left below it."""
        if not path:
            self.root.closed = True
        for node, action in reversed(path):
            node.exhausted[action] = True
            node.closed = all(node.exhausted)
            if not node.closed:
                return

    def back_up(self, path: Path, sentence: list[int], loss: float) -> None:
        """Take up the loss of a sentence found at the end of the path."""
        if loss < self.best:
            self.best, self.best_sentence = loss, sentence
        self.worst = max(self.worst, loss)
        for node, action in path:
            node.visits[action] += 1
            node.losses[action] = min(node.losses[action], loss)


Leaf = tuple[Tree, Path, list[int]]
"""A tree, the path in it, and the whole prefix at its end."""
