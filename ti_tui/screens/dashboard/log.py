"""The log screen: the end of trainer.log, then the events of the run, followed live."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import RichLog, Rule

from ti_tui.formatting import clock, location, printable
from ti_tui.monitoring.event_text import EventTail
from ti_tui.run.folder import RunFolder
from ti_tui.screens.base import AppAccess
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.key_line import KeyLine

TAIL_BYTES = 1 << 16


class LogScreen(AppAccess, Screen[None]):
    """The end of trainer.log when the screen was opened, then every event that is worth a line."""

    help_text = "What happened in this run, newest last. The files are log/events.jsonl and log/trainer.log."
    BINDINGS = [
        Binding("c", "copy", "Copy path", id="log.copy"),
        Binding("escape,q,l", "dismiss(None)", "Back", key_display="esc", id="log.close"),
    ]

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder
        self._tail = EventTail(folder.events)

    def compose(self) -> ComposeResult:
        yield Canvas(id="title")
        yield Rule(line_style="solid", classes="rule")
        yield RichLog(id="lines", max_lines=2000, wrap=True, markup=False, highlight=False)
        yield KeyLine()

    def on_mount(self) -> None:
        where = location(self._folder.log.parent)
        self.query_one("#title", Canvas).draw(
            [[(f" {printable(self._folder.name)}", "accent b"), (f"   log   {where}", "muted")]]
        )
        lines = self.query_one(RichLog)
        for line in last_lines(self._folder.log):
            lines.write(printable(line))
        lines.focus()
        self._follow()
        self.set_interval(1.0, self._follow)

    def action_copy(self) -> None:
        self.ti_tui.copy(str(self._folder.log), "the path of the log")

    def _follow(self) -> None:
        for t, text in self._tail.read():
            self.query_one(RichLog).write(f"{clock(t, '%H:%M:%S')}  {printable(text)}")


def last_lines(path: Path, most: int = 200) -> list[str]:
    """The last lines of a text file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").splitlines()[-most:]
    except OSError:
        return []
