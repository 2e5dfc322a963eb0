"""What is kept of a run while it trains: lines of metrics.jsonl, validations, the best weights, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from l2s_nmt.files import writing
from l2s_nmt.model import Policy
from l2s_nmt.processes import Processes
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.energy import EnergyMeter, find_counters
from l2s_nmt.training.health import Health
from l2s_nmt.training.keeper import Keeper
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.measures import Sums, is_mean, summarise
from l2s_nmt.training.progress import Display, validation_text
from l2s_nmt.training.sharding import whole
from l2s_nmt.training.starts import Starts
from l2s_nmt.training.stepper import Stepper
from l2s_nmt.training.trackers import tell_trackers
from l2s_nmt.training.validate import Validation


class Recorder:
    """Logs, validates and saves; all processes call it at the same time.

    Args:
        accelerator: of this process.
        folder: the run directory.
        policy: the unwrapped policy.
        stepper: makes the updates.
        averager: of the weights.
        starts: from the first weights.
        limits: when to do what.
        validate: greedy translation of the validation split with the current weights.
        save_weights: write the current weights to the folder of that name ("best", "last").
        keeper: of checkpoints, and of metrics.jsonl, which goes back to them.
        display: what a person sees.
    """

    def __init__(
        self,
        *,
        accelerator: Accelerator,
        folder: Path,
        policy: Policy,
        stepper: Stepper,
        averager: Averager,
        starts: Starts,
        limits: Limits,
        validate: Callable[[], Validation],
        save_weights: Callable[[str], None],
        keeper: Keeper,
        display: Display,
    ) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.policy = policy
        self.stepper = stepper
        self.averager = averager
        self.starts = starts
        self.limits = limits
        self.validate = validate
        self.save_weights = save_weights
        self.keeper = keeper
        self.metrics = keeper.metrics
        self.display = display
        self.sums = Sums()
        """Since the last line that was logged."""
        self.shown: dict[str, Any] = {}
        self.health = Health()
        self.clock = 0.0
        self.used = 0.0
        self.meter = EnergyMeter([])

    def begin(self) -> Progress:
        """Take the run up where its newest checkpoint left it; from here on time counts.

        Raises:
            UserError: no checkpoint is sound, or metrics.jsonl does not fit it.
        """
        progress = self.keeper.take_up(self.sums, self.limits.reached)
        self.clock = time.monotonic() - progress.seconds
        main = self.accelerator.is_local_main_process
        self.meter = EnergyMeter(find_counters(self.accelerator.device, processors=main))
        return progress

    def seconds(self) -> float:
        """That the run has taken, earlier sittings included, by this process's clock."""
        return time.monotonic() - self.clock

    def after_update(self, progress: Progress, used: float, *, stopping: bool) -> None:
        """Do what is due, and note in the progress whether training is finished.

        Args:
            progress: where the run stands.
            used: share of the nearest limit.
            stopping: this is the last update of this sitting.
        """
        limits = self.limits
        self.used = used
        if progress.update % limits.log_every == 0:
            self.meter.sample()
            self.log(progress)
        over, again, best = used >= 1, self.starts.another(used), False
        if over or again or progress.update % limits.validate_every == 0:
            best = self._validate(progress)
            over = over or (limits.patience is not None and progress.failures >= limits.patience)
        progress.finished = over
        if again and not over:
            self.starts.start_again(progress)
            self.display.say(
                f"starts from the first weights again ({self.averager.starts_ended + 1} of {self.starts.number})"
            )
        # The best weights are those that the newest checkpoint knows of, even if it is taken up after a kill.
        if over or stopping or best or progress.update % limits.checkpoint_every == 0:
            self._checkpoint(progress)
        self.display.step(used, progress.update, self.shown)

    def log(self, progress: Progress) -> None:
        """Write what was summed up since the last time."""
        # Not all have the same names: a process may have had no sentences.
        shares = Processes.of(self.accelerator).gather(self.sums.take())
        total = {name: sum(share.get(name, 0.0) for share in shares) for name in set[str]().union(*shares)}
        for name in total:
            if is_mean(name):
                total[name] /= self.accelerator.num_processes
        measured = {"learning_rate": self.stepper.rate, **summarise(total)}
        if progress.skipped:
            measured["skipped"] = progress.skipped
        self._write(progress, "train", measured)
        self.shown.update(measured)

    def _validate(self, progress: Progress) -> bool:
        """Whether the weights are the best so far; then they are kept."""
        self.averager.before_validation()
        with self.averager.applied():
            self.policy.eval()
            with whole(self.policy):
                found = self.validate()
            # While nothing is right yet, the newest weights are the best, unless they are none.
            nothing_yet = found.bleu == progress.best_bleu == 0 and found.perplexity is not None
            better = found.bleu > progress.best_bleu or nothing_yet
            progress.failures = 0 if found.bleu > progress.best_bleu else progress.failures + 1
            if better:
                progress.best_bleu, progress.best_update = found.bleu, progress.update
                self._save("best")
        progress.seconds = Processes.of(self.accelerator).from_main(self.seconds)
        measured = {
            "bleu": found.bleu,
            "perplexity": found.perplexity,
            "length_ratio": found.length_ratio,
            "empty": found.empty,
            "endless": found.endless,
            "best": better,
        }
        self._write(progress, "validation", measured)
        self.shown |= {"bleu": found.bleu, "best_bleu": progress.best_bleu}
        source, translation, reference = found.sample
        said = validation_text({"update": progress.update, "minutes": progress.seconds / 60, **measured})
        self.display.say(
            f"{said}\n   source      {source}\n   translation {translation}\n   reference   {reference}"
        )
        return better

    def _write(self, progress: Progress, kind: str, measured: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        line = {
            "kind": kind,
            "update": progress.update,
            "epoch": progress.epoch,
            "minutes": round(progress.seconds / 60, 4),
            "used": round(min(self.used, 1.0), 4),
            "sentences": progress.sentences,
            "roll_outs": progress.roll_outs,
            **measured,
        }
        with writing(self.metrics.path):
            self.metrics.write(line)
        for warning in self.health(kind, measured):
            self.display.say(warning)
        numbers = {f"{kind}/{k}": v for k, v in measured.items() if isinstance(v, int | float)}
        if trouble := tell_trackers(self.accelerator, numbers, progress.update):
            self.display.say(trouble)

    def _checkpoint(self, progress: Progress) -> None:
        self._take_energy(progress)
        if progress.finished:
            self._save("last")
            if self.averager.averages:
                with self.averager.applied():
                    self._save("average")
            measured = {"best_bleu": progress.best_bleu, "best_update": progress.best_update}
            if progress.joules is not None:
                measured["joules"] = round(progress.joules, 1)
            self._write(progress, "end", measured)
        self.keeper.save(progress, self.sums)

    def _take_energy(self, progress: Progress) -> None:
        """What all processes' devices used since the last checkpoint."""
        told = Processes.of(self.accelerator).gather(self.meter.take())
        known = [joules for joules in told if joules is not None]
        if known:
            progress.joules = (progress.joules or 0.0) + sum(known)

    def _save(self, name: str) -> None:
        with writing(self.folder):
            self.save_weights(name)
        self.accelerator.wait_for_everyone()
