"""A run that was stopped by a signal or a crash goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import Interrupted, UserError
from l2s_nmt.model import Policy
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training import checkpoints
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.checkpoints import list_checkpoints
from l2s_nmt.training.schedule import Schedule
from tests.unit.training.sitting import (
    AGGREVATED,
    BOTH,
    LIMITS,
    LOLS,
    TEACHER_FORCING,
    Crash,
    Sitting,
    Watched,
    forget,
    same,
    stop_by_crash,
    stop_by_signal,
    weights,
)


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
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "update-00000007"
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


@pytest.mark.parametrize(
    ("averaging", "starts"), [("none", 1), ("ema", 1), ("last", 1), ("none", 2), ("ema", 3), ("last", 2)]
)
@pytest.mark.parametrize("search", [None, LOLS, AGGREVATED], ids=["teacher forcing", "lols", "aggrevated"])
@pytest.mark.parametrize("stop", [stop_by_signal, stop_by_crash])
def test_a_resumed_run_is_the_run_that_never_stopped(
    averaging: str,
    starts: int,
    search: Search | None,
    stop: Callable[[Sitting], None],
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {
        "search": search,
        "objective": BOTH if search else TEACHER_FORCING,
        "averaging": averaging,
        "starts": starts,
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
    assert ("average" in straight.saved) == (averaging != "none" or starts > 1)
    assert all(same(second.saved[name], straight.saved[name]) for name in straight.saved)
    assert replace(progress, seconds=0.0, joules=None) == replace(
        straight.trainer.progress, seconds=0.0, joules=None
    )
    assert len(straight.lines_of("train")) == 3


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


def crash_in_third_update(sitting: Sitting) -> None:
    if sitting.loads == 3:
        raise Crash


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
        Sitting(tmp_path, on_load=crash_in_third_update).run()
    assert not list_checkpoints(tmp_path / "checkpoints")
    sitting = Sitting(tmp_path)
    sitting.run()
    straight = Sitting(tmp_path / "straight")
    straight.run()
    assert sitting.lines() == straight.lines()


@pytest.mark.parametrize(("holder", "removal"), [(checkpoints, "remove_old"), (Aggregate, "prune")])
def test_what_a_run_that_was_killed_did_not_come_to_remove_is_removed(
    holder: Any, removal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was killed behind its last checkpoint, when nothing was left to do but that."""

    def sitting(name: str) -> Sitting:
        aggregate = Aggregate(tmp_path / name / "aggregated", 1, 2, 3, 0, 1)
        limits = replace(LIMITS, checkpoint_every=3)
        return Sitting(tmp_path / name, limits, AGGREVATED, aggregate, BOTH)

    def files(name: str) -> set[str]:
        return {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}

    def killed(*arguments: Any) -> None:
        if (tmp_path / "killed" / "checkpoints" / "update-00000012").exists():
            raise Crash

    sitting("straight").run()
    with monkeypatch.context() as patched:
        patched.setattr(holder, removal, killed)
        with pytest.raises(Crash):
            sitting("killed").run()
    assert files("killed") > files("straight")
    sitting("killed").run()
    assert files("killed") == files("straight")


@pytest.mark.parametrize("averaging", ["none", "ema", "mean", "last"])
def test_a_finished_run_with_higher_limits_goes_on_as_if_it_had_had_them(
    averaging: str, tmp_path: Path
) -> None:
    long = replace(LIMITS, max_updates=12, validate_every=4)
    whole = Sitting(tmp_path / "whole", limits=long, averaging=averaging)
    whole.run()
    short = Sitting(tmp_path / "parts", limits=replace(long, max_updates=8), averaging=averaging)
    assert short.run().finished
    again = Sitting(tmp_path / "parts", limits=replace(long, max_updates=8), averaging=averaging)
    again.run()
    assert not again.loads
    further = Sitting(tmp_path / "parts", limits=long, averaging=averaging)
    assert further.run().finished
    assert same(weights(further.policy), weights(whole.policy))
    assert same(further.saved["last"], whole.saved["last"])
    found = [[{**line, "used": 0} for line in sitting.lines()] for sitting in (whole, further)]
    assert found[0] == found[1]


@pytest.mark.parametrize("back", [False, True])
def test_a_run_that_was_killed_when_it_had_just_been_given_higher_limits_goes_on(
    back: bool, tmp_path: Path
) -> None:
    """With the higher limits again, or with those that it had reached already."""
    long = replace(LIMITS, max_updates=12, validate_every=4)
    short = replace(long, max_updates=8)
    whole = Sitting(tmp_path / "whole", limits=short if back else long)
    whole.run()
    Sitting(tmp_path / "parts", limits=short).run()
    with pytest.raises(Crash):
        Sitting(tmp_path / "parts", limits=long, on_load=crash_in_third_update).run()
    parts = Sitting(tmp_path / "parts", limits=short if back else long)
    assert parts.run().finished
    found = [[{**line, "used": 0} for line in sitting.lines()] for sitting in (whole, parts)]
    assert found[0] == found[1]


def test_higher_limits_without_the_metrics_are_refused(tmp_path: Path) -> None:
    Sitting(tmp_path).run()
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics.jsonl: has 0 bytes, but had"):
        Sitting(tmp_path, limits=replace(LIMITS, max_updates=20)).run()


def test_a_checkpoint_that_a_killed_run_had_begun_is_removed(tmp_path: Path) -> None:
    Sitting(tmp_path).run()
    for ending in ("new", "old"):
        (tmp_path / "checkpoints" / f".update-00000013.{ending}").mkdir()
    Sitting(tmp_path).run()
    assert not [*(tmp_path / "checkpoints").glob(".*")]


def never_better(folder: Path, patience: int) -> Sitting:
    limits = replace(LIMITS, max_updates=20, validate_every=2, patience=patience)
    return Sitting(folder, limits, bleus=lambda sitting: 1.0)


def test_a_run_that_lost_its_patience_goes_on_with_more(tmp_path: Path) -> None:
    assert never_better(tmp_path, 2).run().update == 6
    assert never_better(tmp_path, 4).run().update == 10


def test_a_run_that_lost_its_patience_is_left_as_it_is(tmp_path: Path) -> None:
    never_better(tmp_path, 2).run()
    again = never_better(tmp_path, 2)
    assert again.run().finished
    assert (again.loads, again.validated) == (0, [])
