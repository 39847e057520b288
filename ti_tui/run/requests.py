"""Requests to a running trainer: small files in the run folder, which the trainer takes by renaming them."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ti_tui import atomic, bounded
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId

RequestKind = Literal[
    "stop",  # save an exact checkpoint and end
    "save",  # save a checkpoint after this step
    "sample",  # draw samples after this step
    "scheme",  # read [scheme] of the run file again, for the remaining steps
]
KINDS: frozenset[str] = frozenset(get_args(RequestKind))


@dataclass(frozen=True)
class Request:
    """A request, and when it was made (unix seconds)."""

    kind: RequestKind
    t: float


def submit(folder: RunFolder, kind: RequestKind) -> Path:
    """Make a request; the trainer takes it after its current step. Raises CannotWrite."""
    now = time.time()
    path = folder.requests / f"{time.time_ns():020d}-{kind}-{uuid.uuid4().hex[:6]}.json"
    atomic.write_json(path, {"kind": kind, "t": now})
    return path


def ask_to_stop(folder: RunFolder, trainer: ProcessId) -> None:
    """Tell a trainer to save and end. It takes the request after a step; the signal also reaches it while loading.

    Raises CannotWrite if the signal is not enough, on Windows.
    """
    try:
        submit(folder, "stop")
    except atomic.CannotWrite:
        if os.name == "nt":
            raise
    trainer.terminate()


def take(folder: RunFolder) -> list[Request]:
    """Take all waiting requests, oldest first. If several processes take, each request goes to only one of them.

    Files that are not requests are renamed to `.bad`, so that they are read only once.
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
            values = bounded.read_json(mine)
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
