"""The one training loop, for teacher forcing and for every kind of search.

for each update:
    parts = this process's share of the update's sentences, in accumulation steps
    for part in parts:
        experience = search(policy, part)             # no gradient; nothing under teacher forcing
    with aggregation: keep it, and take earlier parts with their experience up
    counts = sums over all parts of all processes
    for part in parts:
        backward(objective(policy, part, experience) / counts)
    clip, step, schedule, average
    now and then: log, validate, keep the best, checkpoint
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from l2s_nmt.build_cost import Texts
from l2s_nmt.cpu import FastDropout
from l2s_nmt.data.batches import Batch
from l2s_nmt.data.training_data import TrainingData
from l2s_nmt.errors import Interrupted, TrainingFailed, UserError
from l2s_nmt.files import writing
from l2s_nmt.model import Policy, Term
from l2s_nmt.search.randomness import Draws
from l2s_nmt.search.search import Experience, Search
from l2s_nmt.training import checkpoints
from l2s_nmt.training.aggregation import Aggregate
from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.faults import is_finite, save_fault, spread_to_gradient
from l2s_nmt.training.keeper import Keeper
from l2s_nmt.training.limits import Limits
from l2s_nmt.training.measures import Sums, score_sums, search_sums
from l2s_nmt.training.metrics import Metrics
from l2s_nmt.training.objective import Counts, Objective
from l2s_nmt.training.progress import Display
from l2s_nmt.training.recorder import Recorder
from l2s_nmt.training.schedule import Schedule
from l2s_nmt.training.sharding import whole
from l2s_nmt.training.signals import Signals
from l2s_nmt.training.starts import Starts
from l2s_nmt.training.stepper import Stepper
from l2s_nmt.training.validate import Validation

COST_FAULT = "a cost is not finite"


class Trainer:
    """Trains a policy and keeps the run directory up to date.

    Args:
        accelerator: of this process.
        policy: the unwrapped policy, on its device.
        stepper: makes its updates.
        schedule: multipliers of the optimiser's learning rate.
        averager: of its weights.
        starts: from its first weights.
        search: learning to search; None for teacher forcing.
        aggregate: keeps what the search found, to learn from it again; None: every experience is used once.
        objective: what an update minimises.
        data: the training data.
        limits: when to end.
        validate: greedy translation of the validation split with the current weights.
        save_weights: write the current weights to the folder of that name ("best", "last"); all processes call it.
        folder: the run directory.
        seed: of the draws.
        accumulation: parts of an update on each process.
        display: what a person sees.
        texts: how ids become text, for a batch that is kept for inspection.
    """

    def __init__(
        self,
        *,
        accelerator: Accelerator,
        policy: Policy,
        stepper: Stepper,
        schedule: Schedule,
        averager: Averager,
        starts: Starts,
        search: Search | None,
        aggregate: Aggregate | None,
        objective: Objective,
        data: TrainingData,
        limits: Limits,
        validate: Callable[[], Validation],
        save_weights: Callable[[str], None],
        folder: Path,
        seed: int,
        accumulation: int,
        display: Display,
        texts: Texts,
    ) -> None:
        self.accelerator = accelerator
        self.policy = policy
        self.stepper = stepper
        self.schedule = schedule
        self.averager = averager
        self.starts = starts
        self.search = search
        self.aggregate = aggregate
        self.objective = objective
        self.data = data
        self.limits = limits
        self.folder = folder
        self.seed = seed
        self.accumulation = accumulation
        self.display = display
        self.texts = texts
        self.progress = Progress()
        self.signals = Signals(display.say)
        self.stopping = False
        self.unsound = False
        metrics = Metrics(folder / "metrics.jsonl")
        self.recorder = Recorder(
            accelerator=accelerator,
            folder=folder,
            policy=policy,
            stepper=stepper,
            averager=averager,
            starts=starts,
            limits=limits,
            validate=validate,
            save_weights=save_weights,
            keeper=Keeper(accelerator, folder, policy, stepper, averager, aggregate, metrics, display.say),
            display=display,
        )
        self.sums = self.recorder.sums

    def run(self) -> Progress:
        """Train to the limit, from the newest checkpoint if there is one.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint is written.
        """
        with self.signals, self.display, closing(self.data):
            self.progress = self.recorder.begin()
            while not self.progress.finished:
                self._epoch()
        return self.progress

    def _epoch(self) -> None:
        updates = self._updates()
        if updates and self.progress.batch >= len(updates):
            raise UserError(
                f"{self.folder}: the training data are not those that this run was begun with; bring them back, or "
                "choose another --output"
            )
        while updates and not self.progress.finished:
            self._update(updates[self.progress.batch])
            self.progress.batch += 1
            if self.progress.batch == len(updates):
                self.progress.block, self.progress.batch = self.progress.block + 1, 0
                updates = self._updates()
            self.progress.blocks = self.data.blocks() or self.progress.blocks
            used = self.limits.used(self.progress, len(updates or ()), self.progress.blocks)
            self.recorder.after_update(self.progress, used, stopping=self.stopping)
            if self.stopping and not self.progress.finished:
                raise Interrupted(self.signals.number or signal.SIGTERM)

    def _updates(self) -> Sequence[Any] | None:
        """Those of the block where training stands, or of the next that has some; None: the next epoch has come."""
        progress = self.progress
        while (updates := self.data.block(progress.epoch, progress.block)) is not None:
            if len(updates):
                return updates
            progress.block += 1
        progress.epoch, progress.block = progress.epoch + 1, 0
        return None

    def _update(self, rows: Any) -> None:
        """One step of the optimiser on one batch of sentences."""
        started = time.monotonic()
        checkpoints.seed_update(self.seed, self.progress.update, self.accelerator.process_index)
        shares = self._share(rows)
        parts = [self._load(share) for share in shares]
        with whole(self.policy):
            experiences = [self._search(part) for part in parts]
            new = len(parts)
            if self.aggregate is not None:
                self._replay(self.aggregate, shares, parts, experiences)
            searched = time.monotonic()
            counts = self._count(parts, experiences)
            self.progress.update += 1
            self.progress.sentences += len(rows)
            sums = None if self.unsound else self._differentiate(parts, experiences, counts, new)
        fault = COST_FAULT if sums is None else self._step(sums)
        if fault is None:
            self.progress.skipped_in_a_row = 0
        else:
            self._skip(fault, parts, experiences)
        self.stepper.clear()
        now = time.monotonic()
        self.sums.add({"seconds": now - started, "seconds_update": now - searched})

    def _differentiate(
        self, parts: list[Batch], experiences: list[Experience | None], counts: Counts, new: int
    ) -> Sums:
        """Make the gradient, and sum up what is to be logged.

        Only the first ``new`` parts are looked at more closely: roll-ins that are replayed are those of a policy that
        is gone, and would hide what this one does.
        """
        self.policy.train()
        sums = Sums()
        for index, (part, experience) in enumerate(zip(parts, experiences, strict=True)):
            last = index == len(parts) - 1
            with self.stepper.part(last):
                self._backward(part, experience, counts, sums, logs=index < new and self._logs())
        return sums

    def _logs(self) -> bool:
        """Whether this update is one of those that are looked at more closely."""
        return self.progress.update % self.limits.log_every == 0

    def _skip(self, fault: str, parts: list[Batch], experiences: list[Experience | None]) -> None:
        """Count an update that was not made.

        Raises:
            TrainingFailed: there were too many in a row.
        """
        progress, most = self.progress, self.limits.max_skipped
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.display.say(f"update {progress.update} skipped: {fault} ({progress.skipped} skipped so far)")
        if progress.skipped_in_a_row < most:
            return
        path = save_fault(
            self.folder / "faults",
            progress.update,
            self.accelerator.process_index,
            fault,
            self.policy,
            parts,
            experiences,
            self.texts,
        )
        self.accelerator.wait_for_everyone()  # all have written theirs
        advice = (
            "see what search.cost makes of its sentences"
            if fault == COST_FAULT
            else "a lower training.learning_rate or clip_norm, or mixed_precision: no, may help (with another "
            "--output: a run has one recipe)"
        )
        raise TrainingFailed(
            f"update {progress.update}: {fault}, and so it was in {progress.skipped_in_a_row} updates in a row "
            f"(training.max_skipped). The batch is in {path}; {advice}"
        )

    def _share(self, rows: Any) -> list[Any]:
        parts = self.data.split(rows, self.accelerator.num_processes * self.accumulation)
        first = self.accelerator.process_index * self.accumulation
        return parts[first : first + self.accumulation]

    def _load(self, rows: Any) -> Batch:
        return self.data.load(rows).to(self.accelerator.device)

    def _search(self, batch: Batch) -> Experience | None:
        if self.search is None or not len(batch):
            return None
        self.policy.eval()
        with torch.no_grad(), self.accelerator.autocast():
            draws = Draws(self.seed, self.progress.update)
            experience = self.search(self.policy, batch, draws, self.progress.level)
        self.sums.add({f"seconds_{name}": value for name, value in experience.seconds.items()})
        self.sums.add({"roll_outs": float(experience.roll_outs), **experience.notes})
        return experience

    def _replay(
        self,
        aggregate: Aggregate,
        shares: list[Any],
        parts: list[Batch],
        experiences: list[Experience | None],
    ) -> None:
        """Keep what was found, and append earlier parts."""
        update = self.progress.update
        for index, (share, experience) in enumerate(zip(shares, experiences, strict=True)):
            if experience is not None and is_finite(experience):
                with writing(aggregate.folder):
                    aggregate.add(update, index, share, experience)
        for rows, experience in aggregate.draw(update):
            parts.append(self._load(rows))
            experiences.append(experience.to(self.accelerator.device))

    def _count(self, parts: list[Batch], experiences: list[Experience | None]) -> Counts:
        """Global counts; on the way all processes agree on whether to stop and on the time."""
        main = self.accelerator.is_main_process
        seconds = self.recorder.seconds()
        mine = [
            float(sum(int(part.target_lengths.sum()) for part in parts)),
            sum(e.decisions.total_visits() for e in experiences if e is not None),
            float(sum(e.roll_outs for e in experiences if e is not None)),
            float(self.signals.number is not None),
            seconds if main else 0.0,
            float(not all(is_finite(e) for e in experiences if e is not None)),
            *_observed(experiences),
        ]
        total = self.accelerator.reduce(
            torch.tensor(mine, dtype=torch.float64, device=self.accelerator.device), reduction="sum"
        ).tolist()
        self.progress.roll_outs += int(total[2])
        self.stopping = total[3] > 0
        self.progress.seconds = total[4]
        self.unsound = total[5] > 0
        if total[7] and not self.unsound:
            self.progress.observe(total[6] / total[7])
        return Counts(tokens=total[0], states=total[1])

    def _backward(
        self, batch: Batch, experience: Experience | None, counts: Counts, sums: Sums, *, logs: bool
    ) -> None:
        if not len(batch):  # fewer sentences than parts
            if self.accelerator.num_processes > 1:
                self.stepper.backward(self._nothing())
            return
        on_cpu = self.accelerator.device.type == "cpu"
        watch = (lambda *seen: sums.add(score_sums(*seen))) if logs and experience is not None else None
        with self.accelerator.autocast(), FastDropout() if on_cpu else nullcontext():
            loss, terms = self.objective(self.stepper.module, batch, experience, counts, watch)
        # Data-parallel training averages gradients over processes; the counts are already global.
        self.stepper.backward(spread_to_gradient(loss) * self.accelerator.num_processes)
        sums.add({"loss": loss.detach(), "search": terms.search})
        if terms.cross_entropy is not None:
            sums.add({"cross_entropy": terms.cross_entropy})
        tokens = batch.target_tokens
        sums.add({"sentences": float(len(batch))})
        if tokens > len(batch):  # sources alone have EOS and no more, which is no target's
            sums.add({"tokens": float(tokens)})
        if experience is not None:
            sums.add({"states_learned": experience.decisions.total_visits()})
            if logs:
                sums.add(search_sums(experience, batch, self._roll_in_costs(experience, batch)))

    def _roll_in_costs(self, experience: Experience, batch: Batch) -> Tensor | None:
        """None under bandit feedback, where one loss a sentence is all that may be seen."""
        if self.search is None or experience.observed is not None:
            return None
        return self.search.roll_in_costs(experience, batch)

    def _nothing(self) -> Tensor:
        """A loss of zero; its passes through the model take part in the reduction, for which other processes wait."""
        word = torch.tensor([[self.policy.eos]], device=self.accelerator.device)
        first = torch.zeros(1, dtype=torch.long, device=self.accelerator.device)
        nothing = Term(first, lambda part, scores: scores.sum() * 0.0)
        loss: Tensor = self.stepper.module(
            word, torch.ones_like(word, dtype=torch.bool), word, first, [nothing]
        )
        return loss

    def _step(self, sums: Sums) -> str | None:
        """Let the optimiser make its step, unless the gradient is not finite; such an update does not count in sums.

        Returns:
            What was not finite, if something was not.
        """
        budget = self.limits.budget(self.progress)
        norm = self.stepper.step(self.schedule(*self.starts.since(self.progress, budget)))
        if not math.isfinite(norm):
            return "the loss or its gradient is not finite"
        self.averager.after_update()
        self.sums.add(sums.totals)
        self.sums.add({"gradient_norm": norm, "updates": 1.0})
        return None


def _observed(experiences: list[Experience | None]) -> tuple[float, float]:
    """Sum and number of the losses observed under bandit feedback."""
    losses = [e.observed for e in experiences if e is not None and e.observed is not None]
    return float(sum(float(loss.sum()) for loss in losses)), float(sum(len(loss) for loss in losses))
