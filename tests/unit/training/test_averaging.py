"""Averages of weights against explicit arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from l2s_nmt.training.averaging import Averager

Kind = Literal["none", "ema", "mean", "last"]


class Weights(nn.Module):
    """Two trainable tensors, one of them shared under two names, and one frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
        self.tied = self.matrix
        self.vector = nn.Parameter(torch.tensor([5.0], dtype=torch.float64))
        self.frozen = nn.Parameter(torch.tensor([7.0], dtype=torch.float64), requires_grad=False)

    def set(self, number: float) -> None:
        """The same number everywhere, so that an average is an average of numbers."""
        with torch.no_grad():
            self.matrix.fill_(number)
            self.vector.fill_(-number)

    def values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters()]


def averages(averager: Averager, weights: Weights) -> tuple[float, float]:
    before = weights.values()
    with averager.applied():
        assert torch.equal(weights.matrix, weights.matrix[0, 0].expand(2, 2))
        found = float(weights.matrix.detach()[0, 0]), float(weights.vector.detach())
        assert float(weights.frozen) == 7
    assert all(torch.equal(a, b) for a, b in zip(before, weights.values(), strict=True))
    return found


def run(averager: Averager, weights: Weights, numbers: list[float]) -> None:
    for number in numbers:
        weights.set(number)
        averager.after_update()
        averager.before_validation()


numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@settings(deadline=None, max_examples=30)
@given(numbers=numbers, decay=st.floats(0.05, 0.999))
def test_moving_average_with_a_decay_that_rises(numbers: list[float], decay: float) -> None:
    weights = Weights()
    weights.set(2.5)
    averager = Averager(weights, "ema", decay, last=3)
    run(averager, weights, numbers)
    expected = 2.5
    for n, number in enumerate(numbers, start=1):
        kept = min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * number
    assert averages(averager, weights) == pytest.approx((expected, -expected), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(numbers=numbers, last=st.integers(1, 6))
def test_mean_of_the_last_snapshots(numbers: list[float], last: int) -> None:
    weights = Weights()
    averager = Averager(weights, "last", decay=0.9, last=last)
    run(averager, weights, numbers)
    window = numbers[-last:]
    expected = sum(window) / len(window)
    assert averages(averager, weights) == pytest.approx((expected, -expected), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(numbers=numbers)
def test_mean_of_the_weights_after_every_update_without_the_first(numbers: list[float]) -> None:
    weights = Weights()
    weights.set(2.5)
    averager = Averager(weights, "mean", decay=0.9, last=3)
    run(averager, weights, numbers)
    expected = sum(numbers) / len(numbers)
    assert averages(averager, weights) == pytest.approx((expected, -expected), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from(["none", "ema", "mean", "last"]), starts=st.lists(numbers, min_size=2, max_size=4)
)
def test_mean_of_the_averages_of_all_starts(kind: Kind, starts: list[list[float]]) -> None:
    def alone(numbers: list[float]) -> float:
        weights = Weights()
        weights.set(2.5)
        averager = Averager(weights, kind, decay=0.8, last=3)
        run(averager, weights, numbers)
        return averages(averager, weights)[0]

    weights = Weights()
    weights.set(2.5)
    averager = Averager(weights, kind, decay=0.8, last=3, starts=len(starts))
    ends: list[float] = []
    for number, start in enumerate(starts):
        if number:
            averager.start_again()
            assert float(weights.matrix.detach()[0, 0]) == 2.5
        run(averager, weights, start)
        ends.append(alone(start))
        mean = sum(ends) / len(ends)  # of those that are over, and of the latest as it is
        assert averages(averager, weights) == pytest.approx((mean, -mean), rel=1e-9, abs=1e-9)


def test_snapshots_are_taken_at_validations_and_not_at_updates() -> None:
    weights = Weights()
    averager = Averager(weights, "last", decay=0.9, last=2)
    for number in (1.0, 2.0, 3.0):
        weights.set(number)
        averager.after_update()
    averager.before_validation()
    assert averages(averager, weights) == (3.0, -3.0)


def test_the_moving_average_does_not_move_at_validations() -> None:
    weights = Weights()
    weights.set(1.0)
    averager = Averager(weights, "ema", decay=0.9, last=2)
    weights.set(50.0)
    averager.before_validation()
    assert averages(averager, weights) == (1.0, -1.0)


def test_none_leaves_the_weights_as_they_are() -> None:
    weights = Weights()
    averager = Averager(weights, "none", decay=0.9, last=2)
    run(averager, weights, [1.0, 2.0])
    assert averages(averager, weights) == (2.0, -2.0)
    assert averager.state().keys() == {"updates"}


def test_before_the_first_snapshot_the_weights_stand_for_themselves() -> None:
    weights = Weights()
    weights.set(4.0)
    assert averages(Averager(weights, "last", decay=0.9, last=2), weights) == (4.0, -4.0)


@pytest.mark.parametrize("kind", ["ema", "last"])
def test_raw_weights_come_back_after_an_error(kind: Kind) -> None:
    weights = Weights()
    averager = Averager(weights, kind, decay=0.5, last=3)
    run(averager, weights, [1.0, 2.0, 9.0])

    def fail_within() -> None:
        with averager.applied():
            assert float(weights.vector.detach()) != -9
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert float(weights.vector.detach()) == -9
    assert weights.tied is weights.matrix


@pytest.mark.parametrize("kind", ["none", "ema", "last"])
@pytest.mark.parametrize("updates", [0, 1, 5])
@pytest.mark.parametrize("starts", [1, 2])
def test_a_saved_average_goes_on_as_if_it_had_never_stopped(
    kind: Kind, updates: int, starts: int, tmp_path: Path
) -> None:
    before, after = [float(n * n) for n in range(updates)], [3.0, 8.0, 1.0]
    weights = Weights()
    weights.set(6.0)
    averager = Averager(weights, kind, 0.6, 4, starts)
    run(averager, weights, before)
    if starts > 1:
        averager.start_again()
        run(averager, weights, before)
    save_file(averager.state(), tmp_path / "average.safetensors")

    others = Weights()
    loaded = Averager(others, kind, 0.6, 4, starts)
    loaded.load_state(load_file(tmp_path / "average.safetensors"))
    run(averager, weights, after)
    run(loaded, others, after)
    assert averages(loaded, others) == averages(averager, weights)
    assert loaded.updates == averager.updates
    if starts > 1:
        loaded.start_again()
        assert averages(loaded, others)[0] == pytest.approx((2 * averages(averager, weights)[0] + 6) / 3)


@pytest.mark.parametrize("kind", ["ema", "mean", "last"])
def test_an_average_remembers_no_graph(kind: Kind) -> None:
    """Which would grow with every update."""
    weights = Weights()
    averager = Averager(weights, kind, decay=0.9, last=2, starts=2)
    run(averager, weights, [1.0, 2.0])
    averager.start_again()
    run(averager, weights, [3.0])
    kept = [*averager.first, *averager.ended, *(each for one in averager.snapshots for each in one)]
    assert kept
    assert not any(each.requires_grad for each in kept)


def test_the_state_does_not_change_with_the_weights() -> None:
    weights = Weights()
    averager = Averager(weights, "last", decay=0.9, last=3)
    weights.set(1.0)
    averager.before_validation()
    weights.set(2.0)
    assert float(averager.state()["0.1"]) == -1
