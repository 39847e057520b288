"""The event log: one JSON object per line, written by the trainer and followed by every viewer."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from ti_tui import atomic, bounded

EventKind = Literal[
    "run",  # a trainer started or resumed at `step`; total_steps, epoch_steps, images, family, plan, reasons
    "phase",  # phase, message
    "step",  # step, loss, rate, gradient_norm, seconds (of this step)
    "eval",  # step, and Evaluation.values(): loss, gain, held_gain, bands, ...
    "verdict",  # step, verdict, reason: written when the verdict changes
    "checkpoint",  # step, state, files, loss, eval_loss, norms, health, best (the step of the best so far)
    "sample",  # step, files, prompts
    "memory",  # used_bytes, peak_bytes (on the device; of the process on a CPU)
    "warning",  # message, step
    "error",  # message, step
    "request",  # request, message
    "end",  # outcome: done, stopped or failed; step, message, seconds
]
KINDS: frozenset[str] = frozenset(get_args(EventKind))
TAKEN_BACK = frozenset({"step", "eval", "verdict", "checkpoint", "sample"})
"""Kinds that a trainer writes again after going back to an earlier step."""
MOST_STEPS = 1 << 62
LARGEST_NUMBER = 1e300

FLUSH_SECONDS = 1.0
CHUNK_BYTES = LONGEST_LINE = 1 << 22


@dataclass(frozen=True)
class Event:
    """One line: time (unix seconds), kind and values. NaN and infinite numbers read as None."""

    t: float
    kind: str
    values: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


class EventWriter:
    """Appends events. Flushes `step` events once a second, all others immediately.

    If a killed trainer left half a line, it is ended first, so that it does not spoil the next one.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._flushed = 0.0
        self._waiting = bytearray()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: of a write that failed half-way it must be known how much is in the file.
            self._file: IO[bytes] = path.open("ab", buffering=0)
            if _ends_within_a_line(path):
                self._waiting += b"\n"
        except OSError as error:
            raise atomic.cannot_write(path, error) from error

    def write(self, kind: EventKind, **values: Any) -> None:
        """Append one event. Raises CannotWrite; the event is then written with the next one that can be."""
        now = self._clock()
        clean, bad = _finite(values)
        self._waiting += _line(now, kind, clean)
        if bad:
            message = f"{', '.join(bad)} {'is' if len(bad) == 1 else 'are'} not a finite number"
            self._waiting += _line(now, "warning", {"message": message, "step": values.get("step")})
        if kind != "step" or bad or now - self._flushed >= FLUSH_SECONDS:
            self.flush()
            self._flushed = now

    def flush(self) -> None:
        """Write all events so far to the file. Raises CannotWrite."""
        atomic.tried(self._path, self._drain)

    def close(self) -> None:
        """Flush and close; what cannot be written is lost."""
        with contextlib.suppress(OSError):
            self._drain()
        with contextlib.suppress(OSError):
            self._file.close()

    def _drain(self) -> None:
        while self._waiting:
            del self._waiting[: self._file.write(self._waiting)]


class LineReader:
    """Follows a file: each `read_new` returns the complete lines since the last call.

    A line without a newline is left for later. A file that was replaced or shortened is read from the start;
    `restarts` counts how often that happened.
    """

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self.path = path
        self.offset = 0
        self.restarts = 0
        self._identity: tuple[int, int] | None = None
        if from_end:
            with contextlib.suppress(OSError):
                status = path.stat()
                self._identity = (status.st_dev, status.st_ino)
                self.offset = _last_newline(path, status.st_size)

    def waiting_bytes(self) -> int:
        """How much of the file is unread, including a half-written last line."""
        try:
            return max(0, self.path.stat().st_size - self.offset)
        except OSError:
            return 0

    def read_new(self, *, limit_bytes: int = CHUNK_BYTES) -> list[bytes]:
        """Lines since the last call, at most about `limit_bytes` of them; call again until it gives none."""
        try:
            with bounded.open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                if identity != self._identity or status.st_size < self.offset:
                    self.restarts += self._identity is not None
                    self._identity, self.offset = identity, 0
                file.seek(self.offset)
                chunk = file.read(limit_bytes)
                end = chunk.rfind(b"\n") + 1
                if end == 0 and len(chunk) == limit_bytes:
                    chunk += file.readline(LONGEST_LINE)
                    end = len(chunk) if chunk.endswith(b"\n") else 0
                    if end == 0 and len(chunk) >= LONGEST_LINE:
                        # No event: it is passed over, up to its end or to that of the file.
                        while (piece := file.readline(CHUNK_BYTES)) and not piece.endswith(b"\n"):
                            pass
                        self.offset = file.tell()
                        return [b""]
        except OSError:
            return []
        self.offset += end
        lines = chunk[:end].split(b"\n")
        lines.pop()
        return lines


