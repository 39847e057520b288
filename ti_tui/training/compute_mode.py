"""Lets a U-Net compute its step in the way that the plan chose, and in another one when memory runs out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ti_tui.run.compiling import Compile
from ti_tui.run.memory import ComputeMode
from ti_tui.training.lean import make_lean
from ti_tui.training.recompute import set_recompute

RECOMPILES = 256


def set_compute_mode(unet: Any, mode: ComputeMode) -> None:
    """Take over `way`'s backward and recomputation. A lean backward stays: plain only keeps more."""
    if mode.backward == "lean":
        make_lean(unet)
    set_recompute(unet, mode.recompute)


def compile_unet(unet: Any, how: Compile, *, backend: Any = "inductor") -> None:
    """Compile `unet`, or each of its repeated blocks: compiled once for all that are alike, in seconds not minutes.

    The whole U-Net on a card is also recorded as CUDA graphs, which take the launches out of small batches. Nothing
    happens before the first pass; what goes wrong then is for `stop_compiling`.
    """
    if how == "off":
        return
    # Every block of a kind shares one function, and each of its shapes counts against torch's limit, which is 8.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILES)
    mode = "reduce-overhead" if how == "full" and unet.device.type == "cuda" and backend == "inductor" else None
    for module in _compiled(unet, how):
        # One set of shapes a run (a few with buckets): what is known to be fixed is compiled faster.
        module.compile(dynamic=False, backend=backend, mode=mode)


def stop_compiling(unet: Any) -> None:
    """Go on without compiled parts."""
    for module in unet.modules():
        module._compiled_call_impl = None
    torch._dynamo.reset()


def is_compiled(unet: Any) -> bool:
    return any(module._compiled_call_impl is not None for module in unet.modules())


def _compiled(unet: Any, how: Compile) -> list[nn.Module]:
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D

    if how == "full":
        return [unet]
    return [module for module in unet.modules() if isinstance(module, (BasicTransformerBlock, ResnetBlock2D))]
