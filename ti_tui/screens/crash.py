"""The screen after a crash of ti_tui: what happened, where the details are, how to continue."""

from __future__ import annotations

import os
from pathlib import Path

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Footer, Static

from ti_tui import bounded, settings
from ti_tui.themes import few_colours, shipped_and_own, variable_defaults


class CrashApp(App[None], inherit_bindings=False):
    """Explains what happened. `again` is set if the user wants to continue."""

    CSS_PATH = "app.tcss"
    CSS = """
    CrashApp Vertical.dialog { margin: 2 4; border-left: thick $error; }
    Footer, FooterKey { background: $background; }
    FooterKey .footer-key--key { color: $accent; background: $background; }
    FooterKey .footer-key--description { color: $muted; }
    FooterKey:hover { background: $selected; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [
        Binding("enter,r", "again", "Continue"),
        Binding("c", "copy", "Copy the path"),
        Binding("q,escape,ctrl+q,ctrl+c", "quit", "Leave"),
    ]

    def __init__(self, details: Path) -> None:
        super().__init__()
        self.again = False
        self._details = details
        for theme in shipped_and_own().themes:
            self.register_theme(theme)
        self.theme = settings.FEW_COLOURS_THEME if few_colours(os.environ) else settings.DEFAULT_THEME

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("ti_tui has crashed", classes="dialog-title", markup=False)
            yield Static(last_line(self._details), classes="dialog-text", markup=False)
            yield Static(
                "Nothing is lost: a running training continues, and the wizard's draft is saved.\n"
                f"The details are in {self._details}; please report them.",
                classes="dialog-text",
                markup=False,
            )
        # Textual's, and not our line of keys: what has crashed may be that.
        yield Footer(show_command_palette=False)

    def action_again(self) -> None:
        self.again = True
        self.exit()

    def action_copy(self) -> None:
        self.copy_to_clipboard(str(self._details))
        self.notify(f"Copied {self._details}", markup=False)


def last_line(details: Path) -> str:
    """The error message: the last line of the traceback in the file."""
    try:
        lines = bounded.read_end(details).strip().splitlines()
    except OSError:
        return "The details could not be written."
    return lines[-1][:300] if lines else ""
