"""The device as torch sees it: choice, dtypes, kernels and memory."""

from __future__ import annotations

import platform
from typing import Any

import torch
from accelerate import Accelerator

from ti_tui.errors import first_line
from ti_tui.run.hardware import Hardware, cpu
from ti_tui.run.memory import CONTEXT_MIB, MIB, Attention, Precision
from ti_tui.run.problems import Problem, ProblemsError

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_accelerator(wanted: str) -> Accelerator:
    """The accelerator of this run; under `accelerate launch` its environment decides the device."""
    return Accelerator(cpu=wanted == "cpu" or not torch.cuda.is_available())


def choose_device(accelerator: Accelerator, wanted: str) -> torch.device:
    """The torch device for `training.device`. Raises ProblemsError if it names a card that does not exist."""
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            built = "was built without CUDA" if torch.version.cuda is None else "sees no NVIDIA card"
            message = f"{wanted} cannot be used: the installed torch {torch.__version__} {built}"
            raise ProblemsError([Problem("error", message, "training.device", "See `ti-tui doctor`, or use cpu.")])
        index = int(wanted.partition(":")[2] or accelerator.local_process_index)
        if index >= torch.cuda.device_count():
            message = f"{wanted} does not exist: this machine has {torch.cuda.device_count()} cards"
            raise ProblemsError([Problem("error", message, "training.device", "Cards count from 0.")])
        device = torch.device("cuda", index)
    else:
        device = accelerator.device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def hardware_of(device: torch.device) -> Hardware:
    """What the plan needs to know about a torch device."""
    if device.type != "cuda":
        return cpu()
    free, total = torch.cuda.mem_get_info(device)
    # This process's CUDA context already takes memory; the plan counts it separately.
    free = min(total, free + CONTEXT_MIB * MIB)
    index = device.index or 0
    bf16 = torch.cuda.get_device_capability(device)[0] >= 8
    return Hardware("cuda", torch.cuda.get_device_name(device), total, free, bf16, index)


LARGE_PARAMETERS = 100_000_000


def use_fast_arithmetic(device: torch.device, parameters: int) -> None:
    """Choose the fastest float32 matrix products of this device for a U-Net with this many parameters.

    On CPUs full-size models use oneDNN, which is a quarter faster (measured) and gives the rows' gradients to 7 equal
    digits. For tiny models its overhead per call makes a step 2.5 times slower, so they keep torch's own kernels. Tiny
    models also use one thread only: a second one gains nothing on an idle machine, and when something else runs (the
    dashboard is enough), each of the many short operations has to wait for it. On NVIDIA cards with compute capability
    8.0 and above TF32 is allowed.
    """
    if device.type == "cpu":
        tiny = parameters < LARGE_PARAMETERS
        x86 = platform.machine().lower() in {"x86_64", "amd64"}
        torch.set_float32_matmul_precision("medium" if x86 and not tiny else "highest")
        if tiny:
            torch.set_num_threads(1)
    elif device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def set_attention(unet: Any, attention: Attention) -> None:
    """Choose the U-Net's attention kernel: torch's fused one (sdpa), xformers', or plain matrix products."""
    if attention == "xformers":
        try:
            unet.enable_xformers_memory_efficient_attention()
        except Exception as error:
            # xformers raises different classes for no card, an old card, or a build for another torch.
            message = f"xformers cannot be used here: {first_line(error)}"
            raise ProblemsError([Problem("error", message, "training.attention", "Use sdpa.")]) from None
    elif attention == "plain":
        from diffusers.models.attention_processor import AttnProcessor

        unet.set_attn_processor(AttnProcessor())


def memory_used(device: torch.device) -> tuple[int, int]:
    """(now, peak) bytes of this process: reserved on the card, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device), torch.cuda.max_memory_reserved(device)
    import psutil

    info = psutil.Process().memory_info()
    return info.rss, getattr(info, "peak_wset", _peak_resident() or info.rss)


def watch_peak(device: torch.device) -> None:
    """Restart the peak of `memory_used`, so that encoding the images does not count. GPUs only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def free_memory(device: torch.device) -> None:
    """Release the memory that torch's allocator holds but nothing uses."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
