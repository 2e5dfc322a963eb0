"""Updates that are not finite are skipped, counted and, where they do not end, kept for inspection."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import TrainingFailed
from l2s_nmt.model import Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.checkpoints import list_checkpoints
from l2s_nmt.training.objective import Counts, Losses, Watch
from tests.tiny import shared_policy
from tests.unit.training.sitting import (
    AGGREVATED,
    BOTH,
    LIMITS,
    TEACHER_FORCING,
    Crash,
    Sitting,
    Watched,
    Weights,
    forget,
    same,
    stop_by_crash,
    weights,
)


@dataclass
class Exploding:
    """An objective whose gradient is not finite at one update."""

    at: int
    factor: float
    calls: int = 0
    before: Weights = field(default_factory=dict)

    def __call__(
        self, policy: Policy, batch: Batch, experience: None, counts: Counts, watch: Watch | None
    ) -> tuple[Tensor, Losses]:
        self.calls += 1
        loss, terms = TEACHER_FORCING(policy, batch, experience, counts, watch)
        if self.calls == self.at:
            self.before = weights(policy)
            assert terms.cross_entropy is not None
            return loss * self.factor, replace(terms, cross_entropy=terms.cross_entropy * self.factor)
        if self.calls == self.at + 1:
            assert same(self.before, weights(policy))
        return loss, terms


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_an_update_that_is_not_finite_is_skipped_and_counted(factor: float, tmp_path: Path) -> None:
    objective = Exploding(6, factor)
    sitting = Sitting(tmp_path, objective=objective, averaging="ema")
    progress = sitting.run()
    assert progress.skipped == 1
    assert progress.update == 12
    assert sitting.averager.updates == 11
    assert all(value.isfinite().all() for value in weights(sitting.policy).values())
    losses = [line["loss"] for line in sitting.lines_of("train")]
    assert len(losses) == 3
    assert all(0 < loss < 10 for loss in losses)


def test_the_loss_of_the_log_is_that_of_the_updates_that_were_made(tmp_path: Path) -> None:
    made = Sitting(tmp_path / "made", replace(LIMITS, log_every=1))
    made.run()
    skipped = Sitting(
        tmp_path / "skipped", replace(LIMITS, max_updates=2, log_every=2), objective=Exploding(2, math.nan)
    )
    skipped.run()
    assert skipped.lines_of("train")[0]["loss"] == made.lines_of("train")[0]["loss"]
    only = Sitting(
        tmp_path / "only", replace(LIMITS, max_updates=1, log_every=1), objective=Exploding(1, math.nan)
    )
    assert only.run().skipped == 1
    assert "loss" not in only.lines_of("train")[0]


def test_a_loss_that_is_not_finite_is_a_fault_though_its_gradient_be_finite(tmp_path: Path) -> None:
    def infinite(policy: Policy, batch: Batch, *others: Any) -> tuple[Tensor, Losses]:
        loss, terms = TEACHER_FORCING(policy, batch, *others)
        return loss + math.inf, terms

    sitting = Sitting(tmp_path, objective=infinite)
    before = weights(sitting.policy)
    assert sitting.run().skipped == 12
    assert same(weights(sitting.policy), before)


def spoiling(at: Callable[[int], bool], field_name: str, value: float) -> Watched:
    """A search that finds a cost that is not finite, in some updates."""

    def call(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        experience = AGGREVATED(policy, batch, draws, level)
        if not at(draws.update):
            return experience
        found = getattr(experience.costs, field_name).clone()
        found.flatten()[-1] = value
        return replace(experience, costs=replace(experience.costs, **{field_name: found}))

    return Watched(call)


@pytest.mark.parametrize("field_name", ["costs", "other"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_update_with_a_cost_that_is_not_finite_is_skipped_and_not_kept(
    field_name: str, value: float, tmp_path: Path
) -> None:
    aggregate = Aggregate(tmp_path / "aggregated", 1, 100, 3, 0, 1)
    sitting = Sitting(
        tmp_path,
        search=spoiling(lambda update: update in (2, 5), field_name, value),
        objective=BOTH,
        aggregate=aggregate,
    )
    progress = sitting.run()
    assert (progress.update, progress.skipped, progress.skipped_in_a_row) == (12, 2, 0)
    assert all(value.isfinite().all() for value in weights(sitting.policy).values())
    assert [line["skipped"] for line in sitting.lines_of("train")] == [1, 2, 2]
    kept = {int(path.name.split("-")[0]) for path in (tmp_path / "aggregated").iterdir()}
    assert kept == set(range(12)) - {2, 5}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_update_that_observed_a_loss_that_is_not_finite_is_skipped_and_forgotten(
    value: float, tmp_path: Path
) -> None:
    def search(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        losses = torch.full((len(batch),), value if draws.update == 2 else 0.5)
        return replace(AGGREVATED(policy, batch, draws, level), observed=losses)

    progress = Sitting(tmp_path, search=Watched(search), objective=BOTH).run()
    assert (progress.skipped, progress.level) == (1, 0.5)


def test_what_the_checkpoint_before_the_newest_needs_is_kept(tmp_path: Path) -> None:
    """So that a run goes on as if nothing had happened when the newest is damaged."""
    settings: dict[str, Any] = {
        "search": AGGREVATED,
        "objective": BOTH,
        "limits": replace(LIMITS, checkpoint_every=4),
        "bleus": lambda sitting: 1.0,  # a new best would have a checkpoint of its own
    }

    def sitting(folder: Path) -> Sitting:
        folder.mkdir(exist_ok=True)
        return Sitting(folder, aggregate=Aggregate(folder / "aggregated", 2, 5, 3, 0, 1), **settings)

    straight, again = sitting(tmp_path / "straight"), sitting(tmp_path / "again")
    straight.run()
    again.run()
    older, newest = list_checkpoints(tmp_path / "again" / "checkpoints")
    (newest / "model.safetensors").unlink()
    second = sitting(tmp_path / "again")
    forget(second)
    assert second.run().finished
    assert second.loads > 0
    assert older.name == "update-00000008"
    assert same(weights(second.policy), weights(straight.policy))
    kept = {int(path.name.split("-")[0]) for path in (tmp_path / "again" / "aggregated").iterdir()}
    assert kept == set(range(3, 12))


def test_too_many_skipped_updates_in_a_row_end_training_with_the_batch_saved(tmp_path: Path) -> None:
    bad = {1, 2, 4, 5, 6}
    sitting = Sitting(
        tmp_path,
        replace(LIMITS, max_skipped=3, checkpoint_every=3),
        search=spoiling(lambda update: update in bad, "costs", math.nan),
        objective=BOTH,
    )
    with pytest.raises(
        TrainingFailed, match=r"update 7: a cost is not finite, .*3 updates in a row .*see what search.cost"
    ):
        sitting.run()
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")][-1] == "update-00000006"
    path = tmp_path / "faults" / "update-00000007-0.json"
    fault = json.loads(path.read_text())
    rows = sitting._epoch(1)[0].tolist()
    assert fault["update"] == 7
    assert fault["reason"] == "a cost is not finite"
    assert sorted(sentence["row"] for sentence in fault["sentences"]) == sorted(rows)
    for sentence in fault["sentences"]:
        assert sentence["source"] == " ".join(map(str, sitting.sources[sentence["row"]]))
        assert sentence["target"] == " ".join(map(str, sitting.targets[sentence["row"]]))
    found = load_file(path.with_suffix(".safetensors"))
    assert found["0.costs"].isnan().sum() == 1
    assert found["0.actions"].shape == found["0.costs"].shape


def test_a_fault_names_the_weights_and_gradients_that_are_not_finite(tmp_path: Path) -> None:
    objective = Exploding(1, math.nan)
    sitting = Sitting(tmp_path, replace(LIMITS, max_skipped=1), objective=objective)
    with pytest.raises(TrainingFailed, match="the loss or its gradient is not finite"):
        sitting.run()
    fault = json.loads((tmp_path / "faults" / "update-00000001-0.json").read_text())
    assert fault["weights_not_finite"] == []
    assert "model.lm_head.weight" in fault["gradients_not_finite"]


class Scaling(Accelerator):  # type: ignore[misc]  # accelerate has no types
    """What accelerate does in half precision on a GPU, on a CPU in single precision."""

    def __init__(self) -> None:
        super().__init__(cpu=True)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)

    def unscale_gradients(self, optimizer: object = None) -> None:
        self.scaler.unscale_(self._optimizers[-1].optimizer)


def test_a_scaler_lowers_its_scale_at_a_skipped_update_and_training_goes_on(tmp_path: Path) -> None:
    limits = replace(LIMITS, checkpoint_every=8)
    sitting = Sitting(
        tmp_path, limits, objective=Exploding(6, math.inf), accelerator=Scaling(), on_load=stop_by_crash
    )
    with pytest.raises(Crash):
        sitting.run()
    assert sitting.trainer.progress.skipped == 1
    assert sitting.accelerator.scaler.get_scale() == 2.0**9
    resumed = Sitting(tmp_path, limits, accelerator=Scaling())
    assert resumed.run().skipped == 1
    assert resumed.accelerator.scaler.get_scale() == 2.0**9


def test_scaled_gradients_train_as_unscaled_ones_do(tmp_path: Path) -> None:
    plain, scaled = Sitting(tmp_path / "a"), Sitting(tmp_path / "b", accelerator=Scaling())
    plain.run()
    scaled.run()
    assert same(weights(plain.policy), weights(scaled.policy))  # powers of two change no digit
    assert not same(weights(plain.policy), weights(shared_policy()))
