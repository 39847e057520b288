"""Each screen as it looks, at both sizes and in two themes."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.screens.conftest import MakeHistory
from tests.screens.driving import LOOKS, check_snapshot, drive, type_text, until, words
from ti_tui.run.hardware import Hardware


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_every_step_of_the_wizard_looks_as_it_did(
    size: tuple[int, int], theme: str, home: Path, photographs: Path, model: Path, card: Hardware
) -> None:
    end = f"{size[0]}-{theme}"

    async def steps(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen

        async def judged() -> None:
            await pilot.pause(0.1)
            await until(pilot, lambda: screen.current and not screen.checking)  # type: ignore[attr-defined]

        await check_snapshot(pilot, f"wizard-empty-{end}")
        await type_text(pilot, "~/photos")
        await until(pilot, lambda: "5 images to train" in words(pilot))
        await pilot.press("enter")
        await judged()
        await until(pilot, lambda: "512 px" in words(pilot))
        await check_snapshot(pilot, f"wizard-model-{end}")
        await pilot.press("enter", "enter")
        await judged()
        await until(pilot, lambda: "▀" in words(pilot))
        await check_snapshot(pilot, f"wizard-dataset-{end}")
        await pilot.press("enter")
        await judged()
        await until(pilot, lambda: "▀" in words(pilot))
        await check_snapshot(pilot, f"wizard-captions-{end}")
        await pilot.press("enter")
        await until(pilot, lambda: "Class word" in words(pilot))
        await type_text(pilot, "zkz")
        await pilot.press("enter")
        await type_text(pilot, "woman")
        await judged()
        await check_snapshot(pilot, f"wizard-directories-{end}")
        await pilot.press("shift+tab", "ctrl+u", "alt+6")
        await judged()
        await check_snapshot(pilot, f"wizard-train-needs-{end}")
        await pilot.press("enter")
        await until(pilot, lambda: screen.here == "directories")  # type: ignore[attr-defined]
        await type_text(pilot, "zkz")
        await pilot.press("alt+4")
        await judged()
        await check_snapshot(pilot, f"wizard-parameters-{end}")
        await pilot.press("ctrl+t")
        await judged()
        await check_snapshot(pilot, f"wizard-advanced-{end}")
        await pilot.press("ctrl+n")
        await judged()
        await check_snapshot(pilot, f"wizard-scheme-{end}")
        await pilot.press("ctrl+n")
        await judged()
        await check_snapshot(pilot, f"wizard-train-{end}")
        await pilot.press("f1")
        await check_snapshot(pilot, f"help-{end}")

    drive(steps, size=size, theme=theme)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_dashboard_looks_as_it_did(
    size: tuple[int, int], theme: str, history: MakeHistory, card: Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = f"{size[0]}-{theme}"
    going = history(
        verdict="learned", warning="out of memory: 2 images at once from now on; the result is the same [/b]"
    )

    async def watch(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "step  340" in words(pilot) and "RTX" in words(pilot))
        if size[0] >= 100:
            await until(pilot, lambda: words(pilot).count("▀") > 300)
        await check_snapshot(pilot, f"dashboard-training-{end}")
        await pilot.press("g")
        await until(pilot, lambda: "samples" in words(pilot) and words(pilot).count("▀") > 300)
        await check_snapshot(pilot, f"compare-{end}")
        await pilot.press("escape", "v")
        await until(pilot, lambda: "the vectors at step 300" in words(pilot) and "much" in words(pilot))
        await check_snapshot(pilot, f"vectors-{end}")
        await pilot.press("escape", "e")
        await check_snapshot(pilot, f"scheme-change-{end}")
        await pilot.press("escape", "l")
        await check_snapshot(pilot, f"log-{end}")
        await pilot.press("escape", "q")
        await check_snapshot(pilot, f"leave-{end}")

    drive(watch, size=size, theme=theme, run=going)
    done = history(phase="done", steps=340, name="done")

    async def look(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Done. The embedding" in words(pilot) and "RTX" in words(pilot))
        if size[0] >= 100:
            await until(pilot, lambda: words(pilot).count("▀") > 300)
        await check_snapshot(pilot, f"dashboard-done-{end}")

    drive(look, size=size, theme=theme, run=done)
