"""Chooses the compute mode: of all modes the fastest that fits into the memory, and why.

Every mode computes the same step; only 8-bit weights change it a little, so gradient checkpointing is tried first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from ti_tui.run.hardware import GIB, Hardware
from ti_tui.run.memory import (
    Attention,
    Backward,
    ComputeMode,
    MemoryPlan,
    Precision,
    Recompute,
    coefficients,
    is_known,
    predict,
)
from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import RunFile

MAX_AUTO_BATCH = 8
SAFE_SHARE = 0.95
"""Share of the free memory that a plan may fill."""

PER_MICRO_BATCH = 0.1
"""Cost of a micro-batch besides its images (launches, weights read again), as a share of an image's work. Assumed."""
LEAN = {"cpu": 1.04, "cuda": 1.02}
"""The lean backward computes one norm and one activation more per block: measured on a CPU, assumed on a GPU."""
EXPANDING = 0.1
"""Expanding 8-bit weights twice per micro-batch, as a share of an image's work: by a mid-range GPU's memory traffic."""
EIGHT_BITS = 0.5
"""A price for rounded weights, as a share of an image's work: recomputation is preferred to them, and they are
preferred to the text encoder on the CPU."""
PLAIN_SHARE = 0.8
"""The plain backward may fill only this share of the memory: it gains too little to take all of it."""
TEXT_ON_CPU = 1.0
"""The text encoder(s) on the CPU, as a share of an image's work, for each image; by the speed of an average CPU."""

AMOUNTS: dict[str, tuple[Recompute, ...]] = {
    "auto": ("none", "some", "all"),
    "off": ("none",),
    "some": ("some",),
    "on": ("all",),
}
BACKWARDS: dict[str, tuple[Backward, ...]] = {"auto": ("plain", "lean"), "on": ("lean",), "off": ("plain",)}


@dataclass(frozen=True)
class Fit:
    """A compute mode, and the memory that it needs (None: the model's size is not known).

    tiled_caching, tiled_sampling: the VAE encodes images, and decodes samples, in tiles.
    """

    mode: ComputeMode
    memory: MemoryPlan | None
    tiled_caching: bool = False
    tiled_sampling: bool = False


def limit_of(run: RunFile, hardware: Hardware) -> int:
    """Bytes that a plan may fill."""
    return int(run.training.vram_limit_gib * GIB) or int(hardware.free_bytes * SAFE_SHARE)


def find_fit(
    run: RunFile,
    facts: ModelFacts,
    hardware: Hardware,
    precision: Precision,
    attention: Attention,
    effective: int,
    reasons: dict[str, str],
) -> Fit:
    """The fastest mode that fits, or the one that needs least if none does. Adds a line for each decision to `reasons`.

    effective: images per step; 0 if the batch size decides it.
    """
    modes = list(_modes(run, hardware, effective))
    if not is_known(facts):
        # Models smaller than the published ones fit anyway.
        reasons["memory"] = "not predicted: this model is not of a published size"
        return Fit(modes[0], None)
    limit, cuda = limit_of(run, hardware), hardware.kind == "cuda"

    def needs(mode: ComputeMode, *, tiled: bool = False) -> MemoryPlan:
        return predict(
            facts.family, mode, resolution=run.dataset.resolution, precision=precision, attention=attention,
            cuda=cuda, prompts=max(effective, mode.batch_size), tiled=tiled,
        )  # fmt: skip

    def cost(mode: ComputeMode) -> tuple[float, int]:
        return _work(mode, facts, effective or mode.batch_size, cuda), needs(mode).training

    def fits(mode: ComputeMode) -> bool:
        spare = mode.backward == "plain" and run.training.lean_backward == "auto"
        return needs(mode).training <= limit * (PLAIN_SHARE if spare else 1.0)

    fitting = [mode for mode in modes if fits(mode)]
    # The VAE is not in memory during training, so what it needs only decides whether it works in tiles.
    mode = min(fitting, key=cost) if fitting else min(modes, key=lambda mode: needs(mode).training)
    whole, tiled = needs(mode), needs(mode, tiled=True)
    caching, sampling = whole.caching > limit, whole.sampling > limit
    memory = replace(
        whole,
        caching=(tiled if caching else whole).caching,
        sampling=(tiled if sampling else whole).sampling,
    )
    _explain(mode, memory, limit, bool(fitting), reasons)
    if caching or sampling:
        what = [name for name, is_tiled in (("images are encoded", caching), ("samples decoded", sampling)) if is_tiled]
        reasons["VAE"] = f"{' and '.join(what)} in tiles of 512 pixels: whole ones would not fit"
    return Fit(mode, memory, caching, sampling)


