"""Dialogs of the caption review: find and replace, prefix and suffix, saved phrases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from ti_tui.captions.phrases import MOST
from ti_tui.dataset.caption_edits import Replaced, ReplaceError, Replacement, replace_in
from ti_tui.formatting import number, printable, wrapped
from ti_tui.screens.dialogs import FormDialog, labelled
from ti_tui.screens.review.listing import common_start
from ti_tui.widgets.canvas import Canvas, Line, cut
from ti_tui.widgets.controls import ChoiceRow, EditingFinished, Flags, TextLine, as_example

WHOLE, IGNORE, REGEX = "whole word", "ignore case", "regex"
EXAMPLES = 3


Scopes = Mapping[str, Mapping[str, str]]
"""What a change of many can be made to: captions by name, by a label: `all 23`, `the 9 shown`, `this one`."""


class ReplaceDialog(FormDialog[dict[str, str] | None]):
    """Find and replace. Shows the outcome while typing; returns the changed captions by name."""

    BINDINGS = [Binding("ctrl+r", "replace", "Replace", show=False, priority=True)]

    def __init__(self, scopes: Scopes, find: str = "", options: str = "") -> None:
        super().__init__("Find and replace", keys="enter replace   tab next   space tick   esc back")
        self._scopes, self._find, self._options = scopes, find, options
        self._found = Replaced({}, 0)

    def body(self) -> ComposeResult:
        yield labelled("Find", TextLine(self._find, id="find"))
        yield Canvas(id="wrong")
        yield labelled("Replace with", TextLine(placeholder="leave empty to delete", id="replacement"))
        yield labelled("", Flags((WHOLE, IGNORE, REGEX), self._options, id="options"))
        yield labelled("In", ChoiceRow(tuple(self._scopes), next(iter(self._scopes)), id="scope"))
        yield Canvas(id="found")
        yield Canvas(id="examples")

    def on_mount(self) -> None:
        self.query_one("#replacement" if self._find else "#find").focus()

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        if message.source.id == "find":
            self.query_one("#replacement").focus()
        else:
            self.action_replace()

    def action_replace(self) -> None:
        self.show_outcome()
        if self._found.changed:
            self.dismiss(dict(self._found.changed))

    def _replacement(self) -> Replacement:
        ticked = self.query_one("#options", Flags).text
        return Replacement(
            self.query_one("#find", TextLine).value,
            self.query_one("#replacement", TextLine).value,
            whole_word=WHOLE in ticked,
            ignore_case=IGNORE in ticked,
            regex=REGEX in ticked,
        )

    def show_outcome(self) -> None:
        captions = self._scopes[self.query_one("#scope", ChoiceRow).text]
        replacement, wrong, found = self._replacement(), "", Replaced({}, 0)
        try:
            found = replace_in(captions, replacement)
        except ReplaceError as error:
            wrong = error.sentence
        self._found = found
        width = max(20, self.query_one("#examples").size.width)
        self.query_one("#wrong", Canvas).draw([[("! ", "error b"), (cut(wrong, width - 16), "error")] if wrong else []])
        text = f"{number(found.places, 'place')} in {number(len(found.changed), 'caption')}" if found.places else ""
        if replacement.find and not found.places and not wrong:
            text = "not found"
        self.query_one("#found", Canvas).draw([[(text, "b")]])
        lines: list[Line] = []
        for name, new in list(found.changed.items())[:EXAMPLES]:
            old = captions[name]
            start = common_start(old, new)
            lines.append([("- ", "muted"), (_around(old, start, width - 2), "muted")])
            lines.append([("+ ", "accent"), (_around(new, start, width - 2) if new else "no caption", "")])
        # The dialog keeps its height while typing.
        lines += [[]] * (2 * EXAMPLES - len(lines))
        self.query_one("#examples", Canvas).draw(lines)


class FrameDialog(FormDialog[tuple[str, str] | None]):
    """Prefix and suffix of all captions. reads: the prompt of the current image, with a prefix and a suffix."""

    def __init__(self, prefix: str, suffix: str, reads: Callable[[str, str], str]) -> None:
        super().__init__(
            "Prefix and suffix of all captions",
            "They are added to every caption when the run is made, and never twice. The captions themselves are not "
            "changed; empty fields remove them again.",
            keys="enter accept   tab next   esc back",
        )
        self._prefix, self._suffix, self._reads = prefix, suffix, reads

    def body(self) -> ComposeResult:
        yield labelled("Prefix", TextLine(self._prefix, placeholder=as_example("photograph,"), id="prefix"))
        yield labelled("Suffix", TextLine(self._suffix, placeholder=as_example(", in black and white"), id="suffix"))
        yield Canvas(id="reads")

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        self.dismiss(self._typed())

    def _typed(self) -> tuple[str, str]:
        return self.query_one("#prefix", TextLine).value, self.query_one("#suffix", TextLine).value

    def show_outcome(self) -> None:
        canvas = self.query_one("#reads", Canvas)
        parts = wrapped(f"the model will read: {self._reads(*self._typed())}", max(20, canvas.size.width))[:3]
        canvas.draw([[(part, "muted")] for part in [*parts, "", "", ""][:3]])


class PhrasesDialog(FormDialog[int | None]):
    """The nine phrases: a digit chooses one, enter edits one. phrases: changed in place; keep: saves them."""

    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("escape", "leave", "Back", show=False),
        Binding("up", "move(-1)", "Up", show=False, priority=True),
        Binding("down", "move(1)", "Down", show=False, priority=True),
        Binding("enter", "change", "Change", show=False, priority=True),
    ]

    def __init__(self, phrases: list[str], keep: Callable[[], None], *, chosen: str = "") -> None:
        super().__init__("Phrases")
        self._phrases, self._keep, self._chosen = phrases, keep, chosen
        self._at = next((at for at, phrase in enumerate(phrases) if not phrase), 0) if chosen else 0
        self._typing = False

    def body(self) -> ComposeResult:
        yield Canvas(id="phrases")
        yield labelled("", TextLine(id="phrase"))

    def on_mount(self) -> None:
        self.query_one(".line").display = False

    def on_key(self, event: events.Key) -> None:
        digit = event.character or ""
        if not self._typing and digit in "123456789" and digit:
            event.stop()
            at = int(digit) - 1
            if self._phrases[at]:
                self.dismiss(at)
            else:
                self._at = at
                self.action_change()

    def action_move(self, by: int) -> None:
        if not self._typing:
            self._at = (self._at + by) % MOST
            self.show_outcome()

    def action_change(self) -> None:
        line = self.query_one("#phrase", TextLine)
        if self._typing:
            self._phrases[self._at] = line.value
            self._keep()
            self.set_focus(None)
        else:
            line.show_text(self._phrases[self._at] or self._chosen)
            line.cursor_position = len(line.value)
            line.focus()
        self._typing = not self._typing
        self.show_outcome()

    def action_leave(self) -> None:
        if self._typing:
            self._typing = False
            self.set_focus(None)
            self.show_outcome()
        else:
            self.dismiss(None)

    def show_outcome(self) -> None:
        canvas = self.query_one("#phrases", Canvas)
        lines: list[Line] = []
        for at, phrase in enumerate(self._phrases):
            here = at == self._at
            text = cut(printable(phrase), max(10, canvas.size.width - 6)) if phrase else "-"
            lines.append([
                ("▌ " if here else "  ", "accent"), (f"{at + 1}  ", "accent" if phrase else "muted"),
                (text, "b" if here else "" if phrase else "muted"),
            ])  # fmt: skip
        canvas.draw(lines)
        self.query_one(".line").display = self._typing
        self.query_one(".label", Static).update(f"Phrase {self._at + 1}")
        keys = "1…9 add to the caption   enter edit   esc back"
        self.query_one("#keys", Static).update("enter save   esc back" if self._typing else keys)


def _around(text: str, at: int, width: int) -> str:
    """`text` cut to `width` cells so that the position `at` is visible."""
    text = printable(text)
    if cell_len(text) <= width or at < width // 2:
        return cut(text, width)
    start = max(0, at - width // 3)
    return cut(f"…{text[start:]}", width)
