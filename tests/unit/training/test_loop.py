"""An update: its learning rate, its modes, its parts and its clipped gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.model import Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training import loop
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.objective import Losses
from l2s_nmt.training.schedule import Schedule
from tests.clock import Clock
from tests.helpers import read_lines
from tests.unit.training.sitting import (
    AGGREVATED,
    BOTH,
    LIMITS,
    LOLS,
    ROWS_A_BATCH,
    TEACHER_FORCING,
    Sitting,
    Watched,
    weights,
)


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    schedule = Schedule("linear", 4, 0.1)
    rates: list[float] = []
    sitting = Sitting(tmp_path, replace(LIMITS, log_every=1), schedule=schedule)
    step = sitting.optimizer.step

    def recorded(*arguments: Any) -> Any:
        rates.append(sitting.optimizer.param_groups[0]["lr"])
        return step(*arguments)

    sitting.optimizer.step = recorded  # type: ignore[method-assign, assignment]
    sitting.run()
    assert rates == pytest.approx([0.01 * schedule(update, (update - 1) / 12) for update in range(1, 13)])
    assert [line["learning_rate"] for line in sitting.lines_of("train")] == rates


def test_the_policy_searches_without_dropout_and_learns_with_it(tmp_path: Path) -> None:
    modes = []

    def search(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        modes.append(("search", policy.training, torch.is_grad_enabled()))
        return AGGREVATED(policy, batch, draws)

    def objective(policy: Policy, *arguments: Any) -> tuple[Tensor, Losses]:
        modes.append(("learn", policy.training, torch.is_grad_enabled()))
        return BOTH(policy, *arguments)

    Sitting(tmp_path, search=Watched(search), objective=objective).run()
    assert modes == [("search", False, False), ("learn", True, True)] * 12


class Second(Accelerator):  # type: ignore[misc]  # accelerate has no types
    """Of one process that takes itself for the second."""

    process_index = 1


def test_dropout_is_drawn_anew_in_every_update_and_process(tmp_path: Path) -> None:
    drawn: list[float] = []

    def objective(policy: Policy, *arguments: Any) -> tuple[Tensor, Losses]:
        drawn.append(float(torch.rand(())))
        return TEACHER_FORCING(policy, *arguments)

    for kind in (Accelerator, Second):
        sitting = Sitting(tmp_path / kind.__name__, objective=objective, accelerator=kind(cpu=True))
        # Whichever it takes itself for, it has all sentences.
        sitting.trainer.data = replace(sitting.trainer.data, split=lambda rows, parts: [rows] * 2)
        sitting.run()
    assert len(set(drawn)) == len(drawn) == 24


@pytest.mark.parametrize("search", [None, LOLS, AGGREVATED], ids=["teacher forcing", "lols", "aggrevated"])
@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_accumulation_changes_nothing(search: Search | None, accumulation: int, tmp_path: Path) -> None:
    # In six parts there are fewer sentences than parts. Six updates are short of a last batch that is not full.
    settings: dict[str, Any] = {
        "search": search,
        "objective": BOTH if search else TEACHER_FORCING,
        "limits": replace(LIMITS, max_updates=4, log_every=2),
        "dropout": 0.0,
        "double": True,
    }
    whole = Sitting(tmp_path / "whole", **settings)
    whole.run()
    split = Sitting(tmp_path / "split", accumulation=accumulation, **settings)
    split.run()
    for name, value in weights(whole.policy).items():
        if "k_proj.bias" not in name:  # its gradient is zero, and Adam makes steps of the rounding
            torch.testing.assert_close(weights(split.policy)[name], value, rtol=1e-6, atol=1e-7)
    for line, other in zip(whole.lines_of("train"), split.lines_of("train"), strict=True):
        assert other.keys() == line.keys()
        numbers = [name for name, value in line.items() if isinstance(value, float)]
        assert [other[name] for name in numbers] == pytest.approx(
            [line[name] for name in numbers], rel=1e-5, abs=1e-6
        )


def test_gradients_are_clipped(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, replace(LIMITS, max_updates=1, log_every=1), clip_norm=1e-3)
    norms = []
    step = sitting.optimizer.step

    def recorded(*arguments: Any) -> Any:
        squares = [float(p.grad.pow(2).sum()) for p in sitting.policy.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(squares)))
        return step(*arguments)

    sitting.optimizer.step = recorded  # type: ignore[method-assign, assignment]
    sitting.run()
    assert norms == pytest.approx([1e-3], rel=1e-3)
    assert sitting.lines_of("train")[0]["gradient_norm"] > 0.1


def test_the_mean_of_the_observed_losses_reaches_the_search_and_nothing_else_is_scored(
    tmp_path: Path,
) -> None:
    levels: list[float] = []

    def noted(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        levels.append(level)
        losses = torch.full((len(batch),), float(draws.update))
        return replace(AGGREVATED(policy, batch, draws, level), observed=losses)

    limits = replace(LIMITS, max_updates=5, log_every=1)
    sitting = Sitting(tmp_path / "run", limits, Watched(noted), None, BOTH)
    sitting.run()
    assert levels == pytest.approx([0, 0, 0.5, 1, 1.5])
    assert not any("roll_in_cost" in line for line in sitting.lines_of("train"))


def test_the_mean_of_the_observed_losses_forgets_what_is_long_past() -> None:
    progress = Progress()
    for loss in [0.0] * 200 + [1.0]:
        progress.observe(loss)
    assert progress.level == pytest.approx(0.01)


def test_ends_when_the_roll_outs_are_used_up(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_updates=20, max_roll_outs=100)
    assert limits.used(Progress(roll_outs=150), 1, 1) == 1.5
    progress = Sitting(tmp_path / "run", limits, LOLS, None, BOTH).run()
    assert progress.finished
    assert progress.roll_outs >= 100
    assert progress.update < 20


def test_what_a_reference_notes_reaches_the_log(tmp_path: Path) -> None:
    def search(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        notes = {"oracle_asked": 4.0, "oracle_gap": float(draws.update), "oracle_proven": 3.0}
        return replace(AGGREVATED(policy, batch, draws, level), notes=notes)

    sitting = Sitting(tmp_path, replace(LIMITS, max_updates=4), Watched(search), None, BOTH)
    sitting.run()
    (line,) = sitting.lines_of("train")
    assert (line["oracle_gap"], line["oracle_proven"]) == ((0 + 1 + 2 + 3) / 16, 0.75)


def test_the_time_of_learning_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)

    def on_load(sitting: Sitting) -> None:
        clock.now += 1

    def search(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        clock.now += 2
        return AGGREVATED(policy, batch, draws, level)

    def objective(policy: Policy, *arguments: Any) -> tuple[Tensor, Losses]:
        clock.now += 4
        return BOTH(policy, *arguments)

    limits = replace(LIMITS, max_updates=2, log_every=2)
    Sitting(tmp_path, limits, Watched(search), objective=objective, on_load=on_load).run()
    (line,) = (line for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "train")
    assert line["seconds_update"] == 2 * 4
    assert line["sentences_per_second"] == pytest.approx(ROWS_A_BATCH / (1 + 2 + 4), abs=1e-5)
