"""Schedules as arrays of values."""

from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2s_nmt.training.schedule import Schedule

Kind = Literal["constant", "inverse_sqrt", "linear", "cosine"]


def multipliers(kind: Kind, warmup: int, final: float, updates: int = 8) -> list[float]:
    """Of updates 1 … n, the budget being n updates."""
    schedule = Schedule(kind, warmup, final)
    return [schedule(update, update / updates) for update in range(1, updates + 1)]


def test_constant() -> None:
    assert multipliers("constant", 0, 0.0) == [1] * 8
    assert multipliers("constant", 4, 0.0) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_inverse_sqrt() -> None:
    expected = [0.25, 0.5, 0.75, 1, math.sqrt(4 / 5), math.sqrt(4 / 6), math.sqrt(4 / 7), math.sqrt(4 / 8)]
    assert multipliers("inverse_sqrt", 4, 0.0) == pytest.approx(expected)
    assert multipliers("inverse_sqrt", 0, 0.0) == pytest.approx([1 / math.sqrt(n) for n in range(1, 9)])


def test_linear() -> None:
    expected = [0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]
    assert multipliers("linear", 0, 0.0) == pytest.approx(expected)
    assert multipliers("linear", 2, 0.0) == pytest.approx([0.4375, *expected[1:]])
    assert multipliers("linear", 0, 0.2) == pytest.approx([0.2 + 0.8 * value for value in expected])


def test_cosine() -> None:
    expected = [(1 + math.cos(math.pi * n / 8)) / 2 for n in range(1, 9)]
    assert expected[3] == pytest.approx(0.5)
    assert multipliers("cosine", 0, 0.0) == pytest.approx(expected)
    assert multipliers("cosine", 2, 0.0) == pytest.approx([expected[0] / 2, *expected[1:]])
    assert multipliers("cosine", 0, 0.5)[-1] == pytest.approx(0.5)


@given(
    kind=st.sampled_from(["constant", "inverse_sqrt", "linear", "cosine"]),
    warmup=st.integers(0, 50),
    final=st.floats(0, 1),
    update=st.integers(1, 10_000),
    used=st.floats(0, 2),
)
def test_never_stops_too_early_and_never_exceeds_the_peak(
    kind: Kind, warmup: int, final: float, update: int, used: float
) -> None:
    schedule = Schedule(kind, warmup, final)
    value = schedule(update, used)
    assert 0 <= value <= 1
    assert value > 0 or (kind in ("linear", "cosine") and final < 1e-9 and used > 0.9)
    assert value == schedule(update, min(used, 1.0))  # past the budget the rate stays where it ended
    assert schedule(update + 1, used) <= value or update < warmup
