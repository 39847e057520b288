"""The controls of a form: a text line with path completion, a choice, ticks, several lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from ti_tui.paths import pasted_path
from ti_tui.widgets.canvas import FocusCanvas, Piece


class Edited(Message):
    """The text of a control has changed."""

    def __init__(self, source: Control, text: str) -> None:
        super().__init__()
        self.source, self.text = source, text


class EditingFinished(Message):
    """Enter was pressed: go to the next field."""

    def __init__(self, source: Control) -> None:
        super().__init__()
        self.source = source


def as_default(text: str) -> str:
    """How an empty line shows the value that is used."""
    return f"{text} (default)"


def as_example(text: str) -> str:
    """How an empty line shows what could be typed."""
    return f"e.g. {text}"


class TextLine(Input):
    """A one-line text input without a frame."""

    BINDINGS = [Binding("ctrl+u", "clear_line", "Clear", show=False, id="field.clear")]

    def __init__(
        self,
        text: str = "",
        *,
        placeholder: str = "",
        path: bool = False,
        folders: bool = False,
        joiner: str = " ",
        id: str | None = None,
    ) -> None:
        suggester = PathSuggester(folders=folders) if path else None
        super().__init__(text, placeholder=placeholder, compact=True, select_on_focus=False, suggester=suggester, id=id)
        # A blinking cursor would send bytes over SSH even while nothing happens.
        self.cursor_blink = False
        self._joiner = joiner

    @property
    def text(self) -> str:
        return self.value

    def show_text(self, text: str) -> None:
        """Set the text without an `Edited` message; the cursor stays if the text is the same."""
        if text != self.value:
            with self.prevent(Input.Changed):
                self.value = text

    def action_clear_line(self) -> None:
        self.value = ""

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(Edited(self, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(EditingFinished(self))

    def on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        if isinstance(self.suggester, PathSuggester):
            # Files dropped on a terminal arrive as quoted paths, often followed by a newline.
            self.insert_text_at_cursor(pasted_path(event.text))
        else:
            lines = [line.strip() for line in event.text.splitlines() if line.strip()]
            self.insert_text_at_cursor(self._joiner.join(lines) if len(lines) > 1 else event.text.strip("\r\n"))

    def on_focus(self) -> None:
        # A text that was set before has no suggestion yet.
        if self.suggester is not None and self.value:
            self.run_worker(self.suggester._get_suggestion(self, self.value), exit_on_error=False)


class PathSuggester(Suggester):
    """Completes a path with the first matching name in its folder; folders end with a slash."""

    def __init__(self, *, folders: bool = False) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._folders = folders

    async def get_suggestion(self, value: str) -> str | None:
        # A disk may be slow, and typing must not wait for it.
        return await asyncio.to_thread(complete_path, value, folders=self._folders)


def complete_path(text: str, *, folders: bool = False) -> str | None:
    """`text` completed to the first matching name in its folder; None if there is none. folders: only folders."""
    head, slash, start = text.rpartition("/")
    if not slash:
        return "~/" if text == "~" else None
    try:
        folder = Path(f"{head}/").expanduser()
        entries = sorted(
            (f"{entry.name}/" if entry.is_dir() else entry.name)
            for entry in folder.iterdir()
            if entry.name.startswith(start)
            and (start or not entry.name.startswith("."))
            and (not folders or entry.is_dir())
        )
    except (OSError, RuntimeError, ValueError):
        return None
    return f"{head}/{entries[0]}" if entries and entries[0] != start else None


class ChoiceRow(FocusCanvas):
    """A choice between a few words, in as many rows as they need; left and right choose."""

    DEFAULT_CSS = "ChoiceRow { width: 1fr; }"

    BINDINGS = [
        Binding("left", "move(-1)", "Other value", show=False),
        Binding("right,space", "move(1)", "Other value", show=False),
        Binding("enter", "finish", "Next field", show=False),
    ]

    def __init__(self, choices: Sequence[str], chosen: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.choices = tuple(choices)
        self.text = chosen

    def show_text(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.redraw()

    def action_move(self, by: int) -> None:
        at = self.choices.index(self.text) if self.text in self.choices else -by
        self._choose(self.choices[(at + by) % len(self.choices)])

    def action_finish(self) -> None:
        self.post_message(EditingFinished(self))

    def on_click(self, event: events.Click) -> None:
        left, rows = 0, self._rows()
        for choice in rows[event.y] if event.y < len(rows) else []:
            left += _room_of(choice)
            if event.x < left:
                self._choose(choice)
                return

    def _choose(self, choice: str) -> None:
        self.text = choice
        self.redraw()
        self.post_message(Edited(self, choice))

    def redraw(self) -> None:
        self.draw([[piece for choice in row for piece in self._pieces(choice)] for row in self._rows()])

    def _rows(self) -> list[list[str]]:
        """The choices by rows, as many in each as fit."""
        rows: list[list[str]] = [[]]
        for choice in self.choices:
            used = sum(map(_room_of, [*rows[-1], choice])) - len(BETWEEN)
            if rows[-1] and self.size.width and used > self.size.width:
                rows.append([])
            rows[-1].append(choice)
        return rows

    def _pieces(self, choice: str) -> list[Piece]:
        chosen = choice == self.text
        # The brackets mark the choice where there are no colours.
        around = "()" if chosen else "  "
        style = ("accent b" if self.has_focus else "b") if chosen else "muted"
        return [(f"{around[0]}{choice}{around[1]}", style), (BETWEEN, "")]


BETWEEN = "  "
"""Stands between the choices of a row."""


def _room_of(choice: str) -> int:
    return len(choice) + 2 + len(BETWEEN)


class Flags(FocusCanvas):
    """Ticks for a few words; left and right move, space ticks."""

    BINDINGS = [
        Binding("left", "move(-1)", "Move", show=False),
        Binding("right", "move(1)", "Move", show=False),
        Binding("space", "tick", "Tick", show=False),
        Binding("enter", "finish", "Next field", show=False),
    ]

    def __init__(self, choices: Sequence[str], ticked: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.choices = tuple(choices)
        self._ticked = {part.strip() for part in ticked.split(",")}
        self._at = 0

    @property
    def text(self) -> str:
        return ", ".join(choice for choice in self.choices if choice in self._ticked)

    def show_text(self, text: str) -> None:
        self._ticked = {part.strip() for part in text.split(",")}
        self.redraw()

    def action_move(self, by: int) -> None:
        self._at = (self._at + by) % len(self.choices)
        self.redraw()

    def action_tick(self) -> None:
        self._ticked ^= {self.choices[self._at]}
        self.redraw()
        # A comma means that nothing is ticked: "" would mean the default.
        self.post_message(Edited(self, self.text or ","))

    def action_finish(self) -> None:
        self.post_message(EditingFinished(self))

    def redraw(self) -> None:
        line: list[tuple[str, str]] = []
        for index, choice in enumerate(self.choices):
            mark = "✓" if choice in self._ticked else " "
            here = self.has_focus and index == self._at
            line += [(f"[{mark}] {choice}", "accent b" if here else "" if mark == "✓" else "muted"), ("  ", "")]
        self.draw([line])


class LineList(Vertical):
    """Several texts, one per line; an empty line below adds another."""

    DEFAULT_CSS = "LineList { height: auto; }"

    def __init__(self, text: str, *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(id=id)
        self._texts = [line for line in text.splitlines() if line.strip()]
        self._placeholder = placeholder

    @property
    def text(self) -> str:
        return "\n".join(line.value for line in self.query(TextLine) if line.value.strip())

    def compose(self) -> ComposeResult:
        for line in [*self._texts, ""]:
            yield TextLine(line, placeholder=self._placeholder)

    def show_text(self, text: str) -> None:
        if text == self.text:
            return
        texts = [line for line in text.splitlines() if line.strip()]
        lines = list(self.query(TextLine))
        # Existing lines are kept, so that the cursor stays where it is.
        for line, words in zip(lines, [*texts, ""], strict=False):
            line.show_text(words)
        for line in lines[len(texts) + 1 :]:
            line.remove()
        for words in texts[len(lines) :]:
            self.mount(TextLine(words, placeholder=self._placeholder))
        if len(lines) <= len(texts):
            self.mount(TextLine(placeholder=self._placeholder))

    def on_edited(self, message: Edited) -> None:
        if message.source is self:
            return
        message.stop()
        lines = list(self.query(TextLine))
        if lines and lines[-1].value.strip():
            self.mount(TextLine(placeholder=self._placeholder))
        self.post_message(Edited(self, self.text or "\n"))

    def on_editing_finished(self, message: EditingFinished) -> None:
        if message.source is self:
            return
        message.stop()
        self.post_message(EditingFinished(self))


Control = TextLine | ChoiceRow | Flags | LineList
"""Every control has `text` and `show_text`."""
