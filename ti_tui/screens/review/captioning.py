"""Captioning while the review goes on: the captioner process, its messages and its progress."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from textual import work
from textual.message import Message
from textual.screen import Screen

from ti_tui import settings
from ti_tui.captions.endpoint import CaptionerError, Endpoint
from ti_tui.captions.models import ENVIRONMENT, check_captioner, find_captioner
from ti_tui.errors import UserError
from ti_tui.formatting import seconds
from ti_tui.jobs import captioning
from ti_tui.jobs.captioning import Captioner
from ti_tui.jobs.endpoint import EndpointCaptioner
from ti_tui.jobs.runner import ProcessNote
from ti_tui.screens.base import WorkerErrors

CHOSEN = "captioner"
"""The name under which the chosen captioner folder is remembered."""
SHOWN_FAILURES = 3
"""How many images that could not be captioned are listed with the reason."""


@dataclass(frozen=True)
class CaptioningProgress:
    """The progress of a job. note: what happens instead of captioning, as loading; seconds_left: None if unknown."""

    done: int
    total: int
    seconds_left: float | None = None
    note: str = ""

    def describe(self) -> str:
        """A few words whose length hardly changes."""
        if self.note:
            return self.note
        left = f", {seconds(self.seconds_left)} left" if self.seconds_left is not None else ""
        return f"captioning {self.done} of {self.total}{left}"


class CaptionerReport(Message):
    """A message from the captioner about a job."""

    def __init__(self, job: int, report: captioning.CaptionerMessage) -> None:
        super().__init__()
        self.job, self.report = job, report


class CaptionerMissing(Message):
    """There is no usable captioner."""

    def __init__(self, job: int, error: UserError) -> None:
        super().__init__()
        self.job, self.error = job, error


class CaptioningScreen(WorkerErrors, Screen[str]):
    """Runs one captioning job at a time in a helper process, which ends with the screen."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: CaptioningProgress | None = None
        self._captioner: Captioner | EndpointCaptioner | None = None
        self._folder = ""
        self._failed: list[str] = []
        self._starting = threading.Lock()
        self._job = 0
        self._left = self._stopped = False

    def captioned(self, name: str, caption: str) -> None:
        """The captioner captioned an image."""

    def captioning_ended(self, captioned: int, *, stopped: bool = False) -> None:
        """The job ended after captioning some images; stopped: the user stopped it."""

    def captioner_missing(self, error: UserError) -> None:
        """There is no captioner, or it cannot be used."""

    def show_progress(self) -> None:
        """Show the progress of the job."""

    def begin_captioning(self, images: Mapping[str, Path], first_words: str = "") -> None:
        """Caption images, given as files by name; the captioner continues `first_words`. One job at a time."""
        self._job += 1
        self._stopped, self._failed = False, []
        note = "" if self._captioner is not None else "the captioner is loading"
        self.progress = CaptioningProgress(0, len(images), note=note)
        self.show_progress()
        self._caption(self._job, dict(images), first_words)

    def choose_captioner(self, named: str) -> None:
        """Use the captioner in this folder or behind this address. It is remembered once it has worked."""
        self._folder = named

    def endpoint(self) -> Endpoint | None:
        """The endpoint that the next job would ask, if it is one."""
        text = self._remembered() or os.environ.get(ENVIRONMENT) or settings.load_settings()[0].captioner
        with contextlib.suppress(UserError):
            return Endpoint.named(text)
        return None

    def subject(self) -> str:
        """What the token shall learn, in words: a captioner behind an address is told to leave it out."""
        return ""

    def cancel_captioning(self) -> None:
        """Stop; captions made so far are kept. A second call ends the process, which may be stuck."""
        again, self._stopped = self._stopped, True
        if self.progress is not None:
            self.progress = replace(self.progress, note="the captioner is stopping")
            self.show_progress()
        if self._captioner is None:
            # It has not started yet: the thread sees that its job number is outdated.
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
    def _caption(self, job: int, images: dict[str, Path], first_words: str) -> None:
        try:
            with self._starting:
                captioner = self._captioner = self._captioner or self._start()
        except UserError as error:
            self.post_message(CaptionerMissing(job, error))
            return
        # The screen was left, or the job stopped, before the process existed.
        if self._left:
            captioner.close()
        if self._left or job != self._job:
            return
        messages = captioner.caption(images, first_words)
        if self._stopped:
            # Stopped before the captioner knew of this job.
            captioner.cancel()
        for message in messages:
            self.post_message(CaptionerReport(job, message))

    def _remembered(self) -> str:
        """The captioner chosen here, now or earlier. One in the environment or the settings goes before the latter."""
        named = os.environ.get(ENVIRONMENT) or settings.load_settings()[0].captioner
        return self._folder or ("" if named else settings.remembered_choice(CHOSEN) or "")

    def _start(self) -> Captioner | EndpointCaptioner:
        found = find_captioner(self._remembered())
        if isinstance(found, Endpoint):
            return EndpointCaptioner(found, subject=self.subject())
        return Captioner.start(check_captioner(found))

    def on_captioner_missing(self, message: CaptionerMissing) -> None:
        message.stop()
        if message.job == self._job and not self._left:
            self.progress = None
            self.show_progress()
            self.captioner_missing(message.error)

    def on_captioner_report(self, message: CaptionerReport) -> None:
        message.stop()
        if message.job != self._job or self._left or self.progress is None:
            return
        report, total = message.report, self.progress.total
        match report:
            case captioning.Loaded():
                self.progress = CaptioningProgress(0, total)
                if self._folder:
                    settings.remember_choice(CHOSEN, self._folder)
            case captioning.Captioned():
                if self._folder and isinstance(self._captioner, EndpointCaptioner):
                    settings.remember_choice(CHOSEN, self._folder)
                self.progress = CaptioningProgress(report.done, report.total, report.seconds_left)
                self.captioned(report.name, report.caption)
            case captioning.CaptionFailed():
                self.progress = CaptioningProgress(report.done, report.total, self.progress.seconds_left)
                self._failed.append(f"{report.name}: {report.reason}")
            case ProcessNote():
                self.notify(report.text, markup=False, timeout=6)
            case captioning.CaptioningFinished():
                self._finished(report)
        self.show_progress()

    def _finished(self, report: captioning.CaptioningFinished) -> None:
        if self._failed:
            more = f"\nand {len(self._failed) - SHOWN_FAILURES} more" if len(self._failed) > SHOWN_FAILURES else ""
            text = "\n".join(["Not captioned:", *self._failed[:SHOWN_FAILURES]])
            self.notify(text + more, severity="warning", markup=False, timeout=12)
        self._ended(report.captioned, stopped=report.outcome == "cancelled")
        if report.outcome != "failed":
            return
        if self._captioner is not None:
            self._captioner.close()
        self._captioner = None
        if report.captioned:
            self.notify(f"{report.reason}.\n{report.remedy}".strip(), severity="error", markup=False, timeout=20)
        else:
            self.captioner_missing(CaptionerError(report.reason, remedy=report.remedy))

    def _ended(self, captioned: int, *, stopped: bool = False) -> None:
        self.progress = None
        self.show_progress()
        self.captioning_ended(captioned, stopped=stopped)

    def worker_failed(self, error: Exception, details: str) -> None:
        if self.progress is not None:
            self._ended(0)
        self.notify(f"Captioning failed: {error}\n{details}", severity="error", markup=False, timeout=10)
