"""Running trainers in tests: in this process, up to a step, and reading what they wrote."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ti_tui.run.events import Event, EventReader
from ti_tui.run.folder import RunFolder
from ti_tui.setup.check import check_run
from ti_tui.training.device import make_accelerator
from ti_tui.training.reporter import Reporter
from ti_tui.training.trainer import Trainer

Train = Callable[..., int]


def events(folder: RunFolder, kind: str) -> list[Event]:
    """All events of a kind, also those that were taken back."""
    return [event for event in EventReader(folder.events).read_all() if event.kind == kind]


def open_trainer(folder: RunFolder) -> Trainer:
    """A trainer of the run, before its first step."""
    folder.create()
    return Trainer(check_run(folder), make_accelerator("cpu"), Reporter(folder), lambda: False)


def stop_at_step(folder: RunFolder, step: int, train: Train) -> None:
    """Train until `step` steps are done and ask to stop there, as SIGTERM does."""
    original, stop = Reporter.event, threading.Event()

    def event(self: Reporter, kind: Any, **values: Any) -> None:
        original(self, kind, **values)
        if kind == "step" and values["step"] == step:
            stop.set()

    Reporter.event = event  # type: ignore[method-assign]
    try:
        assert train(folder, stop=stop) == 0
    finally:
        Reporter.event = original  # type: ignore[method-assign]
    status = folder.read_status()
    assert status is not None and (status.phase, status.step) == ("stopped", step)
