"""The most memory that an update takes, each kind of step in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from l2s_nmt.recipe_file import Settings
from scripts.bench.setting import Workbench

_UPDATES = 3
"""Of the same batch: the first allocates the optimiser's moments."""


def peak_memory(settings: Settings, search: Settings) -> dict[str, float]:
    """Measure updates on the largest batch of the first epoch.

    Args:
        settings: of the workbench.
        search: of the step.

    Returns:
        In MiB: "resting" with model and corpus in memory, "peak", and "step", the difference.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(settings, search, theirs))
    child.start()
    theirs.close()
    try:
        found: dict[str, float] = ours.recv()
    except EOFError:
        raise RuntimeError("the process that measures memory died; it may have run out of it") from None
    finally:
        child.join()
    return found


def _measure(settings: Settings, search: Settings, answer: Connection) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench.open(settings, Path(folder))
        trainer = bench.trainer(bench.recipe(search))
        rows = max(bench.updates, key=lambda rows: int(bench.data.load(rows).target_lengths.sum()))
        resting = _now()
        trainer.turn([rows] * _UPDATES)
        peak = max(_peak(), resting)
        answer.send({"resting": resting, "peak": peak, "step": peak - resting})


def _now() -> float:
    """MiB in use: on the GPU if there is one, else by this process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    rss: int = psutil.Process().memory_info().rss
    return rss / 2**20


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts the parent's memory, from which this process was started
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    return _most_ever()


def _most_ever() -> float:
    info: Any = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):
        return float(info.peak_wset) / 2**20
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
