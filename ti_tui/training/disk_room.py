"""Room on the disk: a reserve in which an exact checkpoint always fits, and waiting while the disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator

from ti_tui import atomic, terminal
from ti_tui.atomic import CannotWrite
from ti_tui.errors import UserError
from ti_tui.run.folder import RunFolder
from ti_tui.training.reporter import Reporter

RETRY_SECONDS = 1.0
MOST_TRIES = 60
"""How often in a row a write is tried that fails for another reason than a full disk."""
VECTOR_BYTES = 2048 * 4 * 16
"""Of the reserve, for each vector: 2,048 numbers for SDXL's two encoders in float32, with up to three moments of an
optimizer, in every form of embedding file, twice."""
LOG_BYTES = 2**20
"""Of the reserve, for the log, the status and the history in a checkpoint."""


class DiskRoom:
    """Keeps a file whose space is given up when the disk is full, so that one exact checkpoint still fits.

    In the main process of a run only; in others it does nothing.
    paused: whether a write has failed since `resume`: nothing should be trained that could not be saved.
    """

    def __init__(self, folder: RunFolder, vectors: int, report: Reporter, stop_requested: Callable[[], bool]) -> None:
        self.paused = False
        self._path = folder.states / ".reserve"
        self._bytes = vectors * VECTOR_BYTES + LOG_BYTES
        self._report = report
        self._stop_requested = stop_requested
        self._told = False
        self._tries = 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Within this, there is a reserve, and a write that fails for lack of room waits until there is some."""
        if not self._report.main:
            yield
            return
        self._reserve(self._bytes)
        with atomic.waiting(self._wait):
            try:
                yield
            finally:
                self._release()

    def resume(self) -> bool:
        """Make the reserve again; returns whether there is room for it, and so for going on."""
        # Twice as much: otherwise the next checkpoint would take the last room again.
        if not self._reserve(2 * self._bytes):
            self._tell(CannotWrite("the disk is full", number=errno.ENOSPC))
            return False
        self.paused, self._told, self._tries = False, False, 0
        return True

    def _wait(self, failure: CannotWrite) -> bool:
        """Make or wait for room after a write has failed; returns whether it is to be tried again."""
        self.paused = True
        if failure.no_room and self._release():
            return True
        self._tries += 1
        if not failure.no_room and self._tries > MOST_TRIES:
            return False
        self._tell(failure)
        time.sleep(RETRY_SECONDS)
        self._report.check_place()
        return not self._stop_requested()

    def _tell(self, failure: CannotWrite) -> None:
        if self._told:
            return
        self._told = True
        terminal.error(f"paused: {failure.message}")
        message = f"trying again: {failure.message}"
        if failure.no_room:
            message = "the disk is full: waiting for room"
        # Even this may not fit on the disk. The event is kept in memory then, and written later.
        with atomic.waiting(None), contextlib.suppress(UserError):
            self._report.phase("paused", message)

    def _reserve(self, free: int) -> bool:
        """Make the reserve if it is not there; False if fewer than `free` bytes are."""
        try:
            if self._path.is_file() and not self._path.is_symlink() and self._path.stat().st_size >= self._bytes:
                return True
            disk = os.statvfs(self._path.parent) if hasattr(os, "statvfs") else None
            if disk is not None and disk.f_bavail * disk.f_frsize < free:
                return False
            # A run folder from elsewhere could have a link here: it is replaced, never written through.
            self._release()
            with self._path.open("xb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._bytes)
                else:
                    file.write(bytes(self._bytes))
            return True
        except OSError:
            self._release()
            return False

    def _release(self) -> bool:
        """Give the reserve's space up; False if there is none."""
        try:
            self._path.unlink()
            return True
        except OSError:
            return False
