"""What all screens share: the app as they know it, and what becomes of an error in one of their threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual.app import App
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from ti_tui.crash import write_crash

if TYPE_CHECKING:
    from ti_tui.run.folder import RunFolder
    from ti_tui.settings import Settings
    from ti_tui.setup.draft import Draft
    from ti_tui.widgets.graphics import Protocol
    from ti_tui.widgets.picture import PictureCache

NARROW = 100
"""Below so many columns a screen does with less."""


class BaseApp(App[None], inherit_bindings=False):
    """The app as the screens know it, so that none of them imports the app itself, which imports them all.

    config:   the settings.
    images:   how this terminal shows pictures.
    pictures: the pictures that were decoded already.
    draft:    what the wizard begins with, if it is not to offer the draft that was left; None once its run was made.
    crash:    the file that says what went wrong, once something did.
    """

    config: Settings
    images: Protocol
    pictures: PictureCache
    draft: Draft | None
    crash: Path | None

    def open_run(self, run: RunFolder) -> None:
        """Show the dashboard of `run`."""
        raise NotImplementedError

    def made_run(self, run: RunFolder) -> None:
        """A run came out of the wizard: show it, and let the next wizard begin anew."""
        raise NotImplementedError

    def copy(self, text: str, what: str) -> None:
        """Put `text` on the clipboard of the terminal (OSC 52), and say what may keep it from arriving."""
        self.copy_to_clipboard(text)
        hint = "\nIn tmux this needs: set -s set-clipboard on" if os.environ.get("TMUX") else ""
        self.notify(f"Copied {what}:\n{text}{hint}", timeout=6, markup=False)


class AppAccess(MessagePump):
    """For screens and panes that use more of the app than Textual's own part."""

    @property
    def ti_tui(self) -> BaseApp:
        """The app: its settings, and how it draws pictures."""
        return cast(BaseApp, self.app)


class WorkerErrors(MessagePump):
    """For screens and panes with threads: an error in one is written to a file and said, and the program goes on.

    Textual tells a worker's state to the screen or widget that started it, and to no other.
    """

    def worker_failed(self, error: Exception, details: str) -> None:
        """A thread ended with `error`; `details` is a sentence that says where its traceback is."""
        raise NotImplementedError

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        error = event.worker.error
        if event.state is WorkerState.ERROR and isinstance(error, Exception):
            path = write_crash(error)
            self.worker_failed(error, f"The details are in {path}" if path else "The details could not be written.")


def fit_footer(screen: Screen[Any]) -> bool:
    """Put the keys of the footer close together on a narrow screen; whether it is one."""
    footer, narrow = screen.query_one(Footer), screen.size.width < NARROW
    # Each change goes through every key of the footer.
    if footer.compact != narrow:
        footer.compact = narrow
    return narrow
