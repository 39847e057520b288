"""The grid of samples by its keys, and as it looks at both sizes."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from tests.screens.conftest import BEGAN, MakeHistory, four_colours
from tests.screens.driving import LOOKS, check_snapshot, drive, until, words
from tests.screens.test_dashboard import append, shown
from ti_tui.run.folder import RunFolder
from ti_tui.screens.dashboard.sample_grid import LEAST_CELLS, fit

pytestmark = pytest.mark.usefixtures("card")

PROMPTS = ("a photo of [name] --d 1", "[name] standing at the beach, wearing a red jacket --d 2", "a drawing of [name]")


def drawn(run: RunFolder, steps: range, prompts: int, best: int | None = None) -> RunFolder:
    """Give a run previews at other steps than it has; best: the step of its best checkpoint."""
    for old in run.samples.iterdir():
        shutil.rmtree(old)
    lines = [line for line in run.events.read_text().splitlines() if '"kind": "sample"' not in line]
    for step in steps:
        files = [run.sample(step) / f"{number:02d}.png" for number in range(1, prompts + 1)]
        for number, file in enumerate(files):
            four_colours(file, step // steps.step + number)
        names = [str(file.relative_to(run.root)) for file in files]
        event = {"t": BEGAN, "kind": "sample", "step": step, "files": names, "prompts": PROMPTS[:prompts]}
        lines.append(json.dumps(event))
        if step:
            lines.append(json.dumps({"t": BEGAN, "kind": "eval", "step": step, "loss": 0.1, "gain": step / 1000}))
    run.events.write_text("".join(f"{line}\n" for line in lines))
    for number in range(2, 4):
        four_colours(run.images / "1_zkz woman" / f"{number:04d}.png", number)
    if best is not None:
        file = f"model/{run.embedding('zkz', 300).name}"
        append(run, json.dumps({"t": BEGAN, "kind": "checkpoint", "step": 300, "files": [file], "best": best}))
    return run


async def grid(pilot: Pilot[None]) -> None:
    """Open the grid and wait for its pictures."""
    await shown(pilot)
    await pilot.press("g")
    await until(pilot, lambda: "v Grid" in words(pilot))
    await pilot.press("v")
    await until(pilot, lambda: "training" in words(pilot) and words(pilot).count("▀") > 300)


def seen(pilot: Pilot[None]) -> str:
    """The steps that are seen, with a star behind the best one, and arrows where there are more."""
    line = next(line for line in words(pilot).splitlines() if "training" in line)
    text = re.sub(r"step (\d+)", r"\1", line.replace("training", ""))
    return " ".join(re.sub(r"★ (\d+)", r"\1★", text).split())


def test_steps_scroll_sideways_and_the_best_one_has_a_star(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await grid(pilot)
        assert "11 steps, 2 prompts" in words(pilot)
        # It begins at the step that was compared with the newest.
        assert seen(pilot) == "‹ 180 210 240 270 ›"
        await pilot.press("home")
        await until(pilot, lambda: seen(pilot) == "0 30 60 90★ ›")
        assert "initial" in words(pilot) and "gain +9 %" in words(pilot)
        await pilot.press("right", "right", "right", "right")
        await until(pilot, lambda: seen(pilot) == "‹ 30 60 90★ 120 ›")
        await pilot.press("end")
        await until(pilot, lambda: seen(pilot) == "‹ 210 240 270 300")

    drive(steps, run=drawn(history(), range(0, 301, 30), 2, best=90), size=(80, 24))


def test_enter_shows_the_chosen_step_large_and_v_goes_back_as_it_was(history: MakeHistory) -> None:
    run = drawn(history(), range(0, 301, 100), 2)

    async def steps(pilot: Pilot[None]) -> None:
        await grid(pilot)
        await pilot.press("left", "down", "c")
        await pilot.press("enter")
        await until(pilot, lambda: "‹100 200 ›★300" in words(pilot) and PROMPTS[1] in words(pilot))
        await pilot.press("v", "right")
        await until(pilot, lambda: "training" in words(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "‹100 200 ›★300" in words(pilot))
        await pilot.press("left")
        await until(pilot, lambda: "‹0 100 200 ›★300" in words(pilot))

    assert drive(steps, run=run).clipboard == str(run.sample(100) / "02.png")


def test_more_prompts_than_fit_scroll_and_pictures_can_be_larger(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await grid(pilot)
        assert "standing at the beach" in words(pilot) and "a drawing" not in words(pilot)
        await pilot.press("down", "down")
        await until(pilot, lambda: "▌a drawing of" in words(pilot) and PROMPTS[0] not in words(pilot))
        await pilot.press("plus", "plus", "plus", "plus")
        await until(pilot, lambda: len(re.findall(r"\d+", seen(pilot))) == 3)
        await pilot.press("minus", "minus")
        await until(pilot, lambda: len(re.findall(r"\d+", seen(pilot))) == 5)
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: words(pilot).count("[name]") == 3)

    drive(steps, run=drawn(history(), range(0, 301, 20), 3), size=(80, 24))


def test_the_steps_of_a_single_prompt_go_on_in_the_next_row(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await grid(pilot)
        assert "↑ 8 more" in words(pilot) and "step 160" in words(pilot) and "step 300" in words(pilot)
        await pilot.press("up", "up")
        await until(pilot, lambda: "↑ 4 more  ↓ 4 more" in words(pilot) and "step 80" in words(pilot))
        await pilot.press("up", "up", "left", "enter")
        await until(pilot, lambda: "‹20 " in words(pilot))

    drive(steps, run=drawn(history(), range(0, 301, 20), 1), size=(80, 24))


def test_pictures_that_are_gone_or_were_never_drawn_break_nothing(history: MakeHistory) -> None:
    run = drawn(history(), range(0, 301, 100), 2)
    shutil.rmtree(run.sample(100))
    for line in (
        {"step": 150, "files": [], "prompts": []},
        {"step": 200, "files": ["sample/x.png"], "prompts": ["new"]},
    ):
        append(run, json.dumps({"t": BEGAN, "kind": "sample", **line}))

    async def steps(pilot: Pilot[None]) -> None:
        await grid(pilot)
        await until(pilot, lambda: "not drawn" in words(pilot) and "3 prompts" in words(pilot))
        for key in (
            "left",
            "left",
            "down",
            "down",
            "down",
            "c",
            "plus",
            "minus",
            "home",
            "end",
            "enter",
            "v",
            "escape",
        ):
            await pilot.press(key)
            await pilot.pause(0.05)

    assert drive(steps, run=run).crash is None


def test_samples_without_any_picture_break_nothing(history: MakeHistory) -> None:
    run = drawn(history(), range(1), 1)
    run.events.write_text(run.events.read_text().replace('["sample/step00000000/01.png"]', "[]"))
    shutil.rmtree(run.images)

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        for key in ("g", "v", "left", "down", "plus", "c", "enter", "v", "v", "escape"):
            await pilot.press(key)
            await pilot.pause(0.05)

    assert drive(steps, run=run).crash is None


@given(
    st.tuples(st.integers(20, 300), st.integers(5, 100)), st.integers(1, 50), st.integers(1, 9), st.integers(0, 16)
)  # fmt: skip
def test_every_grid_has_a_picture_and_fits_the_terminal(
    size: tuple[int, int], steps: int, prompts: int, wanted: int
) -> None:
    shape = fit(size, steps, prompts, wanted)
    assert shape.columns >= 1 and shape.rows >= 1 and shape.height >= 1
    if shape.width > LEAST_CELLS:
        assert 2 + shape.columns * (shape.width + 1) + shape.width <= size[0]
    over_all, over_each = (1, 2) if shape.banded else (2, 1)
    if shape.rows > 1:
        assert over_all + shape.rows * (shape.height + over_each) <= size[1]


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_grid_looks_as_it_did(size: tuple[int, int], theme: str, history: MakeHistory) -> None:
    end = f"{size[0]}-{theme}"

    def look(name: str) -> object:
        async def steps(pilot: Pilot[None]) -> None:
            await grid(pilot)
            await check_snapshot(pilot, f"{name}-{end}")

        return steps

    several = drawn(history(name="several"), range(0, 301, 30), 2, best=240)
    drive(look("grid"), size=size, theme=theme, run=several)  # type: ignore[arg-type]
    one = drawn(history(name="one"), range(0, 301, 20), 1)
    drive(look("grid-one-prompt"), size=size, theme=theme, run=one)  # type: ignore[arg-type]
