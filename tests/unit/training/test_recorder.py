"""What a run leaves: when it ends, the best weights, lines of metrics.jsonl, the energy it took."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from l2s_nmt.data.batches import Batch
from l2s_nmt.errors import Interrupted
from l2s_nmt.model import Policy
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training import recorder
from l2s_nmt.training.checkpoints import Progress, list_checkpoints
from l2s_nmt.training.energy import Counter
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.objective import Counts, Losses, Watch
from l2s_nmt.training.validate import Validation
from tests.clock import Clock
from tests.helpers import read_lines
from tests.unit.training.sitting import (
    AGGREVATED,
    BOTH,
    EPOCH,
    LIMITS,
    LOLS,
    ROWS_A_BATCH,
    SENTENCES,
    Crash,
    Sitting,
    same,
    stop_by_signal,
    weights,
)


def test_used_is_the_share_of_the_nearest_limit_and_budget_that_of_updates_or_time() -> None:
    limits = Limits(10, 4, 2.0, None, 1, 1, 1)
    assert limits.used(Progress(update=1, epoch=1, batch=3, seconds=12), batches=6, blocks=1) == 1.5 / 4
    assert limits.used(Progress(update=4, epoch=1, seconds=12), batches=6, blocks=1) == 0.4
    assert limits.used(Progress(update=4, epoch=1, seconds=90), batches=6, blocks=1) == 0.75
    assert (
        limits.budget(Progress(update=4, epoch=4, seconds=12)) == 0.3
    )  # before the update that is under way
    assert limits.budget(Progress(update=10)) == 0.9  # so that the last learns something
    assert limits.budget(Progress(update=4, epoch=4, seconds=90)) == 0.75
    endless = Limits(None, None, None, 3, 1, 1, 1)
    assert endless.used(Progress(update=10**6, epoch=10**3, seconds=1e9), batches=1, blocks=1) == 0
    assert endless.budget(Progress(update=10**6, seconds=1e9)) == 0


def test_the_last_update_may_use_more_than_is_left_but_no_more_than_all_is_told(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_updates=None, max_roll_outs=30, log_every=1)
    sitting = Sitting(tmp_path, limits, LOLS, None, BOTH)
    assert sitting.run().roll_outs > 30
    *begun, last, _, _ = (line["used"] for line in sitting.lines())
    assert all(used < 1 for used in begun)
    assert last == 1
    assert {line["used"] for line in sitting.lines()[-3:]} == {1}, "of training, validation and the end"


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
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "update-00000008"
    assert same(sitting.saved["last"], weights(sitting.policy))


def test_ends_after_max_epochs(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, replace(LIMITS, max_updates=None, max_epochs=2))
    progress = sitting.run()
    assert (progress.update, progress.epoch, progress.batch) == (2 * EPOCH, 2, 0)
    assert progress.sentences == 2 * SENTENCES


def test_ends_after_max_minutes_over_all_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1000.0)
    monkeypatch.setattr(recorder, "time", clock)

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
    clock = Clock()
    monkeypatch.setattr(recorder, "time", clock)

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


def test_while_nothing_is_right_the_newest_weights_are_the_best(tmp_path: Path) -> None:
    scores = [0.0, 0.0, 0.0, 0.0]
    limits = replace(LIMITS, max_updates=None, patience=2, validate_every=1)
    sitting = Sitting(tmp_path, limits, bleus=lambda s: scores[len(s.validated) - 1])
    progress = sitting.run()
    assert (progress.update, progress.best_update, progress.failures) == (3, 3, 2)
    assert same(sitting.saved["best"], sitting.validated[2])


def test_while_nothing_is_right_weights_that_are_no_numbers_are_not_the_best(tmp_path: Path) -> None:
    sitting = Sitting(tmp_path, replace(LIMITS, max_updates=2, validate_every=1))
    perplexities: list[float | None] = [9.0, None]
    sitting.trainer.recorder.validate = lambda: Validation(
        0.0, perplexities.pop(0), 1.0, 0.0, 0.0, ("a", "b", "c")
    )
    assert sitting.run().best_update == 1


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


def test_of_sources_alone_no_target_tokens_are_told(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_updates=1, log_every=1)
    for folder, with_targets in ((tmp_path / "pairs", True), (tmp_path / "sources", False)):
        sitting = Sitting(folder, limits)
        if not with_targets:
            sitting.targets = [[sitting.policy.eos]] * SENTENCES
        sitting.run()
        (line,) = (line for line in read_lines(folder / "metrics.jsonl") if line["kind"] == "train")
        assert ("target_tokens_per_second" in line) == with_targets


@pytest.mark.parametrize("search", [LOLS, replace(AGGREVATED, samples=4)], ids=["lols", "several visits"])
def test_the_log_sums_up_the_updates_since_the_last_line(search: Search, tmp_path: Path) -> None:
    terms: list[tuple[float, float, float, Counts]] = []

    def objective(
        policy: Policy, batch: Batch, experience: Experience, counts: Counts, watch: Watch | None
    ) -> tuple[Tensor, Losses]:
        loss, losses = BOTH(policy, batch, experience, counts, watch)
        assert losses.cross_entropy is not None
        terms.append((float(loss.detach()), float(losses.cross_entropy), float(losses.search), counts))
        return loss, losses

    sitting = Sitting(tmp_path, search=search, objective=objective)
    progress = sitting.run()
    lines = sitting.lines_of("train")
    assert [line["update"] for line in lines] == [4, 8, 12]
    for index, line in enumerate(lines):
        window = terms[4 * index : 4 * index + 4]
        losses, entropies, searches, counts = zip(*window, strict=True)
        tokens, states = sum(each.tokens for each in counts), sum(each.states for each in counts)
        assert line["loss"] == pytest.approx(sum(losses) / 4, abs=1e-5)
        assert line["cross_entropy"] == pytest.approx(sum(entropies) / tokens, abs=1e-5)
        assert line["search_loss"] == pytest.approx(sum(searches) / states, abs=1e-5)
        assert {"chosen_cost", "roll_in_cost", "entropy", "length_ratio"} <= line.keys()
    assert lines[-1]["roll_outs"] == progress.roll_outs
    assert (progress.roll_outs > 0) == (search is LOLS)
    assert lines[-1]["sentences"] == 12 * ROWS_A_BATCH


def test_what_is_looked_at_in_some_updates_is_a_mean_over_these(tmp_path: Path) -> None:
    """The last of four is told alike by itself and as the only one that was looked at."""
    last = []
    for every in (1, 4):
        limits = replace(LIMITS, max_updates=4, log_every=every)
        sitting = Sitting(tmp_path / str(every), limits, AGGREVATED, None, BOTH)
        sitting.run()
        last.append(sitting.lines_of("train")[-1])
    for name in ("entropy", "chosen_cost", "improvable", "cost_range", "roll_in_cost", "finished"):
        assert last[1][name] == pytest.approx(last[0][name], abs=1e-5), name


def test_the_energy_of_all_sittings_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = [0.0]

    def count() -> float:
        counted[0] += 1.0
        return counted[0]

    monkeypatch.setattr(
        recorder, "find_counters", lambda device, processors: [Counter(count)] if processors else []
    )
    with pytest.raises(Interrupted):
        Sitting(tmp_path / "stopped", on_load=stop_by_signal).run()
    first = counted[0] - 1
    counted[0] = 500.0  # what others took meanwhile
    progress = Sitting(tmp_path / "stopped").run()
    assert progress.joules == first + counted[0] - 501
    assert read_lines(tmp_path / "stopped" / "metrics.jsonl")[-1]["joules"] == progress.joules
    monkeypatch.setattr(recorder, "find_counters", lambda device, processors: [])
    assert Sitting(tmp_path / "silent").run().joules is None
    assert "joules" not in read_lines(tmp_path / "silent" / "metrics.jsonl")[-1]


def test_the_best_weights_are_those_that_the_newest_checkpoint_knows_of(tmp_path: Path) -> None:
    """Even where what follows goes another way after a kill."""
    bleus = iter([10.0, 30.0, 20.0])

    def kill(sitting: Sitting) -> None:
        if sitting.trainer.progress.update == 8:
            raise Crash

    limits = replace(LIMITS, max_updates=9, validate_every=3)
    with pytest.raises(Crash):
        Sitting(tmp_path, limits, bleus=lambda sitting: next(bleus), on_load=kill).run()
    again = Sitting(tmp_path, limits, bleus=lambda sitting: 20.0)
    progress = again.run()
    assert (progress.best_update, progress.best_bleu) == (6, 30.0)
    assert "best" not in again.saved
