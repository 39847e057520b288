"""The two ends of a process of torch code to the one that started it (`setup.worker`); `compare` and `probe` use it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from ti_tui.errors import UserError

PATIENCE_SECONDS = 2.0
"""How long the main thread may take to stop by itself once the parent is gone."""


class Pipe:
    """Answers go out as lines of JSON on stdout. stopped: whether the parent has gone, or asked to stop."""

    def __init__(self) -> None:
        # stdout is ours alone: what the libraries print goes to stderr.
        self._answers = os.dup(1)
        os.dup2(2, 1)
        self._gone = threading.Event()

    def read_line(self) -> bytes:
        """A line of stdin."""
        return sys.stdin.buffer.readline()

    def watch(self) -> None:
        """From now on the end of stdin means stop."""
        threading.Thread(target=self._watch, daemon=True).start()

    def stopped(self) -> bool:
        return self._gone.is_set()

    def answer(self, kind: str, **values: Any) -> None:
        """Tell the parent; without one there is nothing left to do."""
        try:
            os.write(self._answers, json.dumps({"kind": kind, **values}).encode("ascii") + b"\n")
        except OSError:
            os._exit(0)

    def _watch(self) -> None:
        # Not sys.stdin: what it has buffered is locked to the thread that reads.
        while os.read(0, 1 << 12):
            pass
        self._gone.set()
        time.sleep(PATIENCE_SECONDS)
        os._exit(0)


def run(work: Callable[[Pipe], None]) -> NoReturn:
    """Do `work`, say how it ended, and end this process."""
    try:
        status = _outcome(work)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    # The watching thread may be within a read: an ordinary exit would wait for it.
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
