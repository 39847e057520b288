"""Base classes of the wizard's steps: a draft, findings to show, rows of fields."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget

from ti_tui.formatting import location
from ti_tui.run.problems import Problem
from ti_tui.screens.base import AppAccess
from ti_tui.screens.wizard.draft_screen import DraftChanged, DraftScreen
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import FieldError, FieldSpec
from ti_tui.setup.findings import Findings
from ti_tui.setup.steps import StepId
from ti_tui.widgets.field_row import FieldRow


class NextStep(Message):
    """This step is finished: open the next one."""


class GoTo(Message):
    """Open the step that contains a field, and put the cursor there."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field


class Ready(Message):
    """A step that was opened for the first time is ready to be shown."""

    def __init__(self, step: StepId) -> None:
        super().__init__()
        self.step = step


class StepPane(AppAccess, Vertical):
    """One step of the wizard."""

    step: ClassVar[StepId]
    WORDS: ClassVar[str] = ""
    """What the step is for; shown in the help."""
    TERMS: ClassVar[tuple[str, ...]] = ()
    """Glossary terms that the help explains."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(id=f"pane-{self.step}", classes="pane")
        self.draft = draft
        self.findings = Findings()

    @property
    def drafting(self) -> DraftScreen:
        """The wizard's screen, which holds the draft."""
        return cast(DraftScreen, self.screen)

    def on_mount(self) -> None:
        self.post_message(Ready(self.step))

    def enter(self) -> None:
        """Put the cursor on the first thing to do."""

    def show(self, findings: Findings) -> None:
        """Show the present findings."""
        self.findings = findings

    def explanation(self) -> str:
        """One sentence about the focused widget."""
        return ""

    def go_to(self, field: str) -> bool:
        """Put the cursor on a field; False if it is not in this step."""
        return False

    def leave_inner(self) -> bool:
        """Close whatever is open within the step (escape); False if nothing is open."""
        return False

    def view(self) -> None:
        """Show the file that will be written; does nothing in steps without one."""

    def page(self, key: str) -> None:
        """Scroll by `pageup`, `pagedown`, `home` or `end`; does nothing in steps that do not scroll."""

    def rows(self) -> Sequence[FieldRow]:
        """The rows that can be reached, in order."""
        return [row for row in self.query(FieldRow) if row.display]

    def on_field_row_changed(self, message: FieldRow.Changed) -> None:
        message.stop()
        self.take(message.row.spec.name, message.text)

    def take(self, name: str, text: str) -> None:
        """Put the text typed for a field into the draft."""
        # The draft keeps an invalid text, and the findings say what is wrong with it.
        with contextlib.suppress(FieldError):
            self.draft.set(name, text)
        self.post_message(DraftChanged(photographs=name == "photographs"))

    def take_path(self, name: str, path: Path) -> None:
        """Use a path that was picked, as if it had been typed into the field `name`."""
        self.take(name, location(path))
        if row := self.row(name):
            row.control.show_text(location(path))
            row.entry.focus()

    def row(self, name: str) -> FieldRow | None:
        """The row of a field of this step, also if it is hidden."""
        return next((row for row in self.query(FieldRow) if row.spec.name == name), None)

    def row_with_focus(self) -> FieldRow | None:
        """The row that the cursor is in."""
        return next((row for row in self.rows() if row.has_focus_within), None)


class FormPane(StepPane):
    """A step that is a form: enter goes from field to field, and from the last one to the next step."""

    def enter(self) -> None:
        rows = self.rows()
        first = next((row for row in rows if self._needs(row)), rows[0] if rows else None)
        if first is not None:
            first.entry.focus()
            if first.has_class("-visited") and self.draft.text(first.spec.name):
                # It was left with an invalid value: show why at once.
                first.flag()

    def show(self, findings: Findings) -> None:
        super().show(findings)
        for row in self.query(FieldRow):
            self.show_row(row)

    def show_row(self, row: FieldRow) -> None:
        """Show one field with its note and its problems."""
        name, text = row.spec.name, ""
        if "." in name and self.findings.judged:
            # This import is slow (images, tokens, plans); the first screen must not wait for it.
            from ti_tui.setup.explain import note

            text = note(name, self.draft, self.findings)
        if row.spec.kind == "lines" and not self.changed(row.spec):
            text = "(default)"
        problems = self.problems_of(name)
        if any(problem.severity == "error" for problem in problems):
            text = ""
        # A field that was not visited yet shows no error for being empty.
        if not self.draft.text(name) and not row.has_class("-visited"):
            problems = [problem for problem in problems if problem.severity != "error"]
        row.show(
            self.draft.text(name) or row.spec.text_of(self.shown_default(row.spec)),
            note=text,
            problems=problems,
            changed=self.changed(row.spec),
        )

    def changed(self, spec: FieldSpec) -> bool:
        """Whether a field was set to something else than its default."""
        # Everybody gives a class word.
        return not spec.required and spec.name != "class_word" and self.draft.changed(spec.name)

    def problems_of(self, name: str) -> list[Problem]:
        """The problems shown below the field `name`."""
        return self.findings.about(name)

    def shown_default(self, spec: FieldSpec) -> object:
        """The value a control shows if nothing is set; text lines show a placeholder instead."""
        if spec.kind not in {"choice", "flags", "lines"}:
            return None
        return self.draft.value(spec.name) if "." in spec.name else spec.default

    def explanation(self) -> str:
        row = self.row_with_focus()
        if row is None:
            return ""
        name, default = row.spec.name, ""
        if "." in name and row.spec.kind != "lines" and self.changed(row.spec):
            default = f" Default: {row.spec.text_of(self.draft.default(name)) or 'none'}."
        return f"{row.spec.label}: {row.spec.help}{default}"

    def go_to(self, field: str) -> bool:
        row = self.row(field)
        if row is None:
            return False
        row.add_class("-visited")
        row.entry.focus()
        self.show_row(row)
        row.flag()
        self.call_after_refresh(row.scroll_visible, animate=False)
        return True

    def on_field_row_done(self, message: FieldRow.Done) -> None:
        message.stop()
        message.row.add_class("-visited")
        self.show_row(message.row)
        message.row.flag()
        self.after(message.row)

    def after(self, row: FieldRow) -> None:
        """Enter was pressed in `row`: go to the next field, or to the next step."""
        rows = list(self.rows())
        below = rows[rows.index(row) + 1 :]
        if below:
            below[0].entry.focus()
        else:
            self.after_last()

    def after_last(self) -> None:
        """Enter was pressed in the last field."""
        self.post_message(NextStep())

    def on_descendant_blur(self) -> None:
        for row in self.rows():
            if row.has_focus_within:
                row.add_class("-visited")

    def toggle_advanced(self) -> None:
        """Show or hide the advanced fields; does nothing in steps without any."""

    def search(self) -> None:
        """Open the search line; does nothing in steps without one."""

    def reset(self) -> None:
        """Set the field with the cursor back to its default."""
        row = self.row_with_focus()
        if row is None:
            return
        self.draft.reset(row.spec.name)
        row.control.show_text(row.spec.text_of(self.shown_default(row.spec)))
        self.post_message(DraftChanged(photographs=row.spec.name == "photographs"))

    def _needs(self, row: FieldRow) -> bool:
        return any(problem.severity == "error" for problem in self.findings.about(row.spec.name))


def scrolled(*widgets: Widget) -> VerticalScroll:
    """The widgets in a scrolling column that cannot be focused itself."""
    column = VerticalScroll(*widgets, classes="scrolled")
    column.can_focus = False
    return column
