"""Losses of single states, in double precision: against their definitions over the vocabulary, and what all share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.losses import vocabulary
from l2s_nmt.search.losses.table import LOSSES, Support
from l2s_nmt.search.types import CostVectors, Decisions

ALPHA = 1.7
NAMES = [name for name in LOSSES if name not in ("minimum_risk", "beam_expected_cost")]  # of several states
SUPPORTS: tuple[Support, ...] = ("vocabulary", "candidates")

quickly = settings(max_examples=30, deadline=None)
each_loss = pytest.mark.parametrize("name", NAMES)
each_support = pytest.mark.parametrize("support", SUPPORTS)
each_knowledge = pytest.mark.parametrize("known", [True, False])


@dataclass(frozen=True)
class Problem:
    logits: Tensor
    decisions: Decisions
    costs: CostVectors
    support: Support

    def loss(self, name: str, alpha: float = ALPHA) -> Tensor:
        function = LOSSES[name].function
        return function(self.logits, self.decisions, self.costs, alpha=alpha, support=self.support)

    def gradient(self, values: Tensor) -> Tensor:
        """Of a sum in which every state has another weight."""
        if not values.requires_grad:
            return torch.zeros_like(self.logits)
        weights = torch.linspace(-1, 2, len(values) + 1, dtype=values.dtype)[1:]
        (gradient,) = torch.autograd.grad(values, self.logits, weights, retain_graph=True)
        return gradient


def random_problem(
    seed: int,
    states: int = 9,
    size: int = 11,
    width: int = 5,
    *,
    known: bool = True,
    support: Support = "vocabulary",
    empty: bool = False,
) -> Problem:
    """Random states with few distinct costs, so that ties occur, some of them with the unlisted actions."""
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(states, size, dtype=torch.float64, generator=draw)
    actions = torch.stack([torch.randperm(size, generator=draw)[:width] for _ in range(states)])
    mask = torch.rand(states, width, generator=draw) < 0.8
    if not empty:
        mask[:, 0] = True
    junk = torch.randint(0, size, (states, width), generator=draw)
    costs = torch.randint(0, 4, (states, width), generator=draw).double() / 3
    other = torch.randint(0, 4, (states,), generator=draw).double() / 3 if known else None
    position = torch.arange(states)
    decisions = Decisions(position, position, torch.where(mask, actions, junk), mask)
    return Problem(
        logits.requires_grad_(), decisions, CostVectors(costs.masked_fill(~mask, 0), other), support
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Problems of all sizes and kinds, among them states whose actions are all listed, or none of them."""
    size = draw(st.integers(2, 9))
    known, support = draw(st.booleans()), draw(st.sampled_from(SUPPORTS))
    return random_problem(
        draw(st.integers(0, 10_000)),
        draw(st.integers(1, 4)),
        size,
        draw(st.integers(1, size)),
        known=known,
        support=support,
        empty=known and support == "vocabulary",
    )


def by_definition(name: str, scores: Tensor, costs: Tensor, listed: Tensor, support: Support) -> Tensor:
    """One state's loss from the (V,) scores, costs (infinite where unknown), and which actions are listed."""
    if name == "expected_cost":
        known = costs.isfinite()
        return (scores[known].softmax(0) * costs[known]).sum()
    if name == "expected_failure":
        known = costs.isfinite()
        success = torch.exp(ALPHA * (costs[known].min() - costs[known]))
        return (scores[known].softmax(0) * (1 - success)).sum()
    if name == "policy_gradient":
        return (scores.log_softmax(0)[listed] * costs[listed]).sum()
    if name == "weighted_all_pairs":
        return all_pairs(scores, costs, listed, support)
    part = listed if support == "candidates" else torch.ones_like(listed)
    scores, costs = scores[part], costs[part]
    known = costs.isfinite()
    cheapest, best = costs.min(), costs == costs.min()
    if name in ("cost_augmented", "hinge"):
        augmented = scores + ALPHA * torch.where(known, costs - cheapest, 0)
        if name == "hinge":
            return augmented.max() - scores[best].max()
        return -augmented.log_softmax(0)[best].mean()
    if name == "target_learning":
        return -scores.log_softmax(0)[best].mean()
    if name == "marginal_likelihood":
        return -(scores.softmax(0) * torch.exp(ALPHA * (cheapest - costs))).sum().log()
    if name == "cost_regression":
        scores, costs = scores[known], costs[known]
        return ((scores - scores.mean() + ALPHA * (costs - costs.mean())) ** 2).mean() / 2
    return divergence(name, scores, (-ALPHA * costs).softmax(0))


