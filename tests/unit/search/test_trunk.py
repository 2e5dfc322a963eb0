"""What the roll-in's own decoding leaves behind is what reading its sentences again would give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.types import Trajectories
from tests.searches import search_of
from tests.tiny import FAMILIES, random_batch, shared_policy

SAMPLED = Decoding("sample")
MIXED = RollIn("mixed", SAMPLED, Suffix(OnTokens(edit_distance_cost)), keeps_trunk=True)
families = pytest.mark.parametrize("family", FAMILIES)
roll_ins = pytest.mark.parametrize(
    "roll_in",
    [RollIn("learned", SAMPLED, keeps_trunk=True), RollIn("learned", Decoding(), keeps_trunk=True), MIXED],
    ids=["sampled", "greedy", "mixed"],
)


def rolled(roll_in: RollIn, family: str) -> tuple[Context, Trajectories]:
    policy = shared_policy(family)
    context = see(policy, random_batch(policy, 8, seed=6), Draws(1, 2), LengthLimit(1.0, 2))
    with torch.no_grad():
        return context, roll_in(context)


@families
@roll_ins
def test_scores_are_those_of_a_second_reading(family: str, roll_in: RollIn) -> None:
    context, found = rolled(roll_in, family)
    assert found.trunk is not None
    places = torch.arange(found.tokens.shape[1])
    sentence, position = (places < found.lengths[:, None]).nonzero(as_tuple=True)
    scores, _ = context.score_roll_in(found, sentence, position)
    again, _ = context.score(found.tokens, sentence, position)
    torch.testing.assert_close(scores, again)


@families
@roll_ins
def test_branches_are_those_of_a_second_reading(family: str, roll_in: RollIn) -> None:
    context, found = rolled(roll_in, family)
    places = torch.arange(found.tokens.shape[1])
    sentence, position = (places < found.lengths[:, None]).nonzero(as_tuple=True)
    _, trunk = context.score_roll_in(found, sentence, position)
    _, again = context.score(found.tokens, sentence, position)
    limits = context.limits[sentence]
    for word in (3, 7):
        action = torch.full_like(sentence, word)
        one, two = (
            context.policy.continue_branches(state, sentence, position, action, limits)
            for state in (trunk, again)
        )
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
    assert int(one[1].max()) > 2


@pytest.mark.parametrize("algorithm", ["lols", "bandit_lols", "searnn", "aggrevate"])
def test_a_search_finds_the_same_and_does_not_keep_it(algorithm: str) -> None:
    search = search_of(algorithm)
    policy, batch = shared_policy(), random_batch(shared_policy(), 6, seed=7)
    assert search.roll_in.keeps_trunk
    found = search(policy, batch, Draws(3, 4))
    read = replace(search, roll_in=replace(search.roll_in, keeps_trunk=False))(policy, batch, Draws(3, 4))
    assert found.trajectories.trunk is None
    assert torch.equal(found.trajectories.tokens, read.trajectories.tokens)
    assert torch.equal(found.decisions.actions, read.decisions.actions)
    torch.testing.assert_close(found.costs.costs, read.costs.costs)


@pytest.mark.parametrize("algorithm", ["dagger", "aggrevated", "reinforce"])
def test_what_branches_nowhere_keeps_nothing(algorithm: str) -> None:
    assert not search_of(algorithm).roll_in.keeps_trunk
