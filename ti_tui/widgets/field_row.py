"""A row of a form: label, control, a note about the value, and below it what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static

from ti_tui.run.problems import Problem
from ti_tui.setup.fields import FOLDERS, FieldSpec
from ti_tui.widgets.canvas import Canvas, Line, marked
from ti_tui.widgets.controls import (
    ChoiceRow,
    Control,
    Edited,
    EditingFinished,
    Flags,
    LineList,
    TextLine,
    as_default,
)

MOST_PROBLEMS = 2
MARKS = {"error": ("✗", "error"), "warning": ("!", "warning"), "info": ("·", "muted")}
WIDE = frozenset({"path", "lines", "flags", "choice", "table"})
"""Kinds whose control needs the whole line; their note is shown below it."""


class FieldRow(Vertical):
    """One field. Shows its problems when the cursor leaves it, not while typing.

    A value that is set stands alone, with a star if it differs from the default. An empty line shows `placeholder`
    (`as_default` or `as_example`), else the field's default.
    """

    DEFAULT_CSS = """
    FieldRow { height: auto; }
    FieldRow > .line { height: auto; }
    FieldRow .label { width: 18; height: 1; }
    FieldRow TextLine { background: $background; width: 1fr; }
    FieldRow TextLine:focus { background: $selected; }
    FieldRow LineList { width: 1fr; }
    FieldRow .control { width: 24; height: auto; }
    FieldRow.-number .control { width: 15; }
    FieldRow.-wide .control { width: 1fr; }
    FieldRow .unit { width: 8; color: $muted; padding: 0 0 0 1; height: 1; }
    FieldRow .note { width: 1fr; height: 1; color: $muted; padding: 0 0 0 1; }
    FieldRow .note { text-wrap: nowrap; text-overflow: ellipsis; }
    FieldRow .below { height: auto; padding: 0 0 0 18; display: none; }
    """

    class Changed(Message):
        """The text of a field has changed; "" means its default."""

        def __init__(self, row: FieldRow, text: str) -> None:
            super().__init__()
            self.row, self.text = row, text

    class Done(Message):
        """Enter was pressed in a field."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, spec: FieldSpec, text: str, *, placeholder: str = "", label: str = "") -> None:
        super().__init__(classes="-wide" if spec.kind in WIDE else f"-{spec.kind}")
        self.spec = spec
        self.control = _control(spec, text, placeholder)
        self.control.add_class("control")
        self._label = label or spec.label
        self._title = Canvas(classes="label")
        self._note = Static("", markup=False, classes="note")
        self._below = Canvas(classes="below")
        self._problems: Sequence[Problem] = ()
        self._wide_note = ""
        self._flagged = False
        self._mark = " "

    def compose(self) -> ComposeResult:
        with Horizontal(classes="line"):
            yield self._title
            yield self.control
            if self.spec.kind == "number":
                yield Static(self.spec.unit, markup=False, classes="unit")
            if not self.has_class("-wide"):
                yield self._note
        yield self._below

    @property
    def entry(self) -> Control | TextLine:
        """The widget that gets the focus."""
        return self.control.query(TextLine).first() if isinstance(self.control, LineList) else self.control

    def show(self, text: str, *, note: str, problems: Sequence[Problem], changed: bool) -> None:
        """Show the field's text, its note, its problems, and whether it differs from its default."""
        # A line that is being typed in is ahead of the draft; a choice is not.
        if not self.has_focus_within or isinstance(self.control, ChoiceRow):
            self.control.show_text(text)
        self._mark = "*" if changed else " "
        self._show_title(here=self.has_focus_within)
        if self.has_class("-wide"):
            self._wide_note = note
        else:
            self._note.update(note, layout=False)
        self._problems = problems
        self._show_below()

    def flag(self) -> None:
        """Show the problems even while the field has the focus, until it is edited."""
        self._flagged = True
        self._show_below()

    def on_edited(self, message: Edited) -> None:
        message.stop()
        self._flagged = False
        self.post_message(self.Changed(self, message.text))

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        self.post_message(self.Done(self))

    def on_descendant_focus(self) -> None:
        self._show_title(here=True)
        self._show_below()

    def on_descendant_blur(self) -> None:
        self._show_title(here=False)
        self._show_below()

    def _show_title(self, *, here: bool) -> None:
        self._title.draw([[(self._mark, "accent"), (f" {self._label}", "b" if here else "")]])

    def on_resize(self) -> None:
        self._show_below()

    def _show_below(self) -> None:
        typing = self.has_focus_within and isinstance(self.control, TextLine | LineList) and not self._flagged
        width = max(20, self.size.width - 20)
        lines: list[Line] = []
        shown = self._problems if not typing else ()
        for problem in shown[:MOST_PROBLEMS]:
            lines += problem_lines(problem, width)
        if len(shown) > MOST_PROBLEMS:
            lines.append([("  ", ""), (f"and {len(shown) - MOST_PROBLEMS} more, listed in the last step", "muted")])
        if self._wide_note and not any(problem.severity == "error" for problem in self._problems):
            lines.insert(0, [(self._wide_note, "muted")])
        self._below.draw(lines)
        self._below.display = bool(lines)


def problem_lines(problem: Problem, width: int) -> list[Line]:
    """A problem in lines of at most `width` cells, with the mark of its severity."""
    letter, style = MARKS[problem.severity]
    return marked(f"{letter} ", problem.sentence, style, width - 2)


def _control(spec: FieldSpec, text: str, placeholder: str) -> Control:
    match spec.kind:
        case "choice":
            return ChoiceRow(spec.choices, text or spec.text_of(spec.default))
        case "flags":
            return Flags(spec.choices, text or spec.text_of(spec.default))
        case "lines":
            return LineList(text or spec.text_of(spec.default), placeholder="add another")
        case _:
            shown = placeholder or as_default(spec.text_of(spec.default) or "none")
            return TextLine(text, placeholder=shown, path=spec.kind == "path", folders=spec.name in FOLDERS)
