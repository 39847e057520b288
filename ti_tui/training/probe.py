"""`python -m ti_tui.training.probe RUN STEPS`: tries learning rates on a run in short trials, for `jobs.probing`.

The run folder is only read, and not locked: a probe neither blocks a trainer nor leaves a lock behind when it is
killed. It answers with lines of JSON on stdout: said, opened, going, tried, and at the end finished or refused. The
end of stdin ends the process.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from typing import Any

from ti_tui import terminal
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
from ti_tui.training.placeholder import set_rows
from ti_tui.training.recovery import Recovery
from ti_tui.training.reporter import Reporter

PROGRESS_SECONDS = 0.5
EVALUATED_EVERY = 10_000
"""Steps between evaluations that the plan assumes: so many that it chooses the largest eval set."""


class Stopped(Exception):
    """The parent has ended or requested a stop."""


class Prober:
    """Opens a run as its trainer does, and resets it to the same state before each trial.

    before: the evaluation of the vectors in that state.
    spread: the size of the vectors' components, to which rates are relative.
    """

    def __init__(self, checked: Checked, answer: Callable[..., None], stopped: Callable[[], bool]) -> None:
        """Raises UserError if the run cannot start, and StoppedWhileLoading."""
        self._stopped = stopped
        accelerator = make_accelerator(checked.run.training.device)
        report = ProbeReporter(checked.folder, answer)
        self._session = session = open_session(_for_probing(checked), accelerator, report, stopped, read_only=True)
        self._recovery = Recovery(session, report.warn, stopped)
        self.step = session.step
        self._rows = [row.detach().clone() for row in session.rows]
        self._optimizer = copy.deepcopy(session.progress.optimizer.state_dict())
        self._loss_scale = session.progress.loss_scale.state()
        assert session.evaluator is not None
        initial = session.evaluator.initial
        self._evaluator, self._following = self._evaluator_from_here()
        norms = [
            (float(vectors.norm(dim=1).median()), median, vectors.shape[1])
            for vectors, median in zip(initial, session.model.norms.median_norms, strict=True)
        ]
        # SDXL's two text encoders share one rate.
        spreads = [max(norm, median) / math.sqrt(width) for norm, median, width in norms]
        self.spread = math.exp(sum(math.log(max(spread, 1e-12)) for spread in spreads) / len(spreads))
        self.before = self._read(0)

    def try_rate(self, rate: float, steps: int, warmup: int, step_done: Callable[[int], None]) -> Trial:
        """Train `steps` steps at `rate` from the run's state. Raises Stopped, TrainingError."""
        self._reset(rate)
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
            step_done(done)
            if done in readings_at(steps):
                reading = self._read(done)
                if not all(map(math.isfinite, astuple(reading))):
                    break
                readings.append(reading)
        finite = bool(readings) and readings[-1].steps == steps
        return Trial(rate, tuple(readings) or (self.before,), warmup, finite)

    def _evaluator_from_here(self) -> tuple[Evaluator, float]:
        """(an evaluator that compares with the vectors as they are now, the prompt-following of these vectors)."""
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
        # With an empty history the prompt-following is measured each time.
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
            lambda: evaluator.evaluate(steps, self._session.rows), use_less_memory=evaluator.use_less_memory
        )
        if found is None:
            raise ProbingError("the eval set that rates are compared on does not fit into memory")
        return found

    def _reset(self, rate: float) -> None:
        session, progress = self._session, self._session.progress
        set_rows(session.rows, self._rows)
        progress.optimizer = make_optimizer(session.rows, session.checked.run.training, rate)
        if self._optimizer["state"]:
            restore_optimizer(progress.optimizer, copy.deepcopy(self._optimizer))
        progress.loss_scale.restore(self._loss_scale)
        progress.step, progress.tries, progress.failed_at = self.step, 0, -1


class ProbeReporter(Reporter):
    """Sends the session's messages to the parent instead of writing them into the run."""

    def __init__(self, folder: RunFolder, answer: Callable[..., None]) -> None:
        super().__init__(folder, main=False)
        self._answer = answer

    def warn(self, message: str) -> None:
        self._answer("said", text=f"warning: {message}")

    def phase(self, phase: Phase, message: str = "") -> None:
        self._answer("said", text=message or phase)


class ProgressReporter:
    """Tells the parent a few times a second how far the trials are."""

    def __init__(self, answer: Callable[..., None]) -> None:
        self._answer = answer
        self._began = time.monotonic()
        self._last_answer = 0.0
        self._steps = 0

    def step_done(self, rate: float, warmup: int, done: int, of: int) -> None:
        """Note a finished step. The time per step includes what happens between trials."""
        self._steps += 1
        now = time.monotonic()
        if now - self._last_answer >= PROGRESS_SECONDS:
            self._last_answer = now
            seconds = (now - self._began) / self._steps
            self._answer("going", rate=rate, warmup=warmup, done=done, of=of, steps=self._steps, seconds_each=seconds)


def work_for(pipe: Pipe) -> None:
    """Try rates until one can be chosen, then try that one with a warm-up."""
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
    progress = ProgressReporter(pipe.answer)

    def tried(rate: float, warmup: int) -> Trial:
        trial = prober.try_rate(rate, steps, warmup, lambda done: progress.step_done(rate, warmup, done, steps))
        pipe.answer("tried", trial=trial.values())
        return trial

    while (rate := next_rate(trials, prober.before, prober.spread)) is not None:
        trials.append(tried(rate, 0))
    # A resumed run has its optimizer's moments, so a warm-up would change nothing.
    if prober.step == 0 and (chosen := choose(trials, prober.before)) is not None:
        tried(chosen.rate, warmup_steps(steps))


def _for_probing(checked: Checked) -> Checked:
    """The recipe with evaluations on, whatever it says, and without compiling, which only pays in a long run."""
    run = checked.run
    evaluation = run.evaluation.model_copy(update={"every_steps": EVALUATED_EVERY})
    training = run.training.model_copy(update={"compile": "off"})
    return replace(checked, run=run.model_copy(update={"evaluation": evaluation, "training": training}))


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        terminal.error("usage: python -m ti_tui.training.probe RUN STEPS")
        sys.exit(2)
    run(work_for)
