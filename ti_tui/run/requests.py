"""Requests to a running trainer: one small file each in the run's spool, taken by rename."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ti_tui import atomic
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId

RequestKind = Literal[
    "stop",  # save an exact checkpoint and end
    "save",  # save a checkpoint after this step
    "sample",  # draw the preview images after this step
    "scheme",  # read [scheme] of the run file again, for the steps ahead
]
KINDS: frozenset[str] = frozenset(get_args(RequestKind))


@dataclass(frozen=True)
class Request:
    """What was asked, and when (unix seconds)."""

    kind: RequestKind
    t: float


def submit(folder: RunFolder, kind: RequestKind) -> Path:
    """Put a request into the spool; the trainer takes it after the step it is at. Raises CannotWrite."""
    now = time.time()
    path = folder.requests / f"{time.time_ns():020d}-{kind}-{uuid.uuid4().hex[:6]}.json"
    atomic.write_json(path, {"kind": kind, "t": now})
    return path


def ask_to_stop(folder: RunFolder, trainer: ProcessId) -> None:
    """Ask a trainer to save and end. The request waits for its next step; the signal reaches it while it loads too."""
    submit(folder, "stop")
    trainer.terminate()


def take(folder: RunFolder) -> list[Request]:
    """Take every waiting request, oldest first. Of several takers each request goes to one.

    Files that are no requests are moved aside as `.bad`, so that they are seen once only.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder.requests) if _is_request(entry.name))
    except OSError:
        return []
    taken: list[Request] = []
    for name in names:
        mine = folder.requests / f".{name}.{os.getpid()}.taken"
        try:
            os.rename(folder.requests / name, mine)
        except OSError:
            continue
        try:
            values = json.loads(mine.read_text(encoding="utf-8"))
            kind, t = values["kind"], float(values["t"])
            if kind not in KINDS:
                raise ValueError(kind)
            taken.append(Request(kind, t))
            mine.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            os.replace(mine, folder.requests / f"{name}.bad")
    return taken


def clear(folder: RunFolder, *, before: float) -> None:
    """Drop requests made before the time `before` (unix seconds), which were meant for an earlier trainer."""
    for entry in list(folder.requests.glob("*.json")):
        with contextlib.suppress(OSError):
            if _is_request(entry.name) and entry.stat().st_mtime < before:
                entry.unlink()


def _is_request(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")
