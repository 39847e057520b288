"""Driving the app in tests: start it, wait for what it finds out in threads, read it, keep pictures of it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
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
    """Wait until the screen is that of tests/snapshots/NAME.svg; TI_TUI_UPDATE_SNAPSHOTS=1 writes it anew.

    Collects nothing: raises AssertionError at the first that does not come, and leaves the new picture beside the old
    one. What is still being painted is waited for, however long a slow machine takes.
    """
    for package, version in MADE_WITH.items():
        if importlib.metadata.version(package) != version:
            pytest.skip(f"the snapshots were drawn with {package} {version}")
    path = SNAPSHOTS / f"{name}.svg"
    if os.environ.get("TI_TUI_UPDATE_SNAPSHOTS"):
        # Nothing to compare with tells when all is painted; the longest timer that a screen paints after is a second.
        await pilot.pause(1.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pilot.app.export_screenshot(title="ti_tui"), encoding="utf-8")
        return
    assert path.exists(), f"there is no snapshot {name}; make it with TI_TUI_UPDATE_SNAPSHOTS=1"
    expected, end, drawn = path.read_text(encoding="utf-8"), time.monotonic() + seconds, None
    while True:
        await pilot.pause(0.05)
        # An SVG is drawn only of a screen that has come to rest: it takes as long as many looks at its words.
        shown, late = words(pilot), time.monotonic() > end
        if shown == drawn or late:
            svg = pilot.app.export_screenshot(title="ti_tui")
            if svg == expected:
                return
            if late:
                new = path.with_suffix(".new.svg")
                new.write_text(svg, encoding="utf-8")
                raise AssertionError(f"{name} looks different; compare {path} with {new}. The screen was:\n{shown}")
        drawn = shown
