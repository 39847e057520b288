"""Finds the device that a run would use, through NVML and psutil: no torch, no CUDA context."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

GIB = 1024**3


@dataclass(frozen=True)
class Hardware:
    """A device. The bytes are of its memory: the card's, or the machine's for the CPU.

    bf16: whether it computes bfloat16 at full speed (NVIDIA: compute capability 8.0 and above).
    """

    kind: Literal["cuda", "cpu"]
    name: str
    total_bytes: int
    free_bytes: int
    bf16: bool
    index: int = 0

    def describe(self) -> str:
        return f"{self.name}, {self.free_bytes / GIB:.1f} of {self.total_bytes / GIB:.1f} GiB free"


def find_hardware(wanted: str = "auto", *, any_torch: bool = False) -> Hardware:
    """The device that `training.device` means; auto takes the first NVIDIA card, else the CPU.

    any_torch: also find a card that the installed torch, built without CUDA, cannot use.
    """
    if wanted != "cpu" and (any_torch or not torch_is_for_cpu()):
        index = int(wanted.partition(":")[2] or 0)
        if card := _card(index):
            return card
    return cpu()


def missing_card(wanted: str) -> str:
    """Why the CUDA card that `training.device` names cannot be used, in words; "" if it can, or if nobody knows."""
    if torch_is_for_cpu():
        return "the installed torch was built without CUDA"
    pynvml = open_nvml()
    if pynvml is None:
        # torch for AMD cards calls them cuda as well; NVML does not know them.
        return "" if "+rocm" in _torch_version() else "there is no NVIDIA driver here"
    try:
        index = int(wanted.partition(":")[2] or 0)
        count = pynvml.nvmlDeviceGetCount()
        if index < count and nvml_handle(pynvml, index) is not None:
            return ""
        return f"there is no card {index}: this machine has {count}, counted from 0"
    except pynvml.NVMLError as error:
        return f"NVIDIA's driver says: {error}"
    finally:
        pynvml.nvmlShutdown()


def cpu() -> Hardware:
    """The CPU with the machine's memory."""
    import psutil

    memory = psutil.virtual_memory()
    return Hardware("cpu", "CPU", memory.total, memory.available, bf16=False)


def open_nvml() -> Any:
    """The library pynvml, ready to use until its `nvmlShutdown`; None without NVIDIA's driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        # No driver, no library, no card: each has an error class of its own, and all mean the same here.
        return None
    return pynvml


def nvml_handle(pynvml: Any, index: int) -> Any:
    """NVML's handle of the card with torch's number `index`: CUDA_VISIBLE_DEVICES may hide and reorder cards."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    names = [name.strip() for name in visible.split(",")]
    if index >= len(names) or not names[index] or names[index] == "-1":
        return None
    if names[index].isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(names[index]))
    return pynvml.nvmlDeviceGetHandleByUUID(names[index])


def torch_is_for_cpu() -> bool:
    """Whether the installed torch was built without CUDA, judged by its version."""
    return _torch_version().endswith("+cpu")


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _card(index: int) -> Hardware | None:
    pynvml = open_nvml()
    if pynvml is None:
        return None
    try:
        handle = nvml_handle(pynvml, index)
        if handle is None:
            return None
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        major, _minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        text = name.decode() if isinstance(name, bytes) else str(name)
        return Hardware("cuda", text, int(memory.total), int(memory.free), bf16=major >= 8, index=index)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
