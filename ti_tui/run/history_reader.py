"""Follows a run's log into a RunHistory, in short turns; a log far behind is read thinned, so that it opens at once."""

from __future__ import annotations

import time
from pathlib import Path

from ti_tui.run.events import LineReader, parse_lines
from ti_tui.run.history import RECENT_STEPS, RunHistory

STEP_LINE = b'"kind":"step"'
WARNING_LINE = b'"kind":"warning"'
BAD_LOSS = b'"loss":null'

CHUNK_BYTES = 1 << 18
"""Read at once: some 2,000 step lines, about 15 ms where all are parsed."""
STEP_BYTES = 110
PARSED_STEPS = 60_000
"""Step lines that are parsed of a log far behind; a chart has at most some hundred columns."""
TAIL_STEPS = 2 * RECENT_STEPS
"""Step lines at the end that are always parsed; more than are shown, as a resumed run takes some back."""


class HistoryReader:
    """Keeps `history` up to date with the log at `path`. Never raises for the file's content.

    A replaced or shortened log is another run's: `history` is then a new object. A missing log is an empty one.
    """

    def __init__(self, path: Path) -> None:
        self.history = RunHistory()
        self._lines = LineReader(path)
        self._planned_until = 0
        self._thin_until = 0
        self._every = 1
        self._skip = 0

    def read(self, limit_seconds: float = 0.05) -> bool:
        """Take in what is new, for about `limit_seconds`; whether more waits that can be read now."""
        until = time.monotonic() + limit_seconds
        while True:
            if self._lines.offset >= self._planned_until:
                self._plan()
            ahead = self._thin_until - self._lines.offset
            thinned, restarts = ahead > 0, self._lines.restarts
            lines = self._lines.read_new(limit_bytes=min(CHUNK_BYTES, ahead) if thinned else CHUNK_BYTES)
            if self._lines.restarts != restarts:
                self.history, self._planned_until, self._thin_until, thinned = RunHistory(), 0, 0, False
            self.history.add(parse_lines(self._some(lines) if thinned else lines))
            if not lines:
                return False
            if time.monotonic() >= until:
                return self._lines.waiting_bytes() > 0

    def share_read(self) -> float:
        """How much of the log was read, from 0 to 1."""
        waiting = self._lines.waiting_bytes()
        return self._lines.offset / (self._lines.offset + waiting) if waiting else 1.0

    def _plan(self) -> None:
        """Where much waits, decide which step lines to parse: each `every`-th up to the tail of the file."""
        waiting = self._lines.waiting_bytes()
        self._planned_until = self._lines.offset + waiting
        self._every, self._skip = waiting // (STEP_BYTES * PARSED_STEPS), 0
        if self._every > 1:
            self._thin_until = _tail_start(self._lines.path, self._planned_until)

    def _some(self, lines: list[bytes]) -> list[bytes]:
        """Every line but most of the plain step lines, which are not parsed."""
        # The quotes of a text inside an event are escaped, so these bytes are always the event's own.
        taken, skip, every = [], self._skip, self._every
        for line in lines:
            if STEP_LINE in line:
                if skip > 0 and BAD_LOSS not in line:
                    skip -= 1
                    continue
                skip = every - 1
            elif WARNING_LINE in line:
                # A trainer that goes back without a restart warns; the next step then says to where.
                skip = 0
            taken.append(line)
        self._skip = skip
        return taken


def _tail_start(path: Path, end: int) -> int:
    """Where the last TAIL_STEPS step lines before `end` begin, at the start of a line; 0 if that cannot be told."""
    start, found = end, 0
    try:
        with path.open("rb") as file:
            while start > 0 and found < TAIL_STEPS:
                start = max(0, start - CHUNK_BYTES)
                file.seek(start)
                found += file.read(CHUNK_BYTES).count(STEP_LINE)
            file.seek(start)
            if start > 0:
                file.readline()
            return file.tell()
    except OSError:
        return 0
