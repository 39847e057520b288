"""The journal of changes to a folder's captions, kept on disk: for undo and redo, also after a restart."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from ti_tui.atomic import CannotWrite
from ti_tui.dataset import caption_history
from ti_tui.dataset.caption_history import Change
from ti_tui.settings import state_folder

UNDO, REDO, BEGIN = "undo", "redo", "begin"

Batch = tuple[Change, ...]


def history_of(source: Path) -> Path:
    """Where the changes to the captions of a folder of photographs are kept; the folder itself is only read."""
    key = hashlib.sha256(str(source).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return caption_history.history_file(state_folder() / "captions" / key)


class CaptionJournal:
    """Records changes, for undo and redo. An undo is recorded like any other change, so a reader can follow.

    file:    the history; None keeps it in memory.
    undo, redo: batches that can be undone or redone; the next one last.
    earlier: captions by name as they were when the last draft of the same folder ended.
    error:   why the history cannot be read or written; "" if it can.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._last = 0.0
        self.undo: list[Batch] = []
        self.redo: list[Batch] = []
        self.earlier: dict[str, str] = {}
        self.error = ""

    def recover(self, since: float) -> list[Change] | None:
        """Read the history; the changes after the one of the time `since`. None if there is no such change in it.

        Undo and redo are then those of the draft that the change belongs to.
        """
        batches = self._read()
        changes = sorted((change for batch in batches for change in batch), key=lambda change: change.t)
        self._last = changes[-1].t if changes else 0.0
        if since not in {change.t for change in changes}:
            self.earlier = {change.picture: change.new for change in changes}
            return None
        begun = max((batch[0].t for batch in batches if batch[0].how == BEGIN), default=0.0)
        self.earlier = {change.picture: change.new for change in changes if change.t < begun}
        for batch in batches:
            self._follow(batch)
        return [change for change in changes if change.t > since]

    def begin(self) -> float:
        """Record that a new draft begins: it cannot undo older changes. Returns the time of the record."""
        self.undo, self.redo = [], []
        return self._append((Change(self._now(), f"{caption_history.new_batch()}x1", "", "", "", BEGIN),))

    def note(self, changes: Mapping[str, tuple[str, str]], how: str, batch: str = "") -> float:
        """Record changed captions, (old, new) by name, as one batch; returns the time of the last.

        batch: an open batch that they belong to, as `caption_history.new_batch` names it.
        """
        batch = batch or f"{caption_history.new_batch()}x{len(changes)}"
        noted = tuple(Change(self._now(), batch, name, old, new, how) for name, (old, new) in changes.items())
        if how not in {UNDO, REDO}:
            at = next((at for at, before in enumerate(self.undo) if before[0].batch == batch), None)
            if at is not None:
                self.undo[at] += noted
            else:
                self._follow(noted)
                del self.undo[: -caption_history.MOST_BATCHES]
        return self._append(noted)

    def _follow(self, batch: Batch) -> None:
        match batch[0].how:
            case "begin":
                self.undo, self.redo = [], []
            case "undo":
                _move(self.undo, self.redo)
            case "redo":
                _move(self.redo, self.undo)
            case _:
                self.undo.append(batch)
                self.redo = []

    def _now(self) -> float:
        """The time, always later than that of earlier changes, even if the clock was set back."""
        self._last = max(time.time(), self._last + 0.00001)
        return self._last

    def _append(self, changes: Batch) -> float:
        if self._file is not None:
            try:
                caption_history.append(self._file, changes)
            except CannotWrite as error:
                self.error = self.error or str(error)
        return changes[-1].t

    def _read(self) -> list[Batch]:
        if self._file is None:
            return []
        try:
            batches = caption_history.read(self._file)
        except OSError as error:
            self.error = f"{self._file} cannot be read: {error.strerror or error}"
            return []
        # A process killed while writing leaves an incomplete batch: it does not count.
        return [batch for batch in batches if _is_whole(batch)]


def _is_whole(batch: Batch) -> bool:
    _, _, count = batch[0].batch.partition("x")
    return not count or count == str(len(batch))


def _move(source: list[Batch], target: list[Batch]) -> None:
    """Follow an undo or a redo; if its change is no longer in the history, nothing more can be known."""
    if source:
        target.append(source.pop())
    else:
        target.clear()
