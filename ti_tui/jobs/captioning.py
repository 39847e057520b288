"""Starts the captioner, talks to it and applies its captions, for commands and screens. No torch.

The helper process is `python -m ti_tui.captioning FOLDER DEVICE`, which takes and answers lines of JSON. Only `next` on
the messages and `Captioner.wait` block, so a screen's thread can read the messages while the screen cancels and closes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ti_tui.captions.endpoint import CaptionerError
from ti_tui.captions.models import CaptionerModel
from ti_tui.dataset.caption_text import CaptionRules, clean_caption, words_of_name
from ti_tui.jobs.runner import HelperProcess, Job, ProcessNote
from ti_tui.settings import state_folder

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Loaded:
    """The captioner is ready. device: in words."""

    device: str
    seconds: float


@dataclass(frozen=True)
class Captioned:
    """An image has a caption. seconds: for this image; done, total: images so far, failed ones included, and in all."""

    name: str
    caption: str
    seconds: float
    done: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class CaptionFailed:
    """An image could not be captioned; the others continue."""

    name: str
    reason: str
    done: int
    total: int


@dataclass(frozen=True)
class CaptioningFinished:
    """The last message of every job. reason, remedy: for the outcome "failed"."""

    outcome: Literal["done", "cancelled", "failed"]
    captioned: int = 0
    failed: int = 0
    reason: str = ""
    remedy: str = ""

    def raise_if_failed(self) -> None:
        """Raises CaptionerError if the captioner itself failed; single failed images are no error."""
        if self.outcome == "failed":
            raise CaptionerError(self.reason, remedy=self.remedy)


CaptionerMessage = Loaded | Captioned | CaptionFailed | ProcessNote | CaptioningFinished
Messages = Generator[CaptionerMessage, None, None]
Engine = Callable[[Mapping[str, Path], str], Messages]
"""Captions images (files by name), beginning with first words: `Captioner.caption` or `caption_by_names`."""


class Captioner:
    """A captioner in a helper process. Made by `start`; a context manager that closes it.

    One job at a time: `caption` yields its messages, and a new call cancels the previous job. The model stays loaded
    between jobs, until `close`.
    """

    def __init__(self, process: HelperProcess) -> None:
        self._process = process
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._jobs = itertools.count(1)
        self._job = 0
        self._closed = False
        self._refused: dict[str, Any] | None = None
        threading.Thread(target=self._read, name="captioner", daemon=True).start()

    @classmethod
    def start(cls, model: CaptionerModel, *, device: Device = "auto", log: Path | None = None) -> Captioner:
        """Start the process and return while it loads the model. Raises CaptionerError if it cannot be started.

        log: the file for what the libraries print; by default captioner.log among the program's own files.
        """
        job = Job(
            module="ti_tui.captioning",
            arguments=(str(model.path.absolute()), device),
            name="captioner",
            kept="",
            if_killed="Close other programs, or use a smaller captioner; a restart continues with what is missing.",
            error=CaptionerError,
            log=log or state_folder() / "captioner.log",
        )
        return cls(HelperProcess(job))

    @property
    def pid(self) -> int:
        return self._process.pid

    def caption(self, images: Mapping[str, Path], first_words: str = "") -> Messages:
        """Request captions of `images` (files by name), in their order; yields messages as they arrive.

        first_words: every caption begins with these and the captioner continues them; "" leaves it free.
        The last message is CaptioningFinished. Closing the generator early cancels the rest.
        """
        self.cancel()
        self._job = next(self._jobs)
        named = [[name, str(path.absolute())] for name, path in images.items()]
        self._send({"do": "caption", "job": self._job, "pictures": named, "first_words": first_words})
        return self._messages(self._job, len(named))

    def cancel(self) -> None:
        """Cancel the current job, even within an image; finished captions are kept. Returns immediately."""
        if self._job:
            self._send({"do": "cancel", "job": self._job})

    def close(self) -> None:
        """End the process; returns immediately. The current job ends as cancelled."""
        if not self._closed:
            self._closed = True
            threading.Thread(target=self._process.end, name="captioner's end", daemon=True).start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the process has ended and its memory is free again; False if that takes more than `seconds`."""
        return self._process.wait(seconds)

    def __enter__(self) -> Captioner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.wait()

    def _messages(self, job: int, total: int) -> Messages:
        captioned = failed = 0
        taken = 0.0
        finished = False
        try:
            while (answer := self._refused or self._answers.get()) is not None:
                kind = answer["kind"]
                if kind == "loaded":
                    yield Loaded(answer["device"], answer["seconds"])
                elif kind == "said":
                    yield ProcessNote(answer["text"])
                elif kind == "refused":
                    # Kept for later jobs, which get the same answer.
                    self._refused = answer
                    finished = True
                    yield CaptioningFinished("failed", captioned, failed, answer["message"], answer["remedy"])
                    return
                elif answer["job"] != job:
                    continue
                elif kind == "finished":
                    finished = True
                    yield CaptioningFinished("cancelled" if answer["cancelled"] else "done", captioned, failed)
                    return
                elif kind == "captioned" and (text := clean_caption(answer["text"])):
                    captioned += 1
                    taken += answer["seconds"]
                    done = captioned + failed
                    left = taken / captioned * (total - done)
                    yield Captioned(answer["name"], text, answer["seconds"], done, total, left)
                else:
                    failed += 1
                    reason = answer.get("reason", "the captioner gave no text for it")
                    yield CaptionFailed(answer["name"], reason, captioned + failed, total)
            self._answers.put(None)
            finished = True
            yield self._ended(captioned, failed)
        finally:
            if not finished and job == self._job:
                self.cancel()

    def _ended(self, captioned: int, failed: int) -> CaptioningFinished:
        """The last message when the process ended before the job was finished."""
        if self._closed:
            return CaptioningFinished("cancelled", captioned, failed)
        failure = self._process.failure()
        kept = f"; {captioned} captions are kept" if captioned else ""
        return CaptioningFinished("failed", captioned, failed, f"{failure.message}{kept}", failure.remedy)

    def _send(self, request: dict[str, Any]) -> None:
        self._process.send(json.dumps(request).encode("ascii") + b"\n")

    def _read(self) -> None:
        for answer in self._process.answers():
            self._answers.put(answer)
        self._answers.put(None)
        self._process.wait()


