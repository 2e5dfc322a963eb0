"""Three small search spaces that tell roll-ins and roll-outs apart (Chang et al. 2015, LOLS, figure 3).

Each has a start s1, from which two tokens lead to s2 (up) and s3 (down); from each of these two more tokens lead to an
end. The learned policy scores a token by a weight, and tokens may share one: that is how little it can say. Shapes and
shared weights are reconstructed from what the figure has to show; the losses are chosen to that end:

    (a) each token has a weight of its own, and the reference is optimal:
            s1: a up, b down;  s2: c 0, d 10;  s3: e 100, f 0;  the reference: a, c, and in s3 f
    (b) the same, but a and b share one weight, so that the learned policy can only toss a coin between them
    (c) s2 and s3 share their weights, one for c and e and one for d and f, and the reference is poor:
            s2: c 1, d 1 - ε;  s3: e 1 + ε, f 0;  the reference: a, d, and in s3 e

What learns is `l2s_nmt.search` itself, on expected cost; only the model is replaced by the table of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.decoder_state import Memory
from l2s_nmt.decoding import Choose
from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context, LengthLimit
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.protocol import Completions
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.deviations import Deviations
from l2s_nmt.search.roll_out.finish import MixUnit, RollOutPolicy
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.schedules import Schedule
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.search.types import CostVectors, Decisions

PAD, EOS, A, B, C, D, E, F = range(8)
NEXT: dict[tuple[int, ...], tuple[int, ...]] = {(): (A, B), (A,): (C, D), (B,): (E, F)}
"""Where a sentence may go on; it ends after two words."""
LEAVES: tuple[tuple[int, ...], ...] = ((A, C), (A, D), (B, E), (B, F))
ILLEGAL = -50.0
WORST = 100.0
EPSILON = 0.1


@dataclass(frozen=True)
class Space:
    """One of the three figures."""

    losses: tuple[float, float, float, float]
    """Of the leaves."""
    reference: dict[tuple[int, ...], int]
    """What the reference does in s1, s2 and s3."""
    weights: dict[int, int]
    """The weight of each token; those that share one have the same score."""
    start: tuple[tuple[int, float], ...]
    """Weights that are not 0 before learning."""

    def loss(self, words: tuple[int, ...]) -> float:
        """Of a finished sentence."""
        return self.losses[LEAVES.index(words)] if words in LEAVES else WORST


OWN = {token: token for token in (A, B, C, D, E, F)}
OPTIMAL = {(): A, (A,): C, (B,): F}
FIGURE_A = Space((0.0, 10.0, 100.0, 0.0), OPTIMAL, OWN, ((B, 1.0), (E, 1.0)))
FIGURE_B = Space((0.0, 10.0, 100.0, 0.0), OPTIMAL, {**OWN, B: A}, ((E, 1.0),))
FIGURE_C = Space((1.0, 1 - EPSILON, 1 + EPSILON, 0.0), {(): A, (A,): D, (B,): E}, {**OWN, E: C, F: D}, ())


class Table:
    """Stands for the model: the scores of next tokens are the tokens' weights."""

    pad, eos = PAD, EOS

    def __init__(self, space: Space) -> None:
        self.space = space
        self.weights = torch.zeros(8)
        for weight, value in space.start:
            self.weights[weight] = value
        self.weights.requires_grad_()

    def scores(self, prefixes: list[tuple[int, ...]]) -> Tensor:
        """(N, V) scores after prefixes."""
        legal = torch.zeros(len(prefixes), 8, dtype=torch.bool)
        for n, prefix in enumerate(prefixes):
            legal[n, list(NEXT.get(prefix, (EOS,)))] = True
        shared = self.weights[[self.space.weights.get(token, EOS) for token in range(8)]]
        return torch.where(legal, shared, ILLEGAL)

    def encode(self, source: Tensor, mask: Tensor) -> Memory:
        return Memory(source[:, :, None].float(), mask)

    @torch.no_grad()
    def roll(
        self, memory: Memory, limits: Tensor, choose: Choose, trunk: None = None, source: None = None
    ) -> tuple[Tensor, Tensor]:
        rows = [self._go_on([], int(limit), choose, n) for n, limit in enumerate(limits)]
        return _padded(rows)

    @torch.no_grad()
    def prefill(self, memory: Memory, tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        width = tokens.shape[1]
        places = [(int(state) // width, int(state) % width) for state in states]
        return self.scores([tuple(tokens[row, :position].tolist()) for row, position in places]), tokens

    @torch.no_grad()
    def continue_branches(
        self,
        trunk: Tensor,
        sentence: Tensor,
        position: Tensor,
        action: Tensor,
        limits: Tensor,
        choose: Choose | None = None,
    ) -> tuple[Tensor, Tensor]:
        rows = []
        for n, (row, size) in enumerate(zip(sentence.tolist(), position.tolist(), strict=True)):
            begun = [*trunk[row, :size].tolist(), int(action[n])]
            rows.append(self._go_on(begun, int(limits[n]), choose, n)[size:])
        return _padded(rows)

    def _go_on(self, tokens: list[int], limit: int, choose: Choose | None, row: int) -> list[int]:
        while EOS not in tokens and len(tokens) < limit:
            scores = self.scores([tuple(tokens)])
            following = (
                scores.argmax(1) if choose is None else choose(scores, len(tokens), torch.tensor([row]))
            )
            tokens = [*tokens, int(following)]
        return tokens

    def expected_loss(self) -> float:
        """Of the sentences that the policy draws."""
        first, up, down = self.scores([(), (A,), (B,)]).softmax(1).detach()
        chances = (first[A] * up[C], first[A] * up[D], first[B] * down[E], first[B] * down[F])
        return float(sum(p * loss for p, loss in zip(chances, self.space.losses, strict=True)))

    def words(self) -> tuple[int, ...]:
        """What it says greedily."""
        return tuple(token for token in self._go_on([], 3, None, 0) if token != EOS)

    def deviating(self) -> Iterator[float]:
        """The losses after one other choice on the way, with what is learned for the rest."""
        words = self.words()
        for position, taken in enumerate(words):
            for token in set(NEXT[words[:position]]) - {taken}:
                whole = self._go_on([*words[:position], token], 3, None, 0)
                yield self.space.loss(tuple(token for token in whole if token != EOS))


def _padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
    return tokens, torch.tensor([len(row) for row in rows])


@dataclass(frozen=True)
class Losses:
    """The table of losses as a cost."""

    space: Space

    def __call__(self, hypotheses: Tensor, lengths: Tensor, sentence: Tensor, batch: Batch, /) -> Tensor:
        words = zip(hypotheses.tolist(), lengths.tolist(), strict=True)
        return torch.tensor([self.space.loss(tuple(row[:length])) for row, length in words])


@dataclass(frozen=True)
class Teacher:
    """The reference of a figure."""

    space: Space

    def complete(self, context: Context, prefixes: Tensor, lengths: Tensor, sentence: Tensor) -> Completions:
        rows = []
        for row, length in zip(prefixes.tolist(), lengths.tolist(), strict=True):
            tokens = row[:length]
            while EOS not in tokens:
                tokens = [*tokens, self.space.reference.get(tuple(tokens), EOS)]
            rows.append(tokens)
        tokens, whole = _padded(rows)
        return Completions(tokens, whole, Losses(self.space)(tokens, whole - 1, sentence, context.batch))

    def costs(
        self, context: Context, tokens: Tensor, sentence: Tensor, position: Tensor
    ) -> tuple[Decisions, CostVectors]:
        raise NotImplementedError


REFERENCE = RollIn("reference", Decoding())
SAMPLED = RollIn("learned", Decoding("sample"))
GREEDY = RollIn("learned", Decoding())


def learn(
    space: Space,
    roll_in: RollIn,
    p: float,
    unit: MixUnit = "decision",
    *,
    table: Table | None = None,
    updates: int = 40,
) -> tuple[Table, list[Experience]]:
    """Learn, or learn on, with roll-outs by the reference with probability p, else by what is learned."""
    teacher, cost = Teacher(space), Losses(space)
    roll_out = RollOutPolicy("mixed", cost, teacher, Schedule("constant", p), unit)
    deviations = Deviations(StateChoice("all"), CandidateChoice("top_k", 2, teacher), roll_out)
    if roll_in.policy == "reference":
        roll_in = RollIn("reference", roll_in.decoding, teacher)
    search, table = Search(roll_in, deviations, cost, LengthLimit(0.0, 3)), table or Table(space)
    # One sentence, of which the source says nothing.
    batch = collate([[EOS]], [[space.reference[()], EOS]], np.arange(1), PAD)
    found = []
    for update in range(updates):
        experience = search(cast(Policy, table), batch, Draws(1, update))
        found.append(experience)
        tokens, decisions = experience.trajectories.tokens, experience.decisions
        states = zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)
        logits = table.scores([tuple(tokens[row, :position].tolist()) for row, position in states])
        loss = expected_cost(logits, decisions, experience.costs, alpha=1.0, support="vocabulary").sum()
        (gradient,) = torch.autograd.grad(loss, table.weights)
        # A step bounded in length: the losses are of very different size.
        with torch.no_grad():
            table.weights -= 0.5 * gradient / gradient.abs().amax().clamp(min=0.2)
    return table, found


def visited(found: list[Experience]) -> set[tuple[int, ...]]:
    """All states at which a cost was found, but those where the sentence can only end."""
    states = set()
    for experience in found:
        decisions, tokens = experience.decisions, experience.trajectories.tokens
        for row, position in zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True):
            states.add(tuple(tokens[row, :position].tolist()))
    return {state for state in states if state in NEXT}


def paid(table: Table, experience: Experience) -> float:
    """What the learned policy expects to pay at the states of a search, by its own costs: its regret there."""
    decisions, tokens = experience.decisions, experience.trajectories.tokens
    states = zip(decisions.sentence.tolist(), decisions.position.tolist(), strict=True)
    logits = table.scores([tuple(tokens[row, :position].tolist()) for row, position in states])
    return float(
        expected_cost(logits, decisions, experience.costs, alpha=1.0, support="vocabulary").detach().sum()
    )


def test_a_with_the_reference_for_roll_in_and_roll_out_a_bad_policy_is_learned() -> None:
    """Both tokens of s1 cost nothing, since the reference would save the day in s3, where nothing is ever learned.

    The policy is content, with no regret at any state it has seen, and goes down to the worst of all ends.
    """
    table, found = learn(FIGURE_A, REFERENCE, 1.0)
    assert visited(found) == {(), (A,)}
    assert paid(table, found[-1]) < 0.05
    assert table.words() == (B, E)
    assert table.expected_loss() > 50
    # Where it goes by itself, it learns what to do there.
    table, found = learn(FIGURE_A, SAMPLED, 1.0)
    assert visited(found) == set(NEXT)
    assert table.expected_loss() < 0.5
    assert FIGURE_A.loss(table.words()) == 0


@pytest.mark.parametrize(
    ("p", "unit"),
    [(0.0, "decision"), (0.5, "decision"), (0.5, "roll_out"), (0.5, "sentence"), (0.5, "state")],
)
def test_b_with_the_reference_for_roll_in_a_mixed_roll_out_does_not_help(p: float, unit: MixUnit) -> None:
    """The roll-outs tell that it is bad to go down, but the policy cannot but go down half of the time.

    It should learn f then; yet s3 is one deviation away from the reference, and is seen in roll-outs alone.
    """
    table, found = learn(FIGURE_B, REFERENCE, p, unit)
    assert visited(found) == {(), (A,)}
    downward = [experience.costs.costs[0][experience.decisions.actions[0] == B] for experience in found]
    assert any(cost == FIGURE_B.losses[2] for cost in downward)
    up, down = table.scores([()])[0, [A, B]].tolist()
    assert up == down
    assert table.expected_loss() > 30
    table, found = learn(FIGURE_B, SAMPLED, p, unit)
    assert visited(found) == set(NEXT)
    assert table.expected_loss() < 0.5


@pytest.mark.parametrize("roll_in", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
def test_c_with_the_reference_for_roll_out_what_is_learned_is_no_local_optimum(roll_in: RollIn) -> None:
    """After b, the poor reference takes e, and so b looks worse than a; but what is learned takes f, and loses nothing.

    One deviation from what is learned is better than it. With a mixture, some roll-outs show that.
    """
    table, _ = learn(FIGURE_C, roll_in, 1.0)
    assert table.words() == (A, D)
    assert table.expected_loss() == pytest.approx(1 - EPSILON, abs=0.05)
    assert min(table.deviating()) == 0 < FIGURE_C.loss(table.words())
    escaped, _ = learn(FIGURE_C, roll_in, 0.5, table=table, updates=100)
    assert escaped.words() == (B, F)
    assert escaped.expected_loss() < 0.05
    assert min(escaped.deviating()) > FIGURE_C.loss(escaped.words())
