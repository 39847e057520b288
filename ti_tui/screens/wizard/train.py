"""The train step: a summary of all choices, the remaining problems, and the start."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
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
ANSWERS = {START: "Start training", WRITE: "Make the run, but start it later"}


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
    TERMS = ("run file", "trainer", "step", "epoch", "effective batch", "eval loss", "checkpoint", "sample")
    WORDS = (
        "First what is wrong, then all your choices and what auto decided. Enter on a problem goes to its field; after "
        "warnings, tab goes on to Start. Start makes the run folder, prepares the images, starts the trainer and opens "
        "the dashboard. The trainer is a separate process: you can close the terminal and come back later with "
        "`ti-tui watch`."
    )

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._shown: list[Problem] = []
        self._read: set[Problem] = set()
        self._entering = False
        self._busy = ""
        self._failed = ""
        self._starting = False
        self._chosen = ""

    def compose(self) -> ComposeResult:
        yield scrolled(OptionList(id="problems"), Canvas(id="receipt"))
        yield Canvas(id="progress")
        yield OptionList(*(Option(f"  {text}", id=id) for id, text in ANSWERS.items()), id="answers")

    def enter(self) -> None:
        if not self._starting:
            self._failed = ""
        self._entering = True
        self._place_focus()

    def show(self, findings: Findings) -> None:
        ready_before = self.findings.run is not None
        super().show(findings)
        self.query_one("#receipt", Canvas).draw(self._receipt_lines())
        self._show_problems()
        answers = self.query_one("#answers", OptionList)
        answers.display = findings.run is not None
        corrected = findings.run is not None and not ready_before and self.query_one("#problems").has_focus
        if self._entering or corrected or (answers.has_focus and self._unread):
            self._place_focus()
        self._begin()
        self._show_progress()

    @property
    def _unread(self) -> bool:
        """Whether there is a warning that the cursor has not passed yet."""
        return any(problem.severity == "warning" and problem not in self._read for problem in self._shown)

    def _place_focus(self) -> None:
        """Put the cursor on what is wrong, else on Start; it waits while nothing is known yet."""
        problems, answers = self.query_one("#problems", OptionList), self.query_one("#answers", OptionList)
        if self.findings.errors or self._unread:
            problems.highlighted = 0
            self.query_one(VerticalScroll).scroll_home(animate=False)
            to: OptionList = problems
        elif self.findings.run is not None:
            answers.highlighted = 0
            to = answers
        else:
            return
        self._entering = False
        # At once: a key may be waiting.
        self.screen.set_focus(to)

    def on_descendant_focus(self) -> None:
        if self.query_one("#answers").has_focus:
            self._read.update(self._shown)
        self._point()

    def on_descendant_blur(self) -> None:
        self._point()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._point()

    def _point(self) -> None:
        """Put a bar before the answer that enter would give."""
        answers = self.query_one("#answers", OptionList)
        for at, text in enumerate(ANSWERS.values()):
            here = answers.has_focus and answers.highlighted == at
            prompt = Content.assemble(("▌ " if here else "  ", "$accent"), Content(text))
            if answers.get_option_at_index(at).prompt != prompt:
                answers.replace_option_prompt_at_index(at, prompt)

    def page(self, key: str) -> None:
        column = self.query_one(VerticalScroll)
        moves = {
            "pageup": column.scroll_page_up,
            "pagedown": column.scroll_page_down,
            "home": column.scroll_home,
            "end": column.scroll_end,
        }
        moves[key](animate=False)

    def explanation(self) -> str:
        if self.findings.errors:
            return "enter goes to the field. Problems marked ✗ must be corrected before the run can start."
        if self.findings.run is None:
            return ""
        if self.query_one("#problems").has_focus:
            return "enter goes to the field; tab goes on to Start. pgdn and pgup scroll."
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
        elif self.findings.run is None or self.findings.folder is None or self._unread:
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
