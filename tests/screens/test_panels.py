"""The dashboard's panels: their keys, their help, their sizes; the log that is searched; the palette; the title."""

from __future__ import annotations

import json

import pytest
from textual.pilot import Pilot

from tests.screens.conftest import BEGAN, MakeHistory
from tests.screens.driving import drive, until, words
from tests.screens.test_dashboard import append, asked, shown
from ti_tui.glossary import meaning
from ti_tui.run.scheme import parse
from ti_tui.screens.dashboard.panels import Panel
from ti_tui.screens.dashboard.sample_panel import fit
from ti_tui.screens.dashboard.screen import DashboardScreen
from ti_tui.screens.terminal_title import RESTORE, SAVE, TerminalTitle
from ti_tui.widgets.chart import Axis, Curve, chart
from ti_tui.widgets.picture import PictureView

pytestmark = pytest.mark.usefixtures("card")


def test_numbers_go_to_panels_and_z_shows_one_large_and_all_again(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("1", "z")
        await until(pilot, lambda: "3 Log" not in words(pilot))
        assert "1 Chart" in words(pilot) and "held out" not in words(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: "3 Log" in words(pilot) and "held out" in words(pilot))
        await pilot.press("3", "z")
        await until(pilot, lambda: "saved step 300" in words(pilot) and "esc Back" in words(pilot))
        await pilot.press("z", "5", "z")
        await until(pilot, lambda: "‹200 ›★300" in words(pilot))
        assert "★ 300: gain 35.6 % x prompts 1.00 = rank 35.6 %, the highest" in words(pilot)
        await pilot.press("z", "4", "z")
        await until(pilot, lambda: "installed" in words(pilot) and "1 Chart" not in words(pilot))

    drive(steps, run=history())


def test_help_begins_with_the_panel_that_has_the_focus(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: "Help: checkpoints" in words(pilot) and meaning("prompts")[:40] in words(pilot))
        await pilot.press("escape", "2", "question_mark")
        await until(pilot, lambda: "Help: device" in words(pilot) and meaning("peak")[:40] in words(pilot))

    drive(steps, run=history())


def test_every_panel_and_the_screen_explain_words_of_the_glossary(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        assert [panel.number for panel in screen.query(Panel)] == [1, 2, 3, 4, 5]
        explained = {*DashboardScreen.help_terms, *(term for panel in screen.query(Panel) for term in panel.help_terms)}
        assert all(meaning(term) for term in explained)
        for column in ("eval", "gain", "held out", "prompts", "rank", "norm", "installed"):
            assert column in explained

    drive(steps, run=history(steps=10))


@pytest.mark.parametrize(("size", "most"), [((60, 20), 0), ((80, 24), 0), ((120, 40), 3), ((200, 50), 4)])
def test_each_size_shows_all_panels_that_fit(size: tuple[int, int], most: int, history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await until(pilot, lambda: "★ 300: gain 35.6 %" in words(pilot))
        text = words(pilot)
        assert all(title in text for title in ("1 Chart", "2 VRAM", "3 Log")) and "┤" in text
        # A right-hand axis for the rate from 120 columns on, and the samples in a column of their own from 160.
        assert ("├" in text) == (size[0] >= 120)
        assert len([view for view in pilot.app.screen.query(PictureView) if view.region]) == most
        head = pilot.app.screen.query_one("#head").region
        assert (pilot.app.screen.query_one("#samples").region.y == head.bottom) == (size[0] >= 160)

    drive(steps, run=history(), size=size)


@pytest.mark.parametrize(
    ("room", "prompts", "shape"),
    [
        ((71, 12), 1, (3, 1)),
        ((64, 43), 1, (2, 2)),
        ((64, 43), 2, (2, 3)),
        ((20, 43), 3, (1, 3)),
        ((99, 24), 1, (3, 1)),
    ],
)
def test_samples_are_as_large_as_fits_and_never_fewer_than_three(
    room: tuple[int, int], prompts: int, shape: tuple[int, int]
) -> None:
    found = fit(*room, prompts)
    assert (found.columns, found.rows) == shape
    assert found.columns * (found.width + 1) <= room[0] and found.rows * found.height <= room[1]


def test_the_only_samples_so_far_are_shown_once(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot, 120)
        await until(pilot, lambda: "the next samples" in words(pilot))
        assert words(pilot).count("step 100 ★") == 1

    drive(steps, run=history(steps=120), size=(200, 50))


def test_the_log_is_searched_and_its_following_paused(history: MakeHistory) -> None:
    run = history()

    def saved(step: int) -> None:
        append(run, json.dumps({"t": BEGAN + step, "kind": "checkpoint", "step": step, "files": []}))

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("l")
        await until(pilot, lambda: "saved step 300" in words(pilot))
        assert "paused" not in words(pilot)
        await pilot.press("slash", *"SAVED", "enter")
        await until(pilot, lambda: "3 of 3 with 'saved'   paused" in words(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "1 of 3 with" in words(pilot))
        await pilot.press("N")
        await until(pilot, lambda: "3 of 3 with" in words(pilot))
        saved(341)
        await until(pilot, lambda: "paused, 1 new line" in words(pilot))
        await pilot.press("escape", "f")
        await until(pilot, lambda: "paused" not in words(pilot) and "saved step 341" in words(pilot))
        assert "1 with" not in words(pilot)

    drive(steps, run=run)


def test_the_palette_has_the_actions_of_the_dashboard(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: "Save a checkpoint after this step (s)" in words(pilot))
        await pilot.press(*"draw samples")
        await until(pilot, lambda: "Change the rates" not in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "Samples will be drawn after this step." in words(pilot))

    drive(steps, run=run)
    assert asked(run) == ["sample"]


def test_a_title_is_harmless_sent_once_and_restored() -> None:
    sent: list[str] = []
    title = TerminalTitle(sent.append)
    title.restore()
    title.show("zkz\x07\x1b]52;c;aGk=\x9c 42 % - 12 min")
    title.show("zkz\x07\x1b]52;c;aGk=\x9c 42 % - 12 min")
    title.restore()
    first, last = sent
    assert first.startswith(f"{SAVE}\x1b]2;zkz\\x07\\x1b]52") and last == RESTORE
    assert first.count("\x1b") == 2 and first.count("\x07") == 1 and "\x9c" not in first


def test_the_rate_has_an_axis_of_its_own_at_the_right() -> None:
    xs, ys = parse("0.05:10, 0.001:90", "for").points()
    curves = [Curve("rate", xs, ys, "chart-rate", own_scale=True)]
    lines = chart(60, 12, curves, Axis(0, 100), Axis(0.01, 0.1, log=True), right_axis=True)
    rows = ["".join(text for text, _ in line) for line in lines]
    assert any(row.rstrip().endswith("├ 0.05") for row in rows) and any("├ 0.002" in row for row in rows)
    assert {len(row) for row in rows[:-2]} == {60}
    plain = chart(60, 12, curves, Axis(0, 100), Axis(0.01, 0.1, log=True))
    assert not any("├" in text for line in plain for text, _ in line)
