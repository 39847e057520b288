"""Starts a process that works with torch, listens to it and ends it; `comparing` and `probing` ask theirs. No torch.

Such a process (its side is `training.pipe`) answers by lines of JSON on its stdout, each with its kind: `refused`
carries a message for people, `finished` is the last one. The end of its stdin ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ti_tui.errors import UserError
from ti_tui.jobs.captioning import OFFLINE

END_SECONDS = 3.0
"""How long the process may take to end by itself before it is killed: a pass through a large U-Net on a CPU."""


@dataclass(frozen=True)
class Job:
    """What is started, and how people are told when it fails.

    module:   `python -m` of it, with `arguments`; line: is written to its stdin.
    name:     such as "drawing process"; killed: what else is to be said, and done, when it was killed.
    error:    what is raised with these words; log: where the libraries' own words go.
    """

    module: str
    name: str
    killed: tuple[str, str]
    error: type[UserError]
    log: Path
    arguments: tuple[str, ...] = ()
    line: bytes = b""


def answers_to(job: Job) -> Generator[dict[str, Any], None, None]:
    """Start the process; its answers come as it gives them. Raises `job.error`, also for what it refuses with.

    Closing the generator, or an exception where it is read, ends the process.
    """
    with contextlib.ExitStack() as stack:
        process = _started(job, stack)
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.write(job.line)
            process.stdin.flush()
        for answer in _answers(process.stdout):
            if answer["kind"] == "refused":
                raise job.error(answer["message"], remedy=answer["remedy"])
            if answer["kind"] == "finished":
                return
            yield answer
        raise _died(job, process.wait())


def _started(job: Job, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(
            # -P: nothing that lies in the current folder may be imported.
            [sys.executable, "-P", "-m", job.module, *job.arguments],
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
    stack.callback(_end, process)
    return process


def _answers(stream: IO[bytes]) -> Generator[dict[str, Any], None, None]:
    for line in stream:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    process.stdout.close()


def _died(job: Job, status: int) -> UserError:
    if status == -getattr(signal, "SIGKILL", 9):
        also, remedy = job.killed
        return job.error(f"the {job.name} was killed, probably because memory ran out; {also}", remedy=remedy)
    return job.error(
        f"the {job.name} stopped ({f'signal {-status}' if status < 0 else f'status {status}'})",
        remedy=f"{_last_line(job.log)} The details are in {job.log}".strip(),
    )


def _last_line(log: Path) -> str:
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
