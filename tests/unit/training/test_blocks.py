"""An epoch in several blocks: the same loop, from one block to the next, and from anywhere on."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from l2s_nmt.data.batches import Batch, Rows
from l2s_nmt.data.training_data import TrainingData
from l2s_nmt.errors import Interrupted, UserError
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.limits import Limits
from tests.unit.training.sitting import LIMITS, Sitting, same, weights

BLOCKS: list[list[list[int]]] = [[[0, 1], [2, 3]], [], [[4]], [[5, 6, 7]], []]
"""Rows of the updates of each block; of some nothing is left."""
UPDATES = [update for block in BLOCKS for update in block]


def in_blocks(
    sitting: Sitting, learned: list[list[int]], asked: list[tuple[int, int]] | None = None
) -> Sitting:
    """The sitting with its data in blocks; what is asked for and learned from is noted.

    How many blocks there are it finds out as a stream does, by coming to their end.
    """
    known: list[int] = []

    def block(epoch: int, number: int) -> list[Rows] | None:
        if asked is not None:
            asked.append((epoch, number))
        if number == len(BLOCKS):
            known.append(number)
        return [np.array(rows) for rows in BLOCKS[number]] if number < len(BLOCKS) else None

    def load(rows: Rows) -> Batch:
        learned.append(rows.tolist())
        return sitting._load(rows)

    sitting.trainer.data = TrainingData(
        block, lambda rows, parts: [rows] * parts, load, lambda: known[0] if known else None
    )
    return sitting


def test_block_after_block_and_epoch_after_epoch(tmp_path: Path) -> None:
    learned: list[list[int]] = []
    asked: list[tuple[int, int]] = []
    limits = replace(LIMITS, max_updates=None, max_epochs=2)
    progress = in_blocks(Sitting(tmp_path, limits), learned, asked).run()
    assert learned == UPDATES * 2
    assert asked == [(epoch, number) for epoch in range(2) for number in range(len(BLOCKS) + 1)]
    assert (progress.epoch, progress.block, progress.batch, progress.sentences) == (2, 0, 0, 16)


@pytest.mark.parametrize("stop", range(1, 8))
def test_stopped_after_any_update_it_goes_on_with_the_next(tmp_path: Path, stop: int) -> None:
    limits = replace(LIMITS, max_updates=8)
    whole: list[list[int]] = []
    uninterrupted = in_blocks(Sitting(tmp_path / "whole", limits), whole)
    uninterrupted.run()

    def interrupt(sitting: Sitting) -> None:
        if sitting.loads == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    learned: list[list[int]] = []
    with pytest.raises(Interrupted):
        in_blocks(Sitting(tmp_path / "run", limits, on_load=interrupt), learned).run()
    resumed = in_blocks(Sitting(tmp_path / "run", limits), learned)
    resumed.run()
    assert learned == whole == UPDATES * 2
    assert same(weights(resumed.policy), weights(uninterrupted.policy))


@pytest.mark.parametrize("stop", range(1, 12))
def test_how_much_is_used_up_does_not_depend_on_interruptions(tmp_path: Path, stop: int) -> None:
    limits = replace(LIMITS, max_updates=None, max_epochs=3, log_every=1)

    def used(run: Path) -> list[float]:
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return [line["used"] for line in lines if line["kind"] == "train"]

    in_blocks(Sitting(tmp_path / "whole", limits), []).run()

    def interrupt(sitting: Sitting) -> None:
        if sitting.loads == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        in_blocks(Sitting(tmp_path / "run", limits, on_load=interrupt), []).run()
    in_blocks(Sitting(tmp_path / "run", limits), []).run()
    expected = used(tmp_path / "whole")
    assert used(tmp_path / "run") == expected
    assert len(set(expected)) > 8


def test_other_data_than_before_are_told(tmp_path: Path) -> None:
    def interrupt(sitting: Sitting) -> None:
        if sitting.loads == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        in_blocks(Sitting(tmp_path, LIMITS, on_load=interrupt), []).run()
    shorter = Sitting(tmp_path, LIMITS)
    shorter.trainer.data = replace(shorter.trainer.data, block=lambda epoch, number: [np.arange(4)])
    with pytest.raises(UserError, match="the training data are not those that this run was begun with"):
        shorter.run()


def test_the_share_of_an_epoch_is_that_of_its_blocks_where_they_are_known() -> None:
    limits = Limits(None, 2, None, None, 1, 1, 1)
    stands = Progress(epoch=1, block=3, batch=1)
    assert limits.used(stands, batches=4, blocks=5) == (1 + 3.25 / 5) / 2
    assert limits.used(stands, batches=4, blocks=None) == 0.5
    assert limits.used(Progress(epoch=2), batches=0, blocks=5) == 1
