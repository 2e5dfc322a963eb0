"""The energy that training takes, where processors or GPUs count it.

Linux shows the counters of Intel's and AMD's processors under powercap (RAPL), mostly to root alone; those of NVIDIA's
GPUs are read by ``pynvml``, if it is installed. They count all that a device does, whoever it does it for, and nothing
of memory, disks, fans and power supplies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """One device's."""

    read: Callable[[], float]
    """Joules since some moment in the past."""
    span: float | None = None
    """Joules after which it begins at 0 again; None: never."""


class EnergyMeter:
    """Adds up what counters count from now on; those that can be read no more add nothing more.

    Args:
        counters: of the devices; with none, nothing is known.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._known = bool(counters)
        self._total = 0.0
        self._last: dict[int, float] = {}
        self._counters = list(counters)
        self.sample()
        self._total = 0.0

    def sample(self) -> None:
        """Look at the counters; oftener than the fastest of them begins anew, which takes minutes at the least."""
        for number, counter in enumerate(self._counters):
            try:
                now = counter.read()
            except (OSError, ValueError):
                continue
            before = self._last.get(number, now)
            around = counter.span or 0.0 if now < before else 0.0
            self._total += max(now - before + around, 0.0)
            self._last[number] = now

    def take(self) -> float | None:
        """Joules since this was asked for the last time; None where no device tells."""
        self.sample()
        taken, self._total = self._total, 0.0
        return taken if self._known else None


def find_counters(device: torch.device, *, processors: bool) -> list[Counter]:
    """The counters that can be read here.

    Args:
        device: of this process; where it is a GPU, its own counts.
        processors: whether this machine's processors count too: for one process of each machine.
    """
    counters = _of_processors(POWERCAP) if processors else []
    if device.type == "cuda":
        counters += _of_gpu(device)
    return counters


def _of_processors(folder: Path) -> list[Counter]:
    """One for each package, which includes its cores and graphics."""
    return [
        Counter(partial(_micro, zone / "energy_uj"), _micro(zone / "max_energy_range_uj"))
        for zone in sorted(folder.glob("intel-rapl:*"))
        if _is_readable_package(zone)
    ]


def _is_readable_package(zone: Path) -> bool:
    try:
        _micro(zone / "energy_uj")
        _micro(zone / "max_energy_range_uj")
        return (zone / "name").read_text(encoding="utf-8").startswith("package")
    except (OSError, ValueError):
        return False


def _micro(path: Path) -> float:
    return int(path.read_text(encoding="utf-8")) / 1e6


def _of_gpu(device: torch.device) -> list[Counter]:
    try:
        import pynvml
    except ImportError:
        return []

    def read() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from error

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        read()
    except (pynvml.NVMLError, OSError):  # too old a GPU, or a part of one
        return []
    return [Counter(read)]
