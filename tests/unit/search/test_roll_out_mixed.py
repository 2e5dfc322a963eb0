"""Mixtures of learned and reference roll-outs, and horizons: who finishes which branch, by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from l2s_nmt.search.context import LengthLimit, see
from l2s_nmt.search.costs.cost import OnTokens
from l2s_nmt.search.decisions.candidates import CandidateChoice
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.reference.suffix import Suffix
from l2s_nmt.search.roll_in import RollIn
from l2s_nmt.search.roll_out.branches import branches_of
from l2s_nmt.search.roll_out.deviations import decide
from l2s_nmt.search.roll_out.finish import MixUnit, RollOutPolicy
from l2s_nmt.search.schedules import Schedule
from tests.tiny import shared_policy
from tests.unit.search.test_roll_out import (
    ALL,
    BLEU,
    COSTS,
    DRAWS,
    EVERY_REFERENCE,
    LEARNED,
    LIMIT,
    REFERENCE,
    ROLL_INS,
    SAMPLED,
    UNITS,
    assert_same,
    batch,
    branches_from,
    by_hand,
    completed,
    context,
    each,
    learned_token,
    loss,
    losses_of,
    mixed,
    searched,
    top_k,
)


@ROLL_INS
@COSTS
def test_drawn_by_state_each_word_is_by_the_policy_that_all_of_a_sentence_have_there(
    roll_in: RollIn, cost: OnTokens
) -> None:
    branches, losses = (
        branches_from(roll_in)[0],
        losses_of(mixed("state", cost=cost, reference=Suffix(cost)), roll_in),
    )
    drawn = DRAWS.uniform("roll_out", batch().rows, 30) < 0.5
    expected = [by_hand(row, prefix, lambda at: bool(drawn[row, at]), cost) for row, prefix in each(branches)]  # noqa: B023
    torch.testing.assert_close(losses, torch.tensor(expected), atol=1e-6, rtol=0)
    neither = [losses_of(roll_out, roll_in) for roll_out in (LEARNED, EVERY_REFERENCE)]
    assert all((losses != other).float().mean() > 0.1 for other in neither)


def place(unit: MixUnit, row: int, prefix: list[int]) -> tuple[int, ...]:
    """What a branch shares with the others of its unit."""
    if unit == "sentence":
        return (row,)
    return (row, len(prefix)) if unit == "decision" else (row, *prefix)


@pytest.mark.parametrize("unit", UNITS[1:])
@ROLL_INS
def test_drawn_once_all_branches_of_the_unit_are_finished_by_one_of_the_two(
    unit: MixUnit, roll_in: RollIn
) -> None:
    branches = branches_from(roll_in)[0]
    learned, reference = (losses_of(roll_out, roll_in) for roll_out in (LEARNED, EVERY_REFERENCE))
    differ = (learned != reference).nonzero()[:, 0].tolist()
    chosen, torn = [], set()
    for update in range(8):
        losses = losses_of(mixed(unit, 0.3), roll_in, Draws(1, update))
        by_reference = losses == reference
        assert torch.equal(losses, torch.where(by_reference, reference, learned))
        chosen += by_reference[differ].tolist()
        for name in UNITS[1:]:
            of_unit: dict[tuple[int, ...], set[bool]] = {}
            for n, branch in enumerate(each(branches)):
                of_unit.setdefault(place(name, *branch), set()).update(
                    [bool(by_reference[n])] if n in differ else []
                )
            if any(len(found) > 1 for found in of_unit.values()):
                torn.add(name)
    # All units that hold several of these are torn.
    assert torn == set(UNITS[UNITS.index(unit) + 1 :])
    assert np.mean(chosen) == pytest.approx(0.3, abs=0.12)


@dataclass(frozen=True)
class Noted(Draws):
    """Draws that remember for what the roll-outs asked them."""

    asked: list[int] = field(default_factory=list)

    def uniform(self, purpose: str, sentences: Tensor, count: int) -> Tensor:
        if purpose == "roll_out":
            self.asked.extend(sentences.tolist())
        return super().uniform(purpose, sentences, count)


@pytest.mark.parametrize("unit", UNITS[1:])
@torch.no_grad()
def test_every_unit_has_a_draw_of_its_own(unit: MixUnit) -> None:
    draws = Noted(DRAWS.seed, DRAWS.update)
    branches, trunk = branches_from(SAMPLED)
    mixed(unit)(replace(context(), draws=draws), trunk, branches)
    units = [place(unit, *branch) for branch in each(branches)]
    assert len(set(zip(draws.asked, units, strict=True))) == len(set(draws.asked)) == len(set(units))


@ROLL_INS
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("p", "pure"), [(0.0, LEARNED), (1.0, EVERY_REFERENCE)], ids=["0", "1"])
def test_a_mixture_with_probability_0_or_1_is_the_pure_policy(
    p: float, pure: RollOutPolicy, unit: MixUnit, roll_in: RollIn
) -> None:
    # With probability 1 it is LOLS that rolls out with the reference: AggreVaTe's cost vectors.
    assert_same(searched(top_k(mixed(unit, p)), roll_in), searched(top_k(pure), roll_in))
    assert torch.equal(losses_of(mixed(unit, p), roll_in), losses_of(pure, roll_in))


@pytest.mark.parametrize("pure", [LEARNED, EVERY_REFERENCE], ids=["learned", "reference"])
def test_a_pure_policy_does_not_look_at_the_probability(pure: RollOutPolicy) -> None:
    for p in (0.0, 1.0):
        other = replace(pure, p_reference=Schedule("constant", p))
        assert_same(searched(top_k(other)), searched(top_k(pure)))


def test_the_probability_is_that_of_the_update() -> None:
    falling = replace(mixed("sentence"), p_reference=Schedule("linear", 1.0, 0.0, 10))
    for update in (0, 4, 10):
        fixed = mixed("sentence", 1 - update / 10)
        draws = Draws(1, update)
        assert torch.equal(losses_of(falling, draws=draws), losses_of(fixed, draws=draws))


@pytest.mark.parametrize("policy", [LEARNED, mixed("state")], ids=["learned", "state"])
@torch.no_grad()
def test_a_branch_behind_the_limit_ends_with_its_candidate(policy: RollOutPolicy) -> None:
    """Such as those of a reference's roll-in, of which some are as long as all trajectories."""
    seen = see(shared_policy(), batch(), DRAWS, LengthLimit(0, 1))
    trajectories = REFERENCE(seen)
    decisions, trunk = decide(seen, trajectories, ALL, CandidateChoice("top_k", 2, None))
    branches, _, _ = branches_of(trajectories, decisions)
    expected = torch.tensor([loss(BLEU, prefix, row) for row, prefix in each(branches)])
    torch.testing.assert_close(policy(seen, trunk, branches), expected, atol=1e-6, rtol=0)