class EventReader:
    """Follows a log: each `read_new` returns the events since the last call. Never raises for the file's content.

    A line without a newline is left for later; lines that are not events are skipped. A file that was replaced or
    shortened is read from the start.
    """

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._lines = LineReader(path, from_end=from_end)

    def read_new(self, *, limit_bytes: int = CHUNK_BYTES) -> list[Event]:
        """Events since the last call, at most about `limit_bytes` of them; call again until it returns none."""
        return list(parse_lines(self._lines.read_new(limit_bytes=limit_bytes)))

    def read_all(self) -> Iterator[Event]:
        """Every event up to now, read in pieces of bounded memory."""
        while lines := self._lines.read_new():
            yield from parse_lines(lines)


def last_events(path: Path, size: int = CHUNK_BYTES) -> list[Event]:
    """The events in the last `size` bytes of a log, as one run."""
    reader = LineReader(path)
    # The first read identifies the file; reading then starts near the end, where half a line is skipped.
    reader.read_new(limit_bytes=1)
    reader.offset = 0
    reader.offset = max(0, reader.waiting_bytes() - size)
    return as_one_run(parse_lines(reader.read_new(limit_bytes=size)))


def parse_lines(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events in complete lines; other lines are skipped."""
    for line in lines:
        if not line.startswith(b"{"):
            continue
        try:
            values = json.loads(line)
            t, kind = float(values.pop("t")), values.pop("kind")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if isinstance(kind, str) and math.isfinite(t) and _has_its_values(values):
            yield Event(t, kind, values)


def _is_count_or_none(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < MOST_STEPS)


def _is_number_or_none(value: object) -> bool:
    # NaN and infinities were written as null; `1e999` reads as infinity.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) < LARGEST_NUMBER
    return value is None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


VALUES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("step", "total_steps", "images"), _is_count_or_none),
    "best": _is_count_or_none,
    **dict.fromkeys(
        ("rate", "epoch_steps", "loss", "eval_loss", "gradient_norm", "seconds", "gain"), _is_number_or_none
    ),
    **dict.fromkeys(("used_bytes", "peak_bytes", "predicted_bytes"), _is_number_or_none),
    **dict.fromkeys(("message", "phase", "request", "verdict", "reason", "outcome", "installed", "state"), _is_text),
    **dict.fromkeys(("files", "prompts"), _are_texts),
    **dict.fromkeys(("plan", "reasons"), lambda value: isinstance(value, dict)),
}
"""What the values of an event have to be, whatever its kind; other values may be anything."""


def _has_its_values(values: dict[str, Any]) -> bool:
    """Whether a log's event is one that a trainer writes: the file may have been damaged or changed."""
    return all(VALUES[name](value) for name, value in values.items() if name in VALUES)


def step_of(event: Event) -> int | None:
    """The step of an event; None without one, or if it is invalid."""
    step = event.get("step")
    return step if type(step) is int and 0 <= step < MOST_STEPS else None


def goes_back_to(event: Event, at: int) -> int | None:
    """The step that a run, which was at step `at`, went back to with `event`; None if it went forward.

    A resumed trainer says so with a `run` event. A trainer that undid steps because of non-finite numbers does not: it
    writes a `step` event for a step that it had done before.
    """
    step = step_of(event)
    if event.kind == "run":
        return step or 0
    return step - 1 if event.kind == "step" and step is not None and step <= at else None


def as_one_run(events: Iterable[Event]) -> list[Event]:
    """The events of a run that was killed and resumed, without what was done twice.

    Going back to step s drops every step, evaluation, checkpoint and sample after s; see `goes_back_to`.
    """
    kept: list[Event] = []
    at = 0
    for event in events:
        back = goes_back_to(event, at)
        if back is not None:
            kept = [old for old in kept if old.kind not in TAKEN_BACK or (step_of(old) or 0) <= back]
            at = back
        step = step_of(event)
        if event.kind == "step" and step is not None:
            at = step
        if event.kind == "eval" and step == 0:
            # A run that begins again measures its initial vectors again.
            kept = [old for old in kept if old.kind != "eval" or step_of(old) != 0]
        kept.append(event)
    return kept


def _line(t: float, kind: str, values: dict[str, Any]) -> bytes:
    record = {"t": round(t, 3), "kind": kind, **values}
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"


def _finite(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    bad: list[str] = []

    def clean(name: str, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            if name not in bad:
                bad.append(name)
            return None
        if isinstance(value, dict):
            return {key: clean(name, item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(name, item) for item in value]
        return value

    return {name: clean(name, value) for name, value in values.items()}, bad


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _last_newline(path: Path, size: int) -> int:
    with path.open("rb") as file:
        start = max(0, size - CHUNK_BYTES)
        file.seek(start)
        return start + file.read(size - start).rfind(b"\n") + 1
