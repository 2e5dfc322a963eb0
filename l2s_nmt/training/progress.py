"""What a person sees while a run trains: a live view on a terminal, plain lines in a log file."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from l2s_nmt.plain_text import visible_lines

LINE_EVERY_SECONDS = 30.0

FIELDS = {
    "": {
        "loss": "loss {:.3f}",
        "bleu": "valid BLEU {:.2f}",
        "best_bleu": "best {:.2f}",
        "target_tokens_per_second": "{:,.0f} tokens/s",
        "skipped": "{} updates skipped",
    },
    "search": {
        "roll_in_cost": "roll-in cost {:.3f}",
        "improvable": "improvable {:.0%}",
        "advantage_where_improvable": "advantage {:.3f}",
        "length_ratio": "length {:.2f}",
        "entropy": "entropy {:.2f}",
        "roll_outs_per_second": "{:,.0f} roll-outs/s",
    },
}
"""What is shown, by line."""
TIMES = ("roll_in", "roll_out", "scoring", "update")


class Display:
    """Live progress on stderr.

    Args:
        enabled: False on all processes but the first.
        stream: in place of standard error.
    """

    def __init__(self, enabled: bool, stream: IO[str] | None = None) -> None:
        self.console = Console(
            file=stream, stderr=True, quiet=not enabled, highlight=False, emoji=False, soft_wrap=True
        )
        self.live = enabled and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("training", total=1.0)
        self.view = Live(console=self.console, refresh_per_second=4, transient=True)
        self.last_line = -math.inf

    def __enter__(self) -> Display:
        if self.live:
            self.bar.reset(self.task)  # the time that data and model took is not training's
            self.view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.view.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(visible_lines(text), markup=False)

    def step(self, used: float, update: int, measured: Mapping[str, Any]) -> None:
        """Show where training stands.

        Args:
            used: share of the run's limit.
            update: number of the update.
            measured: the metrics of the latest updates.
        """
        used = min(used, 1.0)
        lines = view_of(update, measured)
        if self.live:
            self.bar.update(self.task, completed=used)
            self.view.update(
                Group(self.bar, *(Text(line, overflow="ellipsis", no_wrap=True) for line in lines))
            )
        elif time.monotonic() - self.last_line >= LINE_EVERY_SECONDS:
            self.last_line = time.monotonic()
            self.say(f"{100 * used:3.0f} %  " + "  ".join(line.strip() for line in lines))


def view_of(update: int, measured: Mapping[str, Any]) -> list[str]:
    """What matters, a line for training, one for the search, and one for where the time goes."""
    lines = []
    for name, fields in FIELDS.items():
        shown = [form.format(measured[key]) for key, form in fields.items() if measured.get(key) is not None]
        shown = shown if name else [f"update {update:,}", *shown]
        if shown:
            lines.append(f"  {name:<8}" + "  ".join(shown))
    seconds = {name: measured.get(f"seconds_{name}") or 0.0 for name in TIMES}
    if measured.get("seconds_roll_in") and sum(seconds.values()):
        shares = (f"{name.replace('_', '-')} {s / sum(seconds.values()):.0%}" for name, s in seconds.items())
        lines.append("  time    " + "  ".join(shares))
    return lines


def validation_text(line: Mapping[str, Any]) -> str:
    """What a line of ``metrics.jsonl`` says about a validation."""
    best = " (best)" if line.get("best") else ""
    perplexity = line.get("perplexity")
    return (
        f"update {line['update']:,}, {line['minutes']:.1f} min: validation BLEU {line['bleu']:.2f}{best}, "
        f"{'' if perplexity is None else f'perplexity {_short(perplexity)}, '}length ratio {line['length_ratio']:.3f}"
    )


def _short(perplexity: float) -> str:
    return f"{perplexity:.2f}" if perplexity < 1e6 else f"{perplexity:.1e}"
