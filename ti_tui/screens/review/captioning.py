"""Having captions made while the review goes on: the captioner's process, its messages, how far it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textual import work
from textual.message import Message
from textual.screen import Screen

from ti_tui import settings
from ti_tui.captions.models import ENVIRONMENT, CaptionerError, check_captioner, find_captioner
from ti_tui.errors import UserError
from ti_tui.formatting import seconds
from ti_tui.jobs import captioning
from ti_tui.jobs.captioning import Captioner
from ti_tui.jobs.runner import ProcessNote
from ti_tui.screens.base import WorkerErrors

CHOSEN = "captioner"
"""The name under which the folder of the captioner that was chosen on a screen is remembered."""
SHOWN_FAILURES = 3
"""Of the pictures that could not be captioned, so many are told with their reason."""


@dataclass(frozen=True)
class CaptioningProgress:
    """How far a job is. said: what goes on, where it is not yet a picture; seconds_left: None if not known."""

    done: int
    total: int
    seconds_left: float | None = None
    said: str = ""

    def describe(self) -> str:
        """In a few words, of much the same length all the time."""
        if self.said:
            return self.said
        left = f", {seconds(self.seconds_left)} left" if self.seconds_left is not None else ""
        return f"captioning {self.done} of {self.total}{left}"


class CaptionerSays(Message):
    """Something from the captioner, about the job of that number."""

    def __init__(self, job: int, said: captioning.CaptionerMessage) -> None:
        super().__init__()
        self.job, self.said = job, said


class CaptionerMissing(Message):
    """There is no captioner that could be used."""

    def __init__(self, job: int, error: UserError) -> None:
        super().__init__()
        self.job, self.error = job, error


class CaptioningScreen(WorkerErrors, Screen[str]):
    """Runs one captioning job at a time in the captioner's process, which ends with the screen."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: CaptioningProgress | None = None
        self._captioner: Captioner | None = None
        self._folder = ""
        self._failed: list[str] = []
        self._starting = threading.Lock()
        self._job = 0
        self._left = self._stopped = False

    def captioned(self, name: str, caption: str) -> None:
        """A picture has got a caption from the captioner."""

    def captioning_ended(self, captioned: int, *, stopped: bool = False) -> None:
        """The job is over: so many pictures were captioned before it was done, or stopped by the user."""

    def captioner_missing(self, error: UserError) -> None:
        """There is no captioner, or it cannot be used."""

    def show_progress(self) -> None:
        """Show how far the job is."""

    def begin_captioning(self, pictures: Mapping[str, Path], first_words: str = "") -> None:
        """Have pictures captioned, files by name; the captioner goes on from `first_words`. One job at a time."""
        self._job += 1
        self._stopped, self._failed = False, []
        said = "" if self._captioner is not None else "the captioner is loading"
        self.progress = CaptioningProgress(0, len(pictures), said=said)
        self.show_progress()
        self._caption(self._job, dict(pictures), first_words)

    def choose_captioner(self, folder: Path) -> None:
        """Use the captioner in `folder`. It is remembered once it has been loaded."""
        self._folder = str(folder)

    def cancel_captioning(self) -> None:
        """Stop; what is captioned stays so. The second time the process is ended: it may be stuck."""
        again, self._stopped = self._stopped, True
        if self.progress is not None:
            self.progress = CaptioningProgress(
                self.progress.done, self.progress.total, said="the captioner is stopping"
            )
            self.show_progress()
        if self._captioner is None:
            # It is not even started: the thread sees that its number is not the last.
            self._job += 1
            self._ended(0, stopped=True)
        elif again:
            self._captioner.close()
            self._captioner = None
        else:
            self._captioner.cancel()

    def on_unmount(self) -> None:
        self._left = True
        if self._captioner is not None:
            self._captioner.close()

    @work(thread=True, group="captioner", exit_on_error=False)
    def _caption(self, job: int, pictures: dict[str, Path], first_words: str) -> None:
        try:
            with self._starting:
                captioner = self._captioner = self._captioner or self._start()
        except UserError as error:
            self.post_message(CaptionerMissing(job, error))
            return
        # Left, or stopped, before there was a process to tell.
        if self._left:
            captioner.close()
        if self._left or job != self._job:
            return
        messages = captioner.caption(pictures, first_words)
        if self._stopped:
            # Before the captioner knew of this job.
            captioner.cancel()
        for message in messages:
            self.post_message(CaptionerSays(job, message))

    def _start(self) -> Captioner:
        # What is named outside of the program is newer than what was chosen in it some other day.
        named = settings.load_settings()[0].captioner or os.environ.get(ENVIRONMENT)
        remembered = "" if named else settings.remembered_choice(CHOSEN) or ""
        return Captioner.start(check_captioner(find_captioner(self._folder or remembered)))

    def on_captioner_missing(self, message: CaptionerMissing) -> None:
        message.stop()
        if message.job == self._job and not self._left:
            self.progress = None
            self.show_progress()
            self.captioner_missing(message.error)

    def on_captioner_says(self, message: CaptionerSays) -> None:
        message.stop()
        if message.job != self._job or self._left or self.progress is None:
            return
        said, total = message.said, self.progress.total
        match said:
            case captioning.Loaded():
                self.progress = CaptioningProgress(0, total)
                if self._folder:
                    settings.remember_choice(CHOSEN, self._folder)
            case captioning.Captioned():
                self.progress = CaptioningProgress(said.done, said.total, said.seconds_left)
                self.captioned(said.name, said.caption)
            case captioning.CaptionFailed():
                self.progress = CaptioningProgress(said.done, said.total, self.progress.seconds_left)
                self._failed.append(f"{said.name}: {said.reason}")
            case ProcessNote():
                self.notify(said.text, markup=False, timeout=6)
            case captioning.CaptioningFinished():
                self._finished(said)
        self.show_progress()

    def _finished(self, said: captioning.CaptioningFinished) -> None:
        if self._failed:
            more = f"\nand {len(self._failed) - SHOWN_FAILURES} more" if len(self._failed) > SHOWN_FAILURES else ""
            text = "\n".join(["Not captioned:", *self._failed[:SHOWN_FAILURES]])
            self.notify(text + more, severity="warning", markup=False, timeout=12)
        self._ended(said.captioned, stopped=said.outcome == "cancelled")
        if said.outcome != "failed":
            return
        if self._captioner is not None:
            self._captioner.close()
        self._captioner = None
        if said.captioned:
            self.notify(f"{said.reason}.\n{said.remedy}".strip(), severity="error", markup=False, timeout=20)
        else:
            self.captioner_missing(CaptionerError(said.reason, remedy=said.remedy))

    def _ended(self, captioned: int, *, stopped: bool = False) -> None:
        self.progress = None
        self.show_progress()
        self.captioning_ended(captioned, stopped=stopped)

    def worker_failed(self, error: Exception, details: str) -> None:
        if self.progress is not None:
            self._ended(0)
        self.notify(f"Something went wrong: {error}\n{details}", severity="error", markup=False, timeout=10)
