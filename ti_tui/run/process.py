"""Processes: start the trainer so that it outlives the terminal, tell whether it lives, end it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ti_tui.errors import UserError


class CannotStart(UserError):
    """The trainer's process could not be started."""


@dataclass(frozen=True)
class ProcessId:
    """A process for good: a pid alone may be given to another process later.

    started: unix seconds at which the process began, from the system's own table.
    """

    pid: int
    started: float
    host: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The living process `pid` on this machine, or None."""
        import psutil

        try:
            return cls(pid, psutil.Process(pid).create_time(), socket.gethostname())
        except psutil.Error:
            return None

    @classmethod
    def mine(cls) -> ProcessId:
        me = cls.of(os.getpid())
        assert me is not None
        return me

    def alive(self) -> bool | None:
        """Whether this very process runs; None if it belongs to another machine."""
        import psutil

        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            # The kernel's clock can be adjusted by a second or two between two readings of the same start.
            same = abs(process.create_time() - self.started) < 2.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended, at most `seconds`; whether it has."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        return True

    def terminate(self) -> None:
        """Ask the process to save and end (SIGTERM). Nothing happens if it is gone, and on Windows, where the
        signal would kill it at once: there the stop request does it."""
        if os.name != "nt" and self.alive():
            os.kill(self.pid, signal.SIGTERM)


def trainer_command(run: Path) -> list[str]:
    """The command line of the trainer for the run folder `run`."""
    return [sys.executable, "-m", "ti_tui.training", str(run)]


def start_detached(run: Path, log: Path, *, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the trainer in a session of its own: closing the terminal does not end it.

    stdin is closed, stdout and stderr go to `log`. The caller may forget the returned process.
    Raises CannotStart.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as output:
            return subprocess.Popen(
                trainer_command(run),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=run,
                env={**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"},
                close_fds=True,
                start_new_session=os.name != "nt",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                | getattr(subprocess, "DETACHED_PROCESS", 0),
            )
    except OSError as error:
        raise CannotStart(f"the trainer could not be started: {error.strerror or error}") from error
