"""Several starts from the same weights, against the trainings that they are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from l2s_nmt.data.batches import Rows
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.schedule import Schedule
from l2s_nmt.training.starts import Starts
from tests.unit.training.sitting import LIMITS, Sitting, Weights, same, weights

QUIET = replace(LIMITS, validate_every=100)
COSINE = Schedule("cosine", 2, 0.1)


class Alike(Sitting):
    """Every update is on the same sentences, so that starts differ in nothing."""

    def _epoch(self, epoch: int) -> list[Rows]:
        return [np.arange(4)]


def starts_of(number: int, ended: int) -> Starts:
    """Where so many are over."""
    averager = Averager(nn.Linear(1, 1), "none", decay=0.9, last=1, starts=number)
    for _ in range(ended):
        averager.start_again()
    return Starts(averager, None)  # type: ignore[arg-type]


def mean(several: list[Weights]) -> Weights:
    return {name: torch.stack([one[name] for one in several]).mean(0) for name in several[0]}


@pytest.mark.parametrize("averaging", ["none", "ema", "mean", "last"])
def test_starts_that_are_alike_end_where_one_of_them_does(averaging: str, tmp_path: Path) -> None:
    # The warm-up, the curve of the learning rate, the optimiser and the average all begin anew.
    settings: dict[str, Any] = {"averaging": averaging, "schedule": COSINE, "dropout": 0.0, "double": True}
    one = Alike(tmp_path / "one", limits=replace(QUIET, max_updates=4), **settings)
    one.run()
    three = Alike(tmp_path / "three", limits=replace(QUIET, max_updates=12), starts=3, **settings)
    three.run()
    assert same(weights(three.policy), weights(one.policy))
    expected = one.saved["average"] if averaging != "none" else one.saved["last"]
    for name, value in three.saved["average"].items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_what_is_validated_is_the_mean_of_the_starts_so_far(tmp_path: Path) -> None:
    seen: list[Weights] = []
    limits = replace(QUIET, max_updates=9, validate_every=2)
    sitting = Sitting(tmp_path, limits=limits, starts=3, on_load=lambda s: seen.append(weights(s.policy)))
    first = weights(sitting.policy)
    progress = sitting.run()
    seen.append(weights(sitting.policy))  # seen[n] are the weights after n updates, or those of a new start

    assert [line["update"] for line in sitting.lines_of("validation")] == [2, 3, 4, 6, 8, 9]
    assert all(same(seen[updates], first) for updates in (0, 3, 6))
    assert (sitting.averager.starts_ended, progress.started_at) == (2, 6)
    third, last = sitting.validated[1], sitting.validated[-1]
    assert not same(third, first)
    ends = [third, {n: 2 * sitting.validated[3][n] - third[n] for n in third}, seen[9]]
    for name, value in mean(ends).items():
        torch.testing.assert_close(last[name], value, rtol=1e-4, atol=1e-5)
    for name, value in mean([third, seen[4]]).items():
        torch.testing.assert_close(sitting.validated[2][name], value, rtol=1e-4, atol=1e-5)
    assert same(sitting.saved["average"], last)
    assert same(sitting.saved["last"], seen[9])


def test_starts_see_other_sentences_and_end_in_other_places(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, limits=replace(QUIET, max_updates=8), starts=2)
    sitting.run()
    halfway, end = sitting.validated
    second = {name: 2 * end[name] - halfway[name] for name in end}
    assert any((second[name] - halfway[name]).abs().max() > 1e-3 for name in end)
    assert sitting.loads == 8


@pytest.mark.parametrize(
    ("number", "ended", "used", "due"),
    [
        (1, 0, 0.99, False),
        (1, 0, 1.0, False),
        (3, 0, 0.33, False),
        (3, 0, 0.34, True),
        (3, 1, 0.34, False),
        (3, 1, 0.7, True),
        (3, 2, 0.7, False),
        (3, 2, 1.0, False),
    ],
)
def test_when_a_start_is_over(number: int, ended: int, used: float, due: bool) -> None:
    assert starts_of(number, ended).another(used) == due


@pytest.mark.parametrize(("number", "updates"), [(22, 22), (22, 2200), (44, 44), (100, 700)])
def test_starts_are_of_one_length_whatever_a_share_is_rounded_to(number: int, updates: int) -> None:
    starts = starts_of(number, 0)
    begun = [0]
    for update in range(1, updates + 1):
        if starts.another(update / updates):
            starts.averager.start_again()
            begun.append(update)
    assert begun == list(range(0, updates, updates // number))


@pytest.mark.parametrize(
    ("number", "ended", "at", "budget", "since"),
    [
        (1, 0, 0, 0.4, (7, 0.4)),
        (2, 0, 0, 0.4, (7, 0.8)),
        (2, 1, 5, 0.75, (2, 0.5)),
        (2, 1, 5, 0.0, (2, 0.0)),  # by roll-outs, of which a schedule knows nothing
    ],
)
def test_how_far_a_start_is(
    number: int, ended: int, at: int, budget: float, since: tuple[int, float]
) -> None:
    assert starts_of(number, ended).since(Progress(update=7, started_at=at), budget) == since
