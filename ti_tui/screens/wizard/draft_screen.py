"""The draft behind the wizard: saved after every change, with its photographs and settings checked in threads."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual import work
from textual.message import Message
from textual.screen import Screen
from textual.worker import get_current_worker

from ti_tui.atomic import CannotWrite
from ti_tui.errors import UserError
from ti_tui.run.problems import Problem
from ti_tui.screens.base import AppAccess, WorkerErrors
from ti_tui.setup.draft import Draft, drop_draft, save_draft
from ti_tui.setup.findings import Findings
from ti_tui.setup.photographs import SurveySettings

if TYPE_CHECKING:
    from ti_tui.dataset.photograph_checks import SurveyedFile
    from ti_tui.dataset.survey import Survey, SurveyCache
    from ti_tui.setup.assess import Surveyor

ASSESS_SECONDS = 0.25
SAVE_SECONDS = 0.6


class DraftChanged(Message):
    """The draft has changed. photographs: another folder, which must be checked."""

    def __init__(self, *, photographs: bool = False) -> None:
        super().__init__()
        self.photographs = photographs


class PhotographChecked(Message):
    """One photograph was checked."""

    def __init__(self, number: int, photograph: SurveyedFile) -> None:
        super().__init__()
        self.number, self.photograph = number, photograph


class FolderChecked(Message):
    """A folder of photographs was checked completely, or could not be: then `problem` says why."""

    def __init__(self, number: int, survey: Survey | None, problem: Problem | None = None) -> None:
        super().__init__()
        self.number, self.survey, self.problem = number, survey, problem


class DraftAssessed(Message):
    """What is known about the draft as it was at `generation`."""

    def __init__(self, generation: int, findings: Findings) -> None:
        super().__init__()
        self.generation, self.findings = generation, findings


class DraftScreen(AppAccess, WorkerErrors, Screen[None]):
    """Holds the draft and what is known about it.

    draft:   the draft to start with; None starts an empty one.
    seen:    the photographs that were checked so far; checking: more may follow, or what is known may change.
    started: the run was made, so its draft is no longer saved.
    """

    def __init__(self, draft: Draft | None = None) -> None:
        super().__init__()
        self.draft = draft or Draft()
        self.findings = Findings()
        self.seen: list[SurveyedFile] = []
        self.checking = False
        self.started = False
        self._survey: Survey | None = None
        self._survey_settings: SurveySettings | None = None
        self._folder_problem: Problem | None = None
        self._changes = 0
        self._assessed = -1
        self._check_number = 0
        self._folder_changed = 0
        self._unsaved = self._kept = False
        self._surveyor: Surveyor | None = None
        self._delayed: dict[str, Any] = {}

    @property
    def memory(self) -> SurveyCache | None:
        """Measurements of the photographs so far."""
        return self._surveyor.memory if self._surveyor is not None else None

    @property
    def below(self) -> int:
        """How many photographs there are in sub-folders that were not checked."""
        return self._survey.below if self._survey is not None else 0

    def show_photographs(self) -> None:
        """Show the photographs in `seen` instead of those shown now."""

    def add_photograph(self, photograph: SurveyedFile) -> None:
        """Show one more photograph."""

    def show_findings(self) -> None:
        """Show what is known now."""

    def take_over(self, draft: Draft) -> None:
        """Continue with another draft."""
        self.draft, self.findings, self._kept = draft, Findings(), True
        self._changes += 1
        self._check_photographs()
        self._assess()

    @property
    def current(self) -> bool:
        """Whether the findings belong to the present state of the draft."""
        return self._assessed == self._changes and not self.checking

    def check_if_changed(self) -> None:
        """Check the photographs again if the folder has changed since the last check."""
        if self.draft.photographs and not self.checking and self._changed_at() != self._folder_changed:
            self._check_photographs(again=True)

    def _changed_at(self) -> int:
        source = self.draft.source()
        try:
            return source.stat().st_mtime_ns if source is not None else 0
        except OSError:
            return 0

    def check_again(self) -> None:
        """Assess and save the draft a moment from now. Until then, the findings are not current."""
        self._changes += 1
        self._later("assess", ASSESS_SECONDS, self._assess)
        self._later("save", SAVE_SECONDS, self.keep_draft)

    def on_draft_changed(self, message: DraftChanged) -> None:
        self.check_again()
        if message.photographs:
            self._later("check", ASSESS_SECONDS, self._check_photographs)

    def keep_draft(self) -> None:
        """Save the draft, if it is not empty and is the user's own."""
        if self.started or not self.draft.kept:
            return
        if self.draft.empty:
            if self._kept:
                drop_draft()
            return
        self._kept = True
        try:
            save_draft(self.draft)
        except CannotWrite as error:
            if not self._unsaved:
                self.notify(f"The draft cannot be saved: {error}", severity="warning", markup=False, timeout=10)
            self._unsaved = True

    def _later(self, name: str, seconds: float, call: Any) -> None:
        if timer := self._delayed.get(name):
            timer.stop()
        self._delayed[name] = self.set_timer(seconds, call)

    def _check_photographs(self, *, again: bool = False) -> None:
        """Check the photographs. again: in the same folder; what is shown stays until all are checked."""
        self._check_number += 1
        self._changes += 1
        self._folder_changed = self._changed_at()
        self._survey_settings = SurveySettings.of(self.draft)
        self.checking = bool(self.draft.photographs)
        if not again:
            self._survey, self._folder_problem, self.seen = None, None, []
            self.show_photographs()
        if self.checking:
            self._check_folder(self._check_number, self._survey_settings, again=again)
        else:
            self._assess()

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check_folder(self, number: int, survey_settings: SurveySettings, *, again: bool) -> None:
        from ti_tui.setup.assess import Surveyor

        worker = get_current_worker()
        self._surveyor = self._surveyor or Surveyor()
        folder = survey_settings.photographs

        def each(photograph: SurveyedFile) -> bool:
            if not worker.is_cancelled and not again:
                self.post_message(PhotographChecked(number, photograph))
            return not worker.is_cancelled

        try:
            source = Draft(photographs=folder).source()
            if source is None:
                raise UserError(f"{folder!r} is not a path")
            survey = self._surveyor.survey(source, survey_settings, each)
        except UserError as error:
            problem = Problem("error", error.message, "photographs", error.remedy)
            self.post_message(FolderChecked(number, None, problem))
            return
        except OSError as error:
            problem = Problem("error", f"{error.filename or folder}: {error.strerror}", "photographs")
            self.post_message(FolderChecked(number, None, problem))
            return
        if not worker.is_cancelled:
            self.post_message(FolderChecked(number, survey))

    def on_photograph_checked(self, message: PhotographChecked) -> None:
        if message.number == self._check_number:
            self.seen.append(message.photograph)
            self.add_photograph(message.photograph)

    def on_folder_checked(self, message: FolderChecked) -> None:
        if message.number != self._check_number:
            return
        survey = message.survey
        self._survey, self._folder_problem = survey, message.problem
        self.seen = [*survey.files, *survey.strays] if survey is not None else []
        self.checking = False
        self.show_photographs()
        if survey is not None and survey.scan.pictures and self.draft.kept:
            from ti_tui import settings

            settings.remember_folder(survey.folder)
        # Earlier findings do not include these photographs.
        self._changes += 1
        self._assess()

    def _assess(self) -> None:
        survey_settings, before = SurveySettings.of(self.draft), self._survey_settings
        if (
            not self.checking
            and before is not None
            and survey_settings != before
            and survey_settings.photographs == before.photographs
        ):
            # Measurements are reused, so this takes only a moment; then the draft is assessed.
            self._check_photographs(again=True)
        else:
            self._assess_copy(self._changes, copy.deepcopy(self.draft), self._survey, self._folder_problem)

    @work(thread=True, exclusive=True, group="assess", exit_on_error=False)
    def _assess_copy(self, generation: int, draft: Draft, survey: Survey | None, problem: Problem | None) -> None:
        from ti_tui.setup.assess import judge

        findings = judge(draft, survey, runs_folder=self.ti_tui.config.runs_folder)
        if problem is not None:
            findings = replace(findings, problems=(problem, *findings.problems), run=None)
        elif draft.photographs and survey is None:
            findings = replace(findings, run=None)
        self.post_message(DraftAssessed(generation, findings))

    def on_draft_assessed(self, message: DraftAssessed) -> None:
        if message.generation == self._changes:
            self._assessed = message.generation
            self.findings = message.findings
            if self.findings.pictures is not None:
                self.draft.captioned = self.findings.pictures.captions > 0
            self.show_findings()

    def worker_failed(self, error: Exception, details: str) -> None:
        self.checking = False
        text = f"A check of the draft failed: {error}\n{details}"
        self.notify(text, severity="error", markup=False, timeout=10)
