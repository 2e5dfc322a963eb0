"""Training that starts several times from the same weights, of which the mean is kept.

Trainings from one start that see other sentences and draws end in other places; their mean keeps what they agree in.
Zinkevich et al. 2010, "Parallelized Stochastic Gradient Descent"; Wortsman et al. 2022, "Model soups".
"""

from __future__ import annotations

from dataclasses import dataclass

from l2s_nmt.training.averaging import Averager
from l2s_nmt.training.checkpoints import Progress
from l2s_nmt.training.stepper import Stepper


@dataclass(frozen=True)
class Starts:
    """When the next one is due, and what it begins with.

    Args:
        averager: keeps the first weights and the mean, and knows how many starts there are; each gets its share of the
            limits.
        stepper: whose optimiser begins anew each time.
    """

    averager: Averager
    stepper: Stepper

    @property
    def number(self) -> int:
        """Of all; 1 is training as usual."""
        return self.averager.starts

    def another(self, used: float) -> bool:
        """Whether a start has used up its share of the limits, and is not the last.

        Args:
            used: share of the nearest limit, of all starts together.
        """
        behind = self.averager.starts_ended + 1
        # A share such as 15/22 is rounded, and 22 times as much may be a little less than 15.
        return behind < self.number and used * self.number >= behind - 1e-9

    def start_again(self, progress: Progress) -> None:
        """End a start and begin the next; data, draws and the schedule of p_reference go on."""
        self.averager.start_again()
        self.stepper.start_again()
        progress.started_at = progress.update

    def since(self, progress: Progress, budget: float) -> tuple[int, float]:
        """Updates of this start, and the share of its budget that is used up, by which the learning rate goes.

        Args:
            progress: where the run stands.
            budget: share that is used up of that of all starts together.
        """
        used = max(budget * self.number - self.averager.starts_ended, 0.0)
        return progress.update - progress.started_at, used
