"""`python -m ti_tui.captioning FOLDER DEVICE`: captions as asked for on stdin, answers on stdout, notes on stderr.

One JSON object a line. Asked: `{"do": "caption", "job": 1, "pictures": [[name, path], ...], "first_words": ""}` and
`{"do": "cancel", "job": 1}`. Answered: loaded, said and refused (of the model), captioned, failed and finished (of a
job); see `worker`. The end of stdin ends the process at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from ti_tui.errors import UserError
from ti_tui.jobs.captioning import OFFLINE, Device


@dataclass(frozen=True)
class CaptionJob:
    """Pictures to caption: (name, file) each."""

    number: int
    pictures: tuple[tuple[str, Path], ...]
    first_words: str


class CaptionPipe:
    """The two ends to the parent; a thread of its own reads what it asks."""

    def __init__(self) -> None:
        # stdin and stdout are ours alone: what the libraries ask gets no answer, what they print goes to stderr.
        self._asked = os.dup(0)
        self._answers = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._change = threading.Condition()
        self._waiting: deque[CaptionJob] = deque()
        self._going = 0
        self._cancelled = False
        threading.Thread(target=self._read, daemon=True).start()

    def next_job(self) -> CaptionJob:
        """Wait for the next job; it is the one going on from now."""
        with self._change:
            while not self._waiting:
                self._change.wait()
            job = self._waiting.popleft()
            self._going, self._cancelled = job.number, False
            return job

    def cancelled(self) -> bool:
        """Whether the job going on has been cancelled."""
        return self._cancelled

    def answer(self, kind: str, **values: Any) -> None:
        """Tell the parent; without one there is nothing left to do."""
        with self._change:
            try:
                line = json.dumps({"kind": kind, **values}).encode("ascii") + b"\n"
                while line:
                    line = line[os.write(self._answers, line) :]
            except OSError:
                os._exit(0)

    def _read(self) -> None:
        try:
            for line in _lines(self._asked):
                self._take(json.loads(line))
        except Exception:
            traceback.print_exc()
        # The parent has closed its end, or is no more. Nothing needs to be put away, and the main thread may be deep
        # in a library for minutes.
        os._exit(0)

    def _take(self, request: dict[str, Any]) -> None:
        number = int(request["job"])
        if request["do"] == "caption":
            pictures = tuple((str(name), Path(path)) for name, path in request["pictures"])
            with self._change:
                self._waiting.append(CaptionJob(number, pictures, str(request["first_words"])))
                self._change.notify()
            return
        with self._change:
            waiting = [job for job in self._waiting if job.number != number]
            unbegun = len(waiting) < len(self._waiting)
            self._waiting = deque(waiting)
            if number == self._going:
                self._cancelled = True
        if unbegun:
            # Told at once, though the model may still be loading.
            self.answer("finished", job=number, cancelled=True)


def main(folder: Path, device: Device) -> int:
    """Load the captioner and do jobs until the parent is gone; returns only if the captioner cannot be used."""
    pipe = CaptionPipe()
    os.environ.update(OFFLINE)
    try:
        from ti_tui.captions.models import check_captioner

        model = check_captioner(folder)
        # torch and transformers take seconds; a wrong folder is told before.
        from ti_tui.captioning.worker import Worker

        worker = Worker(model, device, pipe.answer, pipe.cancelled)
        while True:
            job = pipe.next_job()
            worker.do(job.number, job.pictures, job.first_words)
    except UserError as error:
        pipe.answer("refused", message=error.message, remedy=error.remedy)
        return error.exit_status


def _lines(descriptor: int) -> Iterator[bytes]:
    """Whole lines as they come, until the end."""
    begun = b""
    while content := os.read(descriptor, 1 << 16):
        *lines, begun = (begun + content).split(b"\n")
        yield from lines


def run(folder: Path, device: Device) -> NoReturn:
    """`main`, and the end of this process."""
    try:
        status = main(folder, device)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    # The reading thread may be within a read: an ordinary exit would wait for it.
    os._exit(status)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python -m ti_tui.captioning FOLDER DEVICE", file=sys.stderr)
        sys.exit(2)
    run(Path(sys.argv[1]), cast("Device", sys.argv[2]))
