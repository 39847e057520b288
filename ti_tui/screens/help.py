"""Help: what a screen is for, and every key that works on it."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from ti_tui.screens.dialogs import Dialog

QUIET = frozenset(
    {
        "app.copy",
        "app.help-letter",
        *(f"wizard.step-{n}" for n in range(1, 7)),
        *(f"wizard.alt-step-{n}" for n in range(2, 7)),
    }
)
"""Keys that stand for another one, or that everybody knows."""


class HelpScreen(Dialog[None]):
    """Shows `help_text()` of the screen below, and its keys."""

    BINDINGS = [Binding("escape,q,f1,question_mark,enter", "dismiss(None)", "Back", show=False, priority=True)]

    DEFAULT_CSS = """
    HelpScreen .dialog { width: 92; }
    HelpScreen VerticalScroll { height: auto; max-height: 1fr; }
    HelpScreen .body { height: auto; }
    """

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__("Help", keys="esc back")
        words = getattr(below, "help_text", None)
        self._about = words() if words is not None else ""
        self._keys_below = _keys_of(below)

    def body(self) -> ComposeResult:
        width = max((len(key) for key, _ in self._keys_below), default=0)
        rows = [
            Content.assemble((f"{key:<{width}}   ", "$accent"), Content(f"{text}\n")) for key, text in self._keys_below
        ]
        with VerticalScroll():
            if self._about:
                yield Static(self._about, classes="dialog-text", markup=False)
            yield Static(Content("").join(rows), classes="body")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()


def _keys_of(screen: Screen[Any]) -> list[tuple[str, str]]:
    keys: dict[str, tuple[str, list[str]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        # Textual's own keys (arrows, page up) have no id: they do what people expect.
        if not (binding.id or binding.show) or binding.id in QUIET or not active.enabled:
            continue
        key = screen.app.get_key_display(binding)
        text = binding.tooltip or binding.description
        keys.setdefault(binding.action, (text, []))[1].append(key)
    return [(" ".join(dict.fromkeys(names)), text) for text, names in keys.values()]
