"""Draws the README's pictures: `python -m tools.write_pictures` runs the demo and takes its screens, in two minutes."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
SIDE = 96
"""Pixels of an image in the before and after: twice its own."""


def main() -> None:
    """Run the demo in the program, save three of its screens, and draw before and after side by side."""
    with tempfile.TemporaryDirectory() as place:
        os.environ |= {"HOME": place, "TZ": "UTC", "OMP_NUM_THREADS": "1"}
        os.environ |= {f"TI_TUI_{name}": f"{place}/.{name.lower()}" for name in ("CONFIG", "CACHE", "STATE")}
        PICTURES.mkdir(parents=True, exist_ok=True)
        run = Path(place) / "runs" / "teal-ring"
        asyncio.run(_run(run))
        _before_and_after(run)
    for path in sorted(PICTURES.glob("*.svg")):
        print(f"wrote {path}")


async def _run(root: Path) -> None:
    from tests.screens.driving import until, words
    from ti_tui.screens.app import TiTuiApp
    from ti_tui.setup.demo import CONCEPT, demo_draft, pictures_of

    # Shown as in a home folder, wherever the checkout is.
    photographs = Path.home() / "photos" / CONCEPT
    shutil.copytree(pictures_of(CONCEPT), photographs)
    draft = demo_draft(CONCEPT, root)
    draft.photographs = f"~/photos/{CONCEPT}"
    app = TiTuiApp(draft=draft)

    def keep(name: str) -> None:
        (PICTURES / f"{name}.svg").write_text(app.export_screenshot(title="ti_tui"), encoding="utf-8")

    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: "12 images to train" in words(pilot) and "checking" not in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: words(pilot).count("▀") > 300)
        await pilot.pause(1)
        keep("dataset")
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        await pilot.pause(1)
        keep("scheme")
        await pilot.press("alt+6")
        await until(pilot, lambda: "Start training" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "drew 2 samples at step 80" in words(pilot), seconds=180)
        await pilot.pause(3)
        keep("dashboard")
        await until(pilot, lambda: "Done. The embedding" in words(pilot), seconds=180)


def _before_and_after(run: Path) -> None:
    """Training images, and the samples of the same prompts and seeds before and after training."""
    from ti_tui.setup.demo import PROMPTS, TOKEN

    learned = sorted(run.glob("img/*/*.png"))[:6]
    samples = sorted((run / "sample").iterdir())
    steps = int(samples[-1].name.removeprefix("step"))
    seen = [part.split(" --")[0].replace("a photo of a [name] ", "") for part in PROMPTS]
    groups = [
        ("12 training images", learned, ""),
        ('before: "thing"', sorted(samples[0].glob("*.png")), " · ".join(seen)),
        (f'after {steps} steps: "{TOKEN}"', sorted(samples[-1].glob("*.png")), " · ".join(seen)),
    ]
    parts, left = [], 0
    for title, paths, below in groups:
        columns = 3 if len(paths) > 2 else len(paths)
        parts.append(_group(title, paths, below, left, columns))
        left += columns * (SIDE + 4) + 60
    width, height = left - 40, 2 * (SIDE + 4) + 56
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -12 {width + 24} {height + 16}">'
    svg += '<rect x="-12" y="-12" width="100%" height="100%" fill="#16181d" rx="8"/>' + "".join(parts) + "</svg>\n"
    (PICTURES / "demo.svg").write_text(svg, encoding="utf-8")


def _group(title: str, paths: Sequence[Path], below: str, left: int, columns: int) -> str:
    text = 'font-family="ui-sans-serif, Helvetica, Arial, sans-serif"'
    drawn = [f'<text x="{left}" y="14" {text} font-size="15" fill="#e6e6e6">{escape(title)}</text>']
    rows = -(-len(paths) // columns)
    top = 30 + (2 - rows) * (SIDE + 4) / 2
    for index, path in enumerate(paths):
        x, y = left + index % columns * (SIDE + 4), top + index // columns * (SIDE + 4)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        drawn.append(
            f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" href="data:image/png;base64,{data}" '
            'style="image-rendering: pixelated"/>'
        )
    for line, words in enumerate(below.split(" · ") if below else ()):
        y = top + rows * (SIDE + 4) + 16 + line * 15
        drawn.append(f'<text x="{left}" y="{y}" {text} font-size="11" fill="#9aa0aa">{escape(words)}</text>')
    return "".join(drawn)


if __name__ == "__main__":
    main()
