"""The editor of a caption."""

from __future__ import annotations

import re

from textual import events
from textual.binding import Binding
from textual.document._document import EditResult
from textual.document._edit import Edit
from textual.widgets import TextArea

from ti_tui.dataset.caption_files import without_invisible

_BREAKS = re.compile(r"[^\S ]+")


class CaptionEditor(TextArea):
    """One line of text, wrapped. Enter accepts it; newlines and invisible characters cannot get into it."""

    # The screen has some of them too: the footer shows these while typing, and those of the list otherwise.
    BINDINGS = [
        Binding("enter", "screen.accept", "OK, next", key_display="enter", id="captions.accept",
                tooltip="Mark as reviewed and go to the next image"),
        Binding("pagedown", "screen.move(1)", "Next image", show=False, id="captions.next"),
        Binding("pageup", "screen.move(-1)", "Previous image", show=False, id="captions.previous"),
        Binding("ctrl+down", "screen.move(1)", "Move", key_display="pgup pgdn", id="captions.next-typing",
                tooltip="Previous or next image; also ctrl+up and ctrl+down"),
        Binding("ctrl+g", "screen.next_without", "Empty", id="captions.empty-typing",
                tooltip="Next image without a caption"),
        Binding("ctrl+r", "screen.replace", "Replace", id="captions.replace-typing", tooltip="Find and replace"),
        Binding("ctrl+t", "screen.phrases", "Phrases", id="captions.phrases",
                tooltip="Saved phrases: add one, edit them"),
        Binding("escape", "screen.back", "List", key_display="esc", id="captions.back"),
    ]  # fmt: skip

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, highlight_cursor_line=False, placeholder="no caption yet: type one")
        # A blinking cursor would send bytes over SSH even while nothing happens.
        self.cursor_blink = False

    def show(self, text: str) -> None:
        """Show the caption of another image, with the cursor at its end, and clear the undo history."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def put(self, text: str) -> None:
        """Insert `text` at the cursor as if it was typed, after a comma unless there is one already."""
        start, end = sorted(self.selection)
        before = self.get_text_range((0, 0), start)
        comma = "" if not before.strip() or before.rstrip().endswith((",", ".")) else ","
        space = "" if not before or (before.endswith(" ") and not comma) else " "
        if comma and before.endswith(" "):
            start = (start[0], len(before.rstrip()))
        self._replace_via_keyboard(f"{comma}{space}{text}", start, end)

    def edit(self, edit: Edit) -> EditResult:
        edit.text = on_one_line(edit.text)
        return super().edit(edit)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            # A binding has it, or the user has bound that to another key: it never starts a new line.
            event.prevent_default()
            return
        await super()._on_key(event)


def on_one_line(text: str) -> str:
    """`text` for a caption: newlines and tabs become spaces, invisible characters are removed; other spaces stay."""
    return without_invisible(_BREAKS.sub(" ", text))[0]
