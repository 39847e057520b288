"""Predicts the peak memory of a training on its device, from coefficients measured on full-size models.

`benchmarks.memory` measures and writes the coefficients; `ti_tui.run.memory_fit` uses the predictions to choose the
compute mode.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import Family

MIB = 1024**2

Backward = Literal["plain", "lean"]
"""What frozen layers keep for the backward pass: what torch keeps, or only what the gradient needs."""
Recompute = Literal["none", "some", "all"]
"""Gradient checkpointing: which blocks of the U-Net are recomputed in backward. "some": those of the finest level with
attention, and finer ones."""
Precision = Literal["fp32", "bf16", "fp16"]
Attention = Literal["sdpa", "xformers", "plain"]

COEFFICIENTS_FILE = Path(__file__).parent.parent / "data" / "models" / "memory.toml"

CONTEXT_MIB = 500
"""CUDA context, workspaces of cuBLAS and cuDNN, fragmentation in the allocator: assumed, not measured."""
PROCESS_MIB = 820
"""What a trainer on the CPU needs on top of the model: Python, the libraries, oneDNN's copies (measured on Linux)."""
TEXT_CHUNK = 4
"""At least this many prompts are encoded in one batch."""


@dataclass(frozen=True)
class ComputeMode:
    """How a step is computed: everything that changes its memory and its time, but not its result.

    bits: of the U-Net's weights; 8 rounds them, so this one does change the result a little.
    """

    batch_size: int
    backward: Backward = "lean"
    recompute: Recompute = "none"
    bits: Literal[8, 16] = 16
    text_on_cpu: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted bytes on the device while training, and the peaks of the other phases.

    text: weights of the text encoder(s), and the activations that they keep for a step's prompts.
    caching, sampling: peak of each phase, everything included; with a tiled VAE if a whole image does not fit.
    """

    unet: int
    text: int
    activations: int
    context: int
    caching: int
    sampling: int

    @property
    def training(self) -> int:
        return self.unet + self.text + self.activations + self.context

    @property
    def peak(self) -> int:
        return max(self.training, self.caching, self.sampling)


@cache
def coefficients() -> dict[str, Any]:
    """MiB in half precision, by family; see `benchmarks.memory`."""
    return tomllib.loads(COEFFICIENTS_FILE.read_text(encoding="utf-8"))


def is_known(facts: ModelFacts) -> bool:
    """Whether the model has a size that was measured."""
    return tuple(coefficients()[facts.family]["widths"]) == facts.widths


def predict(
    family: Family,
    mode: ComputeMode,
    *,
    resolution: int,
    precision: Precision,
    attention: Attention = "sdpa",
    cuda: bool,
    prompts: int = 1,
    tiled: bool = False,
) -> MemoryPlan:
    """Predicted memory of a model of the family's published size.

    resolution: side in pixels of the training images and the samples.
    prompts:    different prompts in a step.
    tiled:      the VAE encodes and decodes in tiles.
    """
    table = coefficients()[family]
    kind = table["ways"][f"{mode.backward}-{mode.recompute}"]
    area = (resolution / table["resolution"]) ** 2
    size = 1.0 if precision != "fp32" else 2.0
    image = kind["image"] * area
    if attention == "plain":
        image += kind["matrices"] * area**2
    # 8-bit weights have the same size whether the rest is fp32 or fp16.
    unet = table["unet"] * size if mode.bits == 16 else table["unet_8bit"]
    # A step with many prompts, or one that recomputes anyway, keeps no activations of the prompts; see TextGradients.
    kept = prompts if keeps_text(prompts, mode) else 0
    text = 0.0 if mode.text_on_cpu else (table["text"] + table["prompt"] * kept) * size
    fixed = CONTEXT_MIB if cuda else PROCESS_MIB
    caching = 2 * (table["vae"] + _pass(table, "encode", area, tiled)) + fixed
    decode = (table["vae"] + _pass(table, "decode", area, tiled)) * size
    # With guidance two images go through the U-Net in one batch, without activations for backward.
    sampling = unet + text + fixed + max(2 * table["forward"] * area * size, decode)
    return MemoryPlan(
        *(
            int(mib * MIB)
            for mib in (unet, text, (image * mode.batch_size + kind["fixed"]) * size, fixed, caching, sampling)
        )
    )


def keeps_text(prompts: int, mode: ComputeMode) -> bool:
    """Whether the text encoder(s) keep their activations while the U-Net runs; otherwise they are recomputed."""
    return mode.recompute == "none" and prompts <= max(mode.batch_size, TEXT_CHUNK)


def _pass(table: dict[str, Any], name: str, area: float, tiled: bool) -> float:
    """MiB for a pass through the VAE; a tile needs the same whatever the size of the image."""
    return float(table[f"{name}_tiled"] if tiled else table[name] * area)
