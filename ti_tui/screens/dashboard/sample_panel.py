"""The dashboard's panel of samples: two steps beside training images, for as many prompts as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message

from ti_tui.formatting import printable
from ti_tui.results.comparison import training_pictures
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.screens.dashboard.panels import Panel
from ti_tui.screens.dashboard.samples import sample_at
from ti_tui.widgets.canvas import Canvas, cut
from ti_tui.widgets.picture import PictureView

MOST_ROWS, MOST_COLUMNS = 4, 3
LEAST_CELLS = 8


@dataclass(frozen=True)
class PanelShape:
    """How many images fit beside and below each other, and the size of each in cells, its caption included."""

    columns: int
    rows: int
    width: int
    height: int


def fit(width: int, height: int, prompts: int) -> PanelShape:
    """The shape that gives images the most area in `width` x `height` cells, the title's row not counted.

    Three columns are two steps and a training image for each prompt; with two, training images are in the last row.
    """
    shapes = []
    for columns in (3, 2, 1):
        most = {3: prompts, 2: prompts + 1, 1: 3}[columns]
        for rows in range(1, min(most, MOST_ROWS) + 1):
            if columns * rows < 3:
                # Two steps say more beside what they are to become.
                continue
            across = min(width // columns - 1, 2 * (height // rows - 1))
            shapes.append(PanelShape(columns, rows, max(across, LEAST_CELLS), max(across // 2, LEAST_CELLS // 2) + 1))
    # A fourth prompt in small pictures says less than one in a large one.
    return max(shapes, key=lambda shape: (shape.width**2 * min(shape.columns * shape.rows, 6), shape.columns))


class SamplePanel(Panel):
    """Shows the samples of two steps; keys change the step at the left and the prompt."""

    BINDINGS = [
        Binding("left,h", "earlier(-1)", "Step", show=False),
        Binding("right", "earlier(1)", "Step", show=False),
        Binding("up,k", "prompt(-1)", "Prompt", show=False),
        Binding("down,j", "prompt(1)", "Prompt", show=False),
        Binding("enter", "compare", "Compare", show=False),
    ]  # fmt: skip

    class Compared(Message):
        """Show all samples."""

    DEFAULT_CSS = """
    SamplePanel .shots { height: auto; padding: 0 1; }
    SamplePanel .shot { margin: 0 1 0 0; }
    """

    _folder: RunFolder | None = None
    _history: RunHistory | None = None
    _chosen: int | None = None
    _prompt = 0
    _training: Sequence[Path] = ()

    @property
    def prompts(self) -> int:
        """How many prompts were drawn."""
        samples = self._history.samples if self._history is not None else {}
        return max((len(files) for files in samples.values()), default=0)

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Canvas(id="samples-title")
        for _ in range(MOST_ROWS):
            with Horizontal(classes="shots"):
                for _ in range(MOST_COLUMNS):
                    yield PictureView(classes="shot")

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def watch(self, folder: RunFolder, history: RunHistory, step: int | None) -> None:  # type: ignore[override]
        """Show the samples of `step` (None: the first) beside the newest."""
        if self._folder is None:
            self._training = training_pictures(folder.images)[:MOST_ROWS]
        self._folder, self._history, self._chosen = folder, history, step
        self.draw()

    def action_earlier(self, by: int) -> None:
        if self._history is not None and self._history.samples:
            steps = sorted(self._history.samples)
            at = steps.index(self._left) if self._left in steps else 0
            self._chosen = steps[min(max(at + by, 0), len(steps) - 1)]
            self.draw()

    def action_prompt(self, by: int) -> None:
        self._prompt = (self._prompt + by) % max(1, self.prompts)
        self.draw()

    def action_compare(self) -> None:
        self.post_message(self.Compared())

    @property
    def _left(self) -> int | None:
        """The step at the left: the chosen one; the first if that is the newest, which has its own place."""
        steps = sorted(self._history.samples) if self._history is not None else []
        if len(steps) < 2:
            return None
        return self._chosen if self._chosen in steps[:-1] else steps[0]

    def draw(self) -> None:
        """Show title and images, as many as there is room for."""
        if self._folder is None or self._history is None or not self.size.width or not self.display:
            return
        shape = fit(self.size.width - 2, self.size.height - 1, max(1, self.prompts))
        for at, row in enumerate(self.query(".shots")):
            row.display = at < shape.rows
            found = self._images(at, shape) if row.display else []
            for column, view in enumerate(row.query(PictureView)):
                view.display = column < shape.columns
                if row.display and view.display:
                    view.styles.width, view.styles.height = shape.width, shape.height
                    view.show(*found[column])
        self.query_one("#samples-title", Canvas).draw([self._title(shape)])

    def _images(self, row: int, shape: PanelShape) -> list[tuple[Path | None, str]]:
        """The images of a row, each with its caption."""
        assert self._folder is not None and self._history is not None
        last = max(self._history.samples, default=None)
        cells: list[tuple[Path | None, str]] = []
        prompt = (self._prompt + row) % max(1, self.prompts)
        if shape.columns == 1:
            return [[*self._steps(self._prompt, last), self._real(0)][row]]
        if shape.columns == 3 or row < shape.rows - 1 or shape.rows == 1:
            cells += self._steps(prompt, last)
        while len(cells) < shape.columns:
            cells.append(self._real(row + len(cells) % 2))
        return cells

    def _steps(self, prompt: int, last: int | None) -> list[tuple[Path | None, str]]:
        assert self._folder is not None and self._history is not None
        if last is None:
            return [(None, "no samples yet"), (None, "")]
        shown = []
        for step in (self._left, last):
            best = " ★" if step is not None and step == self._history.best_step else ""
            path = sample_at(self._folder, self._history, step, prompt)[0] if step is not None else None
            shown.append((path, f"step {step}{best}" if step is not None else "the next samples"))
        return shown if self._left is not None else shown[::-1]

    def _real(self, at: int) -> tuple[Path | None, str]:
        image = self._training[at % len(self._training)] if self._training else None
        return image, "a training image" if image is not None else ""

    def _title(self, shape: PanelShape) -> list[tuple[str, str]]:
        assert self._history is not None
        files = self._history.samples.get(max(self._history.samples, default=-1), ())
        shown = files[self._prompt].prompt if self._prompt < len(files) else ""
        rows = shape.rows if shape.columns == 3 else max(1, shape.rows - 1)
        count = f"  prompt {self._prompt + 1} of {self.prompts}  " if self.prompts > rows else "  "
        left: list[tuple[str, str]] = [("  Samples", "muted"), (count, "muted")]
        room = self.size.width - sum(len(text) for text, _ in left) - 1
        text = printable(shown.partition(" --")[0]) if rows == 1 or self.prompts <= 1 else ""
        return [*left, (cut(text, min(len(text), room)), "")]
