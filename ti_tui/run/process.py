"""Starts the trainer so that it outlives the terminal, tells whether it is alive, and ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ti_tui.errors import UserError


class CannotStart(UserError):
    """The trainer's process could not be started."""


@dataclass(frozen=True)
class ProcessId:
    """Identifies a process for good: the system may give its pid to another process later.

    started: its start time: on Linux the boot id, the kernel's ticks since boot (which changes of the clock do not
             affect) and the process namespace, since a container counts its own pids; elsewhere unix seconds.
    """

    pid: int
    started: str
    host: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The living process `pid` on this machine, or None."""
        started = _started(pid)
        return None if started is None else cls(pid, started, socket.gethostname())

    @classmethod
    def mine(cls) -> ProcessId:
        me = cls.of(os.getpid())
        assert me is not None
        return me

    def alive(self) -> bool | None:
        """Whether this process is running; None if it is out of sight: on another machine or in another container.

        A host's name says little: containers get a new one at each start, and many machines share one.
        """
        there, here = self.started.split(":"), (_started(os.getpid()) or "").split(":")
        if len(there) == len(here) == 3:
            if there[0] != here[0] or there[2] != here[2]:
                return None
        elif self.host != socket.gethostname():
            return None
        # Older versions wrote no namespace.
        return (_started(self.pid) or "").split(":")[: len(there)] == there

    def terminate(self) -> None:
        """Ask the process to save and end (SIGTERM). Does nothing if it is gone, or on Windows, where the signal would
        kill it immediately; there the stop request is enough."""
        if os.name != "nt" and self.alive():
            os.kill(self.pid, signal.SIGTERM)


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def _started(pid: int) -> str | None:
    """Start time of the living process `pid`, or None; a zombie counts as gone."""
    if _BOOT.exists():
        try:
            # After the name in brackets: the state, and 19 fields later the start in ticks (proc(5)).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # Such as pid:[4026531836]; its number is reused, but never with the same ticks.
            namespace = _NAMESPACE.readlink().name.strip("pid:[]")
            return None if fields[0] in "ZX" else f"{_BOOT.read_text().strip()}:{fields[19]}:{namespace}"
        except (OSError, IndexError):
            return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None


def trainer_command(run: Path) -> list[str]:
    """The command line of the trainer for the run folder `run`."""
    # -P: the current folder is the run folder, and nothing in it may be imported.
    return [sys.executable, "-P", "-m", "ti_tui.training", str(run)]


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
