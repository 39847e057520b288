"""Sets a U-Net's compute mode (lean backward, gradient checkpointing) and compiles it."""

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
    """Apply the backward and the recomputation of `mode`. A lean backward is never undone: a plain one needs more."""
    if mode.backward == "lean":
        make_lean(unet)
    set_recompute(unet, mode.recompute)


def compile_unet(unet: Any, how: Compile, *, backend: Any = "inductor") -> None:
    """Compile `unet`, or its repeated blocks: equal blocks are compiled once, which takes seconds instead of minutes.

    On a GPU the whole U-Net is also recorded as CUDA graphs, which saves launch time in small batches. The compiler
    runs in the first forward pass; if it fails there, call `stop_compiling`.
    """
    if how == "off":
        return
    # All blocks of a kind share one function, and each shape counts against torch's limit, which is 8 by default.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILES)
    mode = "reduce-overhead" if how == "full" and unet.device.type == "cuda" and backend == "inductor" else None
    for module in _compiled(unet, how):
        # A run has one set of shapes (a few with buckets), and fixed shapes give faster code.
        module.compile(dynamic=False, backend=backend, mode=mode)


def stop_compiling(unet: Any) -> None:
    """Run uncompiled from now on."""
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
