"""The line of keys: which it shows, and what the mouse does there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot
from textual.widgets import Input

from ti_tui.themes import variable_defaults
from ti_tui.widgets.key_line import KeyLine


class Keys(App[None], inherit_bindings=False):
    """A line of keys below a text line, which takes letters for itself."""

    BINDINGS: ClassVar = [
        Binding("f1", "help", "Help", id="help", tooltip="What is this?"),
        Binding("s", "press('save')", "Save"),
        Binding("x", "press('hidden')", "Hidden", show=False),
        Binding("l", "press('later')", "Later"),
        Binding("ctrl+q", "quit", "猫 leaves"),
    ]
    later = False

    def __init__(self, *, compact: bool = False) -> None:
        super().__init__()
        self.pressed: list[str] = []
        self.compact = compact

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def compose(self) -> ComposeResult:
        yield Input()
        line = KeyLine(needed=("press('later')",))
        line.compact = self.compact
        yield line

    def action_press(self, what: str) -> None:
        self.pressed.append(what)

    def action_help(self) -> None:
        self.pressed.append("help")

    async def action_quit(self) -> None:
        self.pressed.append("leave")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.later or parameters != ("later",)


Steps = Callable[[Pilot[None], KeyLine], Awaitable[None]]


def with_keys(steps: Steps, *, compact: bool = False, width: int = 60) -> Keys:
    """Open the app and go through `steps`; returns the app as it ended."""
    app = Keys(compact=compact)

    async def go() -> None:
        async with app.run_test(size=(width, 5), tooltips=True) as pilot:
            app.set_focus(None)
            await pilot.pause()
            await steps(pilot, app.query_one(KeyLine))

    asyncio.run(go())
    return app


def drawn(line: KeyLine) -> str:
    """What stands in the line."""
    return line.render_line(0).text.rstrip()


def lit(line: KeyLine) -> str:
    """What is lit in the line."""
    ground = line.rich_style.bgcolor

    def other(style: Style | None) -> bool:
        return style is not None and style.bgcolor != ground

    return "".join(segment.text for segment in line.render_line(0) if other(segment.style))


async def comes(pilot: Pilot[None], line: KeyLine, text: str) -> None:
    """Wait until `text` stands in the line."""
    for _ in range(100):
        if drawn(line) == text:
            return
        await pilot.pause(0.05)
    assert drawn(line) == text


def test_the_keys_that_work_now_are_shown_each_once() -> None:
    async def steps(pilot: Pilot[None], line: KeyLine) -> None:
        assert drawn(line) == " f1 Help  s Save  ^q 猫 leaves"
        await pilot.click(Input)
        await pilot.pause()
        assert drawn(line) == " f1 Help  ^q 猫 leaves"
        pilot.app.set_focus(None)
        pilot.app.later = True  # type: ignore[attr-defined]
        pilot.app.refresh_bindings()
        await pilot.pause()
        assert drawn(line) == " f1 Help  s Save  l Later  ^q 猫 leaves"

    with_keys(steps)


def test_a_key_bound_anew_is_shown_as_it_is() -> None:
    async def steps(pilot: Pilot[None], line: KeyLine) -> None:
        pilot.app.set_keymap({"help": "f5"})
        await pilot.pause()
        assert "f5 Help" in drawn(line)
        assert "f1" not in drawn(line)

    with_keys(steps)


@pytest.mark.parametrize("compact", [False, True])
def test_each_word_is_a_button(compact: bool) -> None:
    async def steps(pilot: Pilot[None], line: KeyLine) -> None:
        text = drawn(line)
        if compact:
            assert text == "f1 Help s Save ^q 猫 leaves"
        # A Chinese character fills two columns.
        last = len(text)
        for x in (text.index("Help"), text.index("Save") + 3, last, last + 2):
            await pilot.click(KeyLine, offset=(x, 0))

    assert with_keys(steps, compact=compact).pressed == ["help", "save", "leave"]


def test_the_key_under_the_mouse_is_lit_and_explained() -> None:
    async def steps(pilot: Pilot[None], line: KeyLine) -> None:
        assert lit(line) == ""
        await pilot.hover(KeyLine, offset=(4, 0))
        assert lit(line) == " f1 Help "
        assert line.tooltip == "What is this?"
        await pilot.hover(KeyLine, offset=(12, 0))
        assert lit(line) == " s Save "
        assert line.tooltip is None
        await pilot.hover(Input)
        assert lit(line) == ""

    with_keys(steps)


def test_help_and_quit_always_stand_there_and_then_the_most_needed_keys() -> None:
    async def steps(pilot: Pilot[None], line: KeyLine) -> None:
        assert drawn(line) == " f1 Help  s Save  ^q 猫 leaves"
        pilot.app.later = True  # type: ignore[attr-defined]
        pilot.app.refresh_bindings()
        await pilot.pause()
        assert drawn(line) == " f1 Help  l Later  ^q 猫 leaves"
        await pilot.resize_terminal(24, 5)
        await comes(pilot, line, " f1 Help  ^q 猫 leaves")
        await pilot.resize_terminal(60, 5)
        await comes(pilot, line, " f1 Help  s Save  l Later  ^q 猫 leaves")

    with_keys(steps, width=32)


def test_keys_that_do_not_fit_are_reached_with_the_wheel() -> None:
    async def steps(pilot: Pilot[None], line: KeyLine) -> None:
        async def wheel(down: bool) -> None:
            event = MouseScrollDown if down else MouseScrollUp
            await pilot._post_mouse_events([event], KeyLine, offset=(1, 0), button=0)
            await pilot.pause()

        pilot.app.later = True  # type: ignore[attr-defined]
        pilot.app.refresh_bindings()
        await pilot.pause()
        assert drawn(line) == " f1 Help  l Later  ^q 猫 leaves"
        await wheel(False)
        await wheel(True)
        assert drawn(line) == " f1 Help  l Later  ^q 猫 leaves"
        await wheel(True)
        assert drawn(line) == " f1 Help  l Later  ^q 猫 leaves"
        await pilot.click(KeyLine, offset=(12, 0))

    assert with_keys(steps, width=32).pressed == ["later"]
