"""Atomic writes: a file or folder appears complete or not at all. Everything in a run folder is written with these."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ti_tui.errors import UserError


class CannotWrite(UserError):
    """A file could not be written: the disk is full, the folder read-only, or permission is missing.

    number: the system's error number.
    """

    def __init__(self, message: str, *, number: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.number = number

    @property
    def no_room(self) -> bool:
        return self.number in (errno.ENOSPC, errno.EDQUOT)

    @property
    def may_pass(self) -> bool:
        """Whether the same write may succeed later."""
        return self.no_room or self.number == errno.EIO


Wait = Callable[[CannotWrite], bool]
_wait: Wait | None = None


@contextlib.contextmanager
def waiting(wait: Wait | None) -> Iterator[None]:
    """Within this, a write that fails for a reason that may pass calls `wait`, which returns whether to try again.

    For the whole process; None: fail at once, as without this.
    """
    global _wait
    before, _wait = _wait, wait
    try:
        yield
    finally:
        _wait = before


def tried(path: Path, write: Callable[[], None], *, patient: bool = True) -> None:
    """Call `write`, which writes `path`, until it succeeds or `waiting` gives up. Raises CannotWrite.

    patient=False: only once.
    """
    while True:
        try:
            return write()
        except OSError as error:
            failure = cannot_write(path, error)
            if not (patient and _wait is not None and failure.may_pass and _wait(failure)):
                raise failure from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step: temporary file, fsync, rename. Raises CannotWrite."""
    write_with(path, lambda temporary: _write_and_sync(temporary, content))


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for UTF-8 text without a byte-order mark."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Write `content` as JSON. `durable=False` neither syncs nor waits, for files that are rewritten every second."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    write_with(path, partial(_write_and_sync, content=text.encode("utf-8"), sync=durable), patient=durable)


def write_with(path: Path, write: Callable[[Path], None], *, patient: bool = True) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it into place. Raises CannotWrite.

    patient: as in `tried`.
    """

    def once() -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            _replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def twice() -> None:
        try:
            once()
        except FileNotFoundError:
            # Who cleans up after a killed process took the temporary file for one of its.
            once()

    tried(path, twice, patient=patient)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder of files that appears at `path` complete or not at all. Replaces an older one. Raises CannotWrite.

    If the process is killed between the two renames, the older folder remains as `.NAME.old`; `recover_folders` puts
    it back.
    """

    def once() -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        old = path.with_name(f".{path.name}.old")
        try:
            temporary.mkdir(parents=True)
            for name, content in files.items():
                _write_and_sync(temporary / name, content)
            sync(temporary)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
            os.replace(temporary, path)
            sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    tried(path, once)


def recover_folders(parent: Path) -> None:
    """Clean up in `parent` after a killed process: put `.NAME.old` back, delete unfinished temporary files."""
    if not parent.is_dir():
        return
    for entry in list(parent.iterdir()):
        name = entry.name
        if name.startswith(".") and name.endswith(".old"):
            whole = parent / name[1:-4]
            if whole.exists():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                os.replace(entry, whole)
        elif name.startswith(".") and name.endswith(".tmp"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """os.replace; on Windows it waits for a reader that has the file open for a moment."""
    for _ in range(20 if os.name == "nt" else 0):
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            time.sleep(0.05)
    os.replace(temporary, path)


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The error for people: the path, the reason and what to do."""
    reason, remedy = {
        errno.ENOSPC: ("the disk is full", "Free some space and start the same command again."),
        errno.EDQUOT: ("your disk quota is used up", "Free some space and start the same command again."),
        errno.EFBIG: ("the file would be larger than the limit allows", "Raise the limit (`ulimit -f`)."),
        errno.EROFS: ("the file system is read-only", "Choose a folder that you can write to."),
        errno.EACCES: ("no permission to write there", "Choose a folder that you can write to."),
        errno.EPERM: ("no permission to write there", "Choose a folder that you can write to."),
        errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another folder."),
        errno.ENAMETOOLONG: ("the name is too long for this disk", "Choose a shorter name."),
    }.get(error.errno or 0, (error.strerror or str(error), ""))
    return CannotWrite(f"cannot write {path}: {reason}", number=error.errno or 0, remedy=remedy)


def sync(path: Path) -> None:
    """fsync a file or a folder (folders only where the system supports it)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_and_sync(path: Path, content: bytes, *, sync: bool = True) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())
