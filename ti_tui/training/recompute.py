"""Gradient checkpointing: parts of the U-Net keep only their inputs and run again in backward (Chen et al. 2016).

`ti_tui.run.memory` knows what each setting saves and costs; `benchmarks.memory` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ti_tui.run.memory import Recompute


def set_recompute(unet: Any, amount: Recompute) -> None:
    """Recompute "none", "some" (the finest levels, up to the first one with attention) or "all" of `unet`'s blocks."""
    levels = {"none": 0, "some": _finest_with_attention(unet) + 1, "all": None}[amount]
    wanted = {id(unit) for unit in _units(unet, levels)}
    for unit in _units(unet, None):
        # An instance's own `forward` takes precedence over that of its class.
        unit.__dict__.pop("forward", None)
        if id(unit) in wanted:
            unit.__dict__["forward"] = _Recomputed(unit)


class _Recomputed:
    def __init__(self, unit: nn.Module) -> None:
        self._unit = unit

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Frozen parts draw no random numbers, so no random state has to be restored.
        return checkpoint(
            type(self._unit).forward, self._unit, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
        )


def _finest_with_attention(unet: Any) -> int:
    return next((level for level, block in enumerate(unet.down_blocks) if hasattr(block, "attentions")), 0)


def _units(unet: Any, levels: int | None) -> Iterator[nn.Module]:
    """The modules that are recomputed one by one, in the `levels` finest levels (None: in all): residual blocks, and
    transformers (or each block of a transformer that has several)."""
    blocks = [*unet.down_blocks[:levels], *list(unet.up_blocks)[::-1][:levels]]
    if levels is None and unet.mid_block is not None:
        blocks.append(unet.mid_block)
    for block in blocks:
        yield from block.resnets
        for transformer in getattr(block, "attentions", ()):
            deep = len(transformer.transformer_blocks) > 1
            yield from transformer.transformer_blocks if deep else [transformer]
