"""The health screen of a run: gains, error by noise, and the norms and nearest words of its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Rule

from ti_tui.formatting import number, percent, printable, wrapped
from ti_tui.monitoring.followed_run import FollowedRun
from ti_tui.run.evaluations import BANDS, Evaluation
from ti_tui.run.history import RunHistory
from ti_tui.run.verdicts import LEAST_FOLLOWING
from ti_tui.screens.base import AppAccess
from ti_tui.screens.dashboard import verdict_lines
from ti_tui.widgets.canvas import LEAST_WIDTH, Canvas, Line, Piece, cut, marked
from ti_tui.widgets.chart import Axis, Curve, chart, spark
from ti_tui.widgets.key_line import KeyLine

if TYPE_CHECKING:
    from ti_tui.embeddings.health import Health

BAR, TREND = 20, 12
NAME = 16
LEAST_CHART, WIDE_TABLE = 30, 50


class HealthScreen(AppAccess, Screen[None]):
    """Gains, error by noise, trends and vectors; it follows the run like the dashboard."""

    help_text = (
        "Gain: how much smaller the eval loss is than with the initial vectors. Held-out images are not trained on: if "
        "their gain falls while the other rises, the vectors learn the training images by heart.\n\n"
        "Error by noise: relative to an empty prompt, for four parts of the timesteps. Much noise decides what the "
        "image shows, little noise its details.\n\nPrompt-following: how far the prompt's other words still act. "
        "Vectors with a large norm drown them; normal words have a norm of about the median word.\n\n"
        "More in docs/loss.md."
    )
    help_terms = (
        "gain", "held-out images", "error by noise", "prompt-following", "vectors", "norm", "median word",
        "effective rank",
    )  # fmt: skip
    BINDINGS = [
        Binding("up,k", "scroll(-1)", "Scroll", key_display="↑↓", id="health.scroll"),
        Binding("down,j", "scroll(1)", "Scroll", show=False),
        Binding("pageup", "scroll(-10)", "Scroll", show=False),
        Binding("pagedown", "scroll(10)", "Scroll", show=False),
        Binding("escape,q,v", "dismiss(None)", "Back", key_display="esc", id="health.close"),
    ]

    def __init__(self, followed: FollowedRun) -> None:
        super().__init__()
        self._followed = followed

    def compose(self) -> ComposeResult:
        yield Canvas(id="title")
        yield Rule(line_style="solid", classes="rule")
        with Horizontal(id="health"):
            with Vertical(id="health-left"):
                yield Canvas(id="gains")
                yield Canvas(id="figures")
            with VerticalScroll(id="vectors", can_focus=False):
                yield Canvas(id="table")
        yield KeyLine()

    def on_mount(self) -> None:
        self.set_interval(self.ti_tui.config.refresh_seconds, self._follow)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def action_scroll(self, by: int) -> None:
        self.query_one("#vectors", VerticalScroll).scroll_relative(y=by, animate=False)

    def _follow(self) -> None:
        if self.app.screen is self:
            self._followed.read(0.05)
            self._show()

    def _show(self) -> None:
        history = self._followed.history
        step = f"step {history.step}" if history.step else "not started yet"
        title: list[Piece] = [(f" {printable(self._followed.folder.name)[:24]}", "accent b"), ("   vectors", "muted")]
        title += [(f"   {step}", "b"), *verdict_lines.summary(history, wide=self.size.width >= 100)]
        self.query_one("#title", Canvas).draw([title])
        gains, figures = self.query_one("#gains", Canvas), self.query_one("#figures", Canvas)
        gains.draw(gain_chart(history, gains.size.width - 1, gains.size.height))
        figures.draw(figure_lines(history, figures.size.width))
        table = self.query_one("#table", Canvas)
        table.draw(vector_lines(history, self.query_one("#vectors").size.width - 2))


def gain_chart(history: RunHistory, width: int, height: int) -> list[Line]:
    """A chart of the gain in percent, on training images and on held-out images."""
    known = [evaluation for evaluation in history.evaluations if evaluation.gain is not None]
    if len(known) < 2 or width < LEAST_CHART:
        text = wrapped("The gain is shown from the second evaluation on.", max(LEAST_WIDTH, width - 2))
        return [[("", "")], *([("  " + part, "muted")] for part in text)]
    steps = [evaluation.step for evaluation in known]
    trained = [(evaluation.gain or 0.0) * 100 for evaluation in known]
    held = [(evaluation.step, evaluation.held_gain * 100) for evaluation in known if evaluation.held_gain is not None]
    values = [*trained, *(value for _, value in held)]
    low, high = min(0.0, *values), max(5.0, *values)
    curves = [Curve("gain", steps, trained, "chart-eval")]
    legend: list[Piece] = [
        (" " * 8, ""),
        ("⠒ gain in %, trained on" if width >= 46 else "gain in %, trained", "chart-eval"),
    ]
    if held:
        curves.append(Curve("held", [step for step, _ in held], [value for _, value in held], "chart-smooth"))
        legend.append(("  ⠒ held out" if width >= 46 else "  held out", "chart-smooth"))
    marks = [history.best_step] if history.best_step is not None else []
    if marks and width >= 60:
        legend.append((f"  ┴ best: step {history.best_step}", "muted"))
    x = Axis(0, max(steps[-1], 2))
    return [legend, *chart(width, height - 1, curves, x, Axis(low, high), marks=marks, y_text=lambda at: f"{at:.0f}")]


def figure_lines(history: RunHistory, width: int) -> list[Line]:
    """Figures of the last evaluation, each with its trend over the run."""
    if not history.evaluations:
        return []
    last = history.evaluations[-1]
    lines: list[Line] = []

    def add(name: str, value: str, values: Sequence[float], note: str = "", style: str = "") -> None:
        line: list[Piece] = [(f" {name:<{NAME}} ", "muted"), (f"{value:>8} ", style), (spark(values, TREND), "muted")]
        if note and width >= NAME + TREND + 12 + len(note):
            line.append((f"  {note}", "muted"))
        lines.append(line)

    def trend(name: str) -> list[float]:
        return [value for found in history.evaluations if (value := getattr(found, name)) is not None]

    if last.gain is not None:
        add("gain", percent(last.gain, sign=True), trend("gain"), _error(last.gain_error))
    if last.held_gain is not None:
        add("gain, held out", percent(last.held_gain, sign=True), trend("held_gain"), _error(last.held_gain_error))
    if followed := trend("follows"):
        style = "warning" if followed[-1] < LEAST_FOLLOWING else ""
        add("prompt-following", percent(followed[-1]), followed, "vs. the start", style)
    if last.length is not None:
        largest = f"the largest {last.longest:.1f}" if last.longest is not None else ""
        add("norm / median", f"{last.length:.1f}", trend("length"), largest)
    if last.rank is not None:
        count = sum(len(values.get("norms", ())) for values in history.health[:1])
        add("effective rank", f"{last.rank:.1f}", trend("rank"), f"of {number(count, 'vector')}" if count else "")
    return [*lines, *band_lines(history.evaluations[0], last, width)]


def band_lines(start: Evaluation, last: Evaluation, width: int) -> list[Line]:
    """The error in each band of timesteps relative to an empty prompt: a bar for now, a number for the start."""
    if len(last.bands) != BANDS:
        return []
    bar = max(6, min(BAR, width - NAME - 24))
    lines: list[Line] = [[("", "")], [(" error by noise; 1 is an empty prompt", "muted")]]
    for band, now in enumerate(last.bands):
        name = ("little", "some", "more", "much")[band]
        then = start.bands[band] if len(start.bands) == BANDS else None
        if now is None:
            lines.append([(f" {name:<{NAME}} ", "muted"), ("not trained", "muted")])
            continue
        filled = min(bar, round(bar * now))
        before = f"  from {then:.2f}" if then is not None and start.step != last.step else ""
        lines.append(
            [
                (f" {name:<{NAME}} ", "muted"),
                ("█" * filled, "chart-eval"),
                ("░" * (bar - filled), "rule"),
                (f"  {now:.2f}", "b"),
                (before, "muted"),
            ]
        )
    return lines


def vector_lines(history: RunHistory, width: int) -> list[Line]:
    """Each vector of the newest checkpoint: its norm, cosine with its initial vector, nearest words."""
    if not history.health:
        return [[("", "")], [("  The vectors are shown from the first checkpoint on.", "muted")]]
    from ti_tui.embeddings.health import Health

    lines: list[Line] = [[(f" the vectors at step {history.health_step}", "muted")]]
    for encoder, values in enumerate(history.health):
        health = Health.from_values(values)
        if health is None:
            continue
        if len(history.health) > 1:
            lines += [[("", "")], [(f" text encoder {encoder + 1} of {len(history.health)}", "b")]]
        nearest = values.get("nearest")
        lines += _vector_table(health, nearest if isinstance(nearest, list) else [], width)
        for finding in health.findings():
            lines += marked(" ! ", finding, "warning", width - 4)
    return lines


def _vector_table(health: Health, nearest: list[Any], width: int) -> list[Line]:
    wide = width >= WIDE_TABLE
    heading = "   #    norm median  start  nearest words" if wide else "   # median  start  nearest word"
    lines: list[Line] = [[(cut(heading, width), "muted")]]
    for place, norm in enumerate(health.norms):
        times = f"{health.times_a_word[place]:>5.1f}x" if health.times_a_word else f"{'':>6}"
        start = f"{health.start_cosines[place]:>6.2f}" if health.start_cosines else f"{'':>6}"
        near = nearest[place] if place < len(nearest) and isinstance(nearest[place], list) else []
        words = "  ".join(printable(str(word)) for word in (near if wide else near[:1]))
        row = f" {place + 1:>3}  {norm:>6.2f} {times} {start}  " if wide else f" {place + 1:>3} {times} {start}  "
        lines.append([(row, ""), (cut(words, max(0, width - len(row))), "muted")])
    return lines


def _error(value: float | None) -> str:
    return f"± {value * 100:.0f} (std. error)" if value else ""
