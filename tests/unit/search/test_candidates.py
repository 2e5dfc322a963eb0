"""Candidates: who is listed, once each; the reference's action and EOS always."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.decisions.states import StateChoice
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.edit_distance import EditDistance
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.types import Decisions, Trajectories
from tests.tiny import VOCABULARY, random_batch, shared_policy

EDITS = EditDistance(OnTokens(edit_distance_cost))
NAMES = ("top_k", "sampled", "biased", "uniform", "neighbours")
BATCH = random_batch(shared_policy(), 9, seed=4, first_row=20)


def context_of(batch: Batch = BATCH, update: int = 1) -> Context:
    return see(shared_policy(), batch, Draws(1, update), LengthLimit(1.0, 3))


def listed(
    name: str, k: int, context: Context, reference: EditDistance | None = EDITS
) -> tuple[Decisions, Trajectories, Tensor]:
    rolled = RollIn("learned", Decoding())(context)
    sentence, position = StateChoice("all")(context, rolled)
    scores, _ = context.score(rolled.tokens, sentence, position)
    choose = CandidateChoice(name, k, reference)  # type: ignore[arg-type]
    return choose(context, rolled, sentence, position, scores), rolled, scores


def sets(decisions: Decisions) -> list[list[int]]:
    return [row[mask].tolist() for row, mask in zip(decisions.actions, decisions.mask, strict=True)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 4, 40])
def test_each_is_listed_once_with_the_references_action_and_the_end(name: str, k: int) -> None:
    context = context_of()
    decisions, rolled, _ = listed(name, k, context)
    prefixes = rolled.tokens[decisions.sentence, : int(decisions.position.max())]
    whole = EDITS.complete(context, prefixes, decisions.position, decisions.sentence)
    actions = whole.next_tokens(decisions.position).tolist()
    for found, action in zip(sets(decisions), actions, strict=True):
        assert len(found) == len(set(found))
        assert {action, shared_policy().eos} <= set(found)
        assert shared_policy().pad not in found
        assert all(0 <= token < VOCABULARY for token in found)


def test_top_k_are_the_k_best_and_the_first_is_the_policys_own() -> None:
    decisions, _, scores = listed("top_k", 3, context_of(), None)
    for found, row in zip(sets(decisions), scores, strict=True):
        best = row.argsort(descending=True)[:3].tolist()
        assert found[0] == best[0]
        assert set(found) == {*best, shared_policy().eos}


def test_neighbours_are_the_targets_tokens_around_the_position() -> None:
    decisions, _, _ = listed("neighbours", 1, context_of(), None)
    for found, row, position in zip(
        sets(decisions), decisions.sentence.tolist(), decisions.position.tolist(), strict=True
    ):
        target = BATCH.target[row, : BATCH.target_lengths[row]].tolist()
        near = target[max(0, position - 5) : position + 6] or [target[-1]]
        assert set(found) == {*near, shared_policy().eos} | (
            {target[-1]} if position + 5 >= len(target) else set()
        )


def test_taken_is_the_trajectorys_own_token_alone() -> None:
    decisions, rolled, _ = listed("taken", 4, context_of())
    assert sets(decisions) == [
        [int(rolled.tokens[s, p])] for s, p in zip(decisions.sentence, decisions.position, strict=True)
    ]


@pytest.mark.parametrize("name", ["sampled", "biased", "uniform"])
def test_draws_belong_to_the_state_and_the_update(name: str) -> None:
    whole = listed(name, 2, context_of(), None)[0]
    order = torch.tensor([5, 0, 7])
    some = listed(name, 2, context_of(BATCH.select(order)), None)[0]
    expected = [
        found
        for row in order.tolist()
        for found, sentence in zip(sets(whole), whole.sentence.tolist(), strict=True)
        if sentence == row
    ]
    assert sets(some) == expected
    assert sets(listed(name, 2, context_of(update=2), None)[0]) != sets(whole)


def first_draws(name: str, count: int, **settings: Any) -> tuple[Tensor, Tensor]:
    """The first token drawn at the first state of one sentence in many updates, and the policy's probabilities."""
    batch = BATCH.select(torch.zeros(1, dtype=torch.long))
    context = context_of(batch)
    scores, _ = context.score(batch.target, torch.tensor([0]), torch.tensor([0]))
    rolled = RollIn("reference", Decoding())(context)
    choose = CandidateChoice(name, 1, None)  # type: ignore[arg-type]
    found = []
    for update in range(count):
        again = Context(context.policy, context.memory, batch, Draws(7, update), context.limits)
        found.append(int(choose(again, rolled, torch.tensor([0]), torch.tensor([0]), scores).actions[0, 0]))
    return torch.bincount(torch.tensor(found), minlength=VOCABULARY) / count, scores.softmax(-1)[0].float()


@pytest.mark.parametrize("name", ["sampled", "biased", "uniform"])
def test_frequencies_of_the_first_draw(name: str) -> None:
    count = 3_000
    found, policy = first_draws(name, count)
    target = torch.bincount(BATCH.target[0, : BATCH.target_lengths[0]], minlength=VOCABULARY)
    expected = {
        "sampled": policy,
        "biased": (policy + target / target.sum()) / 2,
        "uniform": torch.full((VOCABULARY,), 1 / VOCABULARY),
    }[name]
    spread = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() <= 4 * spread + 1e-3).all()
