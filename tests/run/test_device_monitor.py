"""The device under the trainer: the CPU with a real child process, the card through a stand-in for NVML."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ti_tui.run.device_monitor import DeviceMonitor

MIB = 1024**2
BUSY = f"""
import subprocess, sys
held = bytearray(64 * {MIB})
child = subprocess.Popen([sys.executable, "-c", "held = bytearray(48 * {MIB}); print(flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child.stdout.readline()
print(child.pid, flush=True)
while True:
    pass
"""


class NvmlError(Exception):
    """What NVML raises."""


class FakeNvml:
    """A card with 6 GiB; `broken` names the functions that raise, `processes` what runs on it."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *, broken: tuple[str, ...] = (), processes: dict[int, int | None] | None = None) -> None:
        self.broken = set(broken)
        self.processes = processes or {}
        self.opened = 0
        self.index: int | None = None

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self.broken:
            raise NvmlError(name)
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise NvmlError("no such card")
        self.index = index
        return "handle"

    def nvmlDeviceGetName(self, _handle: str) -> bytes:
        return b"GTX 1060"

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> SimpleNamespace:
        return SimpleNamespace(total=6144 * MIB, used=4000 * MIB, free=2144 * MIB)

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=93, memory=40)

    def nvmlDeviceGetTemperature(self, _handle: str, _sensor: int) -> int:
        return 71

    def nvmlDeviceGetPowerUsage(self, _handle: str) -> int:
        return 118_500

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes.items()]


@pytest.fixture
def trainer() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A busy process with a child, which hold 64 and 48 MiB; and the child's pid."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def monitor_with(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, wanted: str = "auto", pid: int | None = None) -> Any:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("ti_tui.run.device_monitor.torch_is_for_cpu", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return DeviceMonitor(wanted, pid)


def test_the_cpu_tells_the_memory_and_the_load_of_the_trainer_with_its_children(
    trainer: tuple[subprocess.Popen[str], int],
) -> None:
    monitor = DeviceMonitor("cpu", trainer[0].pid)
    first = monitor.read()
    assert first.kind == "cpu" and first.utilisation is None
    time.sleep(0.5)
    reading = monitor.read()
    assert reading.trainer_bytes is not None and 112 * MIB < reading.trainer_bytes < 400 * MIB
    assert reading.others_bytes == reading.used_bytes - reading.trainer_bytes
    assert reading.used_bytes < reading.total_bytes
    assert reading.utilisation is not None and 0.0 < reading.utilisation <= 1.0
    assert (reading.celsius, reading.watts) == (None, None)
    monitor.close()


def test_a_trainer_that_ended_has_no_memory(trainer: tuple[subprocess.Popen[str], int]) -> None:
    monitor = DeviceMonitor("cpu", trainer[0].pid)
    assert monitor.read().trainer_bytes
    trainer[0].kill()
    for _ in range(100):
        # Killed, then a zombie, then gone: nothing of it is read in any of these.
        reading = monitor.read()
        if reading.trainer_bytes is None:
            break
        time.sleep(0.05)
    trainer[0].wait()
    assert monitor.read().trainer_bytes is None and monitor.read().utilisation is None
    assert monitor.read().total_bytes > 0


@pytest.mark.parametrize("pid", [None, 2**22 + 1, -5, 2**80])
def test_without_a_trainer_the_device_alone_is_read(pid: int | None) -> None:
    reading = DeviceMonitor("cpu", pid).read()
    assert reading.total_bytes > reading.used_bytes > 0
    assert (reading.trainer_bytes, reading.others_bytes, reading.utilisation) == (None, None, None)


def test_a_card_tells_everything(monkeypatch: pytest.MonkeyPatch, trainer: tuple[subprocess.Popen[str], int]) -> None:
    process, child = trainer
    nvml = FakeNvml(processes={process.pid: 2800 * MIB, child: 200 * MIB, 1: 500 * MIB})
    monitor = monitor_with(nvml, monkeypatch, pid=process.pid)
    reading = monitor.read()
    assert (reading.kind, reading.name, reading.total_bytes) == ("cuda", "GTX 1060", 6144 * MIB)
    assert (reading.used_bytes, reading.trainer_bytes, reading.others_bytes) == (4000 * MIB, 3000 * MIB, 1000 * MIB)
    assert (reading.utilisation, reading.celsius, reading.watts) == (0.93, 71.0, 118.5)


def test_a_card_stays_open_from_the_first_reading_to_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monitor = monitor_with(nvml, monkeypatch, "cuda:1")
    assert nvml.opened == 0
    assert [monitor.read().kind, monitor.read().kind, nvml.opened, nvml.index] == ["cuda", "cuda", 1, 1]
    monitor.close()
    monitor.close()
    assert nvml.opened == 0
    assert monitor.read().kind == "cpu" and nvml.opened == 0


def test_what_a_card_does_not_tell_is_none(
    monkeypatch: pytest.MonkeyPatch, trainer: tuple[subprocess.Popen[str], int]
) -> None:
    broken = tuple(
        f"nvmlDeviceGet{what}"
        for what in ("Name", "UtilizationRates", "Temperature", "PowerUsage", "ComputeRunningProcesses")
    )
    reading = monitor_with(FakeNvml(broken=broken), monkeypatch, pid=trainer[0].pid).read()
    assert (reading.kind, reading.name, reading.used_bytes) == ("cuda", "NVIDIA card", 4000 * MIB)
    assert (reading.trainer_bytes, reading.others_bytes) == (None, None)
    assert (reading.utilisation, reading.celsius, reading.watts) == (None, None, None)


@pytest.mark.parametrize("listed", [{}, {1: 500 * MIB}, {"mine": None}])
def test_memory_that_nvml_does_not_give_to_the_trainer_is_unknown(
    listed: dict[Any, int | None], monkeypatch: pytest.MonkeyPatch, trainer: tuple[subprocess.Popen[str], int]
) -> None:
    pid = trainer[0].pid
    nvml = FakeNvml(processes={pid if key == "mine" else key: used for key, used in listed.items()})
    assert monitor_with(nvml, monkeypatch, pid=pid).read().trainer_bytes is None


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"])
def test_without_a_card_that_answers_the_cpu_is_read(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(broken=(broken, "nvmlShutdown"))
    monitor = monitor_with(nvml, monkeypatch)
    assert monitor.read().kind == "cpu"
    monitor.close()


@pytest.mark.parametrize("wanted", ["cuda:7", "cuda:x"])
def test_a_card_that_is_not_there_is_let_go(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    assert monitor_with(nvml, monkeypatch, wanted).read().kind == "cpu"
    assert nvml.opened == 0


def test_a_card_that_answers_again_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monitor = monitor_with(nvml, monkeypatch)
    kinds = [monitor.read().kind]
    nvml.broken.add("nvmlDeviceGetMemoryInfo")
    kinds.append(monitor.read().kind)
    nvml.broken.clear()
    assert [*kinds, monitor.read().kind] == ["cuda", "cpu", "cuda"]
