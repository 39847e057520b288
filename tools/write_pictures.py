"""Draws the README's pictures: `python -m tools.write_pictures`. A real run on real photographs, a minute or two.

The model is the tests' tiny one with random weights, so the samples are noise; everything else is as it is in use.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "cat", "camera")


def main() -> None:
    """Drive the program through a whole run and keep three of its screens."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        os.environ |= {"HOME": place, "TZ": "UTC", "OMP_NUM_THREADS": "1"}
        os.environ |= {f"TI_TUI_{name}": f"{place}/.{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        _photographs(home / "photos")
        from tests.fixtures.tiny_models import make_folder

        make_folder("sd1", home / "models" / "tiny-sd1")
        PICTURES.mkdir(parents=True, exist_ok=True)
        asyncio.run(_run())
    for path in sorted(PICTURES.glob("*.svg")):
        print(f"wrote {path}")


def _photographs(folder: Path) -> None:
    import skimage.data
    from PIL import Image

    folder.mkdir(parents=True)
    for name in PHOTOGRAPHS:
        picture = getattr(skimage.data, name, None)
        if picture is not None:
            Image.fromarray(picture()).convert("RGB").save(folder / f"{name}.jpg", quality=92)


async def _run() -> None:
    from tests.screens.driving import type_text, until, words
    from ti_tui.screens.app import TiTuiApp

    app = TiTuiApp()

    def keep(name: str) -> None:
        (PICTURES / f"{name}.svg").write_text(app.export_screenshot(title="ti_tui"), encoding="utf-8")

    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await type_text(pilot, "~/photos")
        await until(pilot, lambda: "to train" in words(pilot) and "looking" not in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: words(pilot).count("▀") > 300 and "GiB free" in words(pilot))
        keep("dataset")
        await pilot.press("alt+3")
        await until(pilot, lambda: "Class word" in words(pilot))
        await type_text(pilot, "zkz")
        await pilot.press("enter")
        await type_text(pilot, "woman")
        await pilot.press("alt+4")
        await until(pilot, lambda: "Images at once" in words(pilot))
        await type_text(pilot, "~/models/tiny-sd1")
        await pilot.press("enter")
        await type_text(pilot, "64")
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        await pilot.press("right", "right")
        await pilot.pause(1)
        keep("scheme")
        await pilot.press("alt+6")
        await until(pilot, lambda: "Start training" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "drew 1 sample at step 500" in words(pilot), seconds=180)
        await until(pilot, lambda: words(pilot).count("▀") > 300)
        await pilot.pause(2.5)
        keep("dashboard")
        await until(pilot, lambda: "Done. The embedding" in words(pilot), seconds=180)


if __name__ == "__main__":
    main()
