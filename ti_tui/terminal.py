"""The one way out to a terminal, a pipe or the trainer's log: every line is made harmless here.

Names, captions, model files and logs come from anywhere. Escape codes in them could set the clipboard or the title,
rewrite lines above, or (bidirectional controls) show another text than is there.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Literal

from ti_tui.formatting import printable

LabelColour = Literal["red", "yellow", "cyan"]


def line(text: object = "", *, label: str = "", colour: LabelColour | None = None, err: bool = False) -> None:
    """Print `text`, with control characters escaped; its line ends stay.

    label: printed before it with a colon, in `colour` where colours are shown.
    """
    # Imported here: the trainer writes lines too, and need not load click for plain ones.
    import click

    before = f"{click.style(f'{label}:', fg=colour)} " if label else ""
    click.echo(before + harmless(str(text)), err=err)


def error(text: object) -> None:
    """Print `text` on stderr at once, as `line` does; for processes whose stderr is a log. A full disk loses it."""
    with contextlib.suppress(OSError):
        print(harmless(str(text)), file=sys.stderr, flush=True)


class RewrittenLine:
    """A line on stderr that is drawn over again, for progress on a terminal."""

    def __init__(self) -> None:
        self._width = 0

    def draw(self, text: str) -> None:
        """Show `text` instead of what was drawn before."""
        text = harmless(text)
        print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def clear(self) -> None:
        """Leave an empty line, if anything was drawn."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def harmless(text: str) -> str:
    """`printable` for a text of several lines."""
    return "\n".join(printable(part) for part in text.split("\n"))
