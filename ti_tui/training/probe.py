"""`python -m ti_tui.training.probe RUN STEPS`: short trials of learning rates on a run; the parent is `setup.probing`.

The run's folder is only read, without its lock: this neither keeps a trainer out nor leaves a lock behind when it is
killed. Lines on stdout tell of it: said, opened, going, tried, and at the end finished or refused. The end of stdin
ends the process.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from typing import Any

import torch

from ti_tui.jobs.child import Pipe, run
from ti_tui.jobs.probing import ProbingError, checked_for_probing
from ti_tui.run.folder import Phase, RunFolder
from ti_tui.run.rate_search import (
    Trial,
    TrialReading,
    choose,
    next_rate,
    readings_at,
    steps_each,
    warmup_steps,
)
from ti_tui.run.scheme import Scheme, Segment
from ti_tui.setup.check import Checked
from ti_tui.training.device import make_accelerator
from ti_tui.training.evaluation import Evaluator
from ti_tui.training.loop import NotFinite
from ti_tui.training.opening import StoppedWhileLoading, open_session
from ti_tui.training.optimizers import make_optimizer, restore_optimizer
from ti_tui.training.recovery import Recovery
from ti_tui.training.reporter import Reporter

TELL_SECONDS = 0.5
EVALUATED_EVERY = 10_000
"""Steps between evaluations as the plan is told: so seldom that it asks the largest fixed set."""


class Stopped(Exception):
    """The parent has gone, or asked to stop."""


class Prober:
    """A run opened as its trainer opens it, and put back to where it is before each trial.

    before: how its vectors are there; spread: what a rate is to be compared with.
    """

    def __init__(self, checked: Checked, answer: Callable[..., None], stopped: Callable[[], bool]) -> None:
        """Raises UserError for what keeps the run from starting, StoppedWhileLoading."""
        self._stopped = stopped
        accelerator = make_accelerator(checked.run.training.device)
        teller = Teller(checked.folder, answer)
        self._session = session = open_session(_for_probing(checked), accelerator, teller, stopped, read_only=True)
        self._recovery = Recovery(session, teller.warn, stopped)
        self.step = session.step
        self._rows = [row.detach().clone() for row in session.rows]
        self._optimizer = copy.deepcopy(session.progress.optimizer.state_dict())
        self._loss_scale = session.progress.loss_scale.state()
        assert session.evaluator is not None
        initial = session.evaluator.initial
        self._evaluator, self._following = self._look_around()
        lengths = [
            (float(start.norm(dim=1).median()), usual, start.shape[1])
            for start, usual in zip(initial, session.model.norms.lengths, strict=True)
        ]
        # One rate serves both text encoders of SDXL.
        spreads = [max(length, usual) / math.sqrt(width) for length, usual, width in lengths]
        self.spread = math.exp(sum(math.log(max(spread, 1e-12)) for spread in spreads) / len(spreads))
        self.before = self._read(0)

    def try_rate(self, rate: float, steps: int, warmup: int, told: Callable[[int], None]) -> Trial:
        """Train `steps` steps at `rate` from where the run is. Raises Stopped, TrainingError."""
        self._put_back(rate)
        scheme = Scheme((Segment(rate, steps),), warmup)
        readings: list[TrialReading] = []
        for done in range(1, steps + 1):
            try:
                taken = self._recovery.step(lambda step: scheme.rate_at(step - self.step))
            except NotFinite:
                break
            if taken is None:
                raise Stopped
            if not all(bool(row.isfinite().all()) for row in self._session.rows):
                break
            told(done)
            if done in readings_at(steps):
                reading = self._read(done)
                if not all(map(math.isfinite, astuple(reading))):
                    break
                readings.append(reading)
        finite = bool(readings) and readings[-1].steps == steps
        return Trial(rate, tuple(readings) or (self.before,), warmup, finite)

    def _look_around(self) -> tuple[Evaluator, float]:
        """An evaluator that compares with the vectors as they are, and the prompt-following that they have."""
        own = self._session.evaluator
        assert own is not None
        follows: float | None = 1.0
        if self.step:
            own.history = []
            follows = self._evaluated(own, self.step).follows
        here = Evaluator(
            own.items,
            own.losses_of,
            own.effects_of_scenes,
            own.batch_size,
            initial=self._rows,
            median_norms=own.median_norms,
        )
        return here, 1.0 if follows is None else follows

    def _read(self, steps: int) -> TrialReading:
        # Without a history it asks for the prompt-following each time.
        self._evaluator.history = []
        found = self._evaluated(self._evaluator, steps)
        follows = 1.0 if found.follows is None else found.follows
        return TrialReading(
            steps,
            gain=math.nan if found.gain is None else found.gain,
            length=found.length or 0.0,
            longest=found.longest or 0.0,
            follows=follows * self._following,
        )

    def _evaluated(self, evaluator: Evaluator, steps: int) -> Any:
        if self._stopped():
            raise Stopped
        found = self._recovery.extra(
            lambda: evaluator.evaluate(steps, self._session.rows), spare=evaluator.spare_memory
        )
        if found is None:
            raise ProbingError("the fixed set that rates are compared on does not fit into memory")
        return found

    def _put_back(self, rate: float) -> None:
        session, progress = self._session, self._session.progress
        with torch.no_grad():
            for row, mine in zip(session.rows, self._rows, strict=True):
                row.copy_(mine)
        progress.optimizer = make_optimizer(session.rows, session.checked.run.training, rate)
        if self._optimizer["state"]:
            restore_optimizer(progress.optimizer, copy.deepcopy(self._optimizer))
        progress.loss_scale.restore(self._loss_scale)
        progress.step, progress.tries, progress.failed_at = self.step, 0, -1


class Teller(Reporter):
    """What the session says while it opens, for the parent; writes nothing."""

    def __init__(self, folder: RunFolder, answer: Callable[..., None]) -> None:
        super().__init__(folder, main=False)
        self._answer = answer

    def warn(self, message: str) -> None:
        self._answer("said", text=f"warning: {message}")

    def phase(self, phase: Phase, message: str = "") -> None:
        self._answer("said", text=message or phase)


class TrialClock:
    """Tells the parent, now and then, how far the trials are."""

    def __init__(self, answer: Callable[..., None]) -> None:
        self._answer = answer
        self._began = time.monotonic()
        self._told = 0.0
        self._steps = 0

    def going(self, rate: float, warmup: int, done: int, of: int) -> None:
        """A step was done. Of the time what is between trials counts too."""
        self._steps += 1
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            seconds = (now - self._began) / self._steps
            self._answer("going", rate=rate, warmup=warmup, done=done, of=of, steps=self._steps, seconds_each=seconds)


def work_for(pipe: Pipe) -> None:
    """Try rates until enough is known, then the chosen one with a warm-up."""
    folder, steps = RunFolder.find(sys.argv[1]), steps_each(int(sys.argv[2]))
    pipe.watch()
    try:
        prober = Prober(checked_for_probing(folder), pipe.answer, pipe.stopped)
        pipe.answer(
            "opened",
            step=prober.step,
            spread=prober.spread,
            before=asdict(prober.before),
            steps=steps,
        )
        _carry_out(prober, steps, pipe)
    except (Stopped, StoppedWhileLoading):
        return


def _carry_out(prober: Prober, steps: int, pipe: Pipe) -> None:
    trials: list[Trial] = []
    progress = TrialClock(pipe.answer)

    def tried(rate: float, warmup: int) -> Trial:
        trial = prober.try_rate(rate, steps, warmup, lambda done: progress.going(rate, warmup, done, steps))
        pipe.answer("tried", trial=trial.values())
        return trial

    while (rate := next_rate(trials, prober.before, prober.spread)) is not None:
        trials.append(tried(rate, 0))
    # A run that goes on has its optimizer's moments: there is no first step left to be warmed up.
    if prober.step == 0 and (chosen := choose(trials, prober.before)) is not None:
        tried(chosen.rate, warmup_steps(steps))


def _for_probing(checked: Checked) -> Checked:
    """The recipe with an eval loss whatever it says, and nothing that only pays in a long run."""
    run = checked.run
    evaluation = run.evaluation.model_copy(update={"every_steps": EVALUATED_EVERY})
    training = run.training.model_copy(update={"compile": "off"})
    return replace(checked, run=run.model_copy(update={"evaluation": evaluation, "training": training}))


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        print("usage: python -m ti_tui.training.probe RUN STEPS", file=sys.stderr)
        sys.exit(2)
    run(work_for)
