"""What the losses are in special cases, and how they relate to each other."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.search.losses.cost_regression import cost_regression
from l2s_nmt.search.losses.divergences import inverse_kl, js, kl
from l2s_nmt.search.losses.expected_cost import expected_cost
from l2s_nmt.search.losses.hinge import hinge
from l2s_nmt.search.losses.log_loss import cost_augmented, target_learning
from l2s_nmt.search.losses.policy_gradient import policy_gradient
from l2s_nmt.search.losses.success import expected_failure, marginal_likelihood
from l2s_nmt.search.losses.table import Support
from l2s_nmt.search.losses.weighted_all_pairs import weighted_all_pairs
from l2s_nmt.search.types import CostVectors, Decisions

SIZE = 13


def hamming(known: bool = True, states: int = 6) -> tuple[Tensor, Tensor, Decisions, CostVectors]:
    """Logits, gold tokens, and costs of 0 for them and 1 for everything else."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(states, SIZE, dtype=torch.float64, generator=draw).requires_grad_()
    gold = torch.randint(0, SIZE, (states,), generator=draw)
    actions = (gold[:, None] + torch.arange(3)) % SIZE
    costs = torch.tensor([0.0, 1.0, 1.0]).expand(states, 3)
    decisions = Decisions(gold, gold, actions, torch.ones(states, 3, dtype=torch.bool))
    return logits, gold, decisions, CostVectors(costs, torch.ones(states) if known else None)