def divergence(name: str, scores: Tensor, targets: Tensor) -> Tensor:
    if name == "inverse_kl":
        scores, targets = scores[targets > 0], targets[targets > 0]
    total = torch.zeros(())
    for ours, theirs in zip(scores.softmax(0), targets, strict=True):
        middle = (ours + theirs) / 2
        if name == "kl" and theirs > 0:
            total = total + theirs * (theirs / ours).log()
        elif name == "inverse_kl":
            total = total + ours * (ours / theirs).log()
        elif name == "js":
            total = total + ours * (ours / middle).log() / 2
            total = total + (theirs * (theirs / middle).log() / 2 if theirs > 0 else 0)
    return total


def all_pairs(scores: Tensor, costs: Tensor, listed: Tensor, support: Support) -> Tensor:
    entries = list(zip(scores[listed], costs[listed], strict=True))
    if support == "vocabulary" and not listed.all() and costs[~listed].isfinite().all():
        entries.append((scores[~listed].logsumexp(0), costs[~listed][0]))
    prices = sorted(float(cost) for _, cost in entries)

    def value(cost: Tensor) -> float:
        """The integral of one over the number of entries that cost so much or less."""
        pieces = ((high - low) / rank for rank, (low, high) in enumerate(pairwise(prices), 1) if high <= cost)
        return sum(pieces)

    total = scores.sum() * 0
    for one, two in combinations(entries, 2):
        (cheap, low), (dear, high) = (one, two) if one[1] <= two[1] else (two, one)
        total = total + (value(high) - value(low)) * torch.log(1 + torch.exp(dear - cheap))
    return total / max(1, len(entries) * (len(entries) - 1) / 2)


def brute_force(name: str, problem: Problem) -> Tensor:
    rows = []
    for n, scores in enumerate(problem.logits):
        other = math.inf if problem.costs.other is None else float(problem.costs.other[n])
        costs, listed = torch.full_like(scores, other), torch.zeros_like(scores, dtype=torch.bool)
        for k in problem.decisions.mask[n].nonzero():
            action = problem.decisions.actions[n, k]
            costs[action], listed[action] = problem.costs.costs[n, k], True
        rows.append(by_definition(name, scores, costs.detach(), listed, problem.support))
    return torch.stack(rows).to(problem.logits.dtype)


@each_loss
@quickly
@given(problem=problems())
def test_value_and_gradient_are_those_of_the_definition_over_the_vocabulary(
    name: str, problem: Problem
) -> None:
    loss, brute = problem.loss(name), brute_force(name, problem)
    torch.testing.assert_close(loss, brute)
    torch.testing.assert_close(problem.gradient(loss), problem.gradient(brute))


@each_support
@each_knowledge
@each_loss
def test_gradient_equals_finite_differences(name: str, known: bool, support: Support) -> None:
    problem = random_problem(7, 5, 8, 4, known=known, support=support)
    assert torch.autograd.gradcheck(lambda z: replace(problem, logits=z).loss(name), problem.logits)


@each_loss
@quickly
@given(problem=problems(), constant=st.floats(-3, 3))
def test_a_constant_on_all_costs_leaves_the_gradient(name: str, problem: Problem, constant: float) -> None:
    costs, other = problem.costs.costs, problem.costs.other
    shifted = CostVectors(costs + constant, None if other is None else other + constant)
    first, second = problem.loss(name), replace(problem, costs=shifted).loss(name)
    if name == "policy_gradient":  # It needs a baseline for that reason.
        log_probs = problem.logits.log_softmax(1).gather(1, problem.decisions.actions)
        first = first + constant * (log_probs * problem.decisions.mask).sum(1)
    torch.testing.assert_close(second, first + constant if name == "expected_cost" else first)
    torch.testing.assert_close(problem.gradient(second), problem.gradient(first))


@each_loss
@quickly
@given(problem=problems(), data=st.data())
def test_order_and_masked_entries_have_no_influence(name: str, problem: Problem, data: st.DataObject) -> None:
    decisions, costs = problem.decisions, problem.costs
    junk = torch.arange(len(decisions))[:, None] % problem.logits.shape[1]
    order = data.draw(st.permutations(range(decisions.actions.shape[1] + 2)))
    wider = replace(
        decisions,
        actions=torch.cat([decisions.actions, junk, decisions.actions[:, :1]], 1)[:, order],
        mask=torch.cat([decisions.mask, torch.zeros(len(junk), 2, dtype=torch.bool)], 1)[:, order],
    )
    padded = torch.cat([costs.costs, torch.zeros(len(junk), 2)], 1)[:, order]
    other = replace(problem, decisions=wider, costs=CostVectors(padded, costs.other))
    first, second = problem.loss(name), other.loss(name)
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(problem.gradient(second), problem.gradient(first))


