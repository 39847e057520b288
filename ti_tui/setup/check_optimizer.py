"""Checks of the optimizer, its arguments and the learning rates. No torch in this process."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

from ti_tui import bounded
from ti_tui.run.optimizers import OPTIMIZERS, find_optimizer
from ti_tui.run.problems import Problems, nearest
from ti_tui.run.recipe import RunFile, TrainingTable

LARGEST_RATE = 0.5
"""Vectors have norms of 0.4 (CLIP-L) to 1: an optimizer that moves each component by the rate ruins them above this."""
IMPOSSIBLE_RATE = 10.0
"""Nobody means to move a component by this in each step."""
TRIAL_SECONDS = 60


def check_rates(run: RunFile, problems: Problems) -> None:
    """Check the learning rates, if the optimizer moves each component by about the rate."""
    optimizer = find_optimizer(run.training.optimizer)
    top = max(item.learning_rate for item in run.scheme.segments)
    if optimizer is None or not optimizer.steps_by_rate or top <= LARGEST_RATE:
        return
    message = f"a learning rate of {top:g} will ruin the vectors immediately"
    tell = problems.error if top >= IMPOSSIBLE_RATE else problems.warning
    tell(message, field="scheme.segments", remedy="Write rate:steps, such as 0.005:200; 0.05 is already high.")


def check_optimizer(training: TrainingTable, problems: Problems) -> None:
    """Check that the optimizer exists and takes its arguments.

    Arguments are tried in a process of their own, since only the optimizer itself knows what it takes: 2 s, once for
    each set of arguments.
    """
    name = training.optimizer
    optimizer = find_optimizer(name)
    if optimizer is None:
        guess = nearest(name, OPTIMIZERS)
        meant = f"Did you mean {guess}? " if guess else ""
        problems.error(
            f"there is no optimizer {name!r}",
            field="training.optimizer",
            remedy=f"{meant}Known optimizers: {', '.join(OPTIMIZERS)}.",
        )
    elif not optimizer.installed:
        problems.error(
            f"{name} needs {optimizer.package}",
            field="training.optimizer",
            remedy=f"Install it: pip install {optimizer.package}",
        )
    elif training.optimizer_arguments:
        refusal = _refusal(training.model_dump_json(include={"optimizer", "optimizer_arguments", "weight_decay"}))
        if refusal:
            problems.error(refusal, field="training.optimizer_arguments")


@lru_cache(maxsize=64)
def _refusal(training: str) -> str:
    """What the optimizer says against its arguments, given as JSON of the run file's table; "" if nothing."""
    # -P: nothing in the current folder may be imported.
    command = [sys.executable, "-P", "-m", "ti_tui.training.try_optimizer"]
    try:
        done = subprocess.run(
            command, input=training, capture_output=True, encoding="utf-8", timeout=TRIAL_SECONDS, check=False
        )
        return str(bounded.parse_json(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        # The trial itself failed; the trainer makes the optimizer again and says what is wrong.
        return ""
