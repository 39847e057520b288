"""The title of the terminal's window or tab, as `zkz 42 % - 12 min`, while a dashboard is open."""

from __future__ import annotations

import os
from collections.abc import Callable

from ti_tui.formatting import printable

LONGEST = 60
SAVE, RESTORE = "\x1b[22;2t", "\x1b[23;2t"
"""xterm's stack of titles; terminals without it ignore both."""
WITHOUT = ("linux", "dumb", "vt", "ansi")
"""Kinds of terminals without a title, by the start of TERM: the console of Linux would print it."""


class TerminalTitle:
    """Writes a title when it changes, and restores the one before. write: sends text to the terminal as it is."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text`, made harmless: a name in it must not end the title's escape code and begin another."""
        text = printable(text)[:LONGEST]
        if text == self._shown:
            return
        self._write(f"{'' if self._shown else SAVE}\x1b]2;{text}\x07")
        self._shown = text

    def restore(self) -> None:
        """Bring back the title from before the first `show`."""
        if self._shown:
            self._write(RESTORE)
            self._shown = ""


def has_title() -> bool:
    """Whether the screens are shown on a terminal with a title: Textual writes them to stderr."""
    kind = os.environ.get("TERM", "")
    return bool(kind) and not kind.startswith(WITHOUT) and os.isatty(2)
