"""What the reviews of captions and of crops have in common: words that stay for a while, saving a moment later."""

from __future__ import annotations

from textual.timer import Timer

from ti_tui.screens.base import AppAccess

SAVE_SECONDS = 0.8
SAID_SECONDS = 6.0


class ReviewBase(AppAccess):
    """Goes before `Screen`. said: what `say` was given last, "" once it has stood long enough."""

    said = ""
    _saying: Timer | None = None
    _unsaved: Timer | None = None

    def show_said(self) -> None:
        """Show `said`."""
        raise NotImplementedError

    def save_changes(self) -> None:
        """Bring what was changed to the disk."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Say something below the picture, for a while; "" takes it away."""
        self.said = text
        if self._saying is not None:
            self._saying.stop()
            self._saying = None
        if text:
            self._saying = self.set_timer(SAID_SECONDS, lambda: self.say(""))
        self.show_said()

    def save_soon(self) -> None:
        """Save a moment from now: what changes until then is saved with it."""
        if self._unsaved is None:
            self._unsaved = self.set_timer(SAVE_SECONDS, self._save_now)

    def _save_now(self) -> None:
        self._unsaved = None
        self.save_changes()
