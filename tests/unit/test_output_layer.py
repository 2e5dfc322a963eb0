"""The loss in parts against the loss of all scores at once: values, gradients, precision, memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import backward

from l2s_nmt.output_layer import Part, loss_in_parts


def entropy(targets: Tensor, scores: Tensor) -> Tensor:
    return F.cross_entropy(scores, targets, reduction="sum", label_smoothing=0.1)


def parts_of(targets: Tensor, sizes: Sequence[int]) -> list[Part]:
    split = torch.split(targets, list(sizes))
    return [Part(size, partial(entropy, part)) for size, part in zip(sizes, split, strict=True)]


def layer(states: int, vocabulary: int = 11, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(states, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(vocabulary, generator=draw, dtype=torch.float64)
    return hidden, weight, bias, torch.randint(0, vocabulary, (states,), generator=draw)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 5), max_size=5), st.booleans())
def test_value_and_gradients_are_those_of_the_whole(sizes: list[int], has_bias: bool) -> None:
    hidden, weight, bias, targets = layer(sum(sizes))
    added = bias if has_bias else None
    found = 3 * loss_in_parts(hidden, weight, added, parts_of(targets, sizes))
    wanted = 3 * entropy(targets, F.linear(hidden, weight, added)) if sizes else weight.sum() * 0
    torch.testing.assert_close(found, wanted)
    backward(found)
    gradients = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    backward(wanted)
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[1], weight.grad)
    if sizes:
        torch.testing.assert_close(gradients[0], hidden.grad)


def test_gradient_against_finite_differences() -> None:
    hidden, weight, bias, targets = layer(7)
    assert torch.autograd.gradcheck(
        lambda h, w: loss_in_parts(h, w, bias, parts_of(targets, [3, 4])), (hidden, weight)
    )


def test_a_layer_that_does_not_learn_gets_no_gradient() -> None:
    hidden, weight, bias, targets = layer(4)
    frozen = weight.detach()
    backward(loss_in_parts(hidden, frozen, bias, parts_of(targets, [4])))
    expected = torch.autograd.grad(entropy(targets, F.linear(hidden, frozen, bias)), hidden)
    torch.testing.assert_close(hidden.grad, expected[0])
    assert frozen.grad is None


def test_without_gradient_only_the_value() -> None:
    hidden, weight, bias, targets = layer(4)
    with torch.no_grad():
        found = loss_in_parts(hidden, weight, bias, parts_of(targets, [1, 3]))
    assert not found.requires_grad
    torch.testing.assert_close(found, entropy(targets, F.linear(hidden, weight, bias)).detach())


def test_a_loss_that_does_not_look_at_the_scores() -> None:
    hidden, weight, bias, _ = layer(3)
    found = loss_in_parts(hidden, weight, bias, [Part(3, lambda scores: scores.new_tensor(2.0))])
    backward(found)
    assert float(found.detach()) == 2
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_under_autocast_products_are_in_half_precision_and_sums_in_full() -> None:
    hidden, weight, _, targets = layer(64, vocabulary=50)
    hidden, weight = (value.detach().float().requires_grad_() for value in (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_in_parts(hidden, weight, None, parts_of(targets, [32, 32]))
    backward(found)
    assert found.dtype == torch.float32
    assert hidden.grad is not None
    assert weight.grad is not None
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
    wanted = entropy(targets, F.linear(hidden, weight))
    expected = torch.autograd.grad(wanted, (hidden, weight))
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-2)
    for one, other in zip((hidden.grad, weight.grad), expected, strict=True):
        assert float((one - other).norm() / other.norm()) < 2e-2


def test_scores_live_only_as_long_as_their_part() -> None:
    hidden, weight, bias, _ = layer(6)
    alive: list[weakref.ref[Tensor]] = []

    def loss(scores: Tensor) -> Tensor:
        assert not any(reference() is not None for reference in alive)
        alive.append(weakref.ref(scores))
        return scores.square().sum()

    backward(loss_in_parts(hidden, weight, bias, [Part(2, loss)] * 3))
    assert len(alive) == 3


def test_a_token_that_is_left_out_has_no_probability_and_no_gradient() -> None:
    hidden, weight, bias, _ = layer(4)
    targets = torch.tensor([0, 1, 3, 4])

    def loss(scores: Tensor) -> Tensor:
        assert (scores[:, 2] == -torch.inf).all()
        return F.cross_entropy(scores, targets, reduction="sum")

    found = loss_in_parts(hidden, weight, bias, [Part(4, loss, left_out=2)])
    kept = [0, 1, *range(3, 11)]
    among = torch.tensor([0, 1, 2, 3])
    expected = F.cross_entropy(F.linear(hidden, weight[kept], bias[kept]), among, reduction="sum")
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad(found, (hidden, weight))
    for one, other in zip(ours, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(one, other)
    assert not ours[1][2].any()