def recompute_in_words(mode: ComputeMode) -> str:
    """Which activations are recomputed in the backward pass, in a few words."""
    return {
        "none": "nothing recomputed",
        "some": "some activations recomputed",
        "all": "all activations recomputed",
    }[mode.recompute]


def smaller(mode: ComputeMode) -> ComputeMode | None:
    """The mode to continue with after running out of memory; None if there is none. It computes the same step.

    The cheapest change first: the lean backward, then half the micro-batch, then more recomputation.
    """
    if mode.backward == "plain":
        return replace(mode, backward="lean")
    if mode.batch_size > 1:
        return replace(mode, batch_size=(mode.batch_size + 1) // 2)
    amounts = AMOUNTS["auto"]
    if mode.recompute != amounts[-1]:
        return replace(mode, recompute=amounts[amounts.index(mode.recompute) + 1])
    return None


def _modes(run: RunFile, hardware: Hardware, effective: int) -> Iterator[ComputeMode]:
    """All modes that the run file allows; large micro-batches and small changes first."""
    training, cuda = run.training, hardware.kind == "cuda"
    most = min(effective, MAX_AUTO_BATCH) if effective else MAX_AUTO_BATCH
    auto = training.batch_size == "auto"
    sizes = dict.fromkeys(_even(size, effective) for size in range(most, 0, -1)) if auto else [training.batch_size]
    # Without a GPU, 8-bit weights are not needed: main memory has 800 MiB to spare.
    all_bits: dict[str, tuple[Literal[8, 16], ...]] = {"auto": (16, 8) if cuda else (16,), "off": (16,), "8bit": (8,)}
    places = {"auto": (False, True), "device": (False,), "cpu": (True,)}[training.text_encoder] if cuda else (False,)
    backwards = BACKWARDS[training.lean_backward]
    for bits, on_cpu, amount, backward, size in product(
        all_bits[training.quantise], places, AMOUNTS[training.recompute], backwards, sizes
    ):
        yield ComputeMode(size, backward, amount, bits, on_cpu)


def _even(size: int, effective: int) -> int:
    """The smallest batch size that needs no more micro-batches: 5 images in two are 3 + 2, not 4 + 1."""
    return math.ceil(effective / math.ceil(effective / size)) if effective else size


def _work(mode: ComputeMode, facts: ModelFacts, images: int, cuda: bool) -> float:
    """Predicted cost of an image, in TFLOP."""
    kinds: dict[str, Any] = coefficients()[facts.family]["ways"]
    image: float = kinds["plain-none"]["work"]
    each: float = kinds[f"{mode.backward}-{mode.recompute}"]["work"]
    if mode.backward == "lean":
        each *= LEAN["cuda" if cuda else "cpu"]
    if mode.text_on_cpu:
        each += image * TEXT_ON_CPU
    if mode.bits == 8:
        each += image * EIGHT_BITS
    extra = PER_MICRO_BATCH + (EXPANDING if mode.bits == 8 else 0.0)
    return each + extra * image * math.ceil(images / mode.batch_size) / images


def _explain(mode: ComputeMode, memory: MemoryPlan, limit: int, fits: bool, reasons: dict[str, str]) -> None:
    need = f"{memory.training / GIB:.1f}"
    if fits:
        reasons["memory"] = f"{need} of {limit / GIB:.1f} GiB (predicted), {recompute_in_words(mode)}"
    else:
        reasons["memory"] = f"{need} GiB are predicted, {limit / GIB:.1f} GiB are free: this may run out of memory"
    parts = [f"U-Net {memory.unet / GIB:.1f}", f"activations {memory.activations / GIB:.1f}"]
    parts += [f"text {memory.text / GIB:.1f}"] * bool(memory.text) + [f"context {memory.context / GIB:.1f}"]
    reasons["holds"] = ", ".join(parts) + " GiB"
    if mode.backward == "lean":
        reasons["backward"] = "lean: frozen layers keep only what the gradient needs; same result"
    elif mode.recompute == "none":
        reasons["backward"] = "plain: the fastest, and there is enough memory for it"
    else:
        reasons["backward"] = "plain: recomputed blocks keep little anyway"
    if mode.recompute != "none":
        reasons["recompute"] = {
            "some": "the finest blocks are recomputed: a larger batch size, or it would not fit",
            "all": "all blocks are recomputed: it would not fit otherwise; 30 % more work",
        }[mode.recompute]
    if mode.bits == 8:
        reasons["U-Net"] = "8-bit weights, half the memory: this card would be too small otherwise"
    if mode.text_on_cpu:
        reasons["text encoder"] = "on the CPU, which is slower: the card has no room for it"
