"""The samples of a run in a grid, a row per prompt and a column per step, beside training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ti_tui.dataset.caption_files import read_caption
from ti_tui.formatting import number, percent
from ti_tui.results.comparison import Comparison, gain_at, recorded_samples, thinned, training_pictures
from ti_tui.results.gallery import subject_word
from ti_tui.results.outcome import file_bytes
from ti_tui.results.report.markup import Html, tag
from ti_tui.results.report.thumbnails import Thumbnail, thumbnails
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.run.recipe import RunFile

MOST_COLUMNS = 7
MOST_ROWS = 8
MOST_TRAINING = 12
SMALL_PIXELS = 160
"""Smaller images are enlarged with sharp pixels: smoothed, they would look out of focus."""


@dataclass(frozen=True)
class Grid:
    """What is shown. more_prompts: how many have no row. training: images at the right, then those below."""

    shown: Comparison
    training: tuple[Path, ...]
    more_prompts: int = 0
    steps_drawn: int = 0


def grid_of(folder: RunFolder, history: RunHistory, recipe: RunFile) -> Grid:
    """The samples that exist, thinned to what a page can show."""
    found = recorded_samples(folder, history)
    there = {key: path for key, path in found.pictures.items() if file_bytes(path) is not None}
    rows = tuple(prompt for prompt in found.prompts if any(key[0] == prompt for key in there))
    steps = sorted({step for prompt, step in there if prompt in rows[:MOST_ROWS]})
    columns = thinned(steps, MOST_COLUMNS, keep=(history.best_step,))
    shown = Comparison(tuple(columns), rows[:MOST_ROWS], there).at(columns)
    training = training_pictures(folder.path(recipe.dataset.images))
    count = min(len(training), MOST_TRAINING)
    spread = tuple(training[place * len(training) // count] for place in range(count))
    return Grid(shown, spread, max(0, len(rows) - MOST_ROWS), len(steps))


def pictures_section(grid: Grid, history: RunHistory, recipe: RunFile) -> Html:
    """The grid as a table, with the other training images below."""
    small = thumbnails([*grid.shown.pictures.values(), *grid.training])
    beside = grid.training[: len(grid.shown.prompts)]
    below = [path for path in grid.training if path not in beside]
    parts: list[object] = []
    if grid.shown.prompts:
        parts += [tag("p", _about(grid), class_="says"), _table(grid, beside, small, history, recipe)]
    else:
        parts.append(tag("p", "The run drew no samples.", class_="says"))
    strip = [_training(path, small) for path in below if path in small]
    if strip:
        others = "More training images" if beside else "Training images"
        parts += [tag("h3", others), tag("div", strip, class_="strip")]
    return tag("div", parts)


def _about(grid: Grid) -> str:
    shown = len(grid.shown.steps)
    of = f"{shown} of {grid.steps_drawn} steps are shown. " if shown < grid.steps_drawn else ""
    more = f"{number(grid.more_prompts, 'prompt')} more are in the run folder. " if grid.more_prompts else ""
    return f"A row has the same prompt and seed at each step, so only the vectors differ. {of}{more}".strip()


def _table(
    grid: Grid, beside: Sequence[Path], small: Mapping[Path, Thumbnail], history: RunHistory, recipe: RunFile
) -> Html:
    steps, word = grid.shown.steps, subject_word(recipe)
    columns = len(steps) + bool(beside)
    heads = [_heading(step, history, word) for step in steps]
    if beside:
        heads.append(tag("th", "training", tag("span", "images"), scope="col", class_="training"))
    body: list[Html] = []
    for place, prompt in enumerate(grid.shown.prompts):
        cells = [_cell(grid, prompt, step, small, best=step == history.best_step) for step in steps]
        if beside:
            one = beside[place] if place < len(beside) else None
            cells.append(tag("td", _training(one, small) if one is not None else None, class_="training"))
        name = tag("th", prompt, colspan=columns, scope="rowgroup", class_="prompt")
        body.append(tag("tbody", tag("tr", name), tag("tr", cells)))
    # Images are neither huge in few columns nor tiny in many.
    room = f"max-width: {11 * columns}rem; min-width: {5 * columns}rem"
    made = tag("table", tag("thead", tag("tr", heads)), body, class_="grid", style=room)
    return tag("div", made, class_="wide", tabindex="0", role="group", aria_label="samples")


def _heading(step: int, history: RunHistory, word: str) -> Html:
    best = step == history.best_step
    gain = percent(gain_at(history, step))
    below = (f'"{word}"' if word else "the start") if step == 0 else f"gain {gain}" if gain else ""
    name = [tag("b", "★ best ", class_="star") if best else None, tag("br") if best else None, f"step {step}"]
    return tag("th", name, tag("span", below) if below else None, scope="col", class_="best" if best else None)


def _cell(grid: Grid, prompt: str, step: int, small: Mapping[Path, Thumbnail], *, best: bool) -> Html:
    path = grid.shown.pictures.get((prompt, step))
    found = small.get(path) if path is not None else None
    content: object = tag("span", "not drawn", class_="missing")
    if found is not None:
        content = _image(found, f"step {step}: {prompt}")
    return tag("td", content, class_="best" if best else None)


def _training(path: Path, small: Mapping[Path, Thumbnail]) -> Html | None:
    found = small.get(path)
    if found is None:
        return None
    caption = read_caption(path).caption
    return _image(found, f"training image {path.name}{': ' if caption else ''}{caption}")


def _image(thumbnail: Thumbnail, description: str) -> Html:
    return tag(
        "img",
        src=thumbnail.uri,
        width=thumbnail.width,
        height=thumbnail.height,
        alt=description,
        title=description,
        class_="pixels" if max(thumbnail.width, thumbnail.height) < SMALL_PIXELS else None,
    )
