"""Files like those of powercap, and a module that answers as pynvml does, stand in for the hardware."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from l2s_nmt.training import energy
from l2s_nmt.training.energy import Counter, EnergyMeter, find_counters

CPU = torch.device("cpu")


def zone(folder: Path, number: str, name: str, micro: int, span: int = 1_000_000_000) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{micro}\n")
    (path / "max_energy_range_uj").write_text(f"{span}\n")
    return path


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_packages_are_added_up_and_their_parts_are_not(powercap: Path) -> None:
    packages = [zone(powercap, str(k), f"package-{k}", 5_000_000) for k in range(2)]
    part = zone(powercap, "0:0", "core", 0)
    whole = zone(powercap, "2", "psys", 0)
    meter = EnergyMeter(find_counters(CPU, processors=True))
    for path in (*packages, part, whole):
        (path / "energy_uj").write_text("7500000")
    assert meter.take() == pytest.approx(5.0)
    assert meter.take() == 0.0
    (packages[1] / "energy_uj").write_text("8000000")
    assert meter.take() == pytest.approx(0.5)


def test_a_counter_that_begins_anew_has_gone_around(powercap: Path) -> None:
    path = zone(powercap, "0", "package-0", 90_000_000, span=100_000_000)
    meter = EnergyMeter(find_counters(CPU, processors=True))
    for micro in (99_000_000, 4_000_000, 94_000_000, 3_000_000):
        (path / "energy_uj").write_text(str(micro))
        meter.sample()
    assert meter.take() == pytest.approx(9 + 5 + 90 + 9)


def test_nothing_is_known_where_no_device_tells(powercap: Path) -> None:
    assert EnergyMeter(find_counters(CPU, processors=True)).take() is None
    zone(powercap, "0", "package-0", 5)
    assert EnergyMeter(find_counters(CPU, processors=False)).take() is None, "another process counts them"
    (powercap / "intel-rapl:0" / "energy_uj").write_text("not a number")
    assert EnergyMeter(find_counters(CPU, processors=True)).take() is None
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    assert EnergyMeter(find_counters(CPU, processors=True)).take() is None


def test_a_counter_that_is_lost_adds_nothing_more(powercap: Path) -> None:
    path = zone(powercap, "0", "package-0", 0)
    meter = EnergyMeter([*find_counters(CPU, processors=True), Counter(iter([0.0, 1.0, 2.0]).__next__)])
    (path / "energy_uj").write_text("2000000")
    meter.sample()
    (path / "energy_uj").unlink()
    assert meter.take() == pytest.approx(4.0)


class NVMLError(Exception):
    pass


def fake_nvml(monkeypatch: pytest.MonkeyPatch, milli: list[int | None]) -> None:
    def total(handle: str) -> int:
        assert handle == "handle of GPU-1234"
        value = milli.pop(0)
        if value is None:
            raise NVMLError("not supported")
        return value

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=total,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))


def test_a_gpu_counts_in_thousandths(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, [1_000, 2_000, 3_500, None])
    meter = EnergyMeter(find_counters(torch.device("cuda", 0), processors=True))
    assert meter.take() == pytest.approx(1.5)
    assert meter.take() == 0.0, "what cannot be read adds nothing"


def test_a_gpu_that_does_not_count_is_left_out(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, [None])
    assert find_counters(torch.device("cuda", 0), processors=True) == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_counters(torch.device("cuda", 0), processors=True) == []
