"""The run folder: every path in a run, its status and its lock, for the trainer, the commands and the screens."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ti_tui import atomic
from ti_tui.errors import UserError
from ti_tui.paths import user_path
from ti_tui.run.process import ProcessId

Phase = Literal["starting", "loading", "caching", "training", "sampling", "saving", "done", "stopped", "failed"]
GOING: frozenset[str] = frozenset({"starting", "loading", "caching", "training", "sampling", "saving"})

MOST_OF_ANYTHING = 10**15
"""No step, pid or time is as large; a damaged status may contain anything."""

STEP_DIGITS = 8
"""Digits of a step in names: kohya's `{name}-step{step:08d}`."""


class RunFolderError(UserError):
    """The folder is not a run, or cannot be used as one."""


class RunLocked(UserError):
    """Another trainer is using this folder."""


@dataclass(frozen=True)
class Status:
    """The content of status.json: the trainer, its progress, and when it started (unix seconds)."""

    pid: int
    process_started: str
    host: str
    phase: Phase
    step: int
    total_steps: int
    started: float
    updated: float
    message: str = ""

    @property
    def plausible(self) -> bool:
        """Whether every value has the right type: the file may have been changed by hand."""
        whole = all(
            isinstance(value, int) and abs(value) < MOST_OF_ANYTHING
            for value in (self.pid, self.step, self.total_steps)
        )
        numbers = all(
            isinstance(value, int | float) and abs(value) < MOST_OF_ANYTHING for value in (self.started, self.updated)
        )
        texts = (self.process_started, self.host, self.phase, self.message)
        return whole and numbers and all(isinstance(value, str) for value in texts)

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.process_started, self.host)

    @property
    def going(self) -> bool:
        """Whether the phase is that of a running trainer. Its process may have been killed meanwhile."""
        return self.phase in GOING


