"""The history of a run, built from its events: every number, curve and list that a dashboard shows."""

from __future__ import annotations

import statistics
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ti_tui.run.evaluations import Evaluation, number_or_none
from ti_tui.run.events import MOST_STEPS, Event, goes_back_to, step_of
from ti_tui.run.smoothing import smoothed
from ti_tui.run.verdicts import Verdict

SERIES_POINTS = 8192
RECENT_STEPS = 4000
PACE_STEPS = 100
MOST_NOTICES = 1000


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint: its losses, the mean norm of its vectors, its embedding files (relative to the run folder).

    installed: path of the copy in a program that uses it; "" if there is none. If two checkpoints have the same path,
               the later one has replaced the other.
    """

    step: int
    loss: float | None
    eval_loss: float | None
    norm: float | None
    files: tuple[str, ...]
    installed: str = ""


@dataclass(frozen=True)
class SampleFile:
    """A sample (relative to the run folder) and the line of the run file that it was drawn from."""

    file: str
    prompt: str


@dataclass(frozen=True)
class Notice:
    """A message: when (unix seconds), at which step, the text; and its kind, if it is about a request."""

    t: float
    step: int
    message: str
    request: str = ""


class Series:
    """A curve over ascending steps in bounded memory, however long the run.

    Above `limit` points, neighbours are merged. A point then stands for several steps: `steps` holds the last of them,
    `values` their mean, `lows` and `highs` their extremes, so that a spike stays visible.
    """

    def __init__(self, limit: int = SERIES_POINTS) -> None:
        self.steps, self.values = array("q"), array("d")
        self.lows, self.highs = array("d"), array("d")
        self._limit = limit + limit % 2
        self._each = 1
        self._in_last = 0

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float | None:
        """The newest point's value."""
        return self.values[-1] if self.values else None

    def points(self) -> list[tuple[int, float]]:
        """(step, value) of each point, ascending."""
        return list(zip(self.steps, self.values, strict=True))

    def append(self, step: int, value: float) -> None:
        """Add a value (finite, below 1e300); `step` must be later than all steps so far."""
        if self.steps and self._in_last < self._each:
            self._in_last += 1
            self.steps[-1] = step
            self.values[-1] += (value - self.values[-1]) / self._in_last
            self.lows[-1] = min(self.lows[-1], value)
            self.highs[-1] = max(self.highs[-1], value)
            return
        if len(self.steps) >= self._limit:
            self._make_room()
        self.steps.append(step)
        for column in (self.values, self.lows, self.highs):
            column.append(value)
        self._in_last = 1

    def truncate_after(self, step: int) -> None:
        """Drop everything after `step`, including a point that stands for steps on both sides of it."""
        keep = bisect_right(self.steps, step)
        if keep == len(self.steps):
            return
        for column in (self.steps, self.values, self.lows, self.highs):
            del column[keep:]
        self._in_last = self._each
        if keep == 0:
            self._each = 1

    def _make_room(self) -> None:
        # Every point stands for the same number of steps, so their plain mean is right; halving first cannot overflow.
        self.steps = self.steps[1::2]
        self.values = array("d", (a / 2 + b / 2 for a, b in zip(self.values[::2], self.values[1::2], strict=True)))
        self.lows = array("d", map(min, self.lows[::2], self.lows[1::2]))
        self.highs = array("d", map(max, self.highs[::2], self.highs[1::2]))
        self._each *= 2


