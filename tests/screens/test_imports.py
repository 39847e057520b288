"""What may be loaded when: the first screen waits for nothing heavy, and no screen ever loads torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "diffusers", "transformers", "accelerate")
LATER = (*HEAVY, "numpy", "pynvml", "PIL", "pydantic", "tokenizers", "safetensors", "textual_image", "psutil")

PAINT = """
import asyncio, json, sys
from ti_tui.screens.app import TiTuiApp

async def main():
    app = TiTuiApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        print(json.dumps(sorted(sys.modules)))

asyncio.run(main())
"""

WHOLE_WAY = """
import asyncio, json, sys, os
from ti_tui.screens.app import TiTuiApp
from tests.screens.driving import at_start, type_text, until, words

async def main(photos, model):
    app = TiTuiApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await type_text(pilot, photos)
        await until(pilot, lambda: "images to train" in words(pilot))
        await pilot.press("enter")
        await type_text(pilot, model)
        await pilot.press("alt+3")
        await type_text(pilot, "zkz")
        await pilot.press("alt+4", "alt+5", "alt+6")
        await at_start(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))
        print(json.dumps(sorted(sys.modules)))

asyncio.run(main(*sys.argv[1:]))
"""


def modules(code: str, *arguments: str) -> set[str]:
    """Names of the modules that are loaded when `code`, in a process of its own, has printed them."""
    place = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=dict(os.environ), timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_first_screen_waits_for_nothing_heavy() -> None:
    assert not modules(PAINT) & set(LATER)


def test_the_whole_wizard_loads_no_torch(photos: Path, models: dict[str, Path], tmp_path: Path) -> None:
    config = Path(os.environ["TI_TUI_CONFIG"])
    config.mkdir(parents=True)
    (config / "config.toml").write_text(f'runs_folder = "{tmp_path / "runs"}"\n')
    assert not modules(WHOLE_WAY, str(photos), str(models["sd1"])) & set(HEAVY)
