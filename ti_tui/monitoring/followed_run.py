"""Follows a run from outside: reads its log, status, run file and checkpoints again and again. No textual."""

from __future__ import annotations

from pathlib import Path

from ti_tui import settings
from ti_tui.errors import UserError
from ti_tui.formatting import location
from ti_tui.monitoring.event_text import EventTail
from ti_tui.paths import is_there
from ti_tui.run.folder import RunFolder, Status
from ti_tui.run.history import CheckpointRow, RunHistory
from ti_tui.run.history_reader import HistoryReader
from ti_tui.run.scheme import Scheme

LOG_LINES = 100


class FollowedRun:
    """What is known of a run after the last `read`.

    behind:    0, or the share of the log read so far if there is more.
    log_lines: the last lines of the log, with their times.
    run_file_error: why the run file cannot be used, or "".
    ends_itself: whether the run ends by itself when it is learned.
    rows:      its checkpoints that still exist, newest first.
    installed: steps of those that are in the embeddings folder.
    replaced:  how often the log was replaced; what was read before is forgotten then.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.status: Status | None = None
        self.scheme: Scheme | None = None
        self.token, self.install_to, self.device, self.run_file_error = "", "", "auto", ""
        self.ends_itself = False
        self.log_lines: list[tuple[float, str]] = []
        self.behind = 0.0
        self.rows: list[CheckpointRow] = []
        self.installed: set[int] = set()
        self.replaced = 0
        self._reader = HistoryReader(folder.events)
        self._tail = EventTail(folder.events)
        self._tail_restarts = 0
        self._caught_up = False
        self._file_changed = 0
        self._compared: object = None

    @property
    def history(self) -> RunHistory:
        return self._reader.history

    @property
    def going(self) -> bool:
        """Whether a trainer is working on it."""
        return self.status is not None and self.status.going

    @property
    def name(self) -> str:
        """The token; the folder's name while the run file cannot be read."""
        return self.token or self.folder.name

    def read(self, limit_seconds: float) -> bool:
        """Read what is new in the log, for about that long; returns whether there is more. At the end call `look`."""
        before = self._reader.history
        more = self._reader.read(limit_seconds) and not self._caught_up
        if more:
            self.behind = self._reader.share_read()
        else:
            self._caught_up, self.behind = True, 0.0
        self.replaced += self._reader.history is not before
        return more

    def look(self) -> None:
        """Read everything besides the log: status, run file, checkpoints, what is installed."""
        self.status = self.folder.current_status()
        self._read_run_file()
        lines = self._tail.read()
        if self._tail.restarts != self._tail_restarts:
            self._tail_restarts, self.log_lines = self._tail.restarts, []
        self.log_lines = [*self.log_lines, *lines][-LOG_LINES:]
        root = self.folder.root
        self.rows = [
            row for row in reversed(self.history.checkpoints) if any(is_there(root / file) for file in row.files)
        ]
        self._look_for_installed()

    def saves(self) -> tuple[int, ...]:
        """Steps of the checkpoints that exist, ascending."""
        return tuple(row.step for row in reversed(self.rows))

    def result_file(self) -> Path:
        """The final embedding, or the folder where it will be."""
        path = self.folder.embedding(self.name, None)
        return path if is_there(path) else self.folder.models

    def embeddings_folder(self) -> str:
        """Where the embedding is installed: as in the run file, else as chosen last, else the first folder found."""
        from ti_tui.embeddings.program_folders import embeddings_folders

        known = self.install_to or settings.remembered_choice("embeddings_folder") or ""
        found = embeddings_folders() if not known else []
        return known or (location(found[0]) if found else "")

    def _read_run_file(self) -> None:
        try:
            changed = self.folder.file.stat().st_mtime_ns
        except OSError:
            return
        if changed == self._file_changed:
            return
        self._file_changed = changed
        from ti_tui.run.file import load

        try:
            run = load(self.folder.file)
        except UserError as error:
            self.run_file_error = str(error).splitlines()[0]
            return
        self.run_file_error = ""
        self.scheme = run.scheme.scheme()
        self.token = run.embedding.token
        self.install_to, self.device = run.save.install_to, run.training.device
        self.ends_itself = run.evaluation.early_stop == "stop"

    def _look_for_installed(self) -> None:
        """Compare with the embeddings folder, if something changed on either side."""
        from ti_tui.monitoring.steering import installed_steps

        into = self.install_to or settings.remembered_choice("embeddings_folder") or ""
        try:
            place = self.folder.path(into) if into else None
            changed = place.stat().st_mtime_ns if place is not None else 0
        except (UserError, OSError):
            place, changed = None, 0
        state = (into, changed, self.saves(), self.token)
        if state == self._compared:
            return
        self._compared = state
        known = place is not None and self.token
        self.installed = installed_steps(self.folder, self.saves(), place, self.token) if known and place else set()
