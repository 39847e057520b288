"""The base class of the caption review and the crop review: brief messages, and saving a moment later."""

from __future__ import annotations

from textual.timer import Timer

from ti_tui.screens.base import AppAccess

SAVE_SECONDS = 0.8
MESSAGE_SECONDS = 6.0


class ReviewBase(AppAccess):
    """A mixin to put before `Screen`. message_text: the last text given to `say`, "" once its time is over."""

    message_text = ""
    _message_timer: Timer | None = None
    _unsaved: Timer | None = None

    def show_message(self) -> None:
        """Show `message_text`."""
        raise NotImplementedError

    def save_changes(self) -> None:
        """Save the changes to disk."""
        raise NotImplementedError

    def keep(self) -> None:
        """Save everything, at the end."""
        self.save_changes()

    def ask_quit(self) -> None:
        """Leave: everything is saved, so there is nothing to ask."""
        self.keep()
        self.app.exit()

    def say(self, text: str) -> None:
        """Show a text below the image for a while; "" removes it."""
        self.message_text = text
        if self._message_timer is not None:
            self._message_timer.stop()
            self._message_timer = None
        if text:
            self._message_timer = self.set_timer(MESSAGE_SECONDS, lambda: self.say(""))
        self.show_message()

    def save_soon(self) -> None:
        """Save a moment from now, together with any changes until then."""
        if self._unsaved is None:
            self._unsaved = self.set_timer(SAVE_SECONDS, self._save_now)

    def _save_now(self) -> None:
        self._unsaved = None
        self.save_changes()
