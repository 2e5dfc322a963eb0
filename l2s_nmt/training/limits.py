"""When training ends, and what happens on the way."""

from __future__ import annotations

from dataclasses import dataclass

from l2s_nmt.training.checkpoints import Progress


@dataclass(frozen=True)
class Limits:
    """When training ends, and what happens on the way."""

    max_updates: int | None
    max_epochs: int | None
    max_minutes: float | None
    patience: int | None
    validate_every: int
    checkpoint_every: int
    log_every: int
    max_roll_outs: int | None = None
    max_skipped: int = 20
    """Updates skipped in a row, after which training has failed."""

    def used(self, progress: Progress, batches: int, blocks: int | None) -> float:
        """The share of the nearest limit that is used up.

        Args:
            progress: where the run stands.
            batches: of the block where it stands.
            blocks: of an epoch; None: not known yet, so whole epochs count alone.
        """
        epochs = float(progress.epoch)
        if blocks is not None:
            epochs += (progress.block + progress.batch / max(batches, 1)) / blocks
        shares = [
            progress.update / self.max_updates if self.max_updates else 0.0,
            epochs / self.max_epochs if self.max_epochs else 0.0,
            progress.seconds / (60 * self.max_minutes) if self.max_minutes else 0.0,
            progress.roll_outs / self.max_roll_outs if self.max_roll_outs else 0.0,
        ]
        return max(shares)

    def reached(self, progress: Progress) -> bool:
        """Whether a run that stands behind a validation is over."""
        impatient = self.patience is not None and progress.failures >= self.patience
        return impatient or self.used(progress, batches=1, blocks=None) >= 1

    def budget(self, progress: Progress) -> float:
        """The share of the updates or the time that is used up before the one that is under way.

        A falling learning rate goes by it, so that the last update still learns something.
        """
        updates = (progress.update - 1) / self.max_updates if self.max_updates else 0.0
        minutes = progress.seconds / (60 * self.max_minutes) if self.max_minutes else 0.0
        return max(updates, minutes)
