"""What a person sees while a run trains: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 30.0


class Display:
    """Live progress on stderr.

    Args:
        enabled: False on all processes but the first.
    """

    def __init__(self, enabled: bool) -> None:
        self.console = Console(stderr=True, quiet=not enabled, highlight=False, soft_wrap=True)
        self.live = enabled and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task("training", total=1.0, status="")
        self.last_line = 0.0

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False)

    def step(self, used: float, update: int, measured: dict[str, Any]) -> None:
        """Show where training stands.

        Args:
            used: share of the run's limit.
            update: number of the update.
            measured: the metrics of the latest updates.
        """
        status = f"update {update}  " + "  ".join(_shown(measured))
        self.bar.update(self.task, completed=min(used, 1.0), status=status)
        now = time.monotonic()
        if not self.live and now - self.last_line >= LINE_EVERY_SECONDS:
            self.last_line = now
            self.say(f"{100 * min(used, 1.0):3.0f} %  {status}")


SHOWN = {
    "loss": "loss {:.3f}",
    "target_tokens_per_second": "{:.0f} tokens/s",
    "roll_in_cost": "roll-in cost {:.3f}",
    "improvable": "improvable {:.0%}",
    "length_ratio": "length {:.2f}",
    "roll_outs_per_second": "{:.0f} roll-outs/s",
    "bleu": "valid BLEU {:.2f}",
}


def _shown(measured: dict[str, Any]) -> list[str]:
    return [form.format(measured[key]) for key, form in SHOWN.items() if measured.get(key) is not None]
