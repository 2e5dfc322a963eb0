"""Minimum risk, the one loss that looks at whole trajectories, against a table of all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.losses.minimum_risk import minimum_risk
from l2s_nmt.search.types import CostVectors, Decisions

ALPHA = 0.6
SIZE = 5


def trajectories(lengths: list[int], groups: list[int], seed: int) -> tuple[Tensor, Decisions, CostVectors]:
    """States of trajectories of these lengths, in no order, each of a source sentence named by an arbitrary id."""
    draw = torch.Generator().manual_seed(seed)
    sentence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    sentence = 3 * sentence[torch.randperm(len(sentence), generator=draw)]
    logits = torch.randn(len(sentence), SIZE, dtype=torch.float64, generator=draw).requires_grad_()
    actions = torch.randint(0, SIZE, (len(sentence), 1), generator=draw)
    costs = torch.rand(len(lengths), dtype=torch.float64, generator=draw) - 0.3
    group = torch.tensor(groups)[sentence // 3]
    decisions = Decisions(sentence, sentence, actions, torch.ones_like(actions).bool(), group=group)
    return logits, decisions, CostVectors(costs[sentence // 3][:, None])


def risk(logits: Tensor, decisions: Decisions, costs: CostVectors, alpha: float = ALPHA) -> Tensor:
    return minimum_risk(logits, decisions, costs, alpha=alpha, support="vocabulary")


def by_definition(logits: Tensor, decisions: Decisions, costs: CostVectors) -> Tensor:
    """The sum over all states, group by group and trajectory by trajectory."""
    assert decisions.group is not None
    total = torch.zeros((), dtype=torch.float64)
    for group in set(decisions.group.tolist()):
        members = sorted(set(decisions.sentence[decisions.group == group].tolist()))
        likelihood, cost, states = [], [], 0
        for member in members:
            rows = [n for n in range(len(decisions)) if int(decisions.sentence[n]) == member]
            chances = [logits[n].softmax(0)[decisions.actions[n, 0]] for n in rows]
            likelihood.append(torch.stack(chances).prod() ** ALPHA)
            cost.append(costs.costs[rows[0], 0])
            states += len(rows)
        weights = torch.stack(likelihood) / sum(likelihood)
        total = total + (weights * torch.stack(cost)).sum() * states / len(members)
    return total


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    names=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    seed=st.integers(0, 1000),
)
def test_sum_and_gradient_are_those_of_the_definition(
    lengths: list[int], names: list[int], seed: int
) -> None:
    logits, decisions, costs = trajectories(lengths, names[: len(lengths)], seed)
    loss, expected = risk(logits, decisions, costs).sum(), by_definition(logits, decisions, costs)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


def test_gradient_equals_finite_differences() -> None:
    logits, decisions, costs = trajectories([2, 3, 1, 2], [7, 7, 7, 2], 0)
    assert torch.autograd.gradcheck(lambda z: risk(z, decisions, costs), logits)


def test_every_state_of_a_group_carries_the_same() -> None:
    logits, decisions, costs = trajectories([2, 3, 1], [1, 1, 0], 3)
    loss = risk(logits, decisions, costs)
    assert decisions.group is not None
    for group in (0, 1):
        assert len(set(loss[decisions.group == group].tolist())) == 1
    alone = decisions.group == 0
    torch.testing.assert_close(loss[alone], costs.costs[alone, 0])


def test_order_of_the_states_has_no_influence() -> None:
    logits, decisions, costs = trajectories([2, 3, 1, 2], [0, 1, 1, 0], 4)
    order = torch.randperm(len(decisions), generator=torch.Generator().manual_seed(0))
    assert decisions.group is not None
    moved = Decisions(
        decisions.sentence[order],
        decisions.position[order],
        decisions.actions[order],
        decisions.mask[order],
        group=decisions.group[order],
    )
    loss = risk(logits[order], moved, CostVectors(costs.costs[order]))
    torch.testing.assert_close(loss, risk(logits, decisions, costs)[order])


def test_costs_of_other_actions_and_the_support_have_no_influence() -> None:
    logits, decisions, costs = trajectories([2, 3], [0, 0], 5)
    more = CostVectors(costs.costs, torch.ones(5))
    loss = minimum_risk(logits, decisions, more, alpha=ALPHA, support="candidates")
    assert torch.equal(loss, risk(logits, decisions, costs))


def test_a_sentence_with_a_single_trajectory_teaches_nothing() -> None:
    logits, decisions, costs = trajectories([2, 3, 1], [0, 0, 0], 6)
    loss = risk(logits, replace(decisions, group=None), costs)
    torch.testing.assert_close(loss, costs.costs[:, 0])
    assert not torch.autograd.grad(loss.sum(), logits)[0].any()


def test_equal_costs_teach_nothing_and_a_constant_changes_no_gradient() -> None:
    logits, decisions, costs = trajectories([2, 3, 1], [0, 0, 0], 7)
    flat = risk(logits, decisions, CostVectors(torch.ones_like(costs.costs)))
    (gradient,) = torch.autograd.grad(flat.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    shifted = risk(logits, decisions, CostVectors(costs.costs + 2))
    plain = risk(logits, decisions, costs)
    torch.testing.assert_close(shifted, plain + 2 / 3)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), logits)[0] for value in (shifted, plain)))


def test_a_large_alpha_leaves_the_most_likely_trajectory() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])
    decisions = Decisions(
        torch.tensor([0, 1, 1]), torch.arange(3), torch.ones(3, 1).long(), torch.ones(3, 1).bool()
    )
    decisions = replace(decisions, group=torch.zeros(3).long())
    loss = risk(logits, decisions, CostVectors(torch.tensor([[0.9], [0.1], [0.1]])), alpha=1e4)
    torch.testing.assert_close(loss, torch.full((3,), 0.9 / 2))


def test_extreme_scores_stay_finite_and_half_precision_is_computed_in_single() -> None:
    logits, decisions, costs = trajectories([3, 3, 2], [0, 0, 0], 8)
    extreme = (1000 * logits.detach()).float().requires_grad_()
    value = risk(extreme, decisions, costs, alpha=50.0)
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), extreme)[0].isfinite().all()
    half = logits.detach().bfloat16()
    assert torch.equal(risk(half, decisions, costs), risk(half.float(), decisions, costs))
    assert risk(half, decisions, costs).dtype == torch.float32


def test_no_states_give_no_losses() -> None:
    logits = torch.zeros(0, SIZE, requires_grad=True)
    empty = torch.zeros(0).long()
    decisions = Decisions(empty, empty, empty[:, None], empty[:, None].bool())
    loss = risk(logits, decisions, CostVectors(torch.zeros(0, 1)))
    assert loss.shape == (0,)
    torch.autograd.grad(loss.sum(), logits)


def test_several_actions_at_a_state_are_refused() -> None:
    logits, decisions, costs = trajectories([2], [0], 9)
    two = replace(decisions, actions=decisions.actions.expand(2, 2), mask=decisions.mask.expand(2, 2))
    with pytest.raises(ValueError, match="one action a state"):
        risk(logits, two, costs)
