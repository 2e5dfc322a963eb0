"""Losses against explicit (N, V) cost matrices, in double precision: values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from l2s_nmt.search import losses
from l2s_nmt.search.losses import LOSSES, LossFunction, expected_cost, kl_to_cost_softmax, target_learning
from l2s_nmt.search.types import CostVectors, Decisions

ALPHA = 1.7


def problem(
    seed: int, states: int = 9, vocabulary: int = 11, width: int = 5
) -> tuple[Tensor, Decisions, CostVectors]:
    """Random states with few distinct costs, so that ties occur, some of them with the unlisted actions."""
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(states, vocabulary, dtype=torch.float64, generator=draw)
    actions = torch.stack([torch.randperm(vocabulary, generator=draw)[:width] for _ in range(states)])
    mask = torch.rand(states, width, generator=draw) < 0.7
    mask[:, 0] = True
    costs = torch.randint(0, 4, (states, width), generator=draw).double() / 3
    other = torch.randint(0, 4, (states,), generator=draw).double() / 3
    position = torch.arange(states)
    decisions = Decisions(position, position, actions.masked_fill(~mask, 0), mask)
    return logits.requires_grad_(), decisions, CostVectors(costs.masked_fill(~mask, 0), other)


def matrix(logits: Tensor, decisions: Decisions, costs: CostVectors) -> Tensor:
    """(N, V) cost of every action; infinite where it is not known."""
    rows = []
    for n in range(len(decisions)):
        other = math.inf if costs.other is None else float(costs.other[n])
        row = torch.full(logits.shape[1:], other, dtype=torch.float64)
        for action, real, cost in zip(decisions.actions[n], decisions.mask[n], costs.costs[n], strict=True):
            if real:
                row[int(action)] = float(cost)
        rows.append(row)
    return torch.stack(rows)


def brute_expected_cost(logits: Tensor, table: Tensor) -> Tensor:
    known = table.isfinite()
    weights = logits.softmax(1) * known
    return (weights * table.masked_fill(~known, 0)).sum(1) / weights.sum(1)


def brute_kl(logits: Tensor, table: Tensor) -> Tensor:
    target = (-ALPHA * table).softmax(1)
    known = torch.where(target > 0, target.log(), 0)
    return (target * (known - logits.log_softmax(1))).sum(1)


def brute_target_learning(logits: Tensor, table: Tensor) -> Tensor:
    optimal = table == table.amin(1, keepdim=True)
    return -(logits.log_softmax(1) * optimal).sum(1) / optimal.sum(1)


BRUTE = {"expected_cost": brute_expected_cost, "kl": brute_kl, "target_learning": brute_target_learning}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_equal_brute_force_over_the_vocabulary(name: str, known: bool, seed: int) -> None:
    logits, decisions, costs = problem(seed)
    costs = costs if known else CostVectors(costs.costs)
    loss = LOSSES[name](logits, decisions, costs, alpha=ALPHA)
    brute = BRUTE[name](logits, matrix(logits, decisions, costs))
    torch.testing.assert_close(loss, brute)
    weights = torch.linspace(-1, 2, len(decisions), dtype=torch.float64)
    gradient = torch.autograd.grad(loss, logits, weights)
    torch.testing.assert_close(gradient, torch.autograd.grad(brute, logits, weights))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_finite_differences(name: str, known: bool) -> None:
    logits, decisions, costs = problem(7)
    costs = costs if known else CostVectors(costs.costs)
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, decisions, costs, alpha=ALPHA), logits)


@pytest.mark.parametrize("known", [True, False])
def test_gradient_of_expected_cost_does_not_change_with_a_constant(known: bool) -> None:
    logits, decisions, costs = problem(3)
    other = costs.other if known else None
    shifted = CostVectors(costs.costs + 5, None if other is None else other + 5)
    values = [
        expected_cost(logits, decisions, vectors, alpha=1)
        for vectors in (CostVectors(costs.costs, other), shifted)
    ]
    torch.testing.assert_close(values[1], values[0] + 5)
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in values]
    torch.testing.assert_close(gradients[1], gradients[0])


def hamming(states: int, vocabulary: int, known: bool) -> tuple[Tensor, Tensor, Decisions, CostVectors]:
    """Logits, gold tokens, and costs of 0 for them and 1 for everything else."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(states, vocabulary, dtype=torch.float64, generator=draw).requires_grad_()
    gold = torch.randint(0, vocabulary, (states,), generator=draw)
    actions = (gold[:, None] + torch.arange(3)) % vocabulary
    costs = torch.tensor([0.0, 1.0, 1.0]).expand(states, 3)
    decisions = Decisions(gold, gold, actions, torch.ones(states, 3, dtype=torch.bool))
    return logits, gold, decisions, CostVectors(costs, torch.ones(states) if known else None)


@pytest.mark.parametrize("known", [True, False])
def test_target_learning_with_hamming_costs_is_cross_entropy(known: bool) -> None:
    logits, gold, decisions, costs = hamming(6, 13, known)
    loss = target_learning(logits, decisions, costs, alpha=1)
    entropy = F.cross_entropy(logits, gold, reduction="none")
    torch.testing.assert_close(loss, entropy)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), logits), torch.autograd.grad(entropy.sum(), logits)
    )