def graded(states: int = 6, width: int = 4) -> tuple[Tensor, Decisions, CostVectors, Tensor]:
    """Logits, actions with distinct costs, `other` the dearest, and the (N, V) costs of all."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(states, SIZE, dtype=torch.float64, generator=draw).requires_grad_()
    actions = torch.stack([torch.randperm(SIZE, generator=draw)[:width] for _ in range(states)])
    costs = torch.rand(states, width, dtype=torch.float64, generator=draw)
    costs = costs - costs.amin(1, keepdim=True)
    row = torch.arange(states)
    decisions = Decisions(row, row, actions, torch.ones(states, width, dtype=torch.bool))
    table = torch.ones_like(logits).scatter(1, actions, costs).detach()
    return logits, decisions, CostVectors(costs, torch.ones(states, dtype=torch.float64)), table


def one_state(actions: list[int]) -> Decisions:
    place = torch.zeros(1, dtype=torch.long)
    return Decisions(place, place, torch.tensor([actions]), torch.ones(1, len(actions), dtype=torch.bool))


def assert_same_gradient(first: Tensor, second: Tensor, logits: Tensor) -> None:
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (first, second)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("known", [True, False])
def test_target_learning_with_hamming_costs_is_cross_entropy(known: bool) -> None:
    logits, gold, decisions, costs = hamming(known)
    loss = target_learning(logits, decisions, costs, alpha=1, support="vocabulary")
    entropy = F.cross_entropy(logits, gold, reduction="none")
    torch.testing.assert_close(loss, entropy)
    assert_same_gradient(loss, entropy, logits)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 6.0])
def test_kl_with_hamming_costs_is_label_smoothing(alpha: float) -> None:
    logits, gold, decisions, costs = hamming()
    mass = 1 / (1 + (SIZE - 1) * math.exp(-alpha))
    rest = (1 - mass) / (SIZE - 1)
    target_entropy = -mass * math.log(mass) - (SIZE - 1) * rest * math.log(rest)
    smoothed = F.cross_entropy(logits, gold, reduction="none", label_smoothing=SIZE * rest)
    loss = kl(logits, decisions, costs, alpha=alpha, support="vocabulary")
    torch.testing.assert_close(loss, smoothed - target_entropy)
    assert_same_gradient(loss, smoothed, logits)


@pytest.mark.parametrize("support", ["vocabulary", "candidates"])
def test_kl_approaches_target_learning_as_alpha_grows(support: Support) -> None:
    logits, decisions, costs, _ = graded()
    limit = kl(logits, decisions, costs, alpha=1e6, support=support)
    torch.testing.assert_close(limit, target_learning(logits, decisions, costs, alpha=1, support=support))


@pytest.mark.parametrize("support", ["vocabulary", "candidates"])
def test_cost_augmented_without_margin_is_target_learning(support: Support) -> None:
    logits, decisions, costs, _ = graded()
    loss = cost_augmented(logits, decisions, costs, alpha=0, support=support)
    torch.testing.assert_close(loss, target_learning(logits, decisions, costs, alpha=1, support=support))


def test_cost_augmented_of_sharp_scores_is_the_hinge() -> None:
    logits, decisions, costs, _ = graded()
    logits, sharp = 1000 * logits.detach(), 1000.0
    soft = cost_augmented(logits, decisions, costs, alpha=sharp, support="vocabulary")
    hard = hinge(logits, decisions, costs, alpha=sharp, support="vocabulary")
    torch.testing.assert_close(soft, hard, atol=math.log(SIZE), rtol=0)
    assert (soft >= hard - 1e-9).all()


def test_divergences_vanish_where_the_policy_is_the_softmax_of_the_costs() -> None:
    _, decisions, costs, table = graded()
    logits = (5 - 2.0 * table).requires_grad_()
    for divergence in (kl, inverse_kl, js):
        loss = divergence(logits, decisions, costs, alpha=2.0, support="vocabulary")
        torch.testing.assert_close(loss, torch.zeros_like(loss))
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_inverse_kl_is_expected_cost_less_entropy() -> None:
    logits, decisions, costs, table = graded()
    expected = expected_cost(logits, decisions, costs, alpha=1, support="vocabulary")
    entropy = torch.distributions.Categorical(logits=logits).entropy()  # type: ignore[no-untyped-call]
    loss = inverse_kl(logits, decisions, costs, alpha=3.0, support="vocabulary")
    torch.testing.assert_close(loss, 3 * expected - entropy + (-3 * table).logsumexp(1))


@pytest.mark.parametrize("support", ["vocabulary", "candidates"])
def test_marginal_likelihood_goes_from_expected_cost_to_log_loss(support: Support) -> None:
    logits, decisions, costs, _ = graded()
    if support == "candidates":
        costs = CostVectors(costs.costs)  # over which expected cost renormalises as well
    expected = expected_cost(logits, decisions, costs, alpha=1, support=support)
    for loss in (marginal_likelihood, expected_failure):
        gentle = loss(logits, decisions, costs, alpha=1e-7, support=support) / 1e-7
        torch.testing.assert_close(gentle, expected, rtol=1e-5, atol=0)
    strict = marginal_likelihood(logits, decisions, costs, alpha=1e4, support=support)
    log_loss = target_learning(logits, decisions, costs, alpha=1, support=support)
    torch.testing.assert_close(strict, log_loss)
    assert_same_gradient(strict, log_loss, logits)


@pytest.mark.parametrize("known", [True, False])
def test_marginal_likelihood_is_the_log_loss_of_what_does_not_fail(known: bool) -> None:
    logits, decisions, costs, _ = graded()
    costs, support = (costs, "vocabulary") if known else (CostVectors(costs.costs), "candidates")
    failure = expected_failure(logits, decisions, costs, alpha=2.0, support="vocabulary")
    likelihood = marginal_likelihood(logits, decisions, costs, alpha=2.0, support=support)  # type: ignore[arg-type]
    torch.testing.assert_close(likelihood, -torch.log1p(-failure))
    assert ((failure > 0) & (failure < 1)).all()


def test_expected_failure_does_not_mind_how_dear_the_dearest_is() -> None:
    logits = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    gradients = []
    for dear in (20.0, 40.0):
        costs = CostVectors(torch.tensor([[0.0, 1.0, dear]]))
        loss = expected_failure(logits, one_state([0, 1, 2]), costs, alpha=1.0, support="vocabulary")
        gradients.append(torch.autograd.grad(loss.sum(), logits)[0])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_marginal_likelihood_leaves_the_choice_between_cheapest_actions_to_the_policy() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    costs = CostVectors(torch.tensor([[0.0, 0.0]]), torch.ones(1))
    loss = marginal_likelihood(logits, one_state([0, 1]), costs, alpha=1e4, support="vocabulary")
    right = logits.softmax(1)[:, :2].sum(1)
    torch.testing.assert_close(loss, -right.log())
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    ratio = gradient[0, 0] / gradient[0, 1]  # both rise in proportion to their probability
    torch.testing.assert_close(ratio, (logits[0, 0] - logits[0, 1]).exp().detach())


def test_js_ends_at_the_logarithm_of_two() -> None:
    logits, _, decisions, costs = hamming()
    astray = torch.full_like(logits, -1000.0).scatter(1, decisions.actions[:, 1:2], 1000.0)
    loss = js(astray, decisions, costs, alpha=500.0, support="vocabulary")
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(2)))


def test_hinge_vanishes_once_all_margins_are_kept() -> None:
    _, decisions, costs, table = graded()
    for slack, satisfied in ((1.01, True), (0.99, False)):
        loss = hinge(-slack * 2.0 * table, decisions, costs, alpha=2.0, support="vocabulary")
        assert (loss >= 0).all()
        assert bool((loss == 0).all()) == satisfied


def test_hinge_picks_the_best_scored_of_the_cheapest_unlisted_among_them() -> None:
    logits = torch.tensor([[0.0, 1.0, 5.0, 3.0]]).requires_grad_()
    decisions = one_state([0, 2])
    costs = CostVectors(torch.tensor([[0.0, 2.0]]), torch.zeros(1))
    loss = hinge(logits, decisions, costs, alpha=1.0, support="vocabulary")
    assert loss.tolist() == [5 + 2 - 3]
    assert torch.autograd.grad(loss, logits)[0].tolist() == [[0, 0, 1, -1]]


def test_cost_regression_vanishes_where_the_scores_predict_the_costs() -> None:
    _, decisions, costs, table = graded()
    loss = cost_regression(7 - 2.0 * table, decisions, costs, alpha=2.0, support="vocabulary")
    torch.testing.assert_close(loss, torch.zeros_like(loss))


def test_all_pairs_of_two_actions_are_one_logistic_regression() -> None:
    logits = torch.tensor([[0.3, -1.0, 9.0]])
    decisions = one_state([0, 1])
    costs = CostVectors(torch.tensor([[0.5, 0.0]]))
    loss = weighted_all_pairs(logits, decisions, costs, alpha=1, support="vocabulary")
    assert float(loss) == pytest.approx(0.5 * math.log(1 + math.exp(0.3 + 1.0)))


def test_minimising_any_loss_over_the_vocabulary_finds_the_cheapest_action() -> None:
    _, decisions, costs, table = graded()
    for loss in (
        target_learning,
        cost_augmented,
        kl,
        inverse_kl,
        js,
        hinge,
        weighted_all_pairs,
        cost_regression,
        marginal_likelihood,
    ):
        logits = torch.zeros_like(table).requires_grad_()
        for _ in range(60):
            value = loss(logits, decisions, costs, alpha=4.0, support="vocabulary").sum()
            (gradient,) = torch.autograd.grad(value, logits)
            logits = (logits - 0.5 * gradient).detach().requires_grad_()
        assert torch.equal(logits.argmax(1), table.argmin(1)), loss.__name__


def test_expected_cost_has_the_slope_of_finite_differences() -> None:
    logits, decisions, costs, table = graded()
    loss = expected_cost(logits, decisions, costs, alpha=1, support="vocabulary").sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    step = 1e-5 * torch.eye(SIZE, dtype=torch.float64)
    for action in range(SIZE):
        ends = [((logits + sign * step[action]).softmax(1) * table).sum(1) for sign in (1, -1)]
        torch.testing.assert_close((ends[0] - ends[1]) / 2e-5, gradient[:, action], atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_policy_gradient_is_on_average_that_of_the_expected_cost(baseline: float) -> None:
    logits, decisions, costs, table = graded()
    average = torch.zeros_like(table)
    for action in range(SIZE):
        taken = torch.full((len(table), 1), action)
        one = Decisions(decisions.sentence, decisions.position, taken, torch.ones_like(taken).bool())
        observed = CostVectors(table[:, action : action + 1] - baseline)
        loss = policy_gradient(logits, one, observed, alpha=1, support="vocabulary")
        chance = logits.detach().softmax(1)[:, action]
        average += torch.autograd.grad(loss, logits, chance)[0]
    expected = expected_cost(logits, decisions, costs, alpha=1, support="vocabulary")
    torch.testing.assert_close(average, torch.autograd.grad(expected.sum(), logits)[0])
