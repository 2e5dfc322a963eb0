"""What commands say and show on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer

from l2s_nmt.plain_text import visible, visible_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from l2s_nmt.processes import Processes


def console() -> Console:
    """Of standard output, wide enough for tables where it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120)


class Advance:
    """Moves a progress bar on."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.bar, self.task = bar, task

    def __call__(self, more: int) -> None:
        """So many more are done."""
        self.bar.advance(self.task, more)

    def at(self, done: int, total: int) -> None:
        """So many are done, of so many."""
        self.bar.update(self.task, completed=done, total=total)


@contextmanager
def progress(
    what: str, total: int | None, processes: Processes, *, hidden: bool = False
) -> Iterator[Advance]:
    """A bar on standard error, where that is a terminal.

    Args:
        what: goes on.
        total: of its steps; None while it is not known.
        processes: of which the main one shows it.
        hidden: show it nowhere.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    hidden = hidden or not (processes.is_main and sys.stderr.isatty())
    with Progress(console=Console(stderr=True), disable=hidden, transient=True) as bar:
        yield Advance(bar, bar.add_task(escape(visible(what)), total=total))


def say(text: str) -> None:
    """Print to standard output, with nothing that would steer a terminal."""
    typer.echo(visible_lines(text))


def note(text: str) -> None:
    """Print to standard error, with nothing that would steer a terminal; what it does not take is lost."""
    with suppress(OSError):
        typer.echo(visible_lines(text), err=True)
