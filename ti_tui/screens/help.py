"""Help: what a screen is for, its keys, and the terms used on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from ti_tui.glossary import meaning
from ti_tui.screens.dialogs import Dialog

QUIET = frozenset(
    {
        "app.copy",
        "app.help-letter",
        *(f"wizard.step-{n}" for n in range(1, 7)),
        *(f"wizard.alt-step-{n}" for n in range(2, 7)),
        *(f"train.{key}" for key in ("pagedown", "home", "end")),
    }
)
"""Keys that duplicate another one or that everybody knows."""

FRAME_ROWS = 6
"""Rows of the dialog that do not scroll: padding, heading, keys and the blank rows between them."""


@runtime_checkable
class Explained(Protocol):
    """A part of a screen with a help of its own, which comes first while it has the focus."""

    title: str
    help_text: str
    help_terms: tuple[str, ...]


class HelpScreen(Dialog[None]):
    """Shows the `help_text` of the screen below, its keys, and the glossary entries of its `help_terms`.

    A panel with the focus, if it has a help of its own, comes first.
    """

    BINDINGS = [Binding("escape,q,f1,question_mark,enter", "dismiss(None)", "Back", show=False, priority=True)]

    DEFAULT_CSS = """
    HelpScreen .dialog { width: 92; }
    HelpScreen VerticalScroll { height: auto; }
    HelpScreen .body { height: auto; }
    HelpScreen .term, HelpScreen .term Static { height: auto; }
    HelpScreen .term Static { width: 1fr; }
    HelpScreen .term-name { color: $accent; }
    HelpScreen .part { text-style: bold; height: auto; margin: 1 0; }
    """

    def __init__(self, below: Screen[Any]) -> None:
        panel = _panel_of(below)
        super().__init__(f"Help: {panel.title}" if panel is not None else "Help", keys="esc back")
        self._panel = panel
        self._about: str = getattr(below, "help_text", "")
        self._keys_below = _keys_of(below)
        first: Sequence[str] = panel.help_terms if panel is not None else ()
        self._terms = [term for term in getattr(below, "help_terms", ()) if term not in first]

    def body(self) -> ComposeResult:
        width = max((len(key) for key, _ in self._keys_below), default=0)
        rows = [
            Content.assemble((f"{key:<{width}}   ", "$accent"), Content(f"{text}\n")) for key, text in self._keys_below
        ]
        with VerticalScroll():
            if self._panel is not None:
                yield Static(self._panel.help_text, classes="dialog-text", markup=False)
                yield from _meanings(self._panel.help_terms)
                yield Static("The whole screen", classes="part", markup=False)
            if self._about:
                yield Static(self._about, classes="dialog-text", markup=False)
            yield Static(Content("").join(rows), classes="body")
            yield from _meanings(self._terms)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        # With a height of 1fr the body would grow with its content and push the keys out of the dialog.
        self.query_one(VerticalScroll).styles.max_height = max(3, self.size.height * 9 // 10 - FRAME_ROWS)


def _panel_of(screen: Screen[Any]) -> Explained | None:
    """The panel of the screen that has the focus."""
    focused = screen.focused
    if focused is None:
        return None
    parts = (one for one in focused.ancestors_with_self if not isinstance(one, Screen))
    return next((one for one in parts if isinstance(one, Explained)), None)


def _meanings(terms: Sequence[str]) -> ComposeResult:
    """Each term with its meaning, in two columns."""
    width = max((len(term) for term in terms), default=0) + 3
    for term in terms:
        name = Static(term, classes="term-name", markup=False)
        name.styles.width = width
        yield Horizontal(name, Static(meaning(term), markup=False), classes="term")


def _keys_of(screen: Screen[Any]) -> list[tuple[str, str]]:
    keys: dict[str, tuple[str, list[str]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        # Textual's own keys (arrows, page up) have no id; they need no explanation.
        if not (binding.id or binding.show) or binding.id in QUIET or not active.enabled:
            continue
        key = screen.app.get_key_display(binding)
        text = binding.tooltip or binding.description
        keys.setdefault(binding.action, (text, []))[1].append(key)
    return [(" ".join(dict.fromkeys(names)), text) for text, names in keys.values()]
