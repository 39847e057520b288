"""What goes on beside the steps, previews and the eval loss: how often, so that they take a tenth of the time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ti_tui.run.memory import coefficients, is_known
from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import RunFile
from ti_tui.run.sample_prompts import SamplePromptError, parse_sample_prompt

EVALUATED = 16
"""Items of the fixed set that the eval loss is taken on."""
EVALUATION_SHARE = 0.05
MOST_BESIDE = 0.10
"""Share of the time that previews and the eval loss take together, where the run file leaves it open."""
FORWARD_SHARE = 0.46
"""Work of a forward pass in that of a training step (SD 1.5: 0.803 of 1.749 TFLOP)."""


@dataclass(frozen=True)
class Beside:
    """Steps between evaluations of the fixed set (0: none), and the predicted shares of the time of both."""

    evaluation_steps: int
    evaluation: float
    previews: float

    def describe(self) -> str:
        """One line for people."""
        shares = {"previews": self.previews, "eval loss": self.evaluation}
        listed = ", ".join(f"{name} {share * 100:.2g} %" for name, share in shares.items() if share)
        return f"{listed} of the time (predicted); checkpoints take milliseconds" if listed else "checkpoints only"


def plan_beside(run: RunFile, facts: ModelFacts, effective: int, reasons: dict[str, str]) -> Beside:
    """Shares for a step of `effective` images. Auto evaluates in what the previews leave, at most 5 % of the time."""
    previews = _preview_share(run, facts, effective)
    wanted = run.evaluation.every_steps
    if wanted != "auto":
        steps = wanted
    else:
        share = min(EVALUATION_SHARE, max(MOST_BESIDE - previews, MOST_BESIDE / 10))
        steps = math.ceil(EVALUATED * FORWARD_SHARE / (share * effective))
        reasons["eval loss"] = (
            f"every {steps} steps on a fixed set of {EVALUATED}: at most {share * 100:.2g} % of the time"
        )
    beside = Beside(steps, EVALUATED * FORWARD_SHARE / (steps * effective) if steps else 0.0, previews)
    reasons["beside"] = beside.describe()
    return beside


def _preview_share(run: RunFile, facts: ModelFacts, effective: int) -> float:
    """0 where previews are off or the model's size is not known."""
    steps = run.sample.every_steps
    if not is_known(facts) or not steps:
        return 0.0
    table = coefficients()[facts.family]
    drawn = 0.0
    for line in run.sample.prompts:
        try:
            prompt = parse_sample_prompt(line)
        except SamplePromptError:
            # The checks tell it; here it only costs nothing.
            continue
        side = run.dataset.resolution
        area = (prompt.width or side) * (prompt.height or side) / table["resolution"] ** 2
        passes = prompt.steps * (2 if prompt.guidance > 1 else 1)
        drawn += (passes * table["forward_work"] + table["decode_work"]) * area
    step = table["ways"]["plain-none"]["work"] * effective * (run.dataset.resolution / table["resolution"]) ** 2
    return float(drawn / (drawn + steps * step))