class RunFolder:
    """A run folder: the paths of everything in it. Only `create` makes anything."""

    def __init__(self, root: Path | str) -> None:
        self.root = user_path(root).absolute()

    @classmethod
    def find(cls, path: Path | str) -> RunFolder:
        """The run that `path` means: its folder or its run.toml. Raises RunFolderError."""
        given = user_path(path)
        folder = cls(given.parent if given.name == "run.toml" else given)
        if not folder.file.is_file():
            if given.is_file():
                raise RunFolderError(f"{given} is not a run", remedy="Give the run's folder, or its run.toml.")
            raise RunFolderError(
                f"{folder.root} holds no run.toml",
                remedy="Give a run's folder, or make a run with `ti-tui init`.",
            )
        return folder

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def file(self) -> Path:
        return self.root / "run.toml"

    @property
    def images(self) -> Path:
        return self.root / "img"

    @property
    def models(self) -> Path:
        return self.root / "model"

    @property
    def events(self) -> Path:
        return self.root / "log" / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log" / "trainer.log"

    @property
    def states(self) -> Path:
        return self.root / "state"

    @property
    def samples(self) -> Path:
        return self.root / "sample"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def requests(self) -> Path:
        return self.root / "requests"

    @property
    def status_file(self) -> Path:
        return self.root / "status.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock.json"

    def state(self, step: int) -> Path:
        """Folder of the exact checkpoint at `step`."""
        return self.states / step_name(step)

    def sample(self, step: int) -> Path:
        """Folder of the samples at `step`."""
        return self.samples / step_name(step)

    def embedding(self, token: str, step: int | None, suffix: str = ".safetensors") -> Path:
        """The embedding at `step`; None for the final one."""
        stem = token if step is None else f"{token}-{step_name(step)}"
        return self.models / f"{stem}{suffix}"

    def best(self, token: str, suffix: str = ".safetensors") -> Path:
        """The embedding of the best checkpoint so far."""
        return self.models / f"{token}-best{suffix}"

    def path(self, text: str) -> Path:
        """A path from the run file: `~` expanded, relative ones from the run folder."""
        path = user_path(text)
        return path if path.is_absolute() else self.root / path

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints that exist, ascending."""
        if not self.states.is_dir():
            return []
        found = (step_of(entry.name) for entry in self.states.iterdir())
        return sorted(step for step in found if step is not None)

    def create(self) -> None:
        """Make the folder and its subfolders, private to the user. Raises CannotWrite."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (
                self.images,
                self.models,
                self.events.parent,
                self.states,
                self.samples,
                self.requests,
            ):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise atomic.cannot_write(Path(error.filename or self.root), error) from error

    def read_status(self) -> Status | None:
        """The last status, or None if there is none that can be read."""
        try:
            values = json.loads(self.status_file.read_text(encoding="utf-8"))
            status = Status(**{key: values[key] for key in Status.__dataclass_fields__ if key in values})
            return status if status.plausible else None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    def write_status(self, status: Status, *, durable: bool = False) -> None:
        """Replace status.json. Raises CannotWrite."""
        atomic.write_json(self.status_file, asdict(status), durable=durable)

    def trainer(self) -> ProcessId | None:
        """The living process that holds the lock, or None."""
        held = _read_lock(self.lock_file)
        return held if held is not None and held.alive() is not False else None

    def current_status(self) -> Status | None:
        """`read_status`, with the phase corrected to "failed" if its process was killed meanwhile."""
        status = self.read_status()
        if status is None or not status.going or status.process.alive() is not False:
            return status
        return replace(status, phase="failed", message="the trainer was killed; `ti-tui train` resumes the run")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process. Raises RunLocked if a living process has locked it.

        A lock left by a dead process (pid gone, or reused by a process that started later) is taken over.
        """
        me = ProcessId.mine()
        self._take_lock(me)
        try:
            yield
        finally:
            if _read_lock(self.lock_file) == me:
                with contextlib.suppress(OSError):
                    self.lock_file.unlink()

    def _take_lock(self, me: ProcessId) -> None:
        content = json.dumps(asdict(me)).encode()
        for _ in range(10):
            try:
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                candidate = self.root / f".lock.{uuid.uuid4().hex[:8]}.tmp"
                candidate.write_bytes(content)
                try:
                    # A link fails if the name exists: of two processes exactly one wins, and its content is complete.
                    os.link(candidate, self.lock_file)
                    return
                except FileExistsError:
                    pass
                except OSError:
                    if _create_exclusively(self.lock_file, content):
                        return
                finally:
                    candidate.unlink(missing_ok=True)
            except OSError as error:
                raise atomic.cannot_write(self.lock_file, error) from error
            self._drop_stale_lock()
        raise RunLocked(f"{self.root} is being started by another process", remedy="Try again in a moment.")

    def _drop_stale_lock(self) -> None:
        held = _read_lock(self.lock_file)
        if held is None and self.lock_file.exists() and self.lock_file.stat().st_size > 0:
            raise RunLocked(
                f"{self.lock_file} cannot be read",
                remedy="If no trainer is running in this folder, delete that file.",
            )
        alive = held.alive() if held is not None else False
        if held is not None and alive is not False:
            if alive is None:
                raise RunLocked(
                    f"{self.root} is used by process {held.pid} on {held.host}, which cannot be seen from here",
                    remedy=f"If that trainer is gone, delete {self.lock_file}.",
                )
            raise RunLocked(
                f"a trainer (process {held.pid}) is already running in {self.root}",
                remedy=f"Follow it with `ti-tui watch {self.root}`, or stop it with `ti-tui stop {self.root}`.",
            )
        aside = self.root / f".lock.{uuid.uuid4().hex[:8]}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.lock_file, aside)
            if _read_lock(aside) != held:
                # Another process took the lock between the check and the rename: restore it.
                with contextlib.suppress(OSError):
                    os.link(aside, self.lock_file)
            aside.unlink(missing_ok=True)


def step_name(step: int) -> str:
    """`step00000500`, as kohya names its files."""
    return f"step{step:0{STEP_DIGITS}d}"


def step_of(name: str) -> int | None:
    """The step in a name such as `step00000500`, or None."""
    digits = name.removeprefix("step")
    return int(digits) if name.startswith("step") and digits.isascii() and digits.isdigit() else None


def _read_lock(path: Path) -> ProcessId | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return ProcessId(int(values["pid"]), str(values["started"]), str(values["host"]))
    except (OSError, ValueError, KeyError, TypeError):
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