def caption_by_names(images: Mapping[str, Path], first_words: str = "") -> Messages:
    """Captions from the file names, as A1111 makes them; needs no model. Yields the same messages as a captioner."""
    captioned = failed = 0
    for name, path in images.items():
        if words := words_of_name(path.stem):
            captioned += 1
            yield Captioned(name, f"{first_words} {words}".strip(), 0.0, captioned + failed, len(images), 0.0)
        else:
            failed += 1
            yield CaptionFailed(name, "its file name has no words", captioned + failed, len(images))
    yield CaptioningFinished("done", captioned, failed)


def wanted(images: Mapping[str, Path], current: Callable[[str], str], rules: CaptionRules) -> dict[str, Path]:
    """The images that the rules want captioned. current: returns the present caption of an image, "" for none."""
    return {name: path for name, path in images.items() if rules.wants(current(name))}


def caption_images(
    engine: Engine,
    images: Mapping[str, Path],
    current: Callable[[str], str],
    rules: CaptionRules,
    apply: Callable[[str, str], None],
) -> Messages:
    """Caption the images that the rules want, and hand each new caption to `apply(name, caption)`.

    current: returns the present caption of an image. It is called again when the new caption arrives, so that what
             was typed meanwhile is not lost.
    Yields the engine's messages, with the whole new caption in those of captions. What `apply` raises ends the job.
    """
    to_caption = wanted(images, current, rules)
    if not to_caption:
        yield CaptioningFinished("done")
        return
    with contextlib.closing(engine(to_caption, rules.first_words)) as messages:
        for message in messages:
            if not isinstance(message, Captioned):
                yield message
            elif rules.wants(old := current(message.name)):
                caption = rules.combined(old, message.caption)
                apply(message.name, caption)
                yield Captioned(**{**vars(message), "caption": caption})
            else:
                yield ProcessNote(f"{message.name} got a caption meanwhile, which is kept")
