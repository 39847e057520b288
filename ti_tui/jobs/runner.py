"""Starts helper processes for captioning, drawing and probing, reads their answers and ends them. No torch.

A helper process (`jobs.child` is its side) reads lines on stdin and answers with lines of JSON on stdout, each with
its kind: `said` is a note, `refused` an error message for people. Closing its stdin ends it and frees all its memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ti_tui import bounded
from ti_tui.errors import UserError

Message = TypeVar("Message")

END_SECONDS = 3.0
"""How long a process may take to end by itself before it is killed: as long as a large U-Net's forward on a CPU."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Added to the environment of a helper process: no downloads, no progress bars."""


@dataclass(frozen=True)
class ProcessNote:
    """A note for people, such as what is being loaded or that the card's memory was too small."""

    text: str


@dataclass(frozen=True)
class Job:
    """What is started, and the messages for when it fails.

    module: run by `python -m`, with `arguments`; log: the file for what the libraries print.
    name:   such as "drawing process"; error: the exception that is raised.
    kept:   what remains if it is killed, may be empty; if_killed: what to do then.
    """

    module: str
    arguments: tuple[str, ...]
    name: str
    kept: str
    if_killed: str
    error: type[UserError]
    log: Path


class HelperProcess:
    """A running helper process. One thread reads its answers; any thread may send, end and wait."""

    def __init__(self, job: Job) -> None:
        """Start it. Raises `job.error` if that fails."""
        self._job = job
        self._writing = threading.Lock()
        try:
            with contextlib.ExitStack() as stack:
                self._process = subprocess.Popen(
                    command_line(job),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=_open_log(job.log, stack),
                    env={**os.environ, **OFFLINE},
                    # A session of its own: Ctrl+C reaches only us, and we end it.
                    start_new_session=os.name != "nt",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            raise job.error(f"the {job.name} could not be started: {error.strerror or error}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write a line to its stdin. If the process is gone, its answers end."""
        assert self._process.stdin is not None
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def answers(self) -> Generator[dict[str, Any], None, None]:
        """Its answers as they arrive, until it ends."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def end(self) -> None:
        """End it and wait until its memory is free again."""
        assert self._process.stdin is not None
        with self._writing, contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; False if that takes more than `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def failure(self) -> UserError:
        """Why it ended without reporting it; waits for its end."""
        job, status = self._job, self._process.wait()
        if status == -getattr(signal, "SIGKILL", 9):
            kept = f"; {job.kept}" if job.kept else ""
            return job.error(f"the {job.name} was killed, probably because memory ran out{kept}", remedy=job.if_killed)
        return job.error(
            f"the {job.name} stopped ({f'signal {-status}' if status < 0 else f'status {status}'})",
            remedy=f"{_last_line(job.log)} The details are in {job.log}".strip(),
        )


def command_line(job: Job) -> list[str]:
    """The command that starts the process of `job`."""
    # -P: nothing is imported from the current folder.
    return [sys.executable, "-P", "-m", job.module, *job.arguments]


def messages_of(
    job: Job, kinds: Mapping[str, Callable[..., Message]], line: bytes = b""
) -> Generator[Message, None, None]:
    """Start the process, send it `line` and yield its answers as messages as they arrive, up to `finished`.

    kinds: makes the message of an answer from its values, by kind.
    Raises `job.error`, also if the process answers `refused`. Closing the generator, or an exception where it is read,
    ends the process.
    """
    with contextlib.ExitStack() as stack:
        process = HelperProcess(job)
        answers = stack.enter_context(contextlib.closing(process.answers()))
        stack.callback(process.end)
        process.send(line)
        for answer in answers:
            kind = answer.pop("kind")
            if kind == "refused":
                raise job.error(**answer)
            if kind == "finished":
                return
            yield kinds[kind](**answer)
        raise process.failure()


def _last_line(log: Path) -> str:
    """The last line of the log, as a sentence; "" if there is none."""
    try:
        lines = bounded.read_end(log).strip().splitlines()
    except OSError:
        return ""
    return f"Its last line: {lines[-1].strip()[:200]}." if lines else ""


def _open_log(log: Path, stack: contextlib.ExitStack) -> Any:
    """The log, open and empty; if it cannot be written, the output is dropped."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(log.open("wb"))
    except OSError:
        return subprocess.DEVNULL