@each_knowledge
@each_loss
def test_both_supports_are_the_same_where_all_actions_are_listed(name: str, known: bool) -> None:
    problem = random_problem(3, size=6, width=6)
    full = replace(problem.decisions, actions=torch.arange(6).expand(9, 6), mask=torch.ones(9, 6).bool())
    # What nothing can cost must not matter, be it not even a number.
    other = torch.full((9,), math.nan) if known else None
    costs = CostVectors(problem.costs.costs, other)
    first = Problem(problem.logits, full, costs, "vocabulary")
    values = [replace(first, support=support).loss(name) for support in SUPPORTS]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*map(problem.gradient, values))
    torch.testing.assert_close(values[0], brute_force(name, replace(first, costs=CostVectors(costs.costs))))


@each_support
@each_loss
def test_what_is_not_there_has_no_share_by_rounding(name: str, support: Support) -> None:
    """Where all actions are listed, and the only cheap one is less probable than single precision can tell from 0."""
    problem = random_problem(3, size=6, width=6, support=support)
    logits = torch.cat([torch.full((9, 1), -25.0), problem.logits.detach()[:, 1:] / 3], 1)
    full = replace(problem.decisions, actions=torch.arange(6).expand(9, 6), mask=torch.ones(9, 6).bool())
    costs = CostVectors(torch.tensor([0.0] + [9.0] * 5).expand(9, 6), torch.zeros(9))
    exact, rounded = (
        Problem(each, full, costs, support).loss(name, 9.0) for each in (logits, logits.float())
    )
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if LOSSES[name].normalises])
def test_support_of_the_candidates_leaves_all_others_alone(name: str) -> None:
    problem = random_problem(4, support="candidates")
    value = problem.loss(name)
    ignorant = replace(problem, costs=CostVectors(problem.costs.costs))
    assert torch.equal(value, ignorant.loss(name))
    listed = torch.zeros_like(problem.logits).scatter_add(
        1, problem.decisions.actions, problem.decisions.mask.double()
    )
    gradient = problem.gradient(value)
    assert gradient.any()
    assert not gradient[listed == 0].any()


@each_knowledge
@pytest.mark.parametrize("name", [name for name in NAMES if not LOSSES[name].normalises])
def test_losses_without_a_choice_of_support_ignore_it(name: str, known: bool) -> None:
    problem = random_problem(4, known=known)
    assert torch.equal(problem.loss(name), replace(problem, support="candidates").loss(name))


@each_loss
def test_alpha_has_an_effect_exactly_where_the_table_says_so(name: str) -> None:
    problem = random_problem(4)
    assert torch.equal(problem.loss(name, 1.0), problem.loss(name, 2.0)) != LOSSES[name].uses_alpha


@each_knowledge
@each_loss
def test_blocks_of_rows_change_nothing(name: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(6, states=10, known=known)
    whole = problem.loss(name)
    gradient = problem.gradient(whole)
    monkeypatch.setattr(vocabulary, "_CPU_ELEMENTS", 3 * problem.logits.shape[1])
    parts = problem.loss(name)
    assert torch.equal(parts, whole)
    assert torch.equal(problem.gradient(parts), gradient)


def single(problem: Problem, logits: Tensor) -> Problem:
    """The problem with other logits and its costs in float32."""
    other = problem.costs.other
    costs = CostVectors(problem.costs.costs.float(), None if other is None else other.float())
    return replace(problem, logits=logits.requires_grad_(), costs=costs)


@each_support
@each_knowledge
@each_loss
def test_extreme_logits_give_finite_losses_and_gradients(name: str, known: bool, support: Support) -> None:
    exact = random_problem(8, known=known, support=support)
    problem = single(exact, (1000 * exact.logits.detach()).float())
    value = problem.loss(name, alpha=50.0)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert problem.gradient(value).isfinite().all()


@each_support
@each_knowledge
@each_loss
def test_half_precision_logits_are_computed_in_single(name: str, known: bool, support: Support) -> None:
    exact = random_problem(9, known=known, support=support)
    half = single(exact, exact.logits.detach().bfloat16())
    full = single(exact, half.logits.detach().float())
    value, expected = half.loss(name), full.loss(name)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(half.gradient(value), full.gradient(expected).bfloat16())


@each_support
@each_knowledge
@each_loss
def test_no_states_give_no_losses(name: str, known: bool, support: Support) -> None:
    whole = random_problem(1, known=known, support=support)
    nothing = torch.zeros(0, dtype=torch.long)
    rows = Decisions(nothing, nothing, whole.decisions.actions[:0], whole.decisions.mask[:0])
    other = None if whole.costs.other is None else whole.costs.other[:0]
    logits = whole.logits[:0]
    value = Problem(logits, rows, CostVectors(whole.costs.costs[:0], other), support).loss(name)
    assert value.shape == (0,)
    assert not torch.autograd.grad(value.sum(), whole.logits)[0].any()
