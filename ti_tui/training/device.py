"""The device: what torch really has, number formats and kernels."""

from __future__ import annotations

import platform
from typing import Any

import torch
from accelerate import Accelerator

from ti_tui.run.hardware import Hardware, cpu
from ti_tui.run.memory import CONTEXT_MIB, MIB, Attention, Precision
from ti_tui.run.problems import Problem, ProblemsError

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_accelerator(wanted: str) -> Accelerator:
    """The processes and the device of this run; under `accelerate launch` its environment decides the device."""
    return Accelerator(cpu=wanted == "cpu" or not torch.cuda.is_available())


def choose_device(accelerator: Accelerator, wanted: str) -> torch.device:
    """The torch device for `training.device`. Raises ProblemsError if it asks for a card that is not there."""
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            built = "was built without CUDA" if torch.version.cuda is None else "sees no NVIDIA card"
            message = f"{wanted} is wanted, but the installed torch {torch.__version__} {built}"
            raise ProblemsError([Problem("error", message, "training.device", "See `ti-tui doctor`, or use cpu.")])
        index = int(wanted.partition(":")[2] or accelerator.local_process_index)
        if index >= torch.cuda.device_count():
            message = f"{wanted} is wanted, but there are {torch.cuda.device_count()} cards"
            raise ProblemsError([Problem("error", message, "training.device", "Cards count from 0.")])
        device = torch.device("cuda", index)
    else:
        device = accelerator.device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def hardware_of(device: torch.device) -> Hardware:
    """What the plan needs to know of a torch device."""
    if device.type != "cuda":
        return cpu()
    free, total = torch.cuda.mem_get_info(device)
    # By now this process's own CUDA context is there; the plan counts it itself.
    free = min(total, free + CONTEXT_MIB * MIB)
    index = device.index or 0
    bf16 = torch.cuda.get_device_capability(device)[0] >= 8
    return Hardware("cuda", torch.cuda.get_device_name(device), total, free, bf16, index)


LARGE_PARAMETERS = 100_000_000


def use_fast_arithmetic(device: torch.device, parameters: int) -> None:
    """Let float32 products use the fastest kernels of this device for a U-Net of so many parameters.

    On CPUs this moves them to oneDNN: for full-size models a quarter faster (measured), gradients of the rows equal
    to 7 digits; for tiny ones its cost a call makes a step 2.5 times slower, so they keep torch's own. Tiny ones also
    stay on one thread: a second gains nothing on an idle machine, and beside other work (the dashboard is enough) each
    of their short operations waits for it. On NVIDIA cards from 8.0 on it allows TF32.
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
    """Choose the U-Net's attention kernel: torch's fused one, xformers', or plain matrix products."""
    if attention == "xformers":
        try:
            unet.enable_xformers_memory_efficient_attention()
        except Exception as error:
            # xformers has an error class for each reason: no card, an old card, a build for another torch.
            message = f"xformers cannot be used here: {str(error).splitlines()[0]}"
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
    """Count the peak of `memory_used` from here on: what was encoded before is not part of training. Cards only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def free_memory(device: torch.device) -> None:
    """Give back what the allocator keeps but nothing uses."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
