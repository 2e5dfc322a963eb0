"""Roll-ins by cross-trained policies: each sentence as the policy writes it that has not learned from it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch

from l2s_nmt.model import Policy
from l2s_nmt.search.context import Context, LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.costs.edit_distance import edit_distance_cost
from l2s_nmt.search.parts import part_of
from l2s_nmt.search.randomness import SENTENCES, Draws
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.finish import RollOutPolicy
from l2s_nmt.search.roll_out.trajectory_loss import TrajectoryLoss
from l2s_nmt.search.sampling import Decoding
from l2s_nmt.search.search import Search
from l2s_nmt.search.types import Trajectories
from l2s_nmt.training.build_search import build_search
from tests.searches import LIMIT, TEXTS, recipe_of
from tests.tiny import other_policies, random_batch, shared_policy

COST = OnTokens(edit_distance_cost)
SUFFIX = Suffix(COST)
DRAWS = Draws(3, 4)
GREEDY, SAMPLE, BEAM = Decoding(), Decoding("sample", 1.5), Decoding("beam", beam=3)
ROLL_INS = {
    "greedy": RollIn("learned", GREEDY, keeps_trunk=True),
    "samples": RollIn("learned", SAMPLE),
    "beam": RollIn("learned", BEAM),
    "mixed by state": RollIn("mixed", SAMPLE, SUFFIX, keeps_trunk=True),
    "mixed by sentence": RollIn("mixed", GREEDY, SUFFIX, mix_unit="sentence"),
}


def seen(policy: Policy, size: int = 14) -> Context:
    batch = random_batch(policy, size, seed=6)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(2))[:size]
    return see(policy, replace(batch, rows=rows), DRAWS, LengthLimit(1.0, 3))


def written(trajectories: Trajectories, row: int) -> tuple[list[int], list[bool], bool]:
    length = int(trajectories.lengths[row])
    return (
        trajectories.tokens[row, :length].tolist(),
        trajectories.by_reference[row, :length].tolist(),
        bool(trajectories.finished[row]),
    )


@pytest.mark.parametrize("parts", [2, 3, 10])
def test_parts_are_of_like_size_and_follow_no_order_of_the_corpus(parts: int) -> None:
    rows = torch.arange(30_000)
    found = part_of(rows, parts)
    assert set(found.tolist()) == set(range(parts))
    for some in (rows, rows[::2], rows[1::2], rows[:15_000]):
        share = part_of(some, parts).bincount(minlength=parts) / len(some)
        assert (share - 1 / parts).abs().max() < 0.02
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    assert torch.equal(part_of(rows[order], parts), found[order])
    assert torch.equal(part_of(rows + 3 * SENTENCES, parts), found)


@pytest.mark.parametrize("roll_in", ROLL_INS.values(), ids=ROLL_INS)
@pytest.mark.parametrize("number", [2, 3])
def test_each_sentence_is_written_by_the_policy_of_its_part(roll_in: RollIn, number: int) -> None:
    others = other_policies(number)
    context = seen(shared_policy())
    found = replace(roll_in, cross_trained=others)(context)
    alone = [roll_in(seen(other)) for other in others]
    learner = roll_in(context)
    for row, part in enumerate(part_of(context.batch.rows, number).tolist()):
        assert written(found, row) == written(alone[part], row)
    differ = [written(found, row) != written(learner, row) for row in range(len(context.limits))]
    assert sum(differ) > 3  # the test would not see it if all policies wrote the same
    assert found.trunk is None


def test_copies_of_a_sentence_are_of_its_part_and_read_once() -> None:
    search = Search(RollIn("learned", SAMPLE), TrajectoryLoss(COST, 4, "none"), COST, LIMIT, samples=4)
    others = other_policies(2)
    crossed = replace(search, roll_in=replace(search.roll_in, cross_trained=others))
    batch = seen(shared_policy()).batch
    with ExitStack() as patches:
        spies = [
            patches.enter_context(mock.patch.object(other, "encode", wraps=other.encode)) for other in others
        ]
        found = crossed(shared_policy(), batch, DRAWS)
    read = [sum(len(call.args[0]) for call in spy.call_args_list) for spy in spies]
    parts = part_of(batch.rows, 2)
    assert read == parts.bincount(minlength=2).tolist()
    alone = [search(other, batch, DRAWS).trajectories for other in others]
    for row, part in enumerate(parts[found.owner].tolist()):
        assert written(found.trajectories, row) == written(alone[part], row)


def test_the_learner_as_its_own_other_changes_nothing_but_what_is_kept() -> None:
    batch = seen(shared_policy()).batch
    for search in ({"roll_out": {"policy": "learned"}}, {"roll_in": {"decoding": "sample"}}):
        settings = recipe_of("lols", **search).search
        stages = build_search(settings, LIMIT, TEXTS)
        crossed = build_search(settings, LIMIT, TEXTS, cross_trained=[shared_policy()] * 2)
        assert stages is not None
        assert crossed is not None
        one, two = (search(shared_policy(), batch, DRAWS) for search in (stages, crossed))
        assert torch.equal(one.trajectories.tokens, two.trajectories.tokens)
        assert torch.equal(one.decisions.actions, two.decisions.actions)
        torch.testing.assert_close(one.costs.costs, two.costs.costs)


def test_the_learner_rolls_out_and_what_another_wrote_is_not_taken_for_its_own() -> None:
    settings = recipe_of("lols", roll_in={"cross_trained": ["one", "other"]}).search
    stages = build_search(settings, LIMIT, TEXTS, cross_trained=other_policies(2))
    assert stages is not None
    finish = stages.roll_out.roll_out  # type: ignore[attr-defined]
    assert isinstance(finish, RollOutPolicy)
    assert not finish.own_is_greedy
