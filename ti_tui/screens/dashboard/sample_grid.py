"""The samples of a run as a grid: a row for each prompt, a column for each step, training images at the right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message

from ti_tui.formatting import number, percent, printable
from ti_tui.results.comparison import Comparison, gain_at
from ti_tui.run.history import RunHistory
from ti_tui.widgets.canvas import Canvas, Line, Piece, cut
from ti_tui.widgets.picture import PictureView

LEAST_CELLS, MOST_COLUMNS = 8, 16
"""The least width of an image in terminal columns, and the most images beside each other."""
USUAL_COLUMNS = 4
"""Steps beside each other by default: still recognisable in 80 columns, with a training image."""
READABLE_ROWS = 6
"""Prompts scroll rather than being drawn with fewer rows."""
SMALLER = 0.85
"""How far images may shrink to make room for one more row."""
PROMPT_ROWS, HEAD_ROWS = 1, 2


@dataclass(frozen=True)
class GridShape:
    """What fits: the number of columns and rows, and the size of an image in cells.

    banded: there is only one prompt, so its steps continue in the next row, like words on a page.
    """

    columns: int
    rows: int
    width: int
    height: int
    banded: bool


def fit(size: tuple[int, int], steps: int, prompts: int, wanted: int = 0) -> GridShape:
    """The shape of a grid in `size` (columns, rows) of a terminal. wanted: steps beside each other; 0: automatic."""
    banded = prompts == 1
    # Heading rows above the grid, and above each row of images.
    top, each = (PROMPT_ROWS, HEAD_ROWS) if banded else (HEAD_ROWS, PROMPT_ROWS)
    room = max(each + 1, size[1] - top)
    columns = max(1, min(wanted or USUAL_COLUMNS, steps))
    least = 1 if banded else max(1, min(prompts, room // (READABLE_ROWS + each)))
    # One column at the left, one after each image, one more before the training image.
    width = (size[0] - 2 - columns) // (columns + 1)
    width = max(LEAST_CELLS, min(width, 2 * (room // least - each)))
    across = max(1, (size[0] - 2 - width) // (width + 1))
    columns = min(columns if wanted or banded else steps, across)
    if not banded:
        return GridShape(columns, least, width, max(1, width // 2), banded)
    bands, rows = math.ceil(steps / columns), max(1, room // (width // 2 + each))
    if rows < bands and (lower := 2 * (room // (rows + 1) - each)) >= width * SMALLER:
        rows, width = rows + 1, lower
    return GridShape(columns, min(rows, bands), width, max(1, width // 2), banded)


class GridRow(Vertical):
    """A row of images, with heading lines above it."""

    def __init__(self) -> None:
        super().__init__(classes="grid-row")
        self._pictures: list[PictureView] = []
        self._shown: dict[PictureView, tuple[Path | None, str]] = {}

    def compose(self) -> ComposeResult:
        yield Canvas()
        with Horizontal(classes="grid-pictures"):
            yield PictureView(classes="grid-training")

    def fill(
        self, shape: GridShape, lines: Sequence[Line], samples: Sequence[Path | None], training: Path | None
    ) -> None:
        """Show the samples (None: not drawn), and a training image at the right."""
        self.query_one(Canvas).draw(lines)
        holder = self.query_one(Horizontal)
        holder.styles.height = shape.height
        real = holder.query_one(".grid-training", PictureView)
        missing = [PictureView(classes="grid-picture") for _ in range(shape.columns - len(self._pictures))]
        self._pictures += missing
        if missing:
            holder.mount(*missing, before=real)
        for place, picture in enumerate(self._pictures):
            picture.display = place < shape.columns
            path = samples[place] if place < len(samples) else None
            self._show(picture, shape, path, "not drawn" if path is None and place < len(samples) else "")
        self._show(real, shape, training, "")

    def _show(self, picture: PictureView, shape: GridShape, path: Path | None, caption: str) -> None:
        picture.styles.width, picture.styles.height = shape.width, shape.height
        # Do not draw an image again, and send it to the terminal, if it is already shown.
        if self._shown.get(picture) != (path, caption):
            self._shown[picture] = (path, caption)
            picture.show(path, caption)


class SampleGrid(Vertical, can_focus=True):
    """All prompts and steps, with a cursor on one of them. Scrolls by whole images."""

    BINDINGS = [
        Binding("left,h", "step(-1)", "Step", key_display="←→", id="grid.step"),
        Binding("right,l", "step(1)", "Step", show=False),
        Binding("home", "step(-999999)", "First step", show=False, id="grid.first"),
        Binding("end", "step(999999)", "Last step", show=False, id="grid.last"),
        Binding("up,k", "row(-1)", "Row", key_display="↑↓", id="grid.row"),
        Binding("down,j", "row(1)", "Row", show=False),
        Binding("plus,equals_sign", "columns(-1)", "Size", key_display="+-", id="grid.size"),
        Binding("minus", "columns(1)", "Size", show=False),
        Binding("enter", "choose", "Large", id="grid.choose", tooltip="Show this step large, beside the newest"),
        Binding("v", "leave", "Two steps", id="grid.leave", tooltip="Back to two steps side by side"),
    ]

    class Closed(Message):
        """Go back to two steps. step: the step to show, None for those shown before."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(
        self, comparison: Comparison, history: RunHistory, training: Sequence[Path], *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._comparison, self._history, self._training = comparison, history, list(training)
        self._step = max(0, len(comparison.steps) - 1)
        self._prompt = self._first_step = self._first_row = 0
        self._wanted = 0
        self._rows: list[GridRow] = []

    @property
    def counted(self) -> str:
        comparison = self._comparison
        return f"{number(len(comparison.steps), 'step')}, {number(len(comparison.prompts), 'prompt')}"

    @property
    def prompt(self) -> int:
        return self._prompt

    @property
    def chosen_file(self) -> Path | None:
        prompt = next(iter(self._comparison.prompts[self._prompt :]), "")
        return self._comparison.pictures.get((prompt, self._comparison.steps[self._step]))

    def choose(self, step: int, prompt: int) -> None:
        """Move the cursor to a step and a prompt."""
        if step in self._comparison.steps:
            self._step = self._comparison.steps.index(step)
        self._prompt = max(0, min(prompt, len(self._comparison.prompts) - 1))
        self._show()

    def compose(self) -> ComposeResult:
        yield Canvas(id="grid-head")

    def on_resize(self) -> None:
        self._show()

    def action_step(self, by: int) -> None:
        self._step = min(max(self._step + by, 0), len(self._comparison.steps) - 1)
        self._show()

    def action_row(self, by: int) -> None:
        shape = self._shape()
        if not shape.banded:
            self._prompt = (self._prompt + by) % max(1, len(self._comparison.prompts))
        elif 0 <= (self._step // shape.columns + by) * shape.columns < len(self._comparison.steps):
            self._step = min(max(self._step + by * shape.columns, 0), len(self._comparison.steps) - 1)
        self._show()

    def action_columns(self, by: int) -> None:
        wanted = min(max(self._shape().columns + by, 1), MOST_COLUMNS, len(self._comparison.steps))
        # Ignore a size that does not fit or does not change the images.
        if self._shape(wanted).columns == wanted and self._shape(wanted).width != self._shape().width:
            self._wanted = wanted
            self._show()

    def action_choose(self) -> None:
        self.post_message(self.Closed(self._comparison.steps[self._step]))

    def action_leave(self) -> None:
        self.post_message(self.Closed(None))

    def _shape(self, wanted: int | None = None) -> GridShape:
        steps, prompts = len(self._comparison.steps), len(self._comparison.prompts)
        return fit((self.size.width, self.size.height), steps, prompts, self._wanted if wanted is None else wanted)

    def _show(self) -> None:
        """Scroll to the cursor, and fill the visible rows."""
        if not self.is_mounted or not self.size or not self._comparison.prompts:
            return
        shape = self._shape()
        missing = [GridRow() for _ in range(shape.rows - len(self._rows))]
        if missing:
            self._rows += missing
            # New rows can only be filled once they are mounted.
            self.call_after_refresh(self._show)
            self.mount(*missing)
            return
        for place, row in enumerate(self._rows):
            row.display = place < shape.rows
        if shape.banded:
            self._show_bands(shape)
        else:
            self._show_prompts(shape)

    def _show_prompts(self, shape: GridShape) -> None:
        """A row for each prompt."""
        steps, prompts = self._comparison.steps, self._comparison.prompts
        self._first_step = _scrolled(self._first_step, self._step, shape.columns, len(steps))
        self._first_row = _scrolled(self._first_row, self._prompt, shape.rows, len(prompts))
        seen = range(self._first_step, self._first_step + shape.columns)
        self.query_one("#grid-head", Canvas).draw(self._head(seen, shape))
        for row, at in zip(self._rows, range(self._first_row, self._first_row + shape.rows), strict=False):
            self._fill(row, shape, at, at, seen, [self._prompt_line(at)])

    def _show_bands(self, shape: GridShape) -> None:
        """All rows for the only prompt."""
        count = len(self._comparison.steps)
        bands = math.ceil(count / shape.columns)
        self._first_row = _scrolled(self._first_row, self._step // shape.columns, shape.rows, bands)
        self._first_step = 0
        last = self._first_row + shape.rows
        above, below = self._first_row * shape.columns, max(0, count - last * shape.columns)
        more = [f"{arrow} {number} more" for arrow, number in (("↑", above), ("↓", below)) if number]
        self.query_one("#grid-head", Canvas).draw([self._prompt_line(0, "  ".join(more))])
        for row, at in zip(self._rows, range(self._first_row, last), strict=False):
            seen = range(at * shape.columns, min((at + 1) * shape.columns, count))
            self._fill(row, shape, 0, at, seen, self._head(seen, shape))

    def _fill(
        self, row: GridRow, shape: GridShape, prompt: int, place: int, seen: Sequence[int], lines: Sequence[Line]
    ) -> None:
        comparison, training = self._comparison, self._training
        keys = [(comparison.prompts[prompt], comparison.steps[at]) for at in seen]
        real = training[place % len(training)] if training else None
        row.fill(shape, lines, [comparison.pictures.get(key) for key in keys], real)

    def _prompt_line(self, at: int, right: str = "") -> Line:
        chosen = at == self._prompt
        room = max(1, self.size.width - 3 - len(right))
        text = cut(printable(self._comparison.prompts[at]), room)
        return [("▌" if chosen else " ", "accent"), (text, "" if chosen else "muted"), (f" {right}", "accent")]

    def _head(self, seen: Sequence[int], shape: GridShape) -> list[Line]:
        """The steps with their gains, and arrows where there are more at the sides."""
        width, steps = shape.width, self._comparison.steps
        upper: list[Piece] = [("‹" if self._first_step else " ", "accent b")]
        lower: list[Piece] = [(" ", "")]
        for at in seen:
            best = steps[at] == self._history.best_step
            style = "accent b r" if at == self._step else "success b" if best else "b"
            named = [f" {'★ ' * best}{word}{steps[at]} " for word in ("step ", "")]
            upper += _centred(next((name for name in named if len(name) <= width), named[-1]), style, width)
            lower += _centred(self._gain(steps[at]), "success" if best else "muted", width)
        upper.append((" " * ((shape.columns - len(seen)) * (width + 1)), ""))
        more = not shape.banded and seen[-1] + 1 < len(steps)
        upper += [("›" if more else " ", "accent b"), *_centred("training", "muted", width)]
        return [upper, lower]

    def _gain(self, step: int) -> str:
        if step == 0:
            return "initial"
        gain = percent(gain_at(self._history, step), sign=True)
        return gain and f"gain {gain}"


def _scrolled(first: int, chosen: int, seen: int, count: int) -> int:
    """The first of `seen` visible positions, moved as little as needed to show `chosen`."""
    return max(0, min(max(first, chosen - seen + 1), chosen, count - seen))


def _centred(text: str, style: str, width: int) -> list[Piece]:
    """`text` centred over an image, and the gap after it."""
    shown = cut(text, min(len(text), width))
    left = (width - len(shown)) // 2
    return [(" " * left, ""), (shown, style), (" " * (width - left - len(shown)), ""), (" ", "")]
