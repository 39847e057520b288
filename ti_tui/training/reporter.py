"""Writes the trainer's events and status, and takes requests. In all but a run's main process it does nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

import psutil

from ti_tui import atomic, terminal
from ti_tui.errors import UserError
from ti_tui.run import requests
from ti_tui.run.events import EventKind, EventWriter
from ti_tui.run.folder import Phase, RunFolder, Status
from ti_tui.run.lease import Held
from ti_tui.run.process import ProcessId
from ti_tui.run.requests import Request

STATUS_SECONDS = 1.0
REQUEST_SECONDS = 0.2


class RunGone(UserError):
    """The run folder was deleted or moved while its trainer worked."""


class Reporter:
    """Writes log/events.jsonl and status.json and reads the request spool, in the main process of a run only."""

    def __init__(self, folder: RunFolder, *, main: bool = True, held: Held | None = None) -> None:
        self.main = main
        self._held = held
        self._folder = folder
        self._events = EventWriter(folder.events) if main else None
        me = ProcessId.mine()
        now = time.time()
        self._status = Status(me.pid, me.started, me.host, "starting", 0, 0, now, now)
        self._trained = False
        self._written = 0.0
        self._last_take = 0.0
        self._took = False
        if main:
            requests.clear(folder, before=psutil.Process().create_time())
            self._write_status()

    @property
    def trained(self) -> bool:
        """Whether the run has begun to take steps; an error after that is one of training, not of the input."""
        return self._trained

    def event(self, kind: EventKind, **values: Any) -> None:
        """Write one event. Raises CannotWrite."""
        if self._events is not None:
            self._events.write(kind, **values)

    def flush(self) -> None:
        """Write all events so far to the log. Raises CannotWrite."""
        if self._events is not None:
            self._events.flush()

    def warn(self, message: str) -> None:
        """Write a warning event, and a line in trainer.log."""
        self.event("warning", message=message, step=self._status.step)
        if self.main:
            terminal.error(f"warning: {message}")

    def phase(self, phase: Phase, message: str = "") -> None:
        """Enter a phase: write an event, and the status immediately."""
        self._trained = self._trained or phase == "training"
        self._status = replace(self._status, phase=phase, message=message)
        self.event("phase", phase=phase, message=message)
        with contextlib.suppress(atomic.CannotWrite):
            self._write_status()

    def progress(self, message: str) -> None:
        """Show progress within a phase, in the status."""
        self._status = replace(self._status, message=message)
        self._maybe_write_status()

    def position(self, step: int, total_steps: int) -> None:
        """Set the step in the status; writes no event."""
        self._status = replace(self._status, step=step, total_steps=total_steps)
        self._maybe_write_status()

    def check_place(self) -> None:
        """Raise UserError if this trainer may write no more: the run is another trainer's now, or was deleted."""
        if self._held is not None:
            self._held.check()
        if self.main and not self._folder.file.exists():
            raise RunGone(f"{self._folder.root} was deleted or moved, or its disk is gone: there is no run.toml")

    def take_requests(self) -> list[Request]:
        """Take the waiting requests; the spool is read a few times a second at most.

        Raises UserError if this trainer may write no more.
        """
        now = time.monotonic()
        if not self.main or now - self._last_take < REQUEST_SECONDS:
            return []
        self._last_take = now
        self.check_place()
        # What the trainer before this one was told too late, but only once.
        taken = [] if self._took else requests.left_over(self._folder)
        self._took = True
        taken += requests.take(self._folder)
        for request in taken:
            self.event("request", request=request.kind, message="taken")
        return taken

    def end(self, outcome: Phase, message: str) -> None:
        """Write the last event and status. Never raises CannotWrite: a full disk must not hide why a run ended."""
        try:
            self.check_place()
        except UserError:
            return
        with contextlib.suppress(atomic.CannotWrite):
            if outcome == "failed":
                self.event("error", message=message, step=self._status.step)
            seconds = round(time.time() - self._status.started, 3)
            self.event("end", outcome=outcome, step=self._status.step, message=message, seconds=seconds)
        with contextlib.suppress(atomic.CannotWrite):
            self._status = replace(self._status, phase=outcome, message=message)
            self._write_status(durable=True)
        if self._events is not None:
            self._events.close()

    def _maybe_write_status(self) -> None:
        if time.monotonic() - self._written < STATUS_SECONDS:
            return
        # A status that is a second late does no harm; a full disk is reported by what must be written.
        with contextlib.suppress(atomic.CannotWrite):
            self._write_status()

    def _write_status(self, *, durable: bool = False) -> None:
        if self.main:
            self._status = replace(self._status, updated=time.time())
            self._folder.write_status(self._status, durable=durable)
            self._written = time.monotonic()
