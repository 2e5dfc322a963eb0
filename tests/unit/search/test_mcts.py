"""Tree search against trying everything, and what must not matter to it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch, collate
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.bleu import SentenceBleu
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.mcts import MonteCarloTree
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from tests.tiny import VOCABULARY, random_batch, shared_policy

BLEU = OnTokens(SentenceBleu("add_k"))
EDITS = OnTokens(edit_distance_cost)
SHORT = LengthLimit(0.0, 3)
EVERYTHING = MonteCarloTree(EDITS, simulations=4_000, exploration=1.0, k=VOCABULARY)


def context_of(batch: Batch, limit: LengthLimit = SHORT) -> Context:
    return see(shared_policy(), batch, Draws(1, 1), limit)


def greedy_states(context: Context) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of the greedy roll-in, and all of its states."""
    trajectories = RollIn("learned", Decoding())(context)
    inside = torch.arange(trajectories.tokens.shape[1]) < trajectories.lengths[:, None]
    sentence, position = inside.nonzero(as_tuple=True)
    return trajectories.tokens, sentence, position


def loss(cost: OnTokens, batch: Batch, row: int, words: list[int]) -> float:
    tokens = torch.tensor([[*words, 0]])
    return float(cost(tokens, torch.tensor([len(words)]), torch.tensor([row]), batch))


def exhaustive(cost: OnTokens, batch: Batch, row: int, prefix: list[int], limit: int) -> float:
    """The smallest loss of all sentences that begin with the prefix and have ``limit`` tokens at most."""
    policy = shared_policy()
    words = [token for token in range(VOCABULARY) if token not in (policy.pad, policy.eos)]
    if prefix[-1:] == [policy.eos]:
        return loss(cost, batch, row, prefix[:-1])
    room = limit - len(prefix)
    return min(
        loss(cost, batch, row, [*prefix, *rest])
        for count in range(room + 1)
        for rest in product(words, repeat=count)
    )


@pytest.mark.parametrize("cost", [BLEU, EDITS], ids=["bleu", "edit distance"])
def test_with_enough_simulations_the_costs_are_those_of_trying_everything(cost: OnTokens) -> None:
    batch = random_batch(shared_policy(), 3, seed=4)
    context = context_of(batch)
    tokens, sentence, position = greedy_states(context)
    late = position >= 1  # two tokens are left: some two hundred sentences
    sentence, position = sentence[late], position[late]
    decisions, costs = replace(EVERYTHING, cost=cost).costs(context, tokens, sentence, position)
    assert costs.other is None
    for n in range(len(decisions)):
        row, prefix = int(sentence[n]), tokens[sentence[n], : position[n]].tolist()
        listed = decisions.actions[n, decisions.mask[n]].tolist()
        assert sorted(listed) == [token for token in range(VOCABULARY) if token != shared_policy().pad]
        best = torch.tensor([exhaustive(cost, batch, row, [*prefix, action], 3) for action in listed])
        torch.testing.assert_close(costs.costs[n, decisions.mask[n]], best - best.min(), atol=1e-6, rtol=0)


def test_the_completion_is_the_best_sentence_and_its_loss_is_its_own() -> None:
    batch = random_batch(shared_policy(), 4, seed=6)
    context = context_of(batch)
    tokens, sentence, position = greedy_states(context)
    keep = position == 1
    sentence, position = sentence[keep], position[keep]
    whole = EVERYTHING.complete(context, tokens[sentence], position, sentence)
    for n in range(len(sentence)):
        row, prefix = int(sentence[n]), tokens[sentence[n], : position[n]].tolist()
        written = whole.tokens[n, : whole.lengths[n]].tolist()
        assert written[: len(prefix)] == prefix
        assert written[-1] == shared_policy().eos
        assert float(whole.losses[n]) == pytest.approx(loss(EDITS, batch, row, written[:-1]), abs=1e-6)
        assert float(whole.losses[n]) == pytest.approx(exhaustive(EDITS, batch, row, prefix, 3), abs=1e-6)


def test_more_simulations_never_find_less_and_none_find_greedy_decoding() -> None:
    batch = random_batch(shared_policy(), 6, seed=8)
    context = context_of(batch, LengthLimit(1.0, 3))
    every = torch.arange(6)
    nothing = torch.empty((6, 0), dtype=torch.long)
    found = [
        MonteCarloTree(BLEU, simulations, 1.5, 4).complete(context, nothing, torch.zeros_like(every), every)
        for simulations in (0, 1, 5, 20, 60)
    ]
    greedy = RollIn("learned", Decoding())(context)
    words = greedy.lengths - greedy.finished.long()
    torch.testing.assert_close(found[0].losses, BLEU(greedy.tokens, words, every, batch))
    for fewer, more in pairwise(found):
        assert (more.losses <= fewer.losses).all()
    assert (found[-1].losses < found[0].losses).any()


def test_the_simulations_are_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(random_batch(shared_policy(), 4, seed=8), LengthLimit(1.0, 3))
    tokens, sentence, position = greedy_states(context)
    tried = MonteCarloTree(BLEU, 5, 1.5, 4).costs(context, tokens, sentence, position)[0].mask.sum(1)
    assert (tried >= 1).all()
    assert (tried <= 5).all()


def test_neither_order_nor_chunks_nor_padding_matter() -> None:
    batch = random_batch(shared_policy(), 5, seed=9)
    search = MonteCarloTree(BLEU, 12, 1.5, 3)
    context = context_of(batch, LengthLimit(1.0, 3))
    tokens, sentence, position = greedy_states(context)
    decisions, costs = search.costs(context, tokens, sentence, position)
    chunked, chunked_costs = replace(search, max_rows=3).costs(context, tokens, sentence, position)
    assert torch.equal(chunked.actions, decisions.actions)
    assert torch.equal(chunked_costs.costs, costs.costs)
    wider = torch.nn.functional.pad(tokens, (0, 3), value=shared_policy().pad)
    assert torch.equal(search.costs(context, wider, sentence, position)[1].costs, costs.costs)
    order = torch.randperm(len(sentence), generator=torch.Generator().manual_seed(1))
    shuffled, shuffled_costs = search.costs(context, tokens, sentence[order], position[order])
    assert torch.equal(shuffled.actions, decisions.actions[order])
    assert torch.equal(shuffled_costs.costs, costs.costs[order])


def test_a_finished_or_full_prefix_is_left_as_it_is() -> None:
    policy = shared_policy()
    batch = collate([[3, policy.eos]] * 2, [[4, policy.eos]] * 2, np.arange(2), policy.pad)
    prefixes = torch.tensor([[4, policy.eos, policy.pad], [4, 5, 6]])
    whole = EVERYTHING.complete(context_of(batch), prefixes, torch.tensor([2, 3]), torch.arange(2))
    assert [row[:n].tolist() for row, n in zip(whole.tokens, whole.lengths, strict=True)] == [
        [4, policy.eos],
        [4, 5, 6, policy.eos],
    ]
    assert whole.losses.tolist() == [0.0, 2.0]
