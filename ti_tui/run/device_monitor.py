"""Reads the memory, load and temperature of the trainer's device, in a thread of the dashboard."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ti_tui.run.hardware import nvml_handle, open_nvml, torch_is_for_cpu


@dataclass(frozen=True)
class DeviceReading:
    """One reading of a device; None for what the device or its driver does not report.

    total_bytes, used_bytes  of its memory, by all programs: the card's, or the machine's for the CPU
    trainer_bytes            used by the trainer and its child processes
    others_bytes             used by everything else; None if the trainer's part is unknown
    utilisation              0 to 1: of the card by all programs; of all CPU cores by the trainer
    """

    kind: Literal["cuda", "cpu"]
    name: str
    total_bytes: int
    used_bytes: int
    trainer_bytes: int | None = None
    others_bytes: int | None = None
    utilisation: float | None = None
    celsius: float | None = None
    watts: float | None = None


class DeviceMonitor:
    """Reads a device repeatedly. Nothing here raises: what fails is None, or the CPU is read instead.

    wanted: as in `training.device`: auto, cpu, cuda or cuda:1.
    pid:    the trainer; None reads the device alone.

    The first `read` opens NVML, which takes time: call it in a thread. `read` and `close` may be called from different
    threads.
    """

    def __init__(self, wanted: str = "auto", pid: int | None = None) -> None:
        self._wanted = wanted
        self._trainer = _Trainer(pid)
        self._opened = False
        self._card: _Card | None = None

    def read(self) -> DeviceReading:
        """Read the device. The trainer's CPU load is known from the second call on."""
        if not self._opened:
            self._opened = True
            if self._wanted != "cpu" and not torch_is_for_cpu():
                self._card = _Card.open(self._wanted)
        card = self._card
        reading = card.read(self._trainer) if card is not None else None
        return reading or _read_cpu(self._trainer)

    def close(self) -> None:
        """Close NVML. Later calls of `read` read the CPU."""
        self._opened = True
        card, self._card = self._card, None
        if card is not None:
            card.close()


class _Card:
    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._nvml = pynvml
        self._handle = handle
        name = self._ask("nvmlDeviceGetName")
        self._name = name.decode(errors="replace") if isinstance(name, bytes) else str(name or "NVIDIA card")

    @classmethod
    def open(cls, wanted: str) -> _Card | None:
        pynvml = open_nvml()
        if pynvml is None:
            return None
        handle = None
        with contextlib.suppress(Exception):
            handle = nvml_handle(pynvml, int(wanted.partition(":")[2] or 0))
        if handle is not None:
            return cls(pynvml, handle)
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()
        return None

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()

    def read(self, trainer: _Trainer) -> DeviceReading | None:
        """None if not even the memory can be read: the card fell off the bus, or its driver was replaced."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        if memory is None:
            return None
        load = self._ask("nvmlDeviceGetUtilizationRates")
        celsius = self._ask("nvmlDeviceGetTemperature", getattr(self._nvml, "NVML_TEMPERATURE_GPU", 0))
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        reading = DeviceReading(
            "cuda",
            self._name,
            int(memory.total),
            int(memory.used),
            utilisation=None if load is None else min(1.0, load.gpu / 100),
            celsius=None if celsius is None else float(celsius),
            watts=None if milliwatts is None else milliwatts / 1000,
        )
        return _with_trainer(reading, self._bytes_of(trainer.family()))

    def _bytes_of(self, family: list[Any]) -> int | None:
        """Memory of these processes on the card; None if NVML does not tell, as in a container."""
        pids = {process.pid for process in family}
        running = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        mine = [process.usedGpuMemory for process in running if process.pid in pids]
        return sum(mine) if mine and None not in mine else None

    def _ask(self, name: str, *values: Any) -> Any:
        # Cards, drivers and versions of pynvml differ in what they report.
        try:
            return getattr(self._nvml, name)(self._handle, *values)
        except Exception:
            return None


class _Trainer:
    """The trainer and its child processes. Remembers their CPU times: the load is a difference of two readings."""

    def __init__(self, pid: int | None) -> None:
        import psutil

        self._process: Any = None
        self._cpu_seconds: dict[int, float] = {}
        self._looked = 0.0
        if pid is not None:
            with contextlib.suppress(psutil.Error, ValueError, OverflowError):
                self._process = psutil.Process(pid)

    def family(self) -> list[Any]:
        """The living processes; empty if the trainer has ended, even if its pid now belongs to another process."""
        import psutil

        process = self._process
        if process is None or not _quietly(process.is_running) or _quietly(process.status) == psutil.STATUS_ZOMBIE:
            return []
        return [process, *(_quietly(lambda: process.children(recursive=True)) or [])]

    def cpu_share(self, family: list[Any]) -> float | None:
        """Share of all cores that they used since the last call, 0 to 1."""
        import psutil

        now, before, looked = time.monotonic(), self._cpu_seconds, self._looked
        self._cpu_seconds, self._looked = {}, now
        for process in family:
            if times := _quietly(process.cpu_times):
                self._cpu_seconds[process.pid] = times.user + times.system
        if not before or not self._cpu_seconds or now <= looked:
            return None
        spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in self._cpu_seconds.items())
        return min(1.0, max(0.0, spent / (now - looked) / (psutil.cpu_count() or 1)))


def _read_cpu(trainer: _Trainer) -> DeviceReading:
    import psutil

    memory, family = psutil.virtual_memory(), trainer.family()
    used = memory.total - memory.available
    reading = DeviceReading("cpu", "CPU", memory.total, used, utilisation=trainer.cpu_share(family))
    resident = [info.rss for process in family if (info := _quietly(process.memory_info))]
    return _with_trainer(reading, sum(resident) if resident else None)


def _with_trainer(reading: DeviceReading, trainer_bytes: int | None) -> DeviceReading:
    if trainer_bytes is None:
        return reading
    # The two were read one after the other, and pages shared by processes count once for each.
    others = max(0, reading.used_bytes - trainer_bytes)
    return replace(reading, trainer_bytes=trainer_bytes, others_bytes=others)


def _quietly(ask: Callable[[], Any]) -> Any:
    """The result of `ask`, or None: a process may end at any time, or belong to another user."""
    import psutil

    try:
        return ask()
    except (psutil.Error, OSError):
        return None