@ROLL_INS
@pytest.mark.parametrize(
    "policy", [LEARNED, mixed("decision"), mixed("state")], ids=["learned", "mixed", "state"]
)
def test_a_horizon_of_nothing_is_the_reference_and_a_far_one_is_none(
    policy: RollOutPolicy, roll_in: RollIn
) -> None:
    near, far = (losses_of(replace(policy, horizon=horizon), roll_in) for horizon in (0, 40))
    assert torch.equal(near, losses_of(EVERY_REFERENCE, roll_in))
    assert torch.equal(far, losses_of(policy, roll_in))


@ROLL_INS
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_after_the_horizon_the_reference_finishes_what_has_not_ended(horizon: int, roll_in: RollIn) -> None:
    branches, losses = branches_from(roll_in)[0], losses_of(replace(LEARNED, horizon=horizon), roll_in)
    limits = LIMIT(batch().source_mask).tolist()
    expected, cut = [], 0
    for row, prefix in each(branches):
        tokens = list(prefix)
        while shared_policy().eos not in tokens and len(tokens) < min(len(prefix) + horizon, limits[row]):
            tokens.append(learned_token(row, tuple(tokens)))
        if len(tokens) == len(prefix) + horizon:
            cut += shared_policy().eos not in tokens
            tokens = completed(row, tuple(tokens), BLEU)
        expected.append(loss(BLEU, tokens, row))
    torch.testing.assert_close(losses, torch.tensor(expected), atol=1e-6, rtol=0)
    assert 0 < cut < len(expected)
