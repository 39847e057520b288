"""Reads a run's log into a RunHistory, in short turns. Skips most step lines of a long log to open it fast."""

from __future__ import annotations

import time
from pathlib import Path

from ti_tui.run.events import LineReader, parse_lines
from ti_tui.run.history import RECENT_STEPS, RunHistory

STEP_LINE = b'"kind":"step"'
WARNING_LINE = b'"kind":"warning"'
BAD_LOSS = b'"loss":null'

CHUNK_BYTES = 1 << 18
"""Read in one piece: some 2,000 step lines, about 15 ms if all are parsed."""
STEP_BYTES = 110
PARSED_STEPS = 60_000
"""About how many step lines of a long log are parsed; a chart has at most a few hundred columns."""
TAIL_STEPS = 2 * RECENT_STEPS
"""Step lines at the end that are always parsed; more than are shown, because a resumed run drops some."""


class HistoryReader:
    """Keeps `history` up to date with the log at `path`. Never raises for the file's content.

    A log that was replaced or shortened is another run's: `history` is then a new object. A missing log is empty.
    """

    def __init__(self, path: Path) -> None:
        self.history = RunHistory()
        self._lines = LineReader(path)
        self._planned_until = 0
        self._thin_until = 0
        self._every = 1
        self._skip = 0

    def read(self, limit_seconds: float = 0.05) -> bool:
        """Read what is new, for about `limit_seconds`. Returns whether there is more to read."""
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
        """How much of the log has been read, from 0 to 1."""
        waiting = self._lines.waiting_bytes()
        return self._lines.offset / (self._lines.offset + waiting) if waiting else 1.0

    def _plan(self) -> None:
        """If much is unread, decide which step lines to parse: every n-th up to the tail of the file."""
        waiting = self._lines.waiting_bytes()
        self._planned_until = self._lines.offset + waiting
        self._every, self._skip = waiting // (STEP_BYTES * PARSED_STEPS), 0
        if self._every > 1:
            self._thin_until = _tail_start(self._lines.path, self._planned_until)

    def _some(self, lines: list[bytes]) -> list[bytes]:
        """`lines` without most of the step lines."""
        # Quotes in an event's texts are escaped, so these bytes cannot be part of a text.
        taken, skip, every = [], self._skip, self._every
        for line in lines:
            if STEP_LINE in line:
                if skip > 0 and BAD_LOSS not in line:
                    skip -= 1
                    continue
                skip = every - 1
            elif WARNING_LINE in line:
                # A trainer that goes back without a restart writes a warning; the next step tells where to.
                skip = 0
            taken.append(line)
        self._skip = skip
        return taken


def _tail_start(path: Path, end: int) -> int:
    """Start of the line at which the last TAIL_STEPS step lines before `end` begin; 0 if it cannot be found."""
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
