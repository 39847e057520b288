"""The run folder: every path in a run, its status and its lock, for the trainer, the commands and the screens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from ti_tui import atomic, bounded
from ti_tui.errors import UserError
from ti_tui.paths import user_path
from ti_tui.run import lease
from ti_tui.run.lease import Held
from ti_tui.run.process import ProcessId
from ti_tui.settings import known_runs

Phase = Literal[
    "starting", "loading", "caching", "training", "sampling", "saving", "paused", "done", "stopped", "failed"
]
GOING: frozenset[str] = frozenset({"starting", "loading", "caching", "training", "sampling", "saving", "paused"})

MOST_OF_ANYTHING = 10**15
"""No step, pid or time is as large; a damaged status may contain anything."""

STATUS_LIMIT = 100_000
"""Bytes of status.json."""

STEP_DIGITS = 8
"""Digits of a step in names: kohya's `{name}-step{step:08d}`."""


class RunFolderError(UserError):
    """The folder is not a run, or cannot be used as one."""


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
        self.name = self.root.name
        self.file = self.root / "run.toml"
        self.images = self.root / "img"
        self.models = self.root / "model"
        self.events = self.root / "log" / "events.jsonl"
        self.log = self.root / "log" / "trainer.log"
        self.states = self.root / "state"
        self.samples = self.root / "sample"
        self.cache = self.root / "cache"
        self.exports = self.root / "export"
        self.requests = self.root / "requests"
        self.status_file = self.root / "status.json"
        self.lock_file = self.root / "lock.json"

    @classmethod
    def find(cls, path: Path | str) -> RunFolder:
        """The run that `path` means: its folder, its run.toml, or the name of a known run. Raises RunFolderError."""
        given = user_path(path)
        folder = cls(given.parent if given.name == "run.toml" else given)
        if not folder.file.is_file():
            named = [root for root in known_runs() if str(given) == root.name and not given.exists()]
            if len(named) == 1:
                return cls(named[0])
            if named:
                raise RunFolderError(
                    f"{len(named)} runs are named {given}", remedy=f"Give a folder: {', '.join(map(str, named))}."
                )
            if given.is_file():
                raise RunFolderError(f"{given} is not a run", remedy="Give the run's folder, or its run.toml.")
            raise RunFolderError(
                f"{folder.root} holds no run.toml",
                remedy="Give a run's folder, or make a run with `ti-tui init`.",
            )
        return folder

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
        """Make the folder and its subfolders, private to the user.

        Raises CannotWrite, and RunFolderError for a link in it: a run folder from elsewhere could have what is written
        here go anywhere. Only the images may lie on another disk.
        """
        folders = (self.models, self.events.parent, self.states, self.samples, self.requests)
        for place in (*folders, self.cache, self.events, self.log, self.file):
            if place.is_symlink():
                raise RunFolderError(
                    f"{place} is a link, and a run is only written inside its folder",
                    remedy="Replace it by what it leads to. The images (img) may be a link.",
                )
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.images, *folders):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise atomic.cannot_write(Path(error.filename or self.root), error) from error

    def read_status(self) -> Status | None:
        """The last status, or None if there is none that can be read."""
        try:
            values = bounded.read_json(self.status_file, STATUS_LIMIT)
            status = Status(**{key: values[key] for key in Status.__dataclass_fields__ if key in values})
            return status if status.plausible else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write_status(self, status: Status, *, durable: bool = False) -> None:
        """Replace status.json. Raises CannotWrite."""
        atomic.write_json(self.status_file, asdict(status), durable=durable)

    def trainer(self) -> ProcessId | None:
        """The living process that holds the folder, or None (see run/lease.py)."""
        held = lease.holder(self.lock_file)
        return None if held is None else held.process

    def current_status(self) -> Status | None:
        """`read_status`, with the phase corrected to "failed" if its process was killed meanwhile."""
        status = self.read_status()
        if status is None or not status.going or self._works(status.process):
            return status
        return replace(status, phase="failed", message="the trainer was killed; `ti-tui train` resumes the run")

    def _works(self, process: ProcessId) -> bool:
        alive = process.alive()
        return self.trainer() == process if alive is None else alive

    def lock(self, *, say: Callable[[str], None] = lambda _line: None) -> contextlib.AbstractContextManager[Held]:
        """Hold the folder's lease (see `lease.hold`). Raises RunLocked, CannotWrite."""
        return lease.hold(self.lock_file, say=say)


def step_name(step: int) -> str:
    """`step00000500`, as kohya names its files."""
    return f"step{step:0{STEP_DIGITS}d}"


def step_of(name: str) -> int | None:
    """The step in a name such as `step00000500`, or None."""
    digits = name.removeprefix("step")
    return int(digits) if name.startswith("step") and digits.isascii() and digits.isdigit() else None
