"""The line in which a caption is typed, and keys that are taken in the order in which they are pressed."""

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


async def taken_in_turn(widget: Widget, event: events.Key) -> bool:
    """Do what a key is bound to, before the next key is looked at; False if it is not bound, or a letter to `widget`.

    Textual looks for bindings on a way of their own, and letters pressed right after the key overtake it: over a slow
    line, where they arrive together, what is typed after enter would go into the caption before.
    """
    top = widget.app.screen
    if not widget.has_focus or top is not widget.screen:
        # It was on its way here when the key before it moved the focus.
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
    """One line of text, wrapped: enter accepts it, and nothing can put a newline or an invisible letter into it."""

    # Some are the screen's too: the footer shows these while a caption is typed, and letters while not.
    BINDINGS = [
        Binding("enter", "screen.accept", "OK, next", key_display="enter", id="captions.accept",
                tooltip="Reviewed: go on with the next picture"),
        Binding("pagedown", "screen.move(1)", "Next picture", show=False, id="captions.next"),
        Binding("pageup", "screen.move(-1)", "Picture before", show=False, id="captions.previous"),
        Binding("ctrl+down", "screen.move(1)", "Move", key_display="pgup pgdn", id="captions.next-typing",
                tooltip="Another picture; ctrl+up and ctrl+down do it too"),
        Binding("ctrl+g", "screen.next_without", "Empty", id="captions.empty-typing",
                tooltip="Next picture without a caption"),
        Binding("ctrl+r", "screen.replace", "Replace", id="captions.replace-typing", tooltip="Find and replace"),
        Binding("ctrl+t", "screen.phrases", "Phrases", id="captions.phrases",
                tooltip="Saved phrases: put one in, change them"),
        Binding("escape", "screen.back", "List", key_display="esc", id="captions.back"),
    ]  # fmt: skip

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, highlight_cursor_line=False, placeholder="no caption yet: type one")
        # A blinking cursor is the one thing that would send bytes over SSH while nothing happens.
        self.cursor_blink = False

    def show(self, text: str) -> None:
        """Put another picture's caption, with the cursor at its end; what could be undone is forgotten."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def put(self, text: str) -> None:
        """Write `text` where the cursor is, as if it had been typed; behind a comma, unless one stands there."""
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
        if await taken_in_turn(self, event):
            return
        if event.key == "enter":
            # Bound anew by the user: here it does nothing.
            event.prevent_default()
            return
        await super()._on_key(event)


def on_one_line(text: str) -> str:
    """`text` to be put into a caption: newlines and tabs as spaces, nothing invisible; other spaces stay."""
    return without_invisible(_BREAKS.sub(" ", text))[0]
