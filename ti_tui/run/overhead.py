"""The overhead: how often samples are drawn and the eval loss is measured, so that both take a tenth of the time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ti_tui.run.memory import coefficients, is_known
from ti_tui.run.model import ModelFacts
from ti_tui.run.recipe import RunFile
from ti_tui.run.sample_prompts import SamplePromptError, parse_sample_prompt

FEWEST_ITEMS, MOST_ITEMS = 8, 64
"""Bounds on the size of the eval set: at least two items per band of timesteps, more where that is cheap."""
SHORT_STEPS, LONG_STEPS = 5, 20
"""Steps between evaluations, in a short run and in a long one."""
SHORTEST_IN = 40
"""Evaluations of a short run: enough to tell when it has learned."""
MOST_EVALUATIONS = 400
FOLLOWING_EVERY = 5
"""Every how many evaluations prompt-following is measured too."""
FOLLOWING_PASSES = 10
EVALUATION_SHARE = 0.05
OVERHEAD_SHARE = 0.10
"""Share of the time that samples and the eval loss take together, if the run file says auto."""
FORWARD_SHARE = 0.46
"""Work of a forward pass as a share of a training step's (SD 1.5: 0.803 of 1.749 TFLOP)."""


@dataclass(frozen=True)
class Overhead:
    """Steps between evaluations (0: none), size of the eval set, and the predicted shares of the time."""

    evaluation_steps: int
    eval_items: int
    evaluation: float
    samples: float

    def describe(self) -> str:
        """One line for people."""
        shares = {"samples": self.samples, "eval loss": self.evaluation}
        listed = ", ".join(f"{name} {share * 100:.2g} %" for name, share in shares.items() if share)
        return f"{listed} of the time (predicted); checkpoints take milliseconds" if listed else "checkpoints only"


def plan_overhead(run: RunFile, facts: ModelFacts, effective: int, reasons: dict[str, str]) -> Overhead:
    """The overhead for steps of `effective` images. Auto gives the eval loss what samples leave, at most 5 %."""
    samples = _sampling_share(run, facts, effective)
    share = min(EVALUATION_SHARE, max(OVERHEAD_SHARE - samples, OVERHEAD_SHARE / 10))
    total, wanted = run.scheme.scheme().total_steps, run.evaluation.every_steps
    steps = min(LONG_STEPS, max(SHORT_STEPS, total // SHORTEST_IN)) if wanted == "auto" else wanted
    # Forward passes of one image that this share of a step's time pays for.
    paid = share * effective / FORWARD_SHARE
    following = FOLLOWING_PASSES / FOLLOWING_EVERY
    if wanted == "auto":
        steps = max(steps, math.ceil((FEWEST_ITEMS + following) / paid), math.ceil(total / MOST_EVALUATIONS))
        steps = _dividing(run.save.every_steps, steps)
    items = min(MOST_ITEMS, max(FEWEST_ITEMS, math.floor(steps * paid - following)))
    if wanted == "auto":
        reasons["eval loss"] = f"every {steps} steps on an eval set of {items}: at most {share * 100:.2g} % of the time"
    passes = (items + following) * FORWARD_SHARE
    overhead = Overhead(steps, items, passes / (steps * effective) if steps else 0.0, samples)
    reasons["beside"] = overhead.describe()
    return overhead


def _dividing(save_steps: int, steps: int) -> int:
    """The first number from `steps` up that divides `save_steps`, so that every checkpoint is evaluated.

    `steps` itself if there is none up to twice `steps`.
    """
    return next((more for more in range(steps, min(2 * steps, save_steps) + 1) if save_steps % more == 0), steps)


def _sampling_share(run: RunFile, facts: ModelFacts, effective: int) -> float:
    """Predicted share of the time for samples; 0 if they are off or the model's size is not known."""
    steps = run.sample.every_steps
    if not is_known(facts) or not steps:
        return 0.0
    table = coefficients()[facts.family]
    drawn = 0.0
    for line in run.sample.prompts:
        try:
            prompt = parse_sample_prompt(line)
        except SamplePromptError:
            # The checks report it; a prompt that is not drawn takes no time.
            continue
        side = run.dataset.resolution
        area = (prompt.width or side) * (prompt.height or side) / table["resolution"] ** 2
        passes = prompt.steps * (2 if prompt.guidance > 1 else 1)
        drawn += (passes * table["forward_work"] + table["decode_work"]) * area
    step = table["ways"]["plain-none"]["work"] * effective * (run.dataset.resolution / table["resolution"]) ** 2
    return float(drawn / (drawn + steps * step))
