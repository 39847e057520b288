"""What all screens share: the interface of the app, and the handling of errors in worker threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from ti_tui.crash import write_crash
from ti_tui.screens.ordered_input import OrderedInput
from ti_tui.widgets.key_line import KeyLine

if TYPE_CHECKING:
    from ti_tui.run.folder import RunFolder
    from ti_tui.settings import Settings
    from ti_tui.setup.draft import Draft
    from ti_tui.widgets.graphics import Protocol
    from ti_tui.widgets.picture import PictureCache

NARROW = 100
"""Screens with fewer columns use a reduced layout."""


class BaseApp(OrderedInput, inherit_bindings=False):
    """The interface of the app for its screens, which cannot import the app itself, since it imports them.

    config:   the settings.
    images:   how this terminal shows images.
    pictures: a cache of decoded images.
    draft:    what the wizard starts with instead of offering the saved draft; None once its run was made.
    crash:    the file with the details, after a crash.
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
        """The wizard made `run`: show its dashboard, and start the next wizard empty."""
        raise NotImplementedError

    def copy(self, text: str, what: str) -> None:
        """Copy `text` to the terminal's clipboard (OSC 52); in tmux, say which setting that needs."""
        self.copy_to_clipboard(text)
        hint = "\nIn tmux this needs: set -s set-clipboard on" if os.environ.get("TMUX") else ""
        self.notify(f"Copied {what}:\n{text}{hint}", timeout=6, markup=False)


class AppAccess(MessagePump):
    """For screens and panes that use ti_tui's own parts of the app."""

    @property
    def ti_tui(self) -> BaseApp:
        """The app: its settings, and how it draws images."""
        return cast(BaseApp, self.app)


class WorkerErrors(MessagePump):
    """For screens and panes with threads: an error in one is written to a file and shown, and the app continues.

    Textual reports a worker's state only to the screen or widget that started it.
    """

    def worker_failed(self, error: Exception, details: str) -> None:
        """A thread ended with `error`; `details` is a sentence that says where the traceback is."""
        raise NotImplementedError

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        error = event.worker.error
        if event.state is WorkerState.ERROR and isinstance(error, Exception):
            path = write_crash(error)
            self.worker_failed(error, f"The details are in {path}" if path else "The details could not be written.")


def fit_key_line(screen: Screen[Any]) -> bool:
    """Make the line of keys compact on a narrow screen; returns whether the screen is narrow."""
    narrow = screen.size.width < NARROW
    screen.query_one(KeyLine).compact = narrow
    return narrow
