"""Estimates of cost vectors from one observed loss: what they are on average, and how the one action is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2s_nmt.search.losses.cost_regression import cost_regression
from l2s_nmt.search.roll_out.bandit import Estimator, Exploration, estimate, predicted_costs
from l2s_nmt.search.types import CostVectors, Decisions

ESTIMATORS: tuple[Estimator, ...] = ("biased", "ips", "doubly_robust", "regression")
Name = Literal["uniform", "boltzmann", "bootstrap"]
NAMES: tuple[Name, ...] = ("uniform", "boltzmann", "bootstrap")


@dataclass(frozen=True)
class Problem:
    """N states with K actions: their true losses, how the policy scores them, and the chances to be tried."""

    losses: Tensor
    scores: Tensor
    mask: Tensor
    q: Tensor


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    states, actions = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    seed = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    mask = torch.rand(states, actions, generator=seed) < 0.7
    mask[:, 0] = True
    scores = 3 * torch.randn(states, actions, generator=seed)
    losses = torch.rand(states, actions, generator=seed)
    name = draw(st.sampled_from(["uniform", "boltzmann"]))
    q = Exploration(name, draw(st.sampled_from([0.05, 0.3, 1.0])))(scores, mask)  # type: ignore[arg-type]
    return Problem(losses.double(), scores.double(), mask, q.double())


def mean_estimate(problem: Problem, estimator: Estimator, level: float = 0.4) -> Tensor:
    """(N, K) over all actions that may be drawn, each by its chance."""
    predicted = predicted_costs(problem.scores, problem.mask, 2.0).double() + level
    total = torch.zeros_like(problem.q)
    for action in range(problem.q.shape[1]):
        drawn = torch.full((len(problem.q),), action)
        chance = problem.q[:, action, None]
        # What is never drawn takes no part.
        q = problem.q.clamp(min=1e-300)
        total += chance * estimate(estimator, problem.losses[:, action], drawn, q, predicted)
    return total.masked_fill(~problem.mask, 0)


@given(problems(), st.sampled_from(["ips", "doubly_robust", "regression"]))
@settings(max_examples=40, deadline=None)
def test_estimates_are_on_average_the_costs_of_all_actions(problem: Problem, estimator: Estimator) -> None:
    expected = problem.losses.masked_fill(~problem.mask, 0)
    torch.testing.assert_close(mean_estimate(problem, estimator), expected, atol=1e-6, rtol=1e-5)


@given(problems())
@settings(max_examples=25, deadline=None)
def test_the_biased_estimate_is_on_average_less_where_it_looks_less(problem: Problem) -> None:
    expected = (problem.losses * problem.q).masked_fill(~problem.mask, 0)
    torch.testing.assert_close(mean_estimate(problem, "biased"), expected)


def test_estimates_of_one_observation() -> None:
    q, predicted = torch.tensor([[0.25, 0.5, 0.25]]), torch.tensor([[0.1, 0.2, 0.6]])
    loss, drawn = torch.tensor([0.8]), torch.tensor([1])
    expected = {
        "biased": [0.0, 0.8, 0.0],
        "ips": [0.0, 1.6, 0.0],
        "doubly_robust": [0.1, 0.2 + 0.6 / 0.5, 0.6],
        "regression": [0.1, 0.2 + 0.6 / 0.5, 0.6],
    }
    for estimator in ESTIMATORS:
        costs = estimate(estimator, loss, drawn, q, predicted)
        torch.testing.assert_close(costs, torch.tensor([expected[estimator]]))


def test_doubly_robust_varies_less_where_the_regressor_is_right() -> None:
    losses = torch.tensor([[0.3, 0.5, 0.9]])
    q = torch.tensor([[0.1, 0.8, 0.1]])
    spread = {}
    for estimator in ESTIMATORS[1:3]:
        found = [estimate(estimator, losses[:, a], torch.tensor([a]), q, losses + 0.01) for a in range(3)]
        spread[estimator] = sum(float(q[0, a] * (found[a] - losses).square().sum()) for a in range(3))
    assert spread["doubly_robust"] < spread["ips"] / 1000


@given(problems())
@settings(max_examples=25, deadline=None)
def test_what_the_regressor_predicts_is_what_cost_regression_fits(problem: Problem) -> None:
    predicted = predicted_costs(problem.scores, problem.mask, 2.0)
    assert predicted.sum(1).abs().max() < 1e-5
    assert not predicted[~problem.mask].any()
    places = torch.arange(len(predicted))
    actions = torch.arange(predicted.shape[1]).expand_as(predicted)
    decisions = Decisions(places, places, actions, problem.mask)
    loss = cost_regression(
        problem.scores, decisions, CostVectors(predicted + 0.7), alpha=2.0, support="candidates"
    )
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-9, rtol=0)


@given(problems(), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_regression_on_the_estimate_is_the_importance_weighted_regression_of_the_one_loss(
    problem: Problem, choice: int
) -> None:
    """Gradients of ``(p(a) - L)^2 / (2 q(a))`` and of cost regression, up to the units alpha^2 / K."""
    alpha, level = 2.0, 0.4
    drawn = problem.mask.double() * torch.rand(
        problem.q.shape, generator=torch.Generator().manual_seed(choice)
    )
    place = drawn.argmax(1, keepdim=True)
    scores = problem.scores.clone().requires_grad_()
    count = problem.mask.sum(1)
    mean = scores.masked_fill(~problem.mask, 0).sum(1) / count
    regressor = (mean - scores.gather(1, place)[:, 0]) / alpha + level
    loss, chance = problem.losses.gather(1, place)[:, 0], problem.q.gather(1, place)[:, 0]
    direct = (regressor - loss).square() / (2 * chance)
    predicted = predicted_costs(problem.scores, problem.mask, alpha).double() + level
    costs = estimate("regression", loss, place[:, 0], problem.q, predicted)
    at = torch.arange(len(scores))
    decisions = Decisions(at, at, torch.arange(scores.shape[1]).expand_as(scores), problem.mask)
    regression = cost_regression(scores, decisions, CostVectors(costs), alpha=alpha, support="candidates")
    (ours,) = torch.autograd.grad(regression.sum(), scores)
    (theirs,) = torch.autograd.grad(direct.sum(), scores)
    torch.testing.assert_close(ours * count[:, None] / alpha**2, theirs, atol=1e-4, rtol=1e-4)


@given(problems(), st.sampled_from(NAMES), st.sampled_from([0.0, 0.1, 1.0]), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_exploration_is_a_distribution_over_the_listed_actions(
    problem: Problem, name: Name, epsilon: float, seed: int
) -> None:
    votes = torch.zeros(problem.q.shape)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(5):
        noisy = (problem.scores + torch.randn(votes.shape, generator=draw)).masked_fill(
            ~problem.mask, -torch.inf
        )
        votes.scatter_add_(1, noisy.argmax(1, keepdim=True), torch.ones_like(votes[:, :1]))
    q = Exploration(name, epsilon)(problem.scores, problem.mask, votes)
    torch.testing.assert_close(q.sum(1), torch.ones(len(q)))
    assert not q[~problem.mask].any()
    least = epsilon / problem.mask.sum(1, keepdim=True)
    assert (q + 1e-6 >= least)[problem.mask].all()
    greedy = problem.scores.masked_fill(~problem.mask, -torch.inf).argmax(1)
    rest = {
        "uniform": torch.nn.functional.one_hot(greedy, q.shape[1]).float(),
        "boltzmann": problem.scores.masked_fill(~problem.mask, -torch.inf).softmax(1).float(),
        "bootstrap": votes / 5,
    }[name]
    torch.testing.assert_close(q, (1 - epsilon) * rest + least * problem.mask)


def test_temperature_and_missing_votes() -> None:
    scores, mask = torch.tensor([[1.0, 0.0, 9.0]]), torch.tensor([[True, True, False]])
    cold = Exploration("boltzmann", 0.0, temperature=0.5)(scores, mask)
    torch.testing.assert_close(cold, torch.tensor([[2.0, 0.0, -torch.inf]]).softmax(1))
    with pytest.raises(ValueError, match="votes"):
        Exploration("bootstrap", 0.1)(scores, mask)
