"""The lease of a run folder: which trainer works in it. It can tell a dead holder from one on another machine.

lock.json names the holder. A holder in sight (same kernel, same process namespace) is looked up; one out of sight is
alive as long as it beats: it touches its file every few seconds. Ages are measured with the file system's own clock,
since those of two machines may differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ti_tui import atomic, bounded
from ti_tui.errors import UserError
from ti_tui.formatting import printable
from ti_tui.run.process import ProcessId

BEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""A holder out of sight that has not beaten for so long is dead. NFS clients may see a file's time up to 60 s late,
but not after they open it, which `_age` does."""
SHORT_SECONDS = 1.0
MOST = 10_000
"""Bytes of a lock file."""


class RunLocked(UserError):
    """Another trainer is using this folder."""


@dataclass(frozen=True)
class Lease:
    """Who holds a run folder.

    since: unix seconds; 0 in files of older versions.
    key: tells two leases of one process apart.
    """

    pid: int
    started: str
    host: str
    since: float = 0.0
    key: str = ""

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.started, self.host)

    def content(self) -> bytes:
        """What the lock file holds."""
        return json.dumps(asdict(self)).encode()

    def __str__(self) -> str:
        since = time.strftime(", since %Y-%m-%d %H:%M", time.localtime(self.since)) if self.since else ""
        here = f" on {printable(self.host)}" if self.process.alive() is None else ""
        return f"process {self.pid}{here}{since}"


