"""The reference that searches: Monte Carlo tree search with the true loss, guided by the policy it is to improve.

That is expert iteration (Anthony, Tian and Barber 2017) and the search of AlphaGo Zero (Silver et al. 2017), without
a value network: the loss of a translation is known once it is finished, so a prefix is valued by finishing it
greedily. What the policy says about every prefix on the way is kept: those are nodes of the tree at no further price.
Sentences of all states, and several of each, are written at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2s_nmt.search.context import SIMULATED, Context
from l2s_nmt.search.costs.cost import Cost
from l2s_nmt.search.costs.ngrams import row_blocks
from l2s_nmt.search.reference.mcts_tree import Listed, Tree, Walk
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.types import CostVectors, Decisions

Sentences = Sequence[list[int]]


@dataclass(frozen=True)
class MonteCarloTree:
    """Continue a prefix with the cheapest sentence found by tree search.

    At each prefix the policy's k most probable next tokens are considered, EOS, and the token that the first reference
    has at that position, so that what the policy would not say can be found. The prior is the policy over these.
    The search draws no random numbers, and more simulations never make its sentence worse.

    Args:
        cost: of a finished sentence.
        simulations: sentences written for a state, the greedy one first; fewer where there are no more.
        exploration: the constant of the PUCT rule.
        k: most probable tokens considered.
        parallel: sentences of a state written at once; 1 is the search of the papers, where each knows of all before.
        max_rows: sentences written at once; more where those of one state alone are more.
    """

    cost: Cost
    simulations: int
    exploration: float
    k: int
    parallel: int = 1
    max_rows: int = 1024

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        """See `Reference`.

        A sentence ends at the context's limit, or one token after a prefix that has reached it already. One that is
        cut there, and has no EOS, is given it in addition.
        """
        trees = self._grow(context, prefixes, lengths, sentence)
        eos = context.policy.eos
        best = [tree.best if tree.best[-1] == eos else [*tree.best, eos] for tree in trees]
        tokens, whole = _padded(best, context.policy.pad, lengths)
        losses = torch.tensor([tree.loss for tree in trees], device=lengths.device)
        return Completions(tokens, whole, losses)

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        """See `Reference`; the cost of each token tried at a state is that of the best sentence found after it."""
        tried = []
        for tree in self._grow(context, tokens[sentence], position, sentence):
            assert tree.root is not None
            losses = [edge.loss - tree.loss for edge in tree.root.edges]
            tried.append((tree.root.listed.actions[: len(losses)], losses))
        # Where there are no states there is one column all the same, of which a largest and a smallest can be asked.
        actions, counts = _padded(
            [chosen for chosen, _ in tried], context.policy.pad, position, int(not tried)
        )
        mask = torch.arange(actions.shape[1], device=counts.device) < counts[:, None]
        costs = torch.zeros(actions.shape, device=counts.device)
        costs[mask] = torch.tensor([loss for _, each in tried for loss in each], device=counts.device)
        return Decisions(sentence, position, actions, mask), CostVectors(costs)

    def _grow(self, context: Context, tokens: Tensor, lengths: Tensor, sentence: Tensor) -> list[Tree]:
        """The tree of each state (M,), given by tokens (M, T); equal states have the same."""
        owners, limits = sentence.tolist(), context.limits.tolist()
        states = [
            (owner, tuple(row[:length]))
            for owner, row, length in zip(owners, tokens.tolist(), lengths.tolist(), strict=True)
        ]
        trees = {
            (owner, prefix): Tree(prefix, limits[owner], context.policy.eos, self.exploration)
            for owner, prefix in states
        }
        search = _Search(context, self.cost, self.k)
        pairs = [(owner, tree) for (owner, _), tree in trees.items()]
        for rows in row_blocks(len(pairs), self.parallel, self.max_rows):
            for count in self._rounds():
                search.simulate(list(_begun(pairs[rows], count)))
        return [trees[state] for state in states]

    def _rounds(self) -> list[int]:
        """How many sentences are written at once; first the greedy one, without which there is nothing to choose."""
        full, rest = divmod(self.simulations - 1, self.parallel)
        return [1] + [self.parallel] * full + [rest] * (rest > 0)


class _Started(NamedTuple):
    """A sentence that is to be written."""

    owner: int
    tree: Tree
    walk: Walk


def _begun(trees: Sequence[tuple[int, Tree]], count: int) -> Iterator[_Started]:
    """So many sentences of each tree, or as many as there are."""
    for owner, tree in trees:
        for _ in range(count):
            if tree.closed:
                break
            yield _Started(owner, tree, tree.select())


class _Search:
    """Simulations with one batch; equal sentences are scored once."""

    def __init__(self, context: Context, cost: Cost, k: int) -> None:
        self._context = context
        self._cost = cost
        self._k = k
        self._known: dict[tuple[int, tuple[int, ...]], float] = {}

    def simulate(self, started: Sequence[_Started]) -> None:
        """Write sentences, and let their trees know."""
        sentences = [each.walk.tokens for each in started]
        listed: list[list[Listed]] = [[] for _ in started]
        unfinished = [index for index, each in enumerate(started) if not each.tree.finished(sentences[index])]
        if unfinished:
            written = self._write(
                [started[index].owner for index in unfinished],
                [sentences[index] for index in unfinished],
                [started[index].tree.limit for index in unfinished],
            )
            for index, (tokens, each) in zip(unfinished, written, strict=True):
                sentences[index] = sentences[index] + tokens
                listed[index] = each
        self._context.notes[SIMULATED] += len(started)
        losses = self._losses([each.owner for each in started], sentences)
        for (_, tree, walk), tokens, considered, loss in zip(started, sentences, listed, losses, strict=True):
            tree.receive(walk, tokens, considered, loss)

    def _write(
        self, owners: list[int], prefixes: Sentences, limits: list[int]
    ) -> list[tuple[list[int], list[Listed]]]:
        """Finish prefixes greedily; what is written of each, and the tokens considered at its positions."""
        context, policy = self._context, self._context.policy
        sentence = torch.tensor(owners, device=context.limits.device)
        tokens, lengths = _padded(prefixes, policy.pad, sentence, wider=1)
        rows = torch.arange(len(sentence), device=sentence.device)
        memory = context.memory.select(sentence)
        scores, trunk = policy.prefill(memory, tokens, rows * tokens.shape[1] + lengths)
        choose = _Greedy(context, sentence, self._k)
        action = choose.at(scores, lengths, rows)
        most = torch.tensor(limits, device=sentence.device)
        written, counts = policy.continue_branches(trunk, rows, lengths, action, most, choose)
        ends = zip(written.tolist(), counts.tolist(), choose.listed, strict=True)
        return [(row[:count], list(listed.values())[:count]) for row, count, listed in ends]

    def _losses(self, owners: list[int], sentences: Sentences) -> list[float]:
        keys = [(owner, tuple(tokens)) for owner, tokens in zip(owners, sentences, strict=True)]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if new:
            sentence = torch.tensor([owner for owner, _ in new], device=self._context.limits.device)
            eos = self._context.policy.eos
            words = [list(tokens[:-1] if tokens[-1] == eos else tokens) for _, tokens in new]
            tokens, lengths = _padded(words, self._context.policy.pad, sentence)
            losses = self._cost(tokens, lengths, sentence, self._context.batch)
            self._known.update(zip(new, losses.tolist(), strict=True))
        return [self._known[key] for key in keys]


class _Greedy:
    """Chooses the most probable next token, and remembers which others are to be considered there."""

    def __init__(self, context: Context, sentence: Tensor, k: int) -> None:
        self._context = context
        self._sentence = sentence
        self._k = k
        self.listed: list[dict[int, Listed]] = [{} for _ in range(len(sentence))]
        """Of each row, by its positions, which come in order."""

    def __call__(self, scores: Tensor, step: int, rows: Tensor) -> Tensor:
        """Next tokens (R,); see `l2s_nmt.decoding.Choose`."""
        return self.at(scores, torch.full_like(rows, step), rows)

    def at(self, scores: Tensor, position: Tensor, rows: Tensor) -> Tensor:
        """Next tokens (R,) of the rows (R,), each at its position (R,), from the scores (R, V)."""
        top = scores.topk(min(self._k, scores.shape[1]), dim=-1).indices
        golden = self._golden(position, self._sentence[rows])
        stop = torch.full_like(golden, self._context.policy.eos)
        actions = torch.cat([top, golden[:, None], stop[:, None]], 1)
        repeated = (actions[:, :, None] == actions[:, None, :]).tril(-1).any(-1)
        logits = scores.gather(1, actions).float().masked_fill(repeated, -torch.inf)
        logits, order = logits.sort(dim=-1, descending=True, stable=True)
        actions = actions.gather(1, order)
        # What cannot be said, such as padding, is among the most probable tokens of a small vocabulary.
        counts = (logits > -torch.inf).sum(1)
        columns = rows, position, actions, logits.softmax(-1), counts
        found = zip(*(column.tolist() for column in columns), strict=True)
        for row, place, tokens, prior, count in found:
            self.listed[row][place] = Listed(tokens[:count], prior[:count])
        return actions[:, 0]

    def _golden(self, position: Tensor, sentence: Tensor) -> Tensor:
        """(R,) the target's token at each position, EOS behind its end."""
        target = self._context.batch.target
        token = target[sentence, position.clamp(max=target.shape[1] - 1)]
        inside = position < self._context.batch.target_lengths[sentence]
        return torch.where(inside, token, self._context.policy.eos)


def _padded(rows: Sentences, pad: int, like: Tensor, wider: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (M, T) as long as the longest, or wider, and their lengths (M,), on the device of another tensor."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long, device=like.device)
    width = max(map(len, rows), default=0) + wider
    table = [row + [pad] * (width - len(row)) for row in rows]
    return torch.tensor(table, dtype=torch.long, device=like.device).view(len(rows), width), lengths
