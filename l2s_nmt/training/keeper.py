"""Saves where a run stands, and takes it up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from l2s_nmt.files import writing
from l2s_nmt.model import Policy
from l2s_nmt.processes import Processes
from l2s_nmt.training import checkpoints
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.measures import Sums, share_out
from l2s_nmt.training.metrics import Mark, Metrics
from l2s_nmt.training.sharding import State, weights_of
from l2s_nmt.training.stepper import Stepper


class Keeper:
    """Keeps everything that a continued run needs; all processes call it at the same time.

    Args:
        accelerator: of this process.
        folder: the run directory.
        policy: the unwrapped policy.
        stepper: makes the updates.
        averager: of the weights.
        aggregate: data that are kept beside the checkpoints.
        metrics: metrics.jsonl.
        say: tells a person.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
        policy: Policy,
        stepper: Stepper,
        averager: Averager,
        aggregate: Aggregate | None,
        metrics: Metrics,
        say: Callable[[str], None],
    ) -> None:
        self.accelerator = accelerator
        self.processes = Processes.of(accelerator)
        self.folder = folder / "checkpoints"
        self.policy = policy
        self.stepper = stepper
        self.averager = averager
        self.aggregate = aggregate
        self.metrics = metrics
        self.say = say

    def save(self, progress: Progress, sums: Sums) -> None:
        """Write a checkpoint.

        Args:
            progress: where the run stands.
            sums: of this process, for the next line of metrics.jsonl.

        Raises:
            TrainingFailed: it cannot be written; those before are intact.
        """
        everyones = self.processes.gather(sums.state())
        weights, average = weights_of(self.policy), self.averager.state()
        optimizer = self.stepper.state()
        if self.accelerator.is_main_process:
            with writing(self.folder):
                self._write(progress, everyones, weights, average, optimizer)
        self.accelerator.wait_for_everyone()

    def _write(
        self,
        progress: Progress,
        sums: list[checkpoints.Sums],
        weights: State,
        average: State,
        optimizer: dict[str, Any],
    ) -> None:
        mark = self.metrics.settle(ended=progress.finished)
        checkpoints.save_checkpoint(self.folder, replace(progress), mark, weights, average, optimizer, sums)
        self._prune()

    def take_up(self, sums: Sums, reached: Callable[[Progress], bool]) -> Progress:
        """Go back to the newest sound checkpoint, or to the beginning where there is none.

        Args:
            sums: gets what this process had summed up.
            reached: whether the limits are reached; those of a finished run may have been raised.

        Raises:
            UserError: no checkpoint is sound, or metrics.jsonl does not fit it.
        """
        newest = self.processes.from_main(lambda: checkpoints.newest_whole(self.folder, self.say))
        progress, mark = Progress(), Mark(0)
        if newest is not None:
            progress, mark = checkpoints.read_state(newest)
            if progress.finished and not reached(progress):
                progress.finished, mark = False, replace(mark, end="")
            self._load(newest, progress, sums)
        if self.accelerator.is_main_process:
            self.metrics.rewind(mark)  # what was written after the checkpoint will be written again
            if self.aggregate is not None:
                self.aggregate.resume(progress.update)
            with writing(self.folder):  # what a run that was killed did not come to
                checkpoints.remove_halves(self.folder)
                checkpoints.remove_old(self.folder)
                self._prune()
        self.accelerator.wait_for_everyone()
        return progress

    def _prune(self) -> None:
        """Remove aggregated data that the run does not need, even where it has to go on from its oldest checkpoint."""
        kept = checkpoints.list_checkpoints(self.folder)
        if self.aggregate is not None and kept:
            self.aggregate.prune(checkpoints.update_of(kept[0]))

    def _load(self, checkpoint: Path, progress: Progress, sums: Sums) -> None:
        optimizer, everyones = checkpoints.load_checkpoint(checkpoint, self.policy, self.averager)
        try:
            self.stepper.load_state(optimizer)
        except (KeyError, IndexError, ValueError) as error:  # for other parameters than these
            raise checkpoints.of_another_version(checkpoint, error) from error
        processes = self.processes.count
        sums.add(share_out(everyones, self.processes.index, processes))
        if progress.finished:
            self.say(f"trained already, {progress.update} updates; nothing is left to do")
            return
        self.say(f"goes on from update {progress.update} ({checkpoint})")
        if len(everyones) != processes:
            self.say(
                f"processes: {processes} instead of {len(everyones)}. The sentences and their order, the size of an "
                "update and the draws of the search are the same; dropout draws others, and sums are rounded otherwise"
            )
