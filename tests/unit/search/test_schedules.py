"""Schedules as arrays of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.search.schedules import HALF, SHAPES, Schedule, ScheduleName


def values(name: ScheduleName, *updates: int, start: float = 1.0, end: float = 0.0) -> list[float]:
    schedule = Schedule(name, start, end, updates=100)
    return [schedule(update) for update in updates]


def test_values() -> None:
    assert values("constant", 0, 50, 1000) == [1.0, 1.0, 1.0]
    assert values("linear", 0, 25, 100, 1000) == [1.0, 0.75, 0.0, 0.0]
    assert values("linear", 0, 50, 100, start=0.2, end=0.8) == pytest.approx([0.2, 0.5, 0.8])
    assert values("exponential", 0, 50, 100, 200) == pytest.approx([1.0, 0.1, 0.01, 0.0001])
    assert values("inverse_sigmoid", 0, 50, 100) == pytest.approx([1.0, 0.5, 0.0], abs=0.003)
    assert HALF(0) == HALF(10**9) == 0.5


@pytest.mark.parametrize("name", SHAPES)
@given(
    start=st.floats(0, 1),
    end=st.floats(0, 1),
    first=st.integers(0, 10**7),
    second=st.integers(0, 10**7),
)
def test_it_goes_from_start_to_end_and_never_back(
    name: ScheduleName, start: float, end: float, first: int, second: int
) -> None:
    schedule = Schedule(name, start, end, 1000)
    low, high = sorted((start, end))
    early, late = schedule(min(first, second)), schedule(max(first, second))
    assert low - 1e-12 <= early <= high + 1e-12
    assert abs(late - end) <= abs(early - end) + 1e-12
