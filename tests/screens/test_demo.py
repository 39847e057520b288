"""The demo in the wizard: nothing left to fill in, and the user's own draft is none of its business."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.screens.driving import Drive, at_start, drive, until, words
from tests.screens.test_wizard import settled, wizard
from ti_tui import settings
from ti_tui.screens.app import TiTuiApp
from ti_tui.settings import Settings
from ti_tui.setup import demo
from ti_tui.setup.create import create_run
from ti_tui.setup.draft import Draft, draft_path, save_draft
from ti_tui.setup.steps import STEPS, state_of

pytestmark = pytest.mark.usefixtures("card", "home")


def drive_demo(steps: Drive, root: Path, *, size: tuple[int, int] = (120, 40)) -> TiTuiApp:
    """Run the app as `ti-tui demo` does, for a run at `root`."""
    app = TiTuiApp(config=Settings(refresh_seconds=0.2), draft=demo.demo_draft(demo.CONCEPT, root))

    async def go() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await steps(pilot)

    asyncio.run(go())
    return app


def own_draft() -> bytes:
    """A draft that the user left, as it lies on the disk."""
    save_draft(Draft(photographs="~/photos/anna", class_word="woman"))
    return draft_path().read_bytes()


def test_everything_is_filled_in_and_ticked_from_the_first_screen_on(tmp_path: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        assert "demo: a teal striped ring" in words(pilot)
        await until(pilot, lambda: "12 images to train" in words(pilot))
        await settled(pilot)
        screen = wizard(pilot)
        assert screen.findings.errors == [] and screen.findings.run is not None
        marks = [
            state_of(step, screen.draft, screen.findings, here=screen.here, seen=screen.visited).mark for step in STEPS
        ]
        assert marks == ["here", *["done"] * 4, "ahead"]

    drive_demo(steps, tmp_path / "run")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_going_through_makes_the_run_of_the_plain_demo_and_leaves_the_users_draft(
    size: tuple[int, int], tmp_path: Path
) -> None:
    before = own_draft()

    async def steps(pilot: Pilot[None]) -> None:
        for _ in STEPS[1:]:
            await settled(pilot)
            await pilot.press("ctrl+n")
        await settled(pilot)
        await at_start(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))
        assert draft_path().read_bytes() == before
        # The wizard that comes next is the user's own.
        await pilot.app.switch_mode("wizard")
        await until(pilot, lambda: "Continue the draft" in words(pilot))

    app = drive_demo(steps, tmp_path / "run", size=size)
    assert app.draft is None
    assert draft_path().read_bytes() == before and settings.recent_folders() == []
    plain = create_run(
        tmp_path / "plain", demo.pictures_of(demo.CONCEPT), demo.demo_values(), class_word=demo.CLASS_WORD
    )
    assert (tmp_path / "run" / "run.toml").read_bytes() == plain.folder.file.read_bytes()


def test_leaving_keeps_no_draft_of_the_demo(tmp_path: Path) -> None:
    async def change_and_leave(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press("alt+3", "x")
        await pilot.pause(1)
        await pilot.press("ctrl+q")

    drive_demo(change_and_leave, tmp_path / "run")
    assert not draft_path().exists()

    async def nothing_offered(pilot: Pilot[None]) -> None:
        assert "Continue the draft" not in words(pilot)

    drive(nothing_offered)


def test_a_draft_that_cannot_be_read_is_not_touched_by_the_demo(tmp_path: Path) -> None:
    draft_path().parent.mkdir(parents=True)
    draft_path().write_text("no [toml")

    async def look(pilot: Pilot[None]) -> None:
        await settled(pilot)

    drive_demo(look, tmp_path / "run")
    assert draft_path().read_text() == "no [toml"
