"""`python -m ti_tui.captioning FOLDER DEVICE`: requests on stdin, answers on stdout, logs on stderr.

One JSON object a line. Requests: `{"do": "caption", "job": 1, "pictures": [[name, path], ...], "first_words": ""}` and
`{"do": "cancel", "job": 1}`. Answers: loaded, said and refused (of the model), captioned, failed and finished (of a
job); see `worker`. The end of stdin ends the process at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from ti_tui import terminal
from ti_tui.jobs.captioning import Device
from ti_tui.jobs.child import Pipe, run
from ti_tui.jobs.runner import OFFLINE


@dataclass(frozen=True)
class CaptionJob:
    """Images to caption: (name, file) each."""

    number: int
    images: tuple[tuple[str, Path], ...]
    first_words: str


class CaptionRequests:
    """The parent's requests, read in a separate thread."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._change = threading.Condition()
        self._waiting: deque[CaptionJob] = deque()
        self._current = 0
        self._cancelled = False
        threading.Thread(target=self._read, daemon=True).start()

    def next_job(self) -> CaptionJob:
        """Wait for the next job, which becomes the current one."""
        with self._change:
            while not self._waiting:
                self._change.wait()
            job = self._waiting.popleft()
            self._current, self._cancelled = job.number, False
            return job

    def cancelled(self) -> bool:
        """Whether the current job has been cancelled."""
        return self._cancelled

    def _read(self) -> None:
        try:
            for line in self._pipe.requests():
                self._take(json.loads(line))
        except Exception:
            traceback.print_exc()
        # The parent has closed its end or exited. Nothing needs cleaning up, and the main thread may be busy in a
        # library for minutes.
        os._exit(0)

    def _take(self, request: dict[str, Any]) -> None:
        number = int(request["job"])
        if request["do"] == "caption":
            images = tuple((str(name), Path(path)) for name, path in request["pictures"])
            with self._change:
                self._waiting.append(CaptionJob(number, images, str(request["first_words"])))
                self._change.notify()
            return
        with self._change:
            waiting = [job for job in self._waiting if job.number != number]
            not_started = len(waiting) < len(self._waiting)
            self._waiting = deque(waiting)
            if number == self._current:
                self._cancelled = True
        if not_started:
            # Answered immediately, though the model may still be loading.
            self._pipe.answer("finished", job=number, cancelled=True)


def serve(pipe: Pipe, folder: Path, device: Device) -> None:
    """Load the captioner and do jobs until the parent is gone. Raises UserError if the captioner cannot be used."""
    requests = CaptionRequests(pipe)
    os.environ.update(OFFLINE)
    from ti_tui.captions.models import check_captioner

    model = check_captioner(folder)
    # torch and transformers take seconds to import; a wrong folder is reported before that.
    from ti_tui.captioning.worker import Worker

    worker = Worker(model, device, pipe.answer, requests.cancelled)
    while True:
        job = requests.next_job()
        worker.run(job.number, job.images, job.first_words)


def main(folder: str, device: str) -> NoReturn:
    run(lambda pipe: serve(pipe, Path(folder), cast("Device", device)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        terminal.error("usage: python -m ti_tui.captioning FOLDER DEVICE")
        sys.exit(2)
    main(*sys.argv[1:])