@pytest.mark.parametrize("alpha", [0.1, 1.0, 6.0])
def test_kl_with_hamming_costs_is_label_smoothing(alpha: float) -> None:
    vocabulary = 13
    logits, gold, decisions, costs = hamming(6, vocabulary, known=True)
    mass = 1 / (1 + (vocabulary - 1) * math.exp(-alpha))
    rest = (1 - mass) / (vocabulary - 1)
    target_entropy = -mass * math.log(mass) - (vocabulary - 1) * rest * math.log(rest)
    smoothed = F.cross_entropy(logits, gold, reduction="none", label_smoothing=vocabulary * rest)
    loss = kl_to_cost_softmax(logits, decisions, costs, alpha=alpha)
    torch.testing.assert_close(loss, smoothed - target_entropy)
    torch.testing.assert_close(
        torch.autograd.grad(loss.sum(), logits), torch.autograd.grad(smoothed.sum(), logits)
    )


def test_kl_approaches_target_learning_as_alpha_grows() -> None:
    logits, decisions, costs = problem(4)
    table = matrix(logits, decisions, costs)
    ties = (table == table.amin(1, keepdim=True)).sum(1)
    kl = kl_to_cost_softmax(logits, decisions, costs, alpha=500)
    torch.testing.assert_close(kl + ties.log(), target_learning(logits, decisions, costs, alpha=1))


@pytest.mark.parametrize("loss", LOSSES.values())
def test_a_fully_listed_vocabulary_has_no_other_action(loss: LossFunction) -> None:
    logits, decisions, costs = problem(2, vocabulary=5)
    everything = torch.ones(9, 5, dtype=torch.bool)
    full = Decisions(decisions.sentence, decisions.position, torch.arange(5).expand(9, 5), everything)
    costs = CostVectors(costs.costs + 1)
    # What nothing can cost must not matter, be it the smallest of all.
    pointless = CostVectors(costs.costs, torch.zeros(9, dtype=torch.float64))
    torch.testing.assert_close(
        loss(logits, full, pointless, alpha=ALPHA), loss(logits, full, costs, alpha=ALPHA)
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loss", LOSSES.values())
def test_masked_entries_have_no_influence(loss: LossFunction, known: bool) -> None:
    logits, decisions, costs = problem(5)
    other = costs.other if known else None
    junk = torch.cat([decisions.actions, decisions.actions], 1)
    mask = torch.cat([decisions.mask, torch.zeros_like(decisions.mask)], 1)
    wider = Decisions(decisions.sentence, decisions.position, junk, mask)
    padded = CostVectors(torch.cat([costs.costs, torch.zeros_like(costs.costs)], 1), other)
    first = loss(logits, decisions, CostVectors(costs.costs, other), alpha=ALPHA)
    second = loss(logits, wider, padded, alpha=ALPHA)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(
        torch.autograd.grad(first.sum(), logits), torch.autograd.grad(second.sum(), logits)
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loss", LOSSES.values())
def test_blocks_of_rows_change_nothing(
    loss: LossFunction, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, decisions, costs = problem(6, states=10)
    costs = costs if known else CostVectors(costs.costs)
    whole = loss(logits, decisions, costs, alpha=ALPHA)
    (gradient,) = torch.autograd.grad(whole.sum(), logits)
    monkeypatch.setattr(losses, "_CPU_ELEMENTS", 3 * logits.shape[1])
    parts = loss(logits, decisions, costs, alpha=ALPHA)
    assert torch.equal(parts, whole)
    assert torch.equal(torch.autograd.grad(parts.sum(), logits)[0], gradient)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loss", LOSSES.values())
def test_extreme_logits_give_finite_losses_and_gradients(loss: LossFunction, known: bool) -> None:
    exact, decisions, costs = problem(8)
    other = None if costs.other is None or not known else costs.other.float()
    logits = (1000 * exact.detach()).float().requires_grad_()
    value = loss(logits, decisions, CostVectors(costs.costs.float(), other), alpha=50.0)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loss", LOSSES.values())
def test_half_precision_logits_are_computed_in_single(loss: LossFunction, known: bool) -> None:
    exact, decisions, costs = problem(9)
    logits = exact.detach().bfloat16().requires_grad_()
    single = logits.detach().float().requires_grad_()
    other = costs.other.float() if known and costs.other is not None else None
    costs = CostVectors(costs.costs.float(), other)
    value, expected = (loss(z, decisions, costs, alpha=ALPHA) for z in (logits, single))
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    (exact_gradient,) = torch.autograd.grad(expected.sum(), single)
    torch.testing.assert_close(gradient, exact_gradient.bfloat16())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loss", LOSSES.values())
def test_no_states_give_no_losses(loss: LossFunction, known: bool) -> None:
    logits, decisions, costs = problem(1)
    other = costs.other[:0] if known and costs.other is not None else None
    none = Decisions(
        decisions.sentence[:0], decisions.position[:0], decisions.actions[:0], decisions.mask[:0]
    )
    value = loss(logits[:0], none, CostVectors(costs.costs[:0], other), alpha=1)
    assert value.shape == (0,)
    assert not torch.autograd.grad(value.sum(), logits)[0].any()
