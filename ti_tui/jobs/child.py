"""The helper process's side of the pipe to its parent (`jobs.runner`), for captioning, drawing and probing."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ti_tui.errors import UserError

PATIENCE_SECONDS = 2.0
"""How long the main thread may take to stop by itself after the parent is gone."""


class Pipe:
    """Reads the parent's requests on stdin, and answers with lines of JSON on stdout. Any thread may answer."""

    def __init__(self) -> None:
        # Libraries must not use our stdin and stdout: they read nothing, and what they print goes to stderr.
        self._requests = _lines(os.dup(0))
        self._answers = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self._gone = threading.Event()

    def requests(self) -> Iterator[bytes]:
        """The parent's lines as they arrive, until it closes its end or exits."""
        return self._requests

    def watch(self) -> None:
        """Expect no more requests: from now on the end of stdin means to stop."""
        threading.Thread(target=self._watch, daemon=True).start()

    def stopped(self) -> bool:
        """Whether the parent closed its end; only after `watch`."""
        return self._gone.is_set()

    def answer(self, kind: str, **values: Any) -> None:
        """Send an answer to the parent; if it is gone, exit."""
        line = json.dumps({"kind": kind, **values}).encode("ascii") + b"\n"
        with self._writing:
            try:
                while line:
                    line = line[os.write(self._answers, line) :]
            except OSError:
                os._exit(0)

    def _watch(self) -> None:
        for _ in self._requests:
            pass
        self._gone.set()
        time.sleep(PATIENCE_SECONDS)
        os._exit(0)


def run(work: Callable[[Pipe], None]) -> NoReturn:
    """Do `work`, report how it ended, and exit."""
    try:
        status = _outcome(work)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    # The reading thread may be blocked in a read: an ordinary exit would wait for it.
    os._exit(status)


def _outcome(work: Callable[[Pipe], None]) -> int:
    pipe = Pipe()
    try:
        work(pipe)
    except UserError as error:
        first, _, rest = str(error).partition("\n")
        pipe.answer("refused", message=first, remedy=rest)
        return error.exit_status
    pipe.answer("finished")
    return 0


def _lines(descriptor: int) -> Iterator[bytes]:
    """Complete lines as they arrive, until the end."""
    begun = b""
    while content := os.read(descriptor, 1 << 16):
        *lines, begun = (begun + content).split(b"\n")
        yield from lines
