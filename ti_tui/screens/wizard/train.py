"""The train step: a summary of all choices, the remaining problems, and the start."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from ti_tui.errors import UserError
from ti_tui.formatting import location, number, printable, wrapped
from ti_tui.run.folder import RunFolder
from ti_tui.run.problems import Problem, worst_first
from ti_tui.screens.base import WorkerErrors
from ti_tui.screens.wizard.draft_screen import DraftChanged
from ti_tui.screens.wizard.pane import GoTo, StepPane, scrolled
from ti_tui.setup.draft import Draft, drop_draft
from ti_tui.setup.findings import Findings
from ti_tui.setup.steps import STEPS, step_of
from ti_tui.widgets.canvas import Canvas, Line, marked
from ti_tui.widgets.field_row import MARKS

if TYPE_CHECKING:
    from ti_tui.dataset.survey import SurveyCache

START, WRITE = "start", "write"


class RunCreated(Message):
    """The run was made. started: its trainer is running; otherwise `problem` may say why not."""

    def __init__(self, run: RunFolder, *, started: bool, problem: str = "") -> None:
        super().__init__()
        self.run, self.started, self.problem = run, started, problem


class Preparing(Message):
    """Progress of the preparation: `done` of `total` images."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__()
        self.done, self.total = done, total


class StartFailed(Message):
    """The run could not be made or started."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class TrainPane(WorkerErrors, StepPane):
    """Apart from the draft, nothing is written before enter is pressed here."""

    step = "train"
    TERMS = ("run file", "trainer", "step", "epoch", "eval loss", "checkpoint", "sample")
    WORDS = (
        "All your choices, and what auto decided. Enter on a problem goes to its field. Start makes the run folder, "
        "prepares the images, starts the trainer and opens the dashboard. The trainer is a separate process: you can "
        "close the terminal and come back later with `ti-tui watch`."
    )

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._shown: list[Problem] = []
        self._busy = ""
        self._failed = ""
        self._starting = False
        self._chosen = ""
        self._to_problems = False

    def compose(self) -> ComposeResult:
        yield scrolled(Canvas(id="receipt"), OptionList(id="problems"))
        yield Canvas(id="progress")
        yield OptionList(
            Option(Content.assemble(("▌ ", "$accent"), Content("Start training")), id=START),
            Option(Content.assemble(("  ", ""), Content("Make the run, but start it later")), id=WRITE),
            id="answers",
        )

    def enter(self) -> None:
        if not self._starting:
            self._failed = ""
        if self.findings.errors:
            # The focus gets there later; what was wrong may be right by then.
            self._to_problems = True
            self.query_one("#problems").focus()
        else:
            answers = self.query_one("#answers", OptionList)
            answers.highlighted = 0
            answers.focus()

    def show(self, findings: Findings) -> None:
        ready_before = self.findings.run is not None
        super().show(findings)
        self.query_one("#receipt", Canvas).draw(self._receipt_lines())
        self._show_problems()
        self.query_one("#answers", OptionList).display = findings.run is not None
        at_problems = self._to_problems or self.query_one("#problems").has_focus
        if findings.run is not None and not ready_before and at_problems:
            self.enter()
            if not findings.errors:
                # At once: the answers are shown from here on, and a key may be waiting.
                self.screen.set_focus(self.query_one("#answers"))
        self._begin()
        self._show_progress()

    def on_descendant_focus(self) -> None:
        self._to_problems = False

    def explanation(self) -> str:
        problems = self.query_one("#problems", OptionList)
        if problems.has_focus and self._shown:
            return "enter goes to the field. Problems marked ✗ must be corrected before the run can start."
        return "enter starts. v shows the run file. Training continues when the terminal is closed."

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_list.id == "problems":
            self.post_message(GoTo(self._shown[event.option_index].field))
        elif not self._busy:
            self._failed, self._chosen = "", str(event.option.id)
            self._begin()

    def _begin(self) -> None:
        """Make the run once the last change was checked, since it may be invalid."""
        if self._busy or not self._chosen:
            return
        if not self.drafting.current:
            self._show_progress()
        elif self.findings.run is None or self.findings.folder is None:
            self._chosen = ""
            self.enter()
        else:
            start, self._chosen = self._chosen == START, ""
            # From here on the draft belongs to the run; it is not saved again.
            self.drafting.started = True
            self._busy, self._starting = "preparing the images ...", True
            self._failed = ""
            self._show_progress()
            # Use the folder that was shown, even if the default would be different by now.
            self._make(copy.deepcopy(self.draft), self.findings.folder.root, self.drafting.memory, start=start)

    def on_resize(self) -> None:
        self.show(self.findings)

    def view(self) -> None:
        from textual.highlight import highlight

        from ti_tui.run.file import to_toml
        from ti_tui.screens.dialogs import Reader

        run = self.findings.run
        if run is None:
            self.notify("There is no run file yet: something is still missing.", timeout=3)
            return
        text = to_toml(run)
        self.app.push_screen(Reader("run.toml, as it will be written", highlight(text, language="toml"), plain=text))

    @work(thread=True, exclusive=True, group="make", exit_on_error=False)
    def _make(self, draft: Draft, root: Path, memory: SurveyCache | None, *, start: bool) -> None:
        """Make the run and start its trainer. Messages report progress and the result."""
        from ti_tui.setup.start import make_run, start_trainer

        def progress(done: int, total: int) -> None:
            self.post_message(Preparing(done, total))

        try:
            made = make_run(draft, root, memory=memory, progress=progress)
        except UserError as error:
            self.post_message(StartFailed(error.sentence))
            return
        if start and not get_current_worker().is_cancelled:
            try:
                start_trainer(made.folder)
            except UserError as error:
                self.post_message(
                    RunCreated(made.folder, started=False, problem=f"The run is made, but not started: {error}")
                )
                return
        self.post_message(RunCreated(made.folder, started=start))

    def on_preparing(self, message: Preparing) -> None:
        if message.done < message.total:
            self._busy = f"prepared {message.done} of {message.total} images"
        else:
            self._busy = "starting the trainer ..."
        self._show_progress()

    def on_start_failed(self, message: StartFailed) -> None:
        self.drafting.started = False
        self._busy, self._failed = "", message.text
        self._show_progress()
        # Assess the draft again: the problem may belong to a field.
        self.post_message(DraftChanged())

    def on_run_created(self, message: RunCreated) -> None:
        message.stop()
        self._busy = ""
        if self.draft.kept:
            drop_draft()
        app = self.ti_tui
        app.made_run(message.run)
        if message.problem:
            app.notify(message.problem, severity="error", markup=False, timeout=15)
        elif not message.started:
            app.notify(f"{location(message.run.root)} was made. t starts it.", markup=False)

    def worker_failed(self, error: Exception, details: str) -> None:
        self.post_message(StartFailed(f"The run could not be made: {error}. {details}"))

    def _receipt_lines(self) -> list[Line]:
        from ti_tui.setup.receipt import receipt

        width = max(30, self.size.width - 6)
        lines: list[Line] = []
        for line in receipt(self.draft, self.findings):
            room = width - 14
            if line.why and len(line.text) + len(line.why) + 3 <= room:
                lines.append([(f"  {line.title:<12}", "muted"), (f"{line.text}   ", ""), (line.why, "muted")])
                continue
            for index, part in enumerate(wrapped(line.text, room)):
                lines.append([(f"  {line.title if index == 0 else '':<12}", "muted"), (part, "")])
            lines += [[(" " * 14, ""), (part, "muted")] for part in (wrapped(line.why, room) if line.why else [])]
        if not lines and self.findings.errors:
            count = number(len(self.findings.errors), "problem")
            lines.append([("! ", "warning b"), (f"{count} to correct before the run can start", "b")])
        elif not lines:
            lines.append([("  checking ...", "muted")])
        return lines

    def _show_problems(self) -> None:
        shown = worst_first(self.findings.problems)
        problems = self.query_one("#problems", OptionList)
        if shown != self._shown or problems.option_count != len(shown):
            self._shown = shown
            at = problems.highlighted or 0
            problems.set_options([Option(self._problem(problem)) for problem in shown])
            problems.highlighted = min(at, len(shown) - 1) if shown else None
        problems.display = bool(shown)

    def _problem(self, problem: Problem) -> Content:
        from ti_tui.setup.fields import OWN, recipe_fields

        letter, style = MARKS[problem.severity]
        spec = OWN.get(problem.field) or recipe_fields().get(problem.field)
        name = f"{spec.label}: " if spec else ""
        step = next(i for i, step in enumerate(STEPS, start=1) if step.id == step_of(problem.field))
        text = printable(f"{name}{problem.sentence}")
        return Content.assemble((f"{letter} ", f"${style}"), Content(text), (f"  [{step}]", "$accent"))

    def _show_progress(self) -> None:
        width = max(30, self.size.width - 6)
        if self._failed:
            self.query_one("#progress", Canvas).draw(marked("! ", self._failed, "error", width))
        else:
            text = self._busy or ("checking the last change ..." if self._chosen else "")
            self.query_one("#progress", Canvas).draw([[(f"  {text}", "accent")]] if text else [])
