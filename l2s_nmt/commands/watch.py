"""``l2s-nmt watch``."""

from __future__ import annotations

from l2s_nmt.commands.options import RunArgument


def watch(run: RunArgument) -> None:
    """Follow a run that is trained elsewhere."""
    from l2s_nmt.run import Run
    from l2s_nmt.training.progress import Display
    from l2s_nmt.training.watch import watch as follow

    follow(Run(run), Display(enabled=True))
