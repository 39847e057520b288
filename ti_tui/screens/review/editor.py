"""The editor of a caption, and the handling of keys in the order in which they are pressed."""

from __future__ import annotations

import re

from textual import events
from textual.binding import Binding
from textual.document._document import EditResult
from textual.document._edit import Edit
from textual.widget import Widget
from textual.widgets import TextArea

from ti_tui.dataset.caption_files import without_invisible

_BREAKS = re.compile(r"[^\S ]+")


async def handled_in_order(widget: Widget, event: events.Key) -> bool:
    """Run the action bound to a key before the next key is handled; False if it is not bound or is text for `widget`.

    Textual handles bindings separately from text, so that letters typed right after a bound key can overtake it: over
    a slow connection, text typed after enter would go into the previous caption.
    """
    top = widget.app.screen
    if not widget.has_focus or top is not widget.screen:
        # The previous key moved the focus while this key was on its way here.
        event.stop()
        event.prevent_default()
        (top.focused or top)._forward_event(events.Key(event.key, event.character))
        return True
    if widget.check_consume_key(event.key, event.character):
        return False
    active = widget.screen.active_bindings.get(event.key)
    if active is None or not active.enabled or active.node not in (widget, widget.screen):
        return False
    if not await widget.app.run_action(active.binding.action, active.node):
        return False
    event.stop()
    event.prevent_default()
    return True


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
        if await handled_in_order(self, event):
            return
        if event.key == "enter":
            # The user has rebound enter: here it does nothing.
            event.prevent_default()
            return
        await super()._on_key(event)


def on_one_line(text: str) -> str:
    """`text` for a caption: newlines and tabs become spaces, invisible characters are removed; other spaces stay."""
    return without_invisible(_BREAKS.sub(" ", text))[0]
