"""The training loop on a tiny model: limits, signals, exact resumption, the best weights, and skipped updates."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from l2s_nmt.build_cost import Texts
from l2s_nmt.data.batches import Batch, Rows, collate, split_batch
from l2s_nmt.errors import Interrupted, TrainingFailed
from l2s_nmt.model import Policy
from l2s_nmt.search.losses.table import LOSSES
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training import loop
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress, list_checkpoints
from l2s_nmt.training.energy import Counter
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.loop import Trainer, TrainingData, Validation, in_one_block
from l2s_nmt.training.objective import Counts, Losses, Objective, Watch
from l2s_nmt.training.progress import Display
from l2s_nmt.training.schedule import Schedule
from l2s_nmt.training.stepper import AccelerateStepper
from tests.helpers import read_lines, without_times
from tests.searches import search_of
from tests.tiny import new_policy, random_sentences, shared_policy

SENTENCES, ROWS_A_BATCH = 24, 4
EPOCH = SENTENCES // ROWS_A_BATCH
SAMPLING = {"decoding": "sample", "temperature": 1.0}
LOLS = search_of("lols", roll_in=SAMPLING, decisions={"per_sentence": 2, "k": 3})
AGGREVATED = search_of("aggrevated", roll_in=SAMPLING)
EXPECTED_COST = LOSSES["expected_cost"].function
TEACHER_FORCING = Objective(None, 0.0, 1.0, 0.1, 1.0, "vocabulary")
BOTH = Objective(EXPECTED_COST, 2.0, 0.5, 0.1, 1.0, "vocabulary")
LIMITS = Limits(
    max_updates=12,
    max_epochs=None,
    max_minutes=None,
    patience=None,
    validate_every=5,
    checkpoint_every=100,
    log_every=4,
)

Weights = dict[str, Tensor]


def weights(policy: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in policy.state_dict().items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _numbers(sentences: Sequence[Sequence[int]]) -> list[str]:
    return [" ".join(map(str, tokens)) for tokens in sentences]


@dataclass
class Sitting:
    """One sitting of a run with everything small and in reach; callbacks see it."""

    folder: Path
    limits: Limits = LIMITS
    search: Any = None
    aggregate: Any = None
    objective: Any = TEACHER_FORCING
    averaging: str = "none"
    schedule: Schedule = field(default_factory=lambda: Schedule("constant", 0, 0.0))
    accumulation: int = 1
    dropout: float = 0.1
    double: bool = False
    clip_norm: float = 1.0
    seed: int = 3
    accelerator: Accelerator = field(default_factory=lambda: Accelerator(cpu=True))
    bleus: Callable[[Sitting], float] | None = None
    on_load: Callable[[Sitting], None] = lambda sitting: None
    saved: dict[str, Weights] = field(default_factory=dict)
    validated: list[Weights] = field(default_factory=list)
    loads: int = 0

    def __post_init__(self) -> None:
        self.policy = new_policy()
        if not self.double:
            self.policy.float()
        for module in self.policy.modules():
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = self.dropout  # type: ignore[assignment]
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.policy.parameters(), lr=0.01)
        self.averager = Averager(self.policy, self.averaging, 0.8, 2)  # type: ignore[arg-type]
        self.sources = random_sentences(self.policy, SENTENCES, seed=5, shortest=2)
        self.targets = [[*reversed(source[:-1]), self.policy.eos] for source in self.sources]
        self.folder.mkdir(exist_ok=True)
        self.trainer = Trainer(
            accelerator=self.accelerator,
            policy=self.policy,
            stepper=AccelerateStepper(self.accelerator, self.policy, self.optimizer, self.clip_norm),
            schedule=self.schedule,
            averager=self.averager,
            search=self.search,
            aggregate=self.aggregate,
            objective=self.objective,
            data=TrainingData(in_one_block(self._epoch), self._split, self._load),
            limits=self.limits,
            validate=self._validate,
            save_weights=lambda name: self.saved.__setitem__(name, weights(self.policy)),
            folder=self.folder,
            seed=self.seed,
            accumulation=self.accumulation,
            display=Display(enabled=False),
            texts=Texts(_numbers, _numbers),
        )

    def _epoch(self, epoch: int) -> list[Rows]:
        order = np.random.default_rng([1, epoch]).permutation(SENTENCES)
        return [order[start : start + ROWS_A_BATCH] for start in range(0, SENTENCES, ROWS_A_BATCH)]

    def _split(self, rows: Rows, count: int) -> list[Rows]:
        return split_batch(rows, np.array([len(self.sources[row]) for row in rows]), count)

    def _load(self, rows: Rows) -> Batch:
        self.loads += 1
        self.on_load(self)
        return collate(
            [self.sources[row] for row in rows], [self.targets[row] for row in rows], rows, self.policy.pad
        )

    def _validate(self) -> Validation:
        assert not self.policy.training
        self.validated.append(weights(self.policy))
        if self.bleus is not None:
            return Validation(self.bleus(self), 1.0, 0.0, 0.0, ("a", "b", "c"))
        size = sum(float(p.detach().double().abs().sum()) for p in self.policy.parameters())
        return Validation(50 * (1 + math.sin(10 * size)), 1.0, 0.0, 0.0, ("a", "b", "c"))

    def run(self, stray_seed: int = 11) -> Progress:
        torch.manual_seed(stray_seed)  # which decides nothing
        return self.trainer.run()

    def lines(self) -> list[dict[str, Any]]:
        return without_times(read_lines(self.folder / "metrics.jsonl"))

    def lines_of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["kind"] == kind]


def forget(sitting: Sitting) -> None:
    """So that whatever a checkpoint does not bring back is missed."""
    with torch.no_grad():
        for parameter in sitting.policy.parameters():
            parameter.zero_()


# --- Limits


def test_used_is_the_share_of_the_nearest_limit_and_budget_that_of_updates_or_time() -> None:
    limits = Limits(10, 4, 2.0, None, 1, 1, 1)
    assert limits.used(Progress(update=1, epoch=1, batch=3, seconds=12), batches=6, blocks=1) == 1.5 / 4
    assert limits.used(Progress(update=4, epoch=1, seconds=12), batches=6, blocks=1) == 0.4
    assert limits.used(Progress(update=4, epoch=1, seconds=90), batches=6, blocks=1) == 0.75
    assert limits.budget(Progress(update=4, epoch=4, seconds=12)) == 0.4
    assert limits.budget(Progress(update=4, epoch=4, seconds=90)) == 0.75
    endless = Limits(None, None, None, 3, 1, 1, 1)
    assert endless.used(Progress(update=10**6, epoch=10**3, seconds=1e9), batches=1, blocks=1) == 0
    assert endless.budget(Progress(update=10**6, seconds=1e9)) == 0


def test_ends_after_max_updates_with_a_validation_and_a_checkpoint(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, replace(LIMITS, max_updates=8))
    progress = sitting.run()
    assert (progress.update, progress.epoch, progress.batch) == (8, 1, 2)
    assert progress.sentences == 8 * ROWS_A_BATCH
    assert progress.finished
    assert [(line["kind"], line["update"]) for line in sitting.lines()] == [
        ("train", 4),
        ("validation", 5),
        ("train", 8),
        ("validation", 8),
        ("end", 8),
    ]
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["update-00000008"]
    assert same(sitting.saved["last"], weights(sitting.policy))


def test_ends_after_max_epochs(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, replace(LIMITS, max_updates=None, max_epochs=2))
    progress = sitting.run()
    assert (progress.update, progress.epoch, progress.batch) == (2 * EPOCH, 2, 0)
    assert progress.sentences == 2 * SENTENCES


def test_ends_after_max_minutes_over_all_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def on_load(sitting: Sitting) -> None:
        clock.now += 10
        if sitting.loads == 3 and clock.now < 1050:
            os.kill(os.getpid(), signal.SIGTERM)

    limits = replace(LIMITS, max_updates=None, max_minutes=1.5)
    with pytest.raises(Interrupted):
        Sitting(tmp_path, limits, on_load=on_load).run()
    clock.now += 5000  # time between the sittings does not count
    progress = Sitting(tmp_path, limits, on_load=on_load).run()
    assert progress.update == 9
    assert progress.seconds == 90
    assert progress.finished


def test_validation_counts_as_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def bleu(sitting: Sitting) -> float:
        clock.now += 60
        return 1.0

    limits = replace(LIMITS, max_updates=None, max_minutes=3, validate_every=2)
    sitting = Sitting(tmp_path, limits, bleus=bleu)
    # The time of a validation is known to the next update: one is begun after the third minute is over.
    assert sitting.run().update == 7
    assert [
        line["minutes"] for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "validation"
    ] == [
        1,
        2,
        3,
        4,
    ]


def test_ends_when_patience_is_over(tmp_path: Path) -> None:
    scores = [5.0, 6.0, 6.0, 7.0, 7.0, 3.0, 9.0]
    limits = replace(LIMITS, max_updates=None, patience=2, validate_every=1)
    sitting = Sitting(tmp_path, limits, bleus=lambda s: scores[len(s.validated) - 1])
    progress = sitting.run()
    assert progress.update == 6
    assert (progress.best_bleu, progress.best_update, progress.failures) == (7.0, 4, 2)
    end = sitting.lines()[-1]
    assert (end["kind"], end["best_bleu"], end["best_update"]) == ("end", 7.0, 4)
    assert [line["best"] for line in sitting.lines_of("validation")] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]


# --- Signals and resumption


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_after_the_update_with_a_checkpoint(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    def kill(sitting: Sitting) -> None:
        if sitting.loads == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sitting = Sitting(tmp_path, on_load=kill)
    with pytest.raises(Interrupted, match=number.name) as caught:
        sitting.run()
    assert caught.value.exit_status == status
    assert signal.getsignal(number) is before
    assert sitting.trainer.progress.update == 7
    assert not sitting.trainer.progress.finished
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["update-00000007"]
    assert "last" not in sitting.saved


def test_a_signal_in_the_last_update_lets_training_end(tmp_path: Path) -> None:
    def kill(sitting: Sitting) -> None:
        if sitting.loads == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    assert Sitting(tmp_path, on_load=kill).run().finished


def test_training_outside_the_main_thread_leaves_signals_alone(tmp_path: Path) -> None:
    handlers = []
    sitting = Sitting(tmp_path, on_load=lambda s: handlers.append(signal.getsignal(signal.SIGINT)))
    ended = []
    thread = threading.Thread(target=lambda: ended.append(sitting.run()))
    thread.start()
    thread.join()
    assert ended[0].finished
    assert set(handlers) == {signal.getsignal(signal.SIGINT)}


class Crash(Exception):
    """The process ends without being asked."""


def stop_by_signal(sitting: Sitting) -> None:
    if sitting.loads == 7:
        os.kill(os.getpid(), signal.SIGTERM)


def stop_by_crash(sitting: Sitting) -> None:
    if sitting.loads == 10:
        raise Crash


@pytest.mark.parametrize("averaging", ["none", "ema", "last"])
@pytest.mark.parametrize("search", [None, LOLS, AGGREVATED], ids=["teacher forcing", "lols", "aggrevated"])
@pytest.mark.parametrize("stop", [stop_by_signal, stop_by_crash])
def test_a_resumed_run_is_the_run_that_never_stopped(
    averaging: str, search: Search | None, stop: Callable[[Sitting], None], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "search": search,
        "objective": BOTH if search else TEACHER_FORCING,
        "averaging": averaging,
        "schedule": Schedule("cosine", 3, 0.1),
        "limits": replace(LIMITS, validate_every=3, checkpoint_every=5),
    }
    straight = Sitting(tmp_path / "straight", **settings)
    straight.run()

    # Stopped in the middle of an epoch, and of the updates that one line of the log sums up.
    first = Sitting(tmp_path / "resumed", on_load=stop, **settings)
    with pytest.raises((Interrupted, Crash)):
        first.run()
    second = Sitting(tmp_path / "resumed", saved=first.saved, **settings)
    forget(second)
    progress = second.run(stray_seed=99)

    assert second.loads < 12
    assert same(weights(second.policy), weights(straight.policy))
    assert same(second.averager.state(), straight.averager.state())
    assert second.lines() == straight.lines()
    assert second.saved.keys() == straight.saved.keys()
    assert straight.saved.keys() - {"average"} == {"best", "last"}
    assert ("average" in straight.saved) == (straight.averager.kind != "none")
    assert all(same(second.saved[name], straight.saved[name]) for name in straight.saved)
    assert replace(progress, seconds=0.0, joules=None) == replace(
        straight.trainer.progress, seconds=0.0, joules=None
    )
    assert len(straight.lines_of("train")) == 3


@dataclass
class Watched:
    """A search that something else looks at."""

    call: Callable[[Policy, Batch, Draws, float], Experience]

    def __call__(self, policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        return self.call(policy, batch, draws, level)

    def roll_in_costs(self, experience: Experience, batch: Batch) -> Tensor:
        return AGGREVATED.roll_in_costs(experience, batch)


def test_dropout_and_draws_differ_from_update_to_update(tmp_path: Path) -> None:
    # Else exact resumption would prove little.
    seen: list[tuple[int, int]] = []

    def spy(policy: Policy, batch: Batch, draws: Draws, level: float) -> Experience:
        seen.append((draws.seed, draws.update))
        return AGGREVATED(policy, batch, draws)

    Sitting(tmp_path / "a", search=Watched(spy), objective=BOTH).run()
    assert seen == [(3, update) for update in range(12)]
    runs = [Sitting(tmp_path / name, seed=seed) for name, seed in (("b", 3), ("c", 3), ("d", 4))]
    for number, run in enumerate(runs):
        run.run(stray_seed=number)
    assert same(weights(runs[0].policy), weights(runs[1].policy))
    assert not same(weights(runs[0].policy), weights(runs[2].policy))


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    first = Sitting(tmp_path)
    first.run()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    second = Sitting(tmp_path)
    assert second.run().finished
    assert (second.loads, second.validated, second.saved) == (0, [], {})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_metrics_of_a_run_that_never_reached_a_checkpoint_are_written_anew(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        Sitting(tmp_path, on_load=stop_by_crash).run()
    assert not list_checkpoints(tmp_path / "checkpoints")
    sitting = Sitting(tmp_path)
    sitting.run()
    straight = Sitting(tmp_path / "straight")
    straight.run()
    assert sitting.lines() == straight.lines()


# --- What is kept


@pytest.mark.parametrize("averaging", ["none", "ema", "last"])
def test_the_best_weights_are_those_of_the_best_validation(averaging: str, tmp_path: Path) -> None:
    scores = [1.0, 3.0, 2.0, 2.5]
    sitting = Sitting(
        tmp_path,
        replace(LIMITS, validate_every=3),
        averaging=averaging,
        bleus=lambda s: scores[len(s.validated) - 1],
    )
    progress = sitting.run()
    assert (progress.best_bleu, progress.best_update) == (3.0, 6)
    assert same(sitting.saved["best"], sitting.validated[1])
    assert not any(same(sitting.saved["best"], sitting.validated[n]) for n in (0, 2, 3))
    assert same(sitting.saved["last"], weights(sitting.policy))
    assert same(sitting.validated[3], weights(sitting.policy)) == (averaging == "none")


def test_averaging_does_not_touch_the_training(tmp_path: Path) -> None:
    plain, averaged = Sitting(tmp_path / "a"), Sitting(tmp_path / "b", averaging="ema")
    plain.run()
    averaged.run()
    assert same(weights(plain.policy), weights(averaged.policy))


# --- Updates


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
    assert rates == pytest.approx([0.01 * schedule(update, update / 12) for update in range(1, 13)])
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


def test_the_log_sums_up_the_updates_since_the_last_line(tmp_path: Path) -> None:
    terms: list[tuple[float, float, Counts]] = []

    def objective(
        policy: Policy, batch: Batch, experience: Experience, counts: Counts, watch: Watch | None
    ) -> tuple[Tensor, Losses]:
        loss, losses = BOTH(policy, batch, experience, counts, watch)
        terms.append((float(loss.detach()), float(losses.cross_entropy), counts))
        return loss, losses

    sitting = Sitting(tmp_path, search=LOLS, objective=objective)
    progress = sitting.run()
    lines = sitting.lines_of("train")
    assert [line["update"] for line in lines] == [4, 8, 12]
    for index, line in enumerate(lines):
        window = terms[4 * index : 4 * index + 4]
        assert line["loss"] == pytest.approx(sum(loss for loss, _, _ in window) / 4, abs=1e-5)
        tokens = sum(counts.tokens for _, _, counts in window)
        assert line["cross_entropy"] == pytest.approx(sum(sum_ for _, sum_, _ in window) / tokens, abs=1e-5)
        assert {"search_loss", "chosen_cost", "roll_in_cost", "entropy", "length_ratio"} <= line.keys()
    assert lines[-1]["roll_outs"] == progress.roll_outs > 0
    assert lines[-1]["sentences"] == 12 * ROWS_A_BATCH


# --- Updates that are skipped


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


def test_what_the_checkpoint_before_the_newest_needs_is_kept(tmp_path: Path) -> None:
    """So that a run goes on as if nothing had happened when the newest is damaged."""
    settings: dict[str, Any] = {
        "search": AGGREVATED,
        "objective": BOTH,
        "limits": replace(LIMITS, checkpoint_every=4),
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
        TrainingFailed, match=r"update 7: a cost is not finite, .*3 updates in a row .*learning_rate"
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


def test_the_energy_of_all_sittings_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = [0.0]

    def count() -> float:
        counted[0] += 1.0
        return counted[0]

    monkeypatch.setattr(
        loop, "find_counters", lambda device, processors: [Counter(count)] if processors else []
    )
    with pytest.raises(Interrupted):
        Sitting(tmp_path / "stopped", on_load=stop_by_signal).run()
    first = counted[0] - 1
    counted[0] = 500.0  # what others took meanwhile
    progress = Sitting(tmp_path / "stopped").run()
    assert progress.joules == first + counted[0] - 501
    assert read_lines(tmp_path / "stopped" / "metrics.jsonl")[-1]["joules"] == progress.joules
    monkeypatch.setattr(loop, "find_counters", lambda device, processors: [])
    assert Sitting(tmp_path / "silent").run().joules is None
    assert "joules" not in read_lines(tmp_path / "silent" / "metrics.jsonl")[-1]
