"""The small dialogs: what they hold may be longer than the screen, their keys stay in view."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from tests.screens.driving import drive, until, words
from ti_tui.screens.dialogs import PathPicker, Reader


def test_a_long_folder_scrolls_within_the_picker_and_the_keys_stay(home: Path) -> None:
    for number in range(60):
        (home / f"folder {number:02}").mkdir()

    async def steps(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(PathPicker("A folder", home))
        await until(pilot, lambda: "folder 00/" in words(pilot))
        assert "enter open   space choose" in words(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "folder 59/" in words(pilot))
        assert "enter open   space choose" in words(pilot)

    assert drive(steps, size=(80, 24)).crash is None


def test_a_long_text_scrolls_within_the_reader_and_the_keys_stay(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(Reader("A text", "\n".join(f"line {number}" for number in range(100))))
        await until(pilot, lambda: "line 1" in words(pilot))
        assert "arrows scroll" in words(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "line 99" in words(pilot))

    assert drive(steps, size=(80, 24)).crash is None
