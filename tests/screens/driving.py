"""Driving the app in tests: start it, wait for what it finds out in threads, read it, keep pictures of it."""

from __future__ import annotations

import asyncio
import difflib
import importlib.metadata
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Input

from ti_tui.run.folder import RunFolder
from ti_tui.screens.app import TiTuiApp
from ti_tui.settings import Settings

SNAPSHOTS = Path(__file__).parent.parent / "snapshots"
MADE_WITH = {"textual": "8.2.8", "rich": "15.0.0"}
"""The versions that the snapshots were drawn with: others draw the same screen in other SVG."""

UPDATE = "TI_TUI_UPDATE_SNAPSHOTS"
"""Set where the snapshots are to be written, as `--update-snapshots` does."""

LOOKS = [((80, 24), "quiet"), ((120, 40), "quiet"), ((120, 40), "paper")]
"""Sizes and themes of which snapshots are kept; colours do not depend on the size."""

Drive = Callable[[Pilot[None]], Awaitable[None]]


def drive(
    steps: Drive,
    *,
    size: tuple[int, int] = (120, 40),
    run: RunFolder | None = None,
    theme: str = "quiet",
    runs_folder: str = "~/runs",
    keys: dict[str, str] | None = None,
) -> TiTuiApp:
    """Run the app without a terminal, let `steps` press its keys; returns the app as it ended."""
    config = Settings(theme=theme, runs_folder=runs_folder, keys=keys or {}, refresh_seconds=0.2)
    app = TiTuiApp(run=run, config=config)

    async def go() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await steps(pilot)

    asyncio.run(go())
    return app


async def until(pilot: Pilot[None], seen: Callable[[], Any], *, seconds: float = 30) -> None:
    """Wait until `seen()` is true; raises AssertionError with the screen's words if it does not come."""
    end = time.monotonic() + seconds
    while True:
        await pilot.pause(0.05)
        try:
            if seen():
                return
        except LookupError:
            pass
        if time.monotonic() > end:
            raise AssertionError(f"it did not come; the screen was:\n{words(pilot)}")


async def at_start(pilot: Pilot[None]) -> None:
    """Wait for the receipt of a run that can start, and go past its warnings to Start."""
    await until(pilot, lambda: "Start training" in words(pilot) and pilot.app.focused is not None)
    if pilot.app.focused is not None and pilot.app.focused.id == "problems":
        await pilot.press("tab")
    assert pilot.app.focused is not None and pilot.app.focused.id == "answers"


def words(pilot: Pilot[None]) -> str:
    """What stands on the screen."""
    screen = pilot.app.screen
    lines = screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


async def type_text(pilot: Pilot[None], text: str) -> None:
    """Type a text; into a line at once, as a terminal pastes it, which is quicker than letter by letter."""
    if isinstance(pilot.app.focused, Input):
        pilot.app.focused.post_message(Paste(text))
        await pilot.pause()
    else:
        await pilot.press(*(_character_to_key(letter) for letter in text))


async def check_snapshot(pilot: Pilot[None], name: str, *, seconds: float = 30) -> None:
    """Wait until the screen is that of tests/snapshots/NAME.svg, and reads as its text; --update-snapshots keeps it.

    name: ends in the theme. The text is the same in every theme, and is kept once for all of them.

    Raises AssertionError if it does not come: with the lines that differ or, where only colours and styles do, with
    the place of a new picture beside the old one. What is still being painted is waited for, however long a slow
    machine takes.
    """
    for package, version in MADE_WITH.items():
        if importlib.metadata.version(package) != version:
            pytest.skip(f"the snapshots were drawn with {package} {version}")
    picture, text = SNAPSHOTS / f"{name}.svg", SNAPSHOTS / f"{name.rpartition('-')[0]}.txt"
    if os.environ.get(UPDATE):
        # Nothing to compare with tells when all is painted; the longest timer that a screen paints after is a second.
        await pilot.pause(1.5)
        text.write_text(words(pilot) + "\n", encoding="utf-8")
        picture.write_text(_picture(pilot), encoding="utf-8")
        return
    for path in (picture, text):
        assert path.exists(), f"there is no {path.name}; make it with: pytest --update-snapshots"
    expected, end, before = text.read_text(encoding="utf-8"), time.monotonic() + seconds, None
    while True:
        await pilot.pause(0.05)
        shown, late = words(pilot) + "\n", time.monotonic() > end
        if shown != expected:
            assert not late, f"{name} reads differently:\n{_difference(expected, shown, text.name)}"
        # An SVG is drawn only of a screen that has come to rest: it takes as long as many looks at its words.
        elif shown == before or late:
            drawn = _picture(pilot)
            if drawn == picture.read_text(encoding="utf-8"):
                return
            if late:
                new = picture.with_suffix(".new.svg")
                new.write_text(drawn, encoding="utf-8")
                raise AssertionError(f"{name} has other colours or styles; compare {picture} with {new}")
        before = shown


def _picture(pilot: Pilot[None]) -> str:
    # Rich puts a number of its own making before each name, so that a word more would change every line.
    return re.sub(r"\bterminal-\d+", "terminal", pilot.app.export_screenshot(title="ti_tui"))


def _difference(expected: str, shown: str, name: str) -> str:
    lines = difflib.unified_diff(expected.splitlines(), shown.splitlines(), name, "the screen", lineterm="")
    return "\n".join(lines)
