"""The outline of a run: its log without most step events. Read in milliseconds, to list and compare runs."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ti_tui.run.events import Event, LineReader, parse_lines, step_of
from ti_tui.run.history import PACE_STEPS, RunHistory
from ti_tui.run.history_reader import BAD_LOSS, STEP_LINE

BEFORE_TRAINING = ("starting", "loading", "caching")


@dataclass
class Outline:
    """A run's history without the curves of loss and rate, with totals over all of its sessions.

    seconds_per_step: median of the last steps' own seconds; None before the first.
    sessions:         how often a trainer was started.
    seconds:          training time of all sessions together; a killed trainer counts up to its last event.
    peak_bytes:       peak memory of all sessions; 0 if it was never logged.
    verdict_times:    unix seconds at which each verdict was given, by its step.
    """

    history: RunHistory = field(default_factory=RunHistory)
    seconds_per_step: float | None = None
    sessions: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    verdict_times: dict[int, float] = field(default_factory=dict)


def read_outline(log: Path) -> Outline:
    """The outline of the log at `log`; an empty one if there is none. Never raises for the file's content."""
    outline, clock, steps = Outline(), _Clock(), _Steps()
    for event in steps.outlined(log):
        outline.history.add([event])
        if outline.history.last_t != event.t:
            # The history ignores it too: its time is not a number.
            continue
        clock.tick(event)
        step = step_of(event)
        match event.kind:
            case "memory":
                outline.peak_bytes = max(outline.peak_bytes, outline.history.peak_bytes)
            case "verdict" if step is not None:
                outline.verdict_times[step] = event.t
    # In a log of another program step lines may look different; then all of them are in the history.
    outline.seconds_per_step = steps.pace() or outline.history.seconds_per_step
    outline.sessions, outline.seconds = clock.sessions, clock.total
    return outline


class _Steps:
    """Leaves out steps between two other steps, but remembers the last ones for the pace."""

    def __init__(self) -> None:
        self._recent: deque[bytes] = deque(maxlen=PACE_STEPS)

    def outlined(self, log: Path) -> Iterator[Event]:
        """The events of `log` without most steps; steps next to other events stay, to tell where a run went back to."""
        lines = LineReader(log)
        waiting: bytes | None = None
        after_other = True
        while some := lines.read_new():
            taken: list[bytes] = []
            for line in some:
                if STEP_LINE in line and BAD_LOSS not in line:
                    self._recent.append(line)
                    waiting = None if after_other else line
                    if after_other:
                        taken.append(line)
                    after_other = False
                    continue
                if waiting is not None:
                    taken.append(waiting)
                taken.append(line)
                waiting, after_other = None, True
            yield from parse_lines(taken)
        if waiting is not None:
            yield from parse_lines([waiting])

    def pace(self) -> float | None:
        """Median of the last steps' seconds."""
        found = [event.get("seconds") for event in parse_lines(self._recent)]
        known = [value for value in found if type(value) in (int, float) and 0 <= value < 1e9]
        return statistics.median(known) if known else None


class _Clock:
    """Adds up the time of all sessions; takes the events in order."""

    def __init__(self) -> None:
        self.sessions = 0
        self.total = 0.0
        self._last: float | None = None
        self._trained = False

    def tick(self, event: Event) -> None:
        if event.kind == "phase" and event.get("phase") in BEFORE_TRAINING and self._trained:
            # The previous trainer was killed: it wrote no `end`.
            self._last = None
        if self._last is None:
            self.sessions, self._trained = self.sessions + 1, False
        else:
            self.total += max(0.0, event.t - self._last)
        self._trained = self._trained or event.kind == "run"
        self._last = None if event.kind == "end" else event.t
