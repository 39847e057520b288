"""The last line of a screen: the keys that work now, each with a word for what it does; a click presses a key."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.reactive import reactive

from ti_tui.widgets.canvas import Canvas, Piece

ALWAYS = frozenset({"help", "app.help", "quit", "app.quit", "back", "screen.back", "dismiss(None)"})
"""Actions of the keys that stand in the line however narrow it is: help, and the way out."""


@dataclass(frozen=True)
class ShownKey:
    """A key as it is shown. key: as the app calls it; name: as people do; word: what it does."""

    key: str
    name: str
    word: str
    tooltip: str
    action: str


class KeyLine(Canvas):
    """Keys that do not fit are in the help, and are reached with the mouse wheel.

    needed:  actions of the keys that are shown before others where not all of them fit.
    compact: with less room between the keys.

    All keys are one line of text: Textual's Footer has a widget for each key and makes them all anew whenever the
    focus moves, which takes longer than everything else that the key does.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; pointer: pointer; }"

    compact = reactive(False)

    def __init__(self, needed: Collection[str] = ()) -> None:
        super().__init__()
        self._needed = needed
        self._keys: tuple[ShownKey, ...] = ()
        self._first = 0
        self._under_mouse: ShownKey | None = None

    def on_mount(self) -> None:
        super().on_mount()
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_updated)

    def watch_compact(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if key := self._key_at(event.x):
            self.app.simulate_key(key.key)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._point_at(self._key_at(event.x))

    def on_leave(self) -> None:
        self._point_at(None)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        if not set(self._others) <= set(self._shown):
            self._first += 1
            self._show()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._first = max(0, self._first - 1)
        self._show()

    def _bindings_updated(self, _screen: object) -> None:
        # Which keys work depends on what is being done now: look after it.
        self.call_after_refresh(self._look)

    def _look(self) -> None:
        """Show the keys that work now."""
        if not self.is_attached:
            # The screen was left before it was drawn.
            return
        found: dict[str, ShownKey] = {}
        for _, binding, enabled, tooltip in self.screen.active_bindings.values():
            if binding.show and enabled:
                shown = ShownKey(
                    binding.key, self.app.get_key_display(binding), binding.description, tooltip, binding.action
                )
                found.setdefault(binding.action, shown)
        keys = tuple(found.values())
        if keys != self._keys:
            self._keys, self._first, self._under_mouse = keys, 0, None
            self._show()

    def _show(self) -> None:
        line: list[Piece] = []
        for key in self._shown:
            line += [(" ", "")] if line and self.compact else []
            line += self._pieces(key)
        self.draw([line])

    @property
    def _shown(self) -> tuple[ShownKey, ...]:
        """The keys that fit, in their order."""
        always = [key for key in self._keys if key.action in ALWAYS]
        others = self._others
        # The last key needs no room behind it.
        room = self.size.width + self.compact - sum(map(self._width, always))
        if not self._first and sum(map(self._width, others)) > room:
            others.sort(key=lambda key: key.action not in self._needed)
        shown = set(always)
        for key in others:
            room -= self._width(key)
            if room < 0 and self.size.width:
                break
            shown.add(key)
        return tuple(key for key in self._keys if key in shown)

    @property
    def _others(self) -> list[ShownKey]:
        """The keys that may be left out, from the one that the wheel has reached."""
        return [key for key in self._keys if key.action not in ALWAYS][self._first :]

    def _pieces(self, key: ShownKey) -> list[Piece]:
        on = " on-selected" if key == self._under_mouse else ""
        name, word = (key.name, f" {key.word}") if self.compact else (f" {key.name} ", f"{key.word} ")
        return [(name, f"accent b{on}"), (word, f"muted{on}")]

    def _width(self, key: ShownKey) -> int:
        return sum(cell_len(text) for text, _ in self._pieces(key)) + self.compact

    def _key_at(self, x: int) -> ShownKey | None:
        for key in self._shown:
            x -= self._width(key)
            if x < 0:
                return key
        return None

    def _point_at(self, key: ShownKey | None) -> None:
        if key != self._under_mouse:
            self._under_mouse = key
            self.tooltip = key.tooltip or None if key else None
            self._show()
