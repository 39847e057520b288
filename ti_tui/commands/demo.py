"""`ti-tui demo`: the whole workflow on the tiny model and the images that come with the program."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.output import on_terminal
from ti_tui.errors import UserError
from ti_tui.run.folder import RunFolder, step_of
from ti_tui.setup import demo

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

LARGEST_SIDE = 48
SMALLEST_SIDE = 16
"""Pixels of an image on the terminal; a terminal with room for less shows none."""
LINES_BELOW = 8
"""Lines of the terminal that the images leave free for text."""


@click.command()
@click.argument("concept", required=False)
@click.option("--plain", is_flag=True, help="Train at once and print plain lines, as when there is no terminal.")
@click.option("--list", "listing", is_flag=True, help="List the concepts.")
@click.option("--clean", "cleaning", is_flag=True, help="Remove everything that demos created.")
@click.option("--no-mouse", is_flag=True, help="Do not capture the mouse.")
def command(concept: str | None, plain: bool, listing: bool, cleaning: bool, no_mouse: bool) -> None:
    """Learn CONCEPT (default: teal-ring) on a tiny model: no GPU, no download, about a minute.

    The wizard opens with everything filled in: ctrl+n goes to the next step, enter in the last step starts training.
    Your own draft is not touched. The run is made in a temporary folder, which --clean removes.
    """
    if (listing or cleaning) and (concept or plain or (listing and cleaning)):
        raise click.UsageError(f"{'--list' if listing else '--clean'} cannot be combined with other options")
    if listing:
        _list()
    elif cleaning:
        _clean()
    elif plain or not on_terminal(sys.stdin, sys.stdout):
        train_demo(concept or demo.CONCEPT)
    else:
        _open(concept or demo.CONCEPT, mouse=not no_mouse)


def train_demo(name: str, *, scheme: str = demo.SCHEME) -> None:
    """Make the run of concept `name`, train it with plain lines, and show the result. Raises UserError."""
    from ti_tui.commands.follow import PlainLines
    from ti_tui.commands.train import check_for_start, train_here
    from ti_tui.setup.start import make_run

    title = demo.concept(name).title
    with demo.demo_folder() as place:
        run = place.run(name)
        made = make_run(demo.demo_draft(name, run.root, scheme), run.root)
        images = show.number(made.prepared.images, "image")
        terminal.line(f"{demo.TOKEN} learns {title} from {images}, in {run.root}")
        try:
            check_for_start(run)
            outcome = train_here(run, PlainLines)
        except UserError:
            terminal.line(f"The run is kept in {run.root}; `{place.removal}` removes it.", err=True)
            raise
        samples = _samples(run)
        show_samples(samples)
        _print_result(run, place, samples, stopped=outcome == "stopped")


def _open(name: str, *, mouse: bool) -> None:
    from ti_tui.screens.app import run_app

    with demo.demo_folder() as place:
        run = place.run(name)
        status = run_app(draft=demo.demo_draft(name, run.root), mouse=mouse)
        if run.file.exists():
            show.table([("look at it", f"ti-tui watch {quote(str(run.root))}"), ("remove it", place.removal)], indent=0)
    sys.exit(status)


def _list() -> None:
    for hard in (False, True):
        terminal.line("Hard, not always learned:" if hard else "Easy:")
        show.table([(found.name, found.title) for found in demo.concepts().values() if found.hard == hard])


def _clean() -> None:
    cleaned = demo.clean()
    for path, size_bytes in cleaned.removed:
        terminal.line(f"Removed {path}: {show.size(size_bytes)} ({size_bytes} bytes)")
    for reason in cleaned.left:
        terminal.line(str(reason), err=True)
    if cleaned.left:
        sys.exit(2)
    if not cleaned.removed:
        terminal.line("There is nothing to remove.")


def _print_result(run: RunFolder, place: demo.DemoFolder, samples: Mapping[int, Path], *, stopped: bool) -> None:
    files = [run.embedding(demo.TOKEN, None), *(run.embedding(demo.TOKEN, step) for step in run.checkpoints()[::-1])]
    embedding = next((file for file in files if file.exists()), None)
    rows = [("embedding", str(embedding))] if embedding else []
    rows += [(_when(step), str(samples[step])) for step in _first_and_last(samples)]
    if stopped:
        rows.append(("continue", f"ti-tui train {quote(str(run.root))}"))
    terminal.line()
    show.table([*rows, ("look at it", f"ti-tui watch {quote(str(run.root))}"), ("remove it", place.removal)], indent=0)


def _samples(run: RunFolder) -> dict[int, Path]:
    """The samples of the first sample prompt by step, ascending."""
    found = {step_of(folder.name): folder / "01.png" for folder in run.samples.glob("step*")}
    return {step: found[step] for step in sorted(step for step in found if step is not None) if found[step].is_file()}


def _first_and_last(samples: Mapping[int, Path]) -> list[int]:
    return sorted({min(samples), max(samples)}) if samples else []


def _when(step: int) -> str:
    return f"after {show.number(step, 'step')}" if step else "before"


def show_samples(samples: Mapping[int, Path]) -> None:
    """Draw the first and the last sample with half cells, if the terminal has enough colours and room.

    samples: image files by step.
    """
    if not samples or not on_terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        return
    from rich.console import Console

    console = Console()
    side = min(LARGEST_SIDE, (console.width - 6) // 2, 2 * (console.height - LINES_BELOW)) // 2 * 2
    drawable = console.color_system in {"truecolor", "256"} and console.encoding.startswith("utf")
    if not drawable or side < SMALLEST_SIDE:
        return
    from PIL import Image

    steps = _first_and_last(samples)
    images = []
    for step in steps:
        try:
            with Image.open(samples[step]) as opened:
                images.append(opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
        except (OSError, SyntaxError, ValueError):
            # Pillow's errors for a broken image file.
            return
    captions = [f"{_when(step)}: {demo.TOKEN if step else f'the word {demo.CLASS_WORD}'}" for step in steps]
    console.print()
    _draw(console, images, side)
    console.print("  ".join(f"  {caption:<{side}}" for caption in captions).rstrip(), highlight=False, markup=False)


def _draw(console: Console, images: list[Image.Image], side: int) -> None:
    """Draw square RGB images of `side` pixels beside each other, two rows of pixels to a line."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    for y in range(0, side, 2):
        line = Text()
        for number, image in enumerate(images):
            line.append("    " if number else "  ")
            rows = image.crop((0, y, side, y + 2)).tobytes()
            for x in range(0, 3 * side, 3):
                upper, lower = rows[x : x + 3], rows[3 * side + x : 3 * side + x + 3]
                line.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
