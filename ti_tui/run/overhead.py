"""What goes on beside the steps, previews and the eval loss: how often, so that they take a tenth of the time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ti_tui.run.memory import coefficients, is_known
from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import RunFile
from ti_tui.run.sample_prompts import SamplePromptError, parse_sample_prompt

LEAST_ASKED, MOST_ASKED = 8, 64
"""Items of the fixed set that the eval loss is taken on: two a band of timesteps at least, more where that is cheap."""
SHORT_STEPS, LONG_STEPS = 5, 20
"""Steps between evaluations that are wanted in a short run and in a long one."""
SHORTEST_IN = 40
"""Evaluations of a short run, so that it can still be said when it was learned."""
MOST_EVALUATIONS = 400
FOLLOWING_EVERY = 5
"""Evaluations of which one also asks how much of the rest of a prompt comes through."""
FOLLOWING_PASSES = 10
EVALUATION_SHARE = 0.05
MOST_BESIDE = 0.10
"""Share of the time that previews and the eval loss take together, where the run file leaves it open."""
FORWARD_SHARE = 0.46
"""Work of a forward pass in that of a training step (SD 1.5: 0.803 of 1.749 TFLOP)."""


@dataclass(frozen=True)
class Overhead:
    """Steps between evaluations (0: none), items of the fixed set, and the predicted shares of the time."""

    evaluation_steps: int
    asked: int
    evaluation: float
    previews: float

    def describe(self) -> str:
        """One line for people."""
        shares = {"previews": self.previews, "eval loss": self.evaluation}
        listed = ", ".join(f"{name} {share * 100:.2g} %" for name, share in shares.items() if share)
        return f"{listed} of the time (predicted); checkpoints take milliseconds" if listed else "checkpoints only"


def plan_overhead(run: RunFile, facts: ModelFacts, effective: int, reasons: dict[str, str]) -> Overhead:
    """Shares for a step of `effective` images. Auto evaluates in what the previews leave, at most 5 % of the time."""
    previews = _preview_share(run, facts, effective)
    share = min(EVALUATION_SHARE, max(MOST_BESIDE - previews, MOST_BESIDE / 10))
    total, wanted = run.scheme.scheme().total_steps, run.evaluation.every_steps
    steps = min(LONG_STEPS, max(SHORT_STEPS, total // SHORTEST_IN)) if wanted == "auto" else wanted
    # What a step's share of the time pays for, in images that only go forward.
    paid = share * effective / FORWARD_SHARE
    following = FOLLOWING_PASSES / FOLLOWING_EVERY
    if wanted == "auto":
        steps = max(steps, math.ceil((LEAST_ASKED + following) / paid), math.ceil(total / MOST_EVALUATIONS))
        steps = _dividing(run.save.every_steps, steps)
    asked = min(MOST_ASKED, max(LEAST_ASKED, math.floor(steps * paid - following)))
    if wanted == "auto":
        reasons["eval loss"] = f"every {steps} steps on a fixed set of {asked}: at most {share * 100:.2g} % of the time"
    passes = (asked + following) * FORWARD_SHARE
    beside = Overhead(steps, asked, passes / (steps * effective) if steps else 0.0, previews)
    reasons["beside"] = beside.describe()
    return beside


def _dividing(save_steps: int, steps: int) -> int:
    """The first number from `steps` on that divides `save_steps`, so that every checkpoint is evaluated.

    `steps` itself where that would be more than twice as many.
    """
    return next((more for more in range(steps, min(2 * steps, save_steps) + 1) if save_steps % more == 0), steps)


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
