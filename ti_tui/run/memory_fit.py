"""The planner: of all ways to compute a step, the fastest that fits into the memory there is, and why.

Every way computes the same step; only 8-bit weights change it a little, so recomputation is tried before them.
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
"""Of an image's work: what a micro-batch costs beside its images (launches, weights read again). Assumed."""
LEAN = {"cpu": 1.04, "cuda": 1.02}
"""A norm and an activation a block more in backward: on a CPU measured, on a card assumed."""
EXPANDING = 0.1
"""Of an image's work: expanding 8-bit weights twice a micro-batch, by the memory traffic of a mid-range card."""
EIGHT_BITS = 0.5
"""Of an image's work, as a price for weights that are rounded: recomputing comes before, the CPU for the text after."""
PLAIN_SHARE = 0.8
"""Of the memory: layers may keep all they like only with room to spare, since it gains so little."""
TEXT_ON_CPU = 1.0
"""Of an image's work, for each: the text encoder(s) beside the card, by the speed of a usual CPU."""

AMOUNTS: dict[str, tuple[Recompute, ...]] = {
    "auto": ("none", "some", "all"),
    "off": ("none",),
    "some": ("some",),
    "on": ("all",),
}
BACKWARDS: dict[str, tuple[Backward, ...]] = {"auto": ("plain", "lean"), "on": ("lean",), "off": ("plain",)}


@dataclass(frozen=True)
class Fit:
    """A way, and what it needs (None: the model's size is not known).

    tiled_caching, tiled_previews: pictures are encoded, and previews decoded, in pieces.
    """

    mode: ComputeMode
    memory: MemoryPlan | None
    tiled_caching: bool = False
    tiled_previews: bool = False


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
    """The fastest way that fits, or the least of all where none does. Writes a line for each decision to `reasons`.

    effective: images of a step; 0 if the micro-batch decides it.
    """
    ways = list(_ways(run, hardware, effective))
    if not is_known(facts):
        # Small models fit anyhow.
        reasons["memory"] = "not predicted: this model is not of a published size"
        return Fit(ways[0], None)
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

    fitting = [mode for mode in ways if fits(mode)]
    # The VAE is not there while the others train, so its own need only decides how pictures pass it.
    mode = min(fitting, key=cost) if fitting else min(ways, key=lambda mode: needs(mode).training)
    whole, pieces = needs(mode), needs(mode, tiled=True)
    caching, previews = whole.caching > limit, whole.previews > limit
    memory = replace(
        whole,
        caching=(pieces if caching else whole).caching,
        previews=(pieces if previews else whole).previews,
    )
    _explain(mode, memory, limit, bool(fitting), reasons)
    if caching or previews:
        what = [name for name, tiled in (("pictures are encoded", caching), ("previews decoded", previews)) if tiled]
        reasons["VAE"] = f"{' and '.join(what)} in pieces of 512 pixels: whole ones would not fit"
    return Fit(mode, memory, caching, previews)


def recompute_in_words(mode: ComputeMode) -> str:
    """What of the activations is computed twice, in a few words."""
    return {
        "none": "nothing recomputed",
        "some": "some activations computed twice",
        "all": "activations computed twice",
    }[mode.recompute]


def smaller(mode: ComputeMode) -> ComputeMode | None:
    """The way to go on with after running out of memory, None where none is left; what it computes stays the same.

    The cheapest first: the lean backward, then half the micro-batch, then more recomputation.
    """
    if mode.backward == "plain":
        return replace(mode, backward="lean")
    if mode.batch_size > 1:
        return replace(mode, batch_size=(mode.batch_size + 1) // 2)
    amounts = AMOUNTS["auto"]
    if mode.recompute != amounts[-1]:
        return replace(mode, recompute=amounts[amounts.index(mode.recompute) + 1])
    return None


def _ways(run: RunFile, hardware: Hardware, effective: int) -> Iterator[ComputeMode]:
    """All that the run file leaves open, the largest micro-batch and the least change first."""
    training, cuda = run.training, hardware.kind == "cuda"
    most = min(effective, MAX_AUTO_BATCH) if effective else MAX_AUTO_BATCH
    auto = training.batch_size == "auto"
    sizes = dict.fromkeys(_even(size, effective) for size in range(most, 0, -1)) if auto else [training.batch_size]
    # Main memory is not short of 800 MiB where there is no card.
    all_bits: dict[str, tuple[Literal[8, 16], ...]] = {"auto": (16, 8) if cuda else (16,), "off": (16,), "8bit": (8,)}
    places = {"auto": (False, True), "device": (False,), "cpu": (True,)}[training.text_encoder] if cuda else (False,)
    backwards = BACKWARDS[training.lean_backward]
    for bits, on_cpu, amount, backward, size in product(
        all_bits[training.quantise], places, AMOUNTS[training.recompute], backwards, sizes
    ):
        yield ComputeMode(size, backward, amount, bits, on_cpu)


def _even(size: int, effective: int) -> int:
    """The smallest batch size with as few micro-batches: 5 images in two are 3 + 2, not 4 + 1."""
    return math.ceil(effective / math.ceil(effective / size)) if effective else size


def _work(mode: ComputeMode, facts: ModelFacts, images: int, cuda: bool) -> float:
    """Predicted time of an image, in TFLOP."""
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
        reasons["memory"] = f"{need} GiB are predicted and {limit / GIB:.1f} are free: this may run out of memory"
    parts = [f"U-Net {memory.unet / GIB:.1f}", f"activations {memory.activations / GIB:.1f}"]
    parts += [f"text {memory.text / GIB:.1f}"] * bool(memory.text) + [f"context {memory.context / GIB:.1f}"]
    reasons["holds"] = ", ".join(parts) + " GiB"
    if mode.backward == "lean":
        reasons["backward"] = "lean: frozen layers keep only what the gradient needs; the result is the same"
    elif mode.recompute == "none":
        reasons["backward"] = "plain: there is room for all that layers keep, and it is the fastest"
    else:
        reasons["backward"] = "plain: of blocks that are computed twice little is kept anyway"
    if mode.recompute != "none":
        reasons["recompute"] = {
            "some": "the finest blocks are computed twice: more images at once, or it would not fit",
            "all": "all blocks are computed twice: it would not fit otherwise; 30 % more work",
        }[mode.recompute]
    if mode.bits == 8:
        reasons["U-Net"] = "8-bit weights: half the memory, without which this card would be too small"
    if mode.text_on_cpu:
        reasons["text encoder"] = "on the CPU: the card has no room for it; slower"
