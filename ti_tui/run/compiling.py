"""Decides how much of the U-Net is compiled: compiling pays off only in a long run."""

from __future__ import annotations

from typing import Literal

from ti_tui.run.hardware import Hardware
from ti_tui.run.memory import coefficients, is_known
from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import RunFile

Compile = Literal["off", "blocks", "full"]

COMPILE_SECONDS = 60.0
COMPILE_GAIN = 0.1
"""What compiling the blocks costs, and the share of the time that it saves on a GPU: assumed."""
CARD_TFLOPS = 20.0
"""Speed of a mid-range GPU at half precision, to tell a long run from a short one. Assumed."""


def plan_compile(
    run: RunFile, facts: ModelFacts, hardware: Hardware, effective: int, reasons: dict[str, str]
) -> Compile:
    """How much is compiled; auto compiles only if the run is long enough to save more time than compiling takes."""
    wanted = run.training.compile
    if wanted == "off":
        return "off"
    if wanted != "auto":
        reasons["compile"] = f"{wanted}, as the run file says"
        return wanted
    if hardware.kind != "cuda" or not is_known(facts):
        reasons["compile"] = "off: it gains nothing on a CPU" if hardware.kind != "cuda" else "off: the model is small"
        return "off"
    table = coefficients()[facts.family]
    area = (run.dataset.resolution / table["resolution"]) ** 2
    images = run.scheme.scheme().total_steps * effective
    seconds = images * table["ways"]["plain-none"]["work"] * area / CARD_TFLOPS
    if seconds * COMPILE_GAIN < 2 * COMPILE_SECONDS:
        reasons["compile"] = "off: in this run compiling would take longer than it saves"
        return "off"
    reasons["compile"] = "blocks: in this run compiling saves more than the minute that it takes"
    return "blocks"
