"""A run's events as lines for people, and how it ended: the same in commands and dashboard."""

from __future__ import annotations

import shutil
from pathlib import Path

from ti_tui.formatting import number, percent, seconds
from ti_tui.run.evaluations import Evaluation
from ti_tui.run.events import Event, LineReader, parse_lines
from ti_tui.run.folder import RunFolder

NEARLY_NOTHING = 1_000_000
TAIL_BYTES = 1 << 16


class EventTail:
    """The last lines of an event log as text, then new ones; of a long log only the end is read."""

    def __init__(self, path: Path) -> None:
        self._reader = LineReader(path)
        # The first read identifies the file; reading then starts near the end, where half a line is skipped.
        self._reader.read_new(limit_bytes=1)
        self._reader.offset = 0
        self._reader.offset = max(0, self._reader.waiting_bytes() - TAIL_BYTES)

    @property
    def restarts(self) -> int:
        """How often the log was replaced or shortened; earlier lines no longer apply then."""
        return self._reader.restarts

    def read(self) -> list[tuple[float, str]]:
        """(unix seconds, text) of each new event since the last call that is worth a line."""
        lines = []
        for event in parse_lines(self._reader.read_new()):
            if (line := describe(event, brief=True)) is not None:
                lines.append((event.t, line))
        return lines


def gain_in_words(event: Event) -> str:
    """What an `eval` event adds to a line about a step: the eval loss and the gain."""
    found = Evaluation.from_values(event.values)
    if found is None:
        return ""
    return f"  eval {found.loss:.4f}" + ("" if found.gain is None else f" ({percent(found.gain, sign=True)} gain)")


def describe(event: Event, *, brief: bool = False) -> str | None:
    """An event as a line for people, or None for those that are not shown. brief: without the files' names.

    Never raises: a log may hold values of any kind.
    """
    try:
        return _described(event, brief=brief)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError):
        return None


def _described(event: Event, *, brief: bool) -> str | None:
    match event.kind:
        case "checkpoint" if brief and not event.get("installed"):
            return f"saved step {event.get('step')}"
        case "sample" if brief:
            return f"drew {number(len(event.get('files', [])), 'sample')} at step {event.get('step')}"
        case "run":
            verb = "resumes at" if event.get("step") else "starts at"
            plan = event.get("plan", {})
            how = f"{plan.get('batch_size')} x {plan.get('accumulation')} on {plan.get('device_name')}"
            where = f"step {event.get('step', 0)} of {event.get('total_steps')}"
            return f"{verb} {where}: {event.get('images')} images, {how}, {plan.get('precision')}"
        case "phase" if event.get("phase") in {"loading", "caching", "paused"}:
            return f"{event['phase']}: {event.get('message') or '...'}"
        case "checkpoint" if event.get("installed"):
            return f"installed {event['installed']}"
        case "checkpoint":
            return f"saved step {event.get('step')}: {', '.join(event.get('files', []))}"
        case "sample":
            return f"drew {', '.join(event.get('files', []))}"
        case "verdict" if event.get("verdict") != "learning":
            return f"{event.get('verdict')}: {event.get('reason')}"
        case "warning":
            return f"warning: {event.get('message')}"
        case "request":
            outcome = "done" if event.get("message") == "taken" else event.get("message")
            return f"{event.get('request')} requested - {outcome}"
        case "end":
            took = seconds(event.get("seconds", 0))
            return f"{event.get('outcome')} at step {event.get('step')}, after {took}"
    return None


def ended_how(end: Event | None, folder: RunFolder, pid: int) -> tuple[str, str]:
    """(outcome, message) of a trainer that has ended: from its end event, else from its status, else the reason why
    it wrote neither."""
    if end is not None:
        return end.get("outcome", "failed"), end.get("message", "")
    status = folder.read_status()
    if status is not None and status.pid == pid and not status.going:
        return status.phase, status.message
    if not folder.file.exists():
        return "failed", f"the run folder {folder.root} was deleted or moved while training"
    if shutil.disk_usage(folder.root).free < NEARLY_NOTHING:
        return "failed", f"the disk of {folder.root} is full; free some space, then `ti-tui train` resumes the run"
    return "failed", f"the trainer ended silently; see {folder.log}, then `ti-tui train {folder.root}` resumes it"
