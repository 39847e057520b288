"""Follows a run's log and hands its events to trackers and hooks, until its trainer has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Protocol

from ti_tui import terminal
from ti_tui.run.events import Event, EventReader, goes_back_to, step_of
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId
from ti_tui.trackers.hooks import Hooks

POLL_SECONDS = 1.0


class Tracker(Protocol):
    """Writes a run's events in the form of another program. Its files are derived: it begins anew at each start."""

    name: str

    def back_to(self, step: int) -> None:
        """Drop what is after `step`: the run went back to it and takes those steps again."""

    def add(self, event: Event) -> None:
        """Write an event."""

    def flush(self) -> None:
        """Bring everything so far to the disk."""

    def close(self) -> None:
        """Flush, and end."""


@dataclass
class Follower:
    """Reads the events of a run.

    since: unix seconds; hooks are only told of events from then on.
    """

    folder: RunFolder
    trackers: Sequence[Tracker]
    hooks: Hooks
    since: float = 0.0

    def __post_init__(self) -> None:
        self._reader = EventReader(self.folder.events)
        self._working = list(self.trackers)
        self._step = 0
        self.ended = self.superseded = False
        self._runs = 0
        self._following = False

    def read(self) -> None:
        """Hand on everything new."""
        for event in self._reader.read_all():
            back = goes_back_to(event, self._step)
            if back is not None and back < self._step:
                self._each(methodcaller("back_to", back))
            if event.kind in {"step", "run"}:
                self._step = step_of(event) or 0
            self._each(methodcaller("add", event))
            if event.t >= self.since:
                self._runs += event.kind == "run"
                if self._following and self._runs > 1:
                    # A later trainer's, which another process follows.
                    self.superseded = True
                    break
                self.ended = self.ended or event.kind == "end"
                self.hooks.tell(self.folder, event, step_of(event))
        self._each(methodcaller("flush"))

    def follow(self, trainer: ProcessId) -> None:
        """Read until the trainer has ended; if it was killed, say so to the hooks."""
        self._following = True
        while trainer.alive() and not self.ended and not self.superseded:
            self.read()
            time.sleep(POLL_SECONDS)
        self.read()
        if not self.ended:
            message = "the trainer ended without saving; it was probably killed"
            self.hooks.tell(
                self.folder, Event(time.time(), "end", {"outcome": "failed", "message": message}), self._step
            )

    def close(self) -> None:
        self._each(methodcaller("close"))

    def _each(self, do: Callable[[Tracker], object]) -> None:
        """One tracker that fails does not keep the others from their work."""
        for tracker in list(self._working):
            try:
                do(tracker)
            except Exception as error:
                terminal.error(f"{tracker.name}: {error}; nothing more is written for it")
                self._working.remove(tracker)
