"""Schedules: their values at the ends, on the way, and long after."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.search.schedules import HALF, SHAPES, Schedule, ScheduleName

NAMES: tuple[ScheduleName, ...] = ("constant", "linear", "exponential", "inverse_sigmoid")
probabilities = st.floats(0, 1)


def values(schedule: Schedule, *updates: int) -> list[float]:
    return [schedule(update) for update in updates]


def test_every_shape_is_tested_here() -> None:
    assert set(SHAPES) == set(NAMES)


def test_constant_stays_at_the_start() -> None:
    assert values(Schedule("constant", 0.3, 0.9, 10), 0, 5, 10, 10**7) == [0.3] * 4
    assert values(HALF, 0, 1, 10**7) == [0.5] * 3


def test_linear_goes_in_even_steps_and_stays_at_the_end() -> None:
    down = values(Schedule("linear", 1.0, 0.0, 4), 0, 1, 2, 3, 4, 5, 400)
    assert down == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]
    up = values(Schedule("linear", 0.25, 0.75, 2), 0, 1, 2, 3)
    assert up == [0.25, 0.5, 0.75, 0.75]


def test_exponential_goes_the_same_share_of_the_rest_in_each_update() -> None:
    schedule = Schedule("exponential", 0.9, 0.1, 50)
    rest = [(value - 0.1) / 0.8 for value in values(schedule, *range(101))]
    shares = [after / before for before, after in pairwise(rest)]
    assert shares == pytest.approx([shares[0]] * 100)
    assert (rest[0], rest[50], rest[100]) == pytest.approx((1, 0.01, 0.0001))


def test_inverse_sigmoid_is_a_logistic_curve_about_half_the_way() -> None:
    rest = values(Schedule("inverse_sigmoid", 1.0, 0.0, 100), *range(101))
    assert rest[50] == pytest.approx(0.5)
    assert rest[0] > 0.997
    assert rest[100] < 0.003
    for update in range(51):
        assert rest[50 - update] + rest[50 + update] == pytest.approx(1)
    odds = [math.log(value / (1 - value)) for value in rest]
    assert [a - b for a, b in pairwise(odds)] == pytest.approx([0.12] * 100)


@given(name=st.sampled_from(NAMES), start=probabilities, end=probabilities, updates=st.integers(1, 10**5))
def test_values_go_from_start_to_end_and_never_back(
    name: ScheduleName, start: float, end: float, updates: int
) -> None:
    schedule = Schedule(name, start, end, updates)
    ordered = values(schedule, *(updates * step // 7 for step in range(22)), 10**6 * updates)
    last = ordered[-1]
    if start < end:
        ordered.reverse()
    assert all(before >= after - 1e-12 for before, after in pairwise(ordered))
    assert max(ordered) <= max(start, end) + 1e-12
    assert min(ordered) >= min(start, end) - 1e-12
    assert last == pytest.approx(start if name == "constant" else end, abs=1e-12)
    if name != "inverse_sigmoid":
        # Exactly: a probability of nearly 1 would be a mixture.
        assert schedule(0) == start
