"""The panels of the dashboard: each has a number that jumps to it, and words that its help explains."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static


class Panel(Vertical):
    """A part of the dashboard with its number in the top left cell, which shows whether it has the focus.

    title, help_text, help_terms: what `?` shows first while the panel has the focus.
    """

    DEFAULT_CSS = """
    Panel { layers: base numbers; }
    Panel > .panel-number { position: absolute; layer: numbers; width: 1; height: 1; color: $muted; }
    Panel:focus-within > .panel-number { color: $accent; text-style: bold reverse; }
    Panel:focus > .panel-number { color: $accent; text-style: bold reverse; }
    """

    def __init__(self, number: int, name: str, help_text: str, *help_terms: str, id: str, focus: bool = True) -> None:
        super().__init__(id=id)
        self.number, self.title = number, name
        self.help_text: str = help_text
        self.help_terms: tuple[str, ...] = help_terms
        # The panel of the checkpoints holds a list, which takes the focus itself.
        self.can_focus = focus

    def compose(self) -> ComposeResult:
        yield Static(str(self.number), classes="panel-number", markup=False)


def chart_panel() -> Panel:
    """The curves of loss and rate."""
    return Panel(
        1,
        "chart",
        "Down is better, for both losses; the scale at the left is logarithmic. Look at the eval loss: the train loss "
        "jumps with the noise of each step, and its trend says little. A rate that is too high shows as a rising eval "
        "loss; one that is too low as a flat one. The rate has its own scale, at the right where there is room. r "
        "changes the range, o hides the rate.",
        "train loss", "smooth", "eval loss", "rate", "save", "so far",
        id="chart-panel",
    )  # fmt: skip


def device_panel() -> Panel:
    """The memory and the load of the device."""
    return Panel(
        2,
        "device",
        "The bar is the device's memory: the trainer's part, other programs' part, and what is free. A load near 100 % "
        "is good: the device does not wait. z shows what each auto of the run file became, and why.",
        "VRAM", "peak", "predicted", "others", "load", "batch",
        id="device-panel",
    )  # fmt: skip


def log_panel() -> Panel:
    """The last lines of the log."""
    return Panel(
        3,
        "log",
        "The last events of the run, newest last. z or l shows the whole log, in which / finds.",
        "verdict", "checkpoint", "sample", "request",
        id="log-panel",
    )  # fmt: skip


def checkpoints_panel() -> Panel:
    """The table of checkpoints."""
    return Panel(
        4,
        "checkpoints",
        "A line for each checkpoint, newest first. ★ is the one to use: the highest rank. i, c and d act on the chosen "
        "line, enter compares its samples.",
        "gain", "held out", "prompts", "rank", "norm", "installed", "eval", "best checkpoint",
        id="saves", focus=False,
    )  # fmt: skip


def samples_panel(panel: type[Panel]) -> Panel:
    """The samples, in the given kind of panel."""
    return panel(
        5,
        "samples",
        "The same prompts and seeds at two steps, beside training images. Good: they look more and more like the "
        "training images, and the rest of the prompt is still followed. Bad: all samples look alike, whatever the "
        "prompt. ←→ choose the step at the left, ↑↓ or [ ] the prompt; z or g shows all steps and prompts.",
        "sample", "step", "best checkpoint", "prompt-following",
        id="samples",
    )  # fmt: skip
