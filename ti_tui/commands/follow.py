"""Following a run in plain lines or with a progress bar, until its trainer ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.monitoring.event_text import describe, gain_in_words
from ti_tui.run.events import Event, EventReader
from ti_tui.run.smoothing import smoothed

POLL_SECONDS = 0.2
LINE_SECONDS = 5.0


class Display(Protocol):
    """Shows events as they arrive."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def follow(reader: EventReader, display: Display, alive: Callable[[], bool]) -> Event | None:
    """Show new events until the trainer has ended; returns the `end` event, or None if it ended without one."""
    last: Event | None = None
    try:
        while True:
            # Checked before reading, so that everything the trainer wrote before it ended is read.
            running = alive()
            events = reader.read_new()
            for event in events:
                if event.kind == "run":
                    last = None
                if event.kind == "end":
                    last = event
                display.show(event)
            if not running and not events:
                return last
            if not events:
                time.sleep(POLL_SECONDS)
    finally:
        display.close()


def is_step(event: Event) -> bool:
    """Whether this is a step event with what a line needs: a log may have been damaged."""
    return event.kind == "step" and event.get("step") is not None and event.get("rate") is not None


class PlainLines:
    """A line every few seconds for the steps, and one for every other event; for logs, pipes and cron."""

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._total = 0
        self._next = 0.0
        self._mean: float | None = None
        self._pace: float | None = None
        self._evaluated = ""

    def show(self, event: Event) -> None:
        if event.kind == "run":
            self._total = event.get("total_steps", 0)
            self._next = 0.0
        if event.kind == "request" and event.get("total_steps"):
            self._total = event["total_steps"]
        if event.kind == "eval":
            self._evaluated = gain_in_words(event)
        if is_step(event):
            self._step(event)
        elif (line := describe(event)) is not None:
            terminal.line(line)

    def close(self) -> None:
        pass

    def _step(self, event: Event) -> None:
        self._mean, self._pace = (
            smoothed(self._mean, event.get("loss")),
            smoothed(self._pace, event.get("seconds")),
        )
        last = event["step"] == self._total
        if event.t < self._next and not last:
            return
        self._next = event.t + LINE_SECONDS
        left = (self._total - event["step"]) * (self._pace or 0)
        loss = "not a number" if event.get("loss") is None else f"{event['loss']:.4f} (mean {self._mean or 0:.4f})"
        rest = f"  {show.seconds(left)} left" if not last else ""
        pace = f"{self._pace or 0:.2g} s a step"
        terminal.line(
            f"step {event['step']} of {self._total}  loss {loss}{self._evaluated}  rate {event['rate']:g}  {pace}{rest}"
        )


class ProgressBar:
    """A progress bar for a terminal; other events are lines above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("starting", total=None, detail="")
        self._mean: float | None = None
        self._evaluated = ""
        self._progress.start()

    def show(self, event: Event) -> None:
        match event.kind:
            case "run":
                self._progress.update(self._task, total=event.get("total_steps"), completed=event.get("step", 0))
            case "phase":
                self._progress.update(self._task, description=event.get("phase", ""))
            case "eval":
                self._evaluated = gain_in_words(event)
            case "step" if is_step(event):
                self._mean = smoothed(self._mean, event.get("loss"))
                detail = f"loss {self._mean or 0:.4f}{self._evaluated}  rate {event['rate']:g}"
                self._progress.update(self._task, completed=event["step"], detail=detail)
            case "request" if event.get("total_steps"):
                self._progress.update(self._task, total=event["total_steps"])
        if event.kind != "phase" and (line := describe(event)) is not None:
            self._progress.console.print(terminal.harmless(line), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()