class RecentSeries(Series):
    """The newest steps in full: at least the last `limit` of them, at most twice as many."""

    def __init__(self, limit: int = RECENT_STEPS) -> None:
        super().__init__(2 * limit)

    def _make_room(self) -> None:
        for column in (self.steps, self.values, self.lows, self.highs):
            del column[: self._limit // 2]


class RunHistory:
    """A run up to its last event. Only `add` changes it; all attributes are for reading.

    If a trainer went back to an earlier step, everything after that step is dropped, as in `events.as_one_run`; the
    pace, the notices and the memory stay. Invalid values are ignored and never raise. Not thread-safe.

    step, total_steps  steps done and planned (0 before the first `run` event)
    phase, message     what the trainer is doing; after its end the outcome and the reason
    outcome            "" while it runs, then done, stopped or failed
    loss, recent       train loss of the whole run, thinned, and of the latest steps in full
    rate, rates        learning rate of the last step, and its curve, thinned
    smooth             exponential moving average of the train loss
    evaluations        all evaluations, ascending; `evals`: (step, eval loss) of each
    verdicts           one for each change of the verdict; the last one is current
    best_step          step of the best checkpoint; None if none was evaluated
    health             of the latest checkpoint's vectors, for each text encoder, as embeddings.health writes it, with
                       the `nearest` words; `health_step` is the checkpoint's step
    bad_steps          steps whose loss was not a number
    used_bytes         memory of the trainer on its device, and its peak, `peak_bytes` (0: not known yet)
    started, last_t    unix seconds of the last start and of the last event
    """

    def __init__(self) -> None:
        self.phase, self.message, self.outcome = "", "", ""
        self.step, self.total_steps = 0, 0
        self.epoch_steps: float | None = None
        self.images = 0
        self.family = ""
        self.plan: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self.loss, self.recent, self.rates = Series(), RecentSeries(), Series()
        self.rate: float | None = None
        self.smooth: float | None = None
        self.evaluations: list[Evaluation] = []
        self.verdicts: list[Verdict] = []
        self.best_step: int | None = None
        self.health: tuple[dict[str, Any], ...] = ()
        self.health_step = 0
        self.checkpoints: list[CheckpointRow] = []
        self.samples: dict[int, tuple[SampleFile, ...]] = {}
        self.bad_steps: list[int] = []
        self.warnings: list[Notice] = []
        self.errors: list[Notice] = []
        self.requests: list[Notice] = []
        self.used_bytes, self.peak_bytes = 0, 0
        self.started: float | None = None
        self.last_t: float | None = None
        self._seconds: deque[float] = deque(maxlen=PACE_STEPS)

    @property
    def seconds_per_step(self) -> float | None:
        """Median time of the last steps, without evaluations and samples."""
        return statistics.median(self._seconds) if self._seconds else None

    def left_seconds(self) -> float | None:
        """Time for the remaining steps at the present pace; None while that is unknown."""
        pace = self.seconds_per_step
        return None if pace is None or not self.total_steps else max(0, self.total_steps - self.step) * pace

    @property
    def evals(self) -> list[tuple[int, float]]:
        return [(one.step, one.loss) for one in self.evaluations]

    @property
    def verdict(self) -> Verdict | None:
        """The current verdict."""
        return self.verdicts[-1] if self.verdicts else None

    def evaluation_at(self, step: int) -> Evaluation | None:
        """The last evaluation up to `step`."""
        at = bisect_right(self.evaluations, step, key=lambda one: one.step)
        return self.evaluations[at - 1] if at else None

    def epoch(self) -> float | None:
        """How often every image has been used; None before the first `run` event."""
        return self.step / self.epoch_steps if self.epoch_steps else None

    def add(self, events: Iterable[Event]) -> None:
        """Add the next events. Never raises for their content."""
        for event in events:
            t = number_or_none(event.t)
            if t is None:
                continue
            self.last_t = t
            back = goes_back_to(event, self.step)
            if back is not None:
                self._take_back(back)
            match event.kind:
                case "step":
                    self._add_step(event)
                case "eval":
                    self._add_eval(event)
                case "verdict":
                    self._add_verdict(event)
                case "checkpoint":
                    self._add_checkpoint(event)
                case "sample":
                    self._add_samples(event)
                case "memory":
                    self.used_bytes = _whole(event.get("used_bytes"))
                    self.peak_bytes = _whole(event.get("peak_bytes"))
                case "run":
                    self._add_run(event)
                case "phase":
                    # A resumed trainer loads its model before it writes `run`.
                    self.phase, self.message, self.outcome = _text(event, "phase"), _text(event, "message"), ""
                case "end":
                    self.outcome = _text(event, "outcome") or "failed"
                    self.phase, self.message = self.outcome, _text(event, "message")
                case "warning":
                    self._note(self.warnings, event)
                case "error":
                    self._note(self.errors, event)
                case "request":
                    self._note(self.requests, event)
                    self.total_steps = _whole(event.get("total_steps")) or self.total_steps

    def _add_step(self, event: Event) -> None:
        step = step_of(event)
        if step is None:
            return
        self.step = step
        loss, rate, seconds = (number_or_none(event.get(name)) for name in ("loss", "rate", "seconds"))
        if rate is not None:
            self.rate = rate
            self.rates.append(step, rate)
        if seconds is not None and seconds >= 0:
            self._seconds.append(seconds)
        if loss is None:
            self.bad_steps.append(step)
            del self.bad_steps[:-MOST_NOTICES]
            return
        self.loss.append(step, loss)
        self.recent.append(step, loss)
        self.smooth = smoothed(self.smooth, loss)

    def _add_run(self, event: Event) -> None:
        self.outcome, self.message = "", ""
        self.started = self.last_t
        self.total_steps = _whole(event.get("total_steps"))
        self.images = _whole(event.get("images"))
        epoch_steps = number_or_none(event.get("epoch_steps"))
        self.epoch_steps = epoch_steps if epoch_steps is not None and epoch_steps > 0 else None
        self.family = _text(event, "family")
        self.plan = _table(event, "plan")
        self.reasons = {name: str(reason) for name, reason in _table(event, "reasons").items()}

    def _add_eval(self, event: Event) -> None:
        found = Evaluation.from_values(event.values) if step_of(event) is not None else None
        if found is None:
            return
        at = bisect_left(self.evaluations, found.step, key=lambda one: one.step)
        again = at < len(self.evaluations) and self.evaluations[at].step == found.step
        self.evaluations[at : at + again] = [found]

    def _add_verdict(self, event: Event) -> None:
        verdict = Verdict.from_values(event.values) if step_of(event) is not None else None
        if verdict is not None:
            self.verdicts.append(verdict)
            del self.verdicts[:-MOST_NOTICES]

    def _add_checkpoint(self, event: Event) -> None:
        step, installed = step_of(event), _text(event, "installed")
        if step is None:
            return
        at = bisect_left(self.checkpoints, step, key=lambda found: found.step)
        before = self.checkpoints[at] if at < len(self.checkpoints) and self.checkpoints[at].step == step else None
        norms = [number_or_none(norm) for row in _items(event, "norms") if isinstance(row, list) for norm in row]
        known = [norm for norm in norms if norm is not None]
        row = CheckpointRow(
            step,
            loss=number_or_none(event.get("loss")),
            eval_loss=number_or_none(event.get("eval_loss")),
            norm=sum(norm / len(known) for norm in known) if known else None,
            files=tuple(str(file) for file in _items(event, "files")),
            installed=installed or (before.installed if before else ""),
        )
        if before is not None and installed:
            row = replace(before, installed=installed)
        self.checkpoints[at : at + (before is not None)] = [row]
        if health := tuple(dict(one) for one in _items(event, "health") if isinstance(one, dict)):
            self.health, self.health_step = health, step
        best = event.get("best")
        self.best_step = best if type(best) is int else self.best_step

    def _add_samples(self, event: Event) -> None:
        step = step_of(event)
        if step is None:
            return
        files, prompts = _items(event, "files"), _items(event, "prompts")
        prompts += [""] * (len(files) - len(prompts))
        self.samples[step] = tuple(
            SampleFile(str(file), str(prompt)) for file, prompt in zip(files, prompts, strict=False)
        )

    def _note(self, notices: list[Notice], event: Event) -> None:
        step = step_of(event)
        message = _text(event, "message")
        notices.append(Notice(event.t, self.step if step is None else step, message, _text(event, "request")))
        del notices[:-MOST_NOTICES]

    def _take_back(self, step: int) -> None:
        if step < self.step:
            for series in (self.loss, self.recent, self.rates):
                series.truncate_after(step)
            self.rate = self.rates.last
            self.smooth = None
            for loss in self.recent.values or self.loss.values[-1:]:
                self.smooth = smoothed(self.smooth, loss)
            self.bad_steps = [bad for bad in self.bad_steps if bad <= step]
        # These may name a step beyond the last `step` event: the log of a killed trainer loses its last second.
        self.evaluations = [one for one in self.evaluations if one.step <= step]
        self.verdicts = [one for one in self.verdicts if one.step <= step]
        if self.best_step is not None and self.best_step > step:
            self.best_step = None
        if self.health_step > step:
            self.health, self.health_step = (), 0
        self.checkpoints = [row for row in self.checkpoints if row.step <= step]
        self.samples = {at: files for at, files in self.samples.items() if at <= step}
        self.step = step


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 < value < MOST_STEPS else 0


def _text(event: Event, name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""


def _items(event: Event, name: str) -> list[Any]:
    value = event.get(name)
    return list(value) if isinstance(value, (list, tuple)) else []


def _table(event: Event, name: str) -> dict[str, Any]:
    value = event.get(name)
    return dict(value) if isinstance(value, dict) else {}