def read(path: Path) -> Lease | None:
    """The lease in a lock file, or None if there is none that can be read."""
    try:
        values = bounded.read_json(path, MOST)
        pid, since = int(values["pid"]), float(values.get("since", 0))
        return Lease(pid, str(values["started"]), str(values["host"]), since, str(values.get("key", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def holder(path: Path) -> Lease | None:
    """The lease of a living holder, or None. One out of sight counts as living while it beats."""
    held = read(path)
    if held is None:
        return None
    alive = held.process.alive()
    if alive is None:
        age = _age(path, time.time())
        alive = age is not None and age < SILENT_SECONDS
    return held if alive else None


class LeaseLost(UserError):
    """The run was taken over by another trainer while this one could not be seen."""


class Held:
    """A lease that this process holds. It is kept alive by a thread until `end`."""

    def __init__(self, path: Path, mine: Lease) -> None:
        self._path, self._mine = path, mine
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLost if somebody else holds the lease. Reads one small file."""
        held = read(self._path)
        if held is not None and held != self._mine:
            raise LeaseLost(
                f"{held} has taken over {printable(str(self._path.parent))}",
                remedy="This trainer ends and writes nothing more.",
            )

    def end(self) -> None:
        """Give the lease back."""
        self._ended.set()
        self._thread.join()
        if read(self._path) == self._mine:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            held = read(self._path)
            if held == self._mine:
                with contextlib.suppress(OSError):
                    os.utime(self._path)
            elif held is None and self._path.parent.is_dir() and not self._path.exists():
                # Somebody deleted the file, though its holder lives: take it again, unless another trainer does.
                with contextlib.suppress(UserError):
                    _put(self._path, self._mine.content())


@contextlib.contextmanager
def hold(path: Path, *, say: Callable[[str], None] = lambda _line: None) -> Iterator[Held]:
    """Hold the lease at `path` in this process.

    A dead holder's lease is taken over. For a holder out of sight that beat within SILENT_SECONDS, this waits (and
    tells so with `say`) until it beats again or has been silent long enough.
    Raises RunLocked if a living process holds it, CannotWrite.
    """
    me = ProcessId.mine()
    mine = Lease(me.pid, me.started, me.host, round(time.time(), 3), uuid.uuid4().hex)
    _take(path, mine, say)
    held = Held(path, mine)
    try:
        yield held
    finally:
        held.end()


def refuse_if_running(path: Path) -> None:
    """Raise RunLocked if a living process in sight holds the lease. One out of sight is waited for by `hold`."""
    held = read(path)
    if held is not None and held.process.alive():
        raise _is_running(path, held)


def waiting_for(path: Path) -> str:
    """What `hold` would wait for, as a sentence; "" if for nothing."""
    held = read(path)
    age = _age(path, time.time())
    if held is None or age is None or held.process.alive() is not None or age >= SILENT_SECONDS:
        return ""
    return (
        f"{held} held this run {age:.0f} s ago and cannot be seen from here;"
        f" waiting up to {SILENT_SECONDS - age:.0f} s for a sign of it"
    )


def take_from(path: Path) -> Lease | None:
    """Take the lease from a holder out of sight, whether or not it beats; returns who held it.

    Raises RunLocked if the holder is in sight and alive: it can be stopped.
    """
    refuse_if_running(path)
    held = read(path)
    _drop(path, held)
    return held


def _take(path: Path, mine: Lease, say: Callable[[str], None]) -> None:
    told, beats, began = False, _Beats(), time.monotonic()
    for _ in range(1000):
        now = _put(path, mine.content())
        if now is None:
            return
        held = read(path)
        if held is None and path.exists() and path.stat().st_size > 0:
            raise RunLocked(
                f"{printable(str(path))} cannot be read",
                remedy="If no trainer is running in this folder, delete that file.",
            )
        alive = held is not None and held.process.alive()
        if held is not None and alive:
            # A dashboard that tidies a folder up holds it for some milliseconds.
            if time.monotonic() - began < SHORT_SECONDS:
                time.sleep(0.05)
                continue
            raise _is_running(path, held)
        if held is not None and alive is None and (age := _age(path, now)) is not None and age < SILENT_SECONDS:
            if beats.another(held, path):
                raise RunLocked(
                    f"{printable(str(path.parent))} is used by {held}, which is alive",
                    remedy="Stop it there, or let `ti-tui train --take-over` take the run from it.",
                )
            if not told:
                say(waiting_for(path))
                told = True
            time.sleep(0.5)
            continue
        _drop(path, held)
    raise RunLocked(f"{printable(str(path.parent))} is being started by another process",
                    remedy="Try again in a moment.")  # fmt: skip


class _Beats:
    """Sees a holder beat."""

    def __init__(self) -> None:
        self._seen: tuple[Lease, float] | None = None

    def another(self, held: Lease, path: Path) -> bool:
        """Whether the holder has beaten since the first call."""
        modified = _modified(path)
        if modified is None:
            return False
        if self._seen is None or self._seen[0] != held:
            self._seen = held, modified
        return modified > self._seen[1]


def _put(path: Path, content: bytes) -> float | None:
    """Write a new lock file; None if that succeeded, else the file system's present time."""
    candidate = path.with_name(f".lock.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        candidate.write_bytes(content)
        now = candidate.stat().st_mtime
        try:
            # A link fails if the name exists: of two processes exactly one wins, and its content is complete.
            os.link(candidate, path)
        except FileExistsError:
            return now
        except FileNotFoundError:
            # The holder cleans up, and took it for a killed process's.
            return now
        except OSError:
            return None if _create_exclusively(path, content) else now
        return None
    except OSError as error:
        raise atomic.cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            candidate.unlink(missing_ok=True)


def _drop(path: Path, held: Lease | None) -> None:
    aside = path.with_name(f".lock.{uuid.uuid4().hex[:8]}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if read(aside) != held:
            # Another process took the lease between the check and the rename: restore it.
            with contextlib.suppress(OSError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)


def _age(path: Path, now: float) -> float | None:
    modified = _modified(path)
    return None if modified is None else max(0.0, now - modified)


def _modified(path: Path) -> float | None:
    try:
        # Opening makes an NFS client ask for the present time of the file.
        with bounded.open_regular(path) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _create_exclusively(path: Path, content: bytes) -> bool:
    """For file systems without hard links."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return True


def _is_running(path: Path, held: Lease) -> RunLocked:
    folder = printable(str(path.parent))
    return RunLocked(
        f"a trainer ({held}) is already running in {folder}",
        remedy=f"Follow it with `ti-tui watch {folder}`, or stop it with `ti-tui stop {folder}`.",
    )
