"""Starts helper processes, listens to them and ends them: the captioner, drawing and probing. No torch.

A helper process (`jobs.child` is its side) reads lines on its stdin and answers with lines of JSON on its stdout, each
with its kind: `said` is a note, `refused` carries a message for people. The end of its stdin ends it, and with it goes
all of its memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui.errors import UserError

END_SECONDS = 3.0
"""How long a process may take to end by itself before it is killed: a pass through a large U-Net on a CPU."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Added to the environment of a helper process: nothing is fetched, and the libraries print no progress bars."""


@dataclass(frozen=True)
class ProcessNote:
    """Something that people should know, such as what is being loaded or that the card's memory was too small."""

    text: str


@dataclass(frozen=True)
class Job:
    """What is started, and how people are told when it fails.

    module: `python -m` of it, with `arguments`; log: where the libraries' own words go.
    name:   such as "drawing process"; error: what is raised with these words.
    kept:   what a killed process leaves as it was, may be empty; if_killed: what to do then.
    """

    module: str
    arguments: tuple[str, ...]
    name: str
    kept: str
    if_killed: str
    error: type[UserError]
    log: Path


class HelperProcess:
    """A helper process that runs. One thread reads its answers; any thread may send, end and wait."""

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
                    stderr=_opened(job.log, stack),
                    env={**os.environ, **OFFLINE},
                    # A session of its own: Ctrl+C is for us, who then end it.
                    start_new_session=os.name != "nt",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            raise job.error(f"the {job.name} could not be started: {error.strerror or error}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write a line to its stdin. If the process is gone, that shows by the end of its answers."""
        assert self._process.stdin is not None
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def answers(self) -> Generator[dict[str, Any], None, None]:
        """Its answers as they come, until its end."""
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
        """Wait until it has ended; False if it has not within `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def failure(self) -> UserError:
        """Why it ended without having said so; waits for its end."""
        job, status = self._job, self._process.wait()
        if status == -getattr(signal, "SIGKILL", 9):
            kept = f"; {job.kept}" if job.kept else ""
            return job.error(f"the {job.name} was killed, probably because memory ran out{kept}", remedy=job.if_killed)
        return job.error(
            f"the {job.name} stopped ({f'signal {-status}' if status < 0 else f'status {status}'})",
            remedy=f"{_last_line(job.log)} The details are in {job.log}".strip(),
        )


def command_line(job: Job) -> list[str]:
    """How the process of `job` is called."""
    # -P: nothing that lies in the current folder may be imported.
    return [sys.executable, "-P", "-m", job.module, *job.arguments]


def answers_to(job: Job, line: bytes = b"") -> Generator[dict[str, Any], None, None]:
    """Start the process and hand it `line`; its answers come as it gives them, up to `finished`.

    Raises `job.error`, also for what the process refuses with. Closing the generator, or an exception where it is
    read, ends the process.
    """
    with contextlib.ExitStack() as stack:
        process = HelperProcess(job)
        answers = stack.enter_context(contextlib.closing(process.answers()))
        stack.callback(process.end)
        process.send(line)
        for answer in answers:
            if answer["kind"] == "refused":
                raise job.error(answer["message"], remedy=answer["remedy"])
            if answer["kind"] == "finished":
                return
            yield answer
        raise process.failure()


def _last_line(log: Path) -> str:
    """The last line of the log, as a sentence; "" if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f"Its last words: {lines[-1].strip()[:200]}." if lines else ""


def _opened(log: Path, stack: contextlib.ExitStack) -> Any:
    """The log, open and empty; where it cannot be written, nothing is kept."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(log.open("wb"))
    except OSError:
        return subprocess.DEVNULL
