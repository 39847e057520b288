"""Requests to a running trainer: small files in the run folder, which the trainer takes by renaming them."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ti_tui import atomic, bounded
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId
from ti_tui.run.scheme import SchemeError, Segment, segment_values, segments_from_values

RequestKind = Literal[
    "stop",  # save an exact checkpoint and end
    "save",  # save a checkpoint after this step
    "sample",  # draw samples after this step
    "scheme",  # change the rates of the remaining steps, and write them into the run file
]
KINDS: frozenset[str] = frozenset(get_args(RequestKind))


@dataclass(frozen=True)
class Request:
    """A request, and when it was made (unix seconds).

    segments: of a "scheme" request, the rates from `step` on. Without them, those of the run file are meant.
    path:     the taken file of a "scheme" request; it is deleted when the change is in the run file (`finish`).
    """

    kind: RequestKind
    t: float
    step: int = 0
    segments: tuple[Segment, ...] = ()
    path: Path | None = None


def submit(folder: RunFolder, kind: RequestKind, *, step: int = 0, segments: Sequence[Segment] = ()) -> Path:
    """Make a request; the trainer takes it after its current step. Raises CannotWrite."""
    values: dict[str, Any] = {"kind": kind, "t": time.time()}
    if segments:
        values |= {"step": step, "segments": segment_values(segments)}
    path = folder.requests / f"{time.time_ns():020d}-{kind}-{uuid.uuid4().hex[:6]}.json"
    atomic.write_json(path, values)
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
        request = _read(mine, folder.requests / f"{name}.bad")
        if request is not None:
            taken.append(request)
            if request.kind != "scheme":
                mine.unlink(missing_ok=True)
    return taken


def finish(request: Request) -> None:
    """Delete the file of a request whose change is in the run file."""
    if request.path is not None:
        request.path.unlink(missing_ok=True)


def left_over(folder: RunFolder) -> list[Request]:
    """Changes of the rates that an earlier trainer took and did not finish. Only for the holder of the run's lock."""
    paths = sorted(folder.requests.glob(".*-scheme-*.json.*.taken"))
    found = [_read(path, path.with_suffix(".bad")) for path in paths]
    return [request for request in found if request is not None]


def _read(path: Path, aside: Path) -> Request | None:
    """The request in a file; one that is none is moved to `aside`."""
    try:
        values = bounded.read_json(path)
        kind, t = values["kind"], float(values["t"])
        if kind not in KINDS:
            raise ValueError(kind)
        segments = segments_from_values(values.get("segments", ()))
        return Request(kind, t, int(values.get("step", 0)), segments, path if kind == "scheme" else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, SchemeError):
        with contextlib.suppress(OSError):
            os.replace(path, aside)
        return None


def clear(folder: RunFolder, *, before: float) -> None:
    """Drop requests made before the time `before` (unix seconds), which were meant for an earlier trainer.

    Changes of the rates stay: they are of the run (`left_over`).
    """
    for entry in list(folder.requests.glob("*.json")):
        with contextlib.suppress(OSError):
            if _is_request(entry.name) and "-scheme-" not in entry.name and entry.stat().st_mtime < before:
                entry.unlink()


def _is_request(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")
