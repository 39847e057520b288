"""A card in place of every screen while the terminal is too small for them; the app shows it, and it goes by itself."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Static

LEAST = Size(60, 18)
"""Columns and rows that every screen needs."""


class TooSmall(Screen[None]):
    """Says which size is needed. The screens below stay as they are, and get no keys."""

    DEFAULT_CSS = """
    TooSmall { align: center middle; padding: 0 1; }
    TooSmall Static { width: auto; max-width: 100%; height: auto; text-align: center; }
    """

    def compose(self) -> ComposeResult:
        yield Static("", markup=False)

    def on_mount(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def on_screen_resume(self) -> None:
        self._show()

    def _show(self) -> None:
        size = self.app.size
        if is_enough(size):
            if self.is_current:
                self.dismiss()
            return
        self.query_one(Static).update(
            f"ti_tui needs {LEAST.width} x {LEAST.height} cells;\nthis terminal has {size.width} x {size.height}.\n"
            "Make it larger: nothing is lost.\nctrl+q leaves"
        )


def is_enough(size: Size) -> bool:
    """Whether screens fit into a terminal of this size."""
    return size.width >= LEAST.width and size.height >= LEAST.height
