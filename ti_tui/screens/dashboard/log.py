"""The log screen: the end of trainer.log, then the events of the run, followed live; / finds in them."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Rule

from ti_tui.formatting import clock, location, number, printable, wrapped
from ti_tui.monitoring.event_text import EventTail
from ti_tui.run.folder import RunFolder
from ti_tui.screens.base import AppAccess
from ti_tui.widgets.canvas import LEAST_WIDTH, Canvas, Line, Piece
from ti_tui.widgets.key_line import KeyLine

TAIL_BYTES = 1 << 16
MOST_LINES = 2000


class LogScreen(AppAccess, Screen[None]):
    """The end of trainer.log when the screen was opened, then every event that is worth a line."""

    AUTO_FOCUS = ""
    help_text = (
        "What happened in this run, newest last. New lines are followed until you scroll up or press f: then it is "
        "paused, and says so. / finds a text, n and N go to the next and the previous line that has it. The files "
        "are log/events.jsonl and log/trainer.log."
    )
    help_terms = ("verdict", "checkpoint", "sample", "request")
    BINDINGS = [
        Binding("slash", "find", "Find", key_display="/", id="log.find", tooltip="Find a text"),
        Binding("n", "next(1)", "Next", id="log.next", tooltip="The next line that has it"),
        Binding("N", "next(-1)", "Previous", show=False, id="log.previous", tooltip="The previous line that has it"),
        Binding("f", "follow", "Pause", id="log.follow", tooltip="Stop following new lines, or follow them again"),
        Binding("c", "copy", "Copy path", id="log.copy"),
        Binding("up,k", "scroll(-1)", "Scroll", show=False),
        Binding("down,j", "scroll(1)", "Scroll", show=False),
        Binding("pageup", "scroll(-15)", "Scroll", show=False),
        Binding("pagedown", "scroll(15)", "Scroll", show=False),
        Binding("home,g", "scroll(-999999)", "Start", show=False),
        Binding("end,G", "scroll(999999)", "End", show=False),
        Binding("escape", "back", "Back", key_display="esc", id="log.close"),
        Binding("q,l,z", "dismiss(None)", "Back", show=False),
    ]

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder
        self._tail = EventTail(folder.events)
        self._entries: list[str] = []
        self._at: int | None = None
        self._find = ""
        self._follows, self._missed = True, 0
        self._tops: list[int] = []

    def compose(self) -> ComposeResult:
        yield Canvas(id="title")
        yield Rule(line_style="solid", classes="rule")
        with VerticalScroll(id="lines", can_focus=False):
            yield Canvas(id="text")
        yield Input(placeholder="find", id="find", compact=True)
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(Input).display = False
        self._entries = [printable(line) for line in last_lines(self._folder.log)]
        self._read()
        self.set_interval(1.0, self._read)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self._find) if action == "next" else True

    def action_copy(self) -> None:
        self.ti_tui.copy(str(self._folder.log), "the path of the log")

    def action_back(self) -> None:
        """Leave the line of the search, then the search, then the screen."""
        if self._find or self.query_one(Input).display:
            self.query_one(Input).value = ""
            self._close_find()
        else:
            self.dismiss(None)

    def action_find(self) -> None:
        box = self.query_one(Input)
        box.display = True
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._find, self._at = event.value.casefold().strip(), None
        if self._find:
            self.action_next(1)
        self._show()

    def on_input_submitted(self) -> None:
        self._close_find()

    def action_next(self, by: int) -> None:
        """Go to another line that has the text, at first the newest; around at the ends."""
        found = [place for place, entry in enumerate(self._entries) if self._find in entry.casefold()]
        if not found:
            self._at = None
        elif self._at is None or self._at not in found:
            self._at = found[-1]
        else:
            self._at = found[(found.index(self._at) + by) % len(found)]
        self._set_follow(self._at is None)
        self._show()

    def action_follow(self) -> None:
        self._set_follow(not self._follows)
        self._show()

    def action_scroll(self, by: int) -> None:
        lines = self.query_one("#lines", VerticalScroll)
        lines.scroll_relative(y=by, animate=False, force=True)
        self._set_follow(lines.scroll_offset.y + by >= lines.max_scroll_y)
        self._show(moved=False)

    def on_mouse_scroll_up(self) -> None:
        self._set_follow(False)
        self._show(moved=False)

    def _close_find(self) -> None:
        self.query_one(Input).display = False
        self.set_focus(None)
        self.refresh_bindings()
        self._show()

    def _set_follow(self, follows: bool) -> None:
        self._follows, self._missed = follows, 0 if follows else self._missed

    def _read(self) -> None:
        new = [f"{clock(t, '%H:%M:%S')}  {printable(text)}" for t, text in self._tail.read()]
        if not new and self._tops:
            return
        gone = max(0, len(self._entries) + len(new) - MOST_LINES)
        self._entries = [*self._entries, *new][gone:]
        self._at = self._at - gone if self._at is not None and self._at >= gone else None
        self._missed += 0 if self._follows else len(new)
        self._show(moved=self._follows)

    def _show(self, *, moved: bool = True) -> None:
        """Draw the lines. moved: scroll to the newest, or to the one that was found."""
        lines, width = self.query_one("#lines", VerticalScroll), self.size.width - 3
        drawn: list[Line] = []
        self._tops = []
        for place, entry in enumerate(self._entries):
            self._tops.append(len(drawn))
            here = place == self._at
            drawn += [self._line(part, here=here) for part in wrapped(entry, max(LEAST_WIDTH, width))]
        self.query_one("#text", Canvas).draw(drawn)
        self.query_one("#title", Canvas).draw([self._title()])
        if moved and self._at is not None and self._at < len(self._tops):
            top = self._tops[self._at] - lines.size.height // 2
            self.call_after_refresh(lines.scroll_to, y=max(0, top), animate=False, force=True)
        elif moved and self._follows:
            self.call_after_refresh(lines.scroll_end, animate=False, force=True)

    def _line(self, text: str, *, here: bool) -> Line:
        """A line with what was found in it marked."""
        pieces: list[Piece] = [("▌" if here else " ", "accent")]
        rest, low = text, text.casefold()
        # A letter may change its length in casefold: then nothing is marked.
        while self._find and len(low) == len(rest) and (at := low.find(self._find)) >= 0:
            end = at + len(self._find)
            pieces += [(rest[:at], ""), (rest[at:end], "accent b r" if here else "accent b")]
            rest, low = rest[end:], low[end:]
        return [*pieces, (rest, "")]

    def _title(self) -> Line:
        where = location(self._folder.log.parent)
        title: list[Piece] = [(f" {printable(self._folder.name)}", "accent b"), (f"   log   {where}", "muted")]
        if self._find:
            found = [place for place, entry in enumerate(self._entries) if self._find in entry.casefold()]
            at = f"{found.index(self._at) + 1} of {len(found)}" if self._at in found else "nothing"
            title.append((f"   {at} with {self._find!r}", "" if found else "warning"))
        if not self._follows:
            title.append(("   paused", "warning b"))
            title.append((f", {number(self._missed, 'new line')}" if self._missed else "", "warning"))
        return title


def last_lines(path: Path, most: int = 200) -> list[str]:
    """The last lines of a text file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").splitlines()[-most:]
    except OSError:
        return []
