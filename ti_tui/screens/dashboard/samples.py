"""The samples screen: two steps side by side with the same prompt and seed, or all steps as a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Rule, Static

from ti_tui.formatting import printable
from ti_tui.results.comparison import recorded_samples, training_pictures
from ti_tui.results.ranking import why_best
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.screens.base import AppAccess
from ti_tui.screens.dashboard.sample_grid import SampleGrid
from ti_tui.widgets.canvas import Canvas, Piece
from ti_tui.widgets.key_line import KeyLine
from ti_tui.widgets.picture import PictureView


def sample_at(folder: RunFolder, history: RunHistory, step: int, prompt: int) -> tuple[Path | None, str]:
    """The sample of one prompt at one step, and its prompt; None if it was not drawn."""
    files = history.samples.get(step, ())
    if not files:
        return None, ""
    sample = files[min(prompt, len(files) - 1)]
    return folder.root / sample.file, sample.prompt


def step_for(history: RunHistory, step: int) -> int | None:
    """The step whose samples belong to a checkpoint: its own, else the last before it, else the first."""
    steps = sorted(history.samples)
    before = [other for other in steps if other <= step]
    return before[-1] if before else steps[0] if steps else None


def training_image(folder: RunFolder) -> Path | None:
    """A training image to compare with."""
    return next(iter(training_pictures(folder.images)), None)


class CompareScreen(AppAccess, Screen[None]):
    """Two steps side by side with a training image, or the grid of all steps and prompts."""

    # The grid gets the focus only while it is shown.
    AUTO_FOCUS = ""
    help_terms = ("sample", "step", "best checkpoint", "gain")
    BINDINGS = [
        Binding("left,h", "left(-1)", "Left step", key_display="←→", id="compare.left"),
        Binding("right,l", "left(1)", "Left step", show=False),
        Binding("shift+left,j", "right(-1)", "Right step", key_display="j k", id="compare.right"),
        Binding("shift+right,k", "right(1)", "Right step", show=False),
        Binding("up", "prompt(-1)", "Prompt", key_display="↑↓", id="compare.prompt"),
        Binding("down", "prompt(1)", "Prompt", show=False),
        Binding("v", "grid", "Grid", id="compare.grid", tooltip="All prompts and steps, small"),
        Binding("c", "copy", "Copy path", id="compare.copy"),
        Binding("escape,q,g,z", "dismiss(None)", "Back", key_display="esc", id="compare.close"),
    ]

    def __init__(self, folder: RunFolder, history: RunHistory, step: int | None = None) -> None:
        super().__init__()
        self._folder, self._history = folder, history
        self._steps = sorted(history.samples)
        last = len(self._steps) - 1
        # The newest step is in the middle anyway; the previous one beside it shows what has changed.
        start = self._steps.index(step) if step in self._steps[:-1] else max(0, last - 1)
        self._left, self._right, self._prompt = start, last, 0

    def compose(self) -> ComposeResult:
        yield Canvas(id="title")
        yield Canvas(id="steps")
        yield Rule(line_style="solid", classes="rule")
        with Horizontal(id="pictures"):
            for name in ("a", "b", "c"):
                yield PictureView(id=name)
        yield Static("", id="prompt", markup=False)
        training = training_pictures(self._folder.images)
        grid = SampleGrid(recorded_samples(self._folder, self._history), self._history, training, id="grid")
        grid.display = False
        yield grid
        yield KeyLine()

    def on_mount(self) -> None:
        self._show()

    @property
    def in_grid(self) -> bool:
        """Whether the grid is shown instead of two steps."""
        return self.query_one(SampleGrid).display

    @property
    def help_text(self) -> str:
        if self.in_grid:
            return (
                "The samples, always drawn with the same prompts and seeds: a row for each prompt, a column for each "
                "step, training images at the right, gains below the steps. ★ is the best checkpoint. "
                "Arrows move and scroll; + and - make the images larger and smaller; enter shows the chosen step "
                "large. `ti-tui compare` saves the grid as one image."
            )
        return (
            "The samples of two steps, drawn with the same prompt and seed, beside a training image. Left and right "
            "choose the step at the left, j and k the one in the middle, up and down the prompt. v shows all steps and "
            "prompts as a grid."
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "right" and self.is_mounted and self.in_grid)

    def action_grid(self) -> None:
        grid = self.query_one(SampleGrid)
        self._switch(to_grid=True)
        grid.choose(self._steps[self._left], self._prompt)
        grid.focus()

    def on_sample_grid_closed(self, message: SampleGrid.Closed) -> None:
        if message.step is not None:
            self._left = self._steps.index(message.step)
        self._prompt = self.query_one(SampleGrid).prompt
        self.set_focus(None)
        self._switch(to_grid=False)

    def _switch(self, *, to_grid: bool) -> None:
        for widget in self.query("#steps, #pictures, #prompt"):
            widget.display = not to_grid
        self.query_one(SampleGrid).display = to_grid
        self.refresh_bindings()
        self._show()

    def action_left(self, by: int) -> None:
        self._left = min(max(self._left + by, 0), len(self._steps) - 1)
        self._show()

    def action_right(self, by: int) -> None:
        self._right = min(max(self._right + by, 0), len(self._steps) - 1)
        self._show()

    def action_prompt(self, by: int) -> None:
        most = max((len(files) for files in self._history.samples.values()), default=1)
        self._prompt = (self._prompt + by) % most
        self._show()

    def action_copy(self) -> None:
        path, _ = sample_at(self._folder, self._history, self._steps[self._left], self._prompt)
        path = self.query_one(SampleGrid).chosen_file if self.in_grid else path
        if path is not None:
            self.ti_tui.copy(str(path), "the path")

    def on_resize(self) -> None:
        # Images of equal width have equal height, so they can be compared row by row.
        for picture in self.query("#pictures PictureView"):
            picture.styles.width = max(4, self.size.width // 3 - 2)
        self._show()

    def _show(self) -> None:
        grid = self.query_one(SampleGrid)
        counted = f"   {grid.counted}" if grid.display else ""
        title: list[Piece] = [(f" {printable(self._folder.name)}", "accent b"), (f"   samples{counted}", "muted")]
        why = why_best(self._history, brief=True)
        room = self.size.width - sum(len(text) for text, _ in title) - 1
        stars = [f"   ★ {self._history.best_step}: {text}" for text in (why, why.partition(",")[0]) if text]
        title += [(star, "muted") for star in stars if len(star) <= room][:1]
        self.query_one("#title", Canvas).draw([title])
        self.query_one("#steps", Canvas).draw([self._step_line()])
        text = ""
        for name, at in (("#a", self._left), ("#b", self._right)):
            path, prompt = sample_at(self._folder, self._history, self._steps[at], self._prompt)
            self.query_one(name, PictureView).show(path, f"step {self._steps[at]}")
            text = prompt or text
        self.query_one("#c", PictureView).show(training_image(self._folder), "a training image")
        self.query_one("#prompt", Static).update(printable(text))

    def _step_line(self) -> list[Piece]:
        pieces: list[Piece] = [(" ", "")]
        for index, step in enumerate(self._steps):
            chosen: list[Any] = [name for name, at in (("‹", self._left), ("›", self._right)) if at == index]
            style = "accent b" if chosen else "muted"
            best = "★" if step == self._history.best_step else ""
            pieces.append((f"{''.join(chosen)}{best}{step} ", style))
        room = self.size.width - 2
        if sum(len(text) for text, _ in pieces) > room:
            near = {self._left - 1, self._left, self._left + 1, self._right - 1, self._right, self._right + 1}
            pieces = [piece for index, piece in enumerate(pieces, start=-1) if index in near or index == -1]
        return pieces
