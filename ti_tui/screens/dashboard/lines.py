"""The text of the dashboard: functions of a run, as it is followed, and of its device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ti_tui.formatting import clock, printable, seconds, wrapped
from ti_tui.monitoring.followed_run import FollowedRun
from ti_tui.run.device_monitor import DeviceReading
from ti_tui.run.hardware import GIB
from ti_tui.run.history import RunHistory
from ti_tui.run.scheme import Scheme
from ti_tui.run.smoothing import smooth_curve
from ti_tui.screens.dashboard import verdict_lines
from ti_tui.widgets.canvas import LEAST_WIDTH, Line, Piece, cut, marked, spread
from ti_tui.widgets.chart import Axis, Curve, chart, nice_axis, spark

STATES = {
    "starting": ("◌", "accent"),
    "loading": ("◌", "accent"),
    "caching": ("◌", "accent"),
    "training": ("●", "success"),
    "sampling": ("●", "success"),
    "saving": ("●", "success"),
    "paused": ("▌", "warning"),
    "done": ("✓", "success"),
    "stopped": ("■", "warning"),
    "failed": ("!", "error"),
}
LONG_SILENCE_SECONDS = 120.0
MOST_STEPS = 10_000_000
"""An upper limit, since a damaged log may contain any number."""


@dataclass(frozen=True)
class View:
    """A run, and the settings of the chart. zoom: how many of the last steps it shows; 0 is all, -1 all so far."""

    run: FollowedRun
    reading: DeviceReading | None = None
    zoom: int = 0
    overlay: bool = True

    @property
    def phase(self) -> str:
        status = self.run.status
        return printable(status.phase if status else self.run.history.phase or "not started")[:16]

    @property
    def step(self) -> int:
        return min(max(self.run.history.step, 0), MOST_STEPS)

    @property
    def total(self) -> int:
        total = self.run.history.total_steps or (self.run.status.total_steps if self.run.status else 0)
        return min(max(total, self.step), MOST_STEPS)

    @property
    def silent_seconds(self) -> float:
        """How long a run whose status is running has written nothing."""
        status = self.run.status
        if status is None or not status.going:
            return 0.0
        return max(0.0, time.time() - max(status.updated, self.run.history.last_t or 0.0))


def head(view: View, width: int) -> list[Line]:
    """Three lines: phase and step; losses and rate; a progress bar."""
    mark, style = STATES.get(view.phase, ("·", "muted"))
    run, history = view.run, view.run.history
    where = f"step {view.step:>{len(str(view.total))}} of {view.total}" if view.total else "not started yet"
    first: list[Piece] = [
        (f" {printable(run.folder.name)[:24]}", "accent b"),
        (f"   {mark} {view.phase}", style),
        (f"   {where}", "b"),
    ]
    if (epoch := history.epoch()) is not None and width >= 100:
        first.append((f"   epoch {epoch:.0f}", "muted"))
    left = history.left_seconds()
    if view.silent_seconds > LONG_SILENCE_SECONDS and run.status is not None:
        where_from = f" on {printable(run.status.host)}" if run.status.process.alive() is None else ""
        first.append((f"   silent for {seconds(view.silent_seconds)}{where_from}", "warning"))
    elif run.going and left is not None and view.phase in {"training", "sampling", "saving"}:
        first.append((f"   {seconds(left):>6} left", ""))
    if run.going and view.phase in {"loading", "caching", "starting", "paused"} and run.status and run.status.message:
        first.append((f"   {printable(run.status.message)}", "muted"))
    pace = history.seconds_per_step if view.phase != "paused" else None
    right = ""
    if pace and 1e-6 < pace < 1e6:
        right = f"{1 / pace:.1f} steps/s " if pace < 1 else f"{pace:.1f} s a step "
    lines: list[Line] = [spread(first, (right, ""), width), _second(view, width)]
    done = min(width, round(width * view.step / view.total)) if view.total else 0
    lines.append([("━" * done, "accent"), ("─" * (width - done), "rule")])
    return lines


def title(view: View) -> str:
    """The run in a few words for the terminal's title: `zkz 42 % - 12 min`, `zkz done`."""
    left = view.run.history.left_seconds()
    if not view.run.going or not view.total:
        return f"{view.run.name} {view.phase}"
    # By the minute, so that the title is not sent again every second.
    rest = "1 min" if left is not None and left < 90 else seconds(left or 0)
    time_left = f" - {rest}" if left is not None and view.phase != "paused" else ""
    return f"{view.run.name} {100 * view.step // view.total} %{time_left}"


def _second(view: View, width: int) -> Line:
    history = view.run.history
    line: list[Piece] = []
    if history.smooth is not None:
        line += [(" loss ", "muted"), (f"{verdict_lines.loss(history.smooth)} ", "chart-smooth b")]
        if width >= 100:
            recent = history.recent.values[-240:]
            line += [(spark(recent, 30), "chart-smooth"), (" ", "")]
    line += verdict_lines.summary(history, wide=width >= 100)
    if history.bad_steps:
        line.append((f"   {len(history.bad_steps)} losses were not numbers", "warning"))
    right = ""
    if history.rate is not None:
        right = f"rate {history.rate:.2g}"
        if view.run.scheme and view.step and view.step < view.run.scheme.total_steps:
            change_at = view.run.scheme.next_change(view.step - 1)
            right += f", next {change_at[1]:.2g} at {change_at[0]}" if change_at else ""
        right += " "
    if view.run.behind:
        right = f"reading the log, {view.run.behind:.0%} "
    if not line and not right:
        return [(" ", "")]
    return spread(line, (right, ""), width)


def curves(view: View, width: int, height: int, *, rate_axis: bool = False) -> list[Line]:
    """The chart: raw and smoothed loss, eval loss, learning rate, and checkpoints on the axis.

    rate_axis: with an axis for the rate at the right.
    """
    history = view.run.history
    series = history.recent if view.zoom > 0 else history.loss
    low_step = max(0, view.step - view.zoom) if view.zoom > 0 else 0
    high_step = max(view.step, low_step + 2) if view.zoom else max(view.total, 2)
    first = next((i for i, step in enumerate(series.steps) if step > low_step), len(series.steps))
    steps, values = series.steps[first:], series.values[first:]
    if not len(steps):
        text = wrapped("The loss is shown from the first steps on.", max(LEAST_WIDTH, width - 4))
        top = max(0, height // 2 - 1)
        return [[("  " + (text[row - top] if 0 <= row - top < len(text) else ""), "muted")] for row in range(height)]
    x = Axis(low_step, high_step)
    drawn = [Curve("loss", steps, values, "chart-raw", band=True)]
    if view.overlay and view.run.scheme is not None:
        drawn.insert(0, _rate_curve(view.run.scheme, x))
    drawn.append(Curve("smoothed", steps, smooth_curve(values), "chart-smooth"))
    evals = [(step, loss) for step, loss in history.evals if low_step <= step <= high_step]
    if evals:
        mark = "●" if len(evals) <= width // 5 else ""
        drawn.append(Curve("eval", [s for s, _ in evals], [v for _, v in evals], "chart-eval", mark=mark))
    low, high = _span([*values, *(loss for _, loss in evals)])
    y = nice_axis(low, high, log=True)
    return [
        _legend(view, width, evals=bool(evals)),
        *chart(width, height - 1, drawn, x, y, marks=view.run.saves(), right_axis=rate_axis),
    ]


def _legend(view: View, width: int, *, evals: bool) -> Line:
    parts: list[Piece] = [("⠿ loss", "chart-raw"), ("⠒ smooth", "chart-smooth")]
    if evals:
        parts.append(("● eval", "chart-eval"))
    if view.overlay and view.run.scheme is not None:
        parts.append(("⠒ rate", "chart-rate"))
    parts.append(("┴ save", "muted"))
    if view.zoom:
        parts.append((f"the last {view.zoom} steps" if view.zoom > 0 else "so far", "b"))
    legend: list[Piece] = [("  Chart ", "muted")]
    used = 8
    for text, style in parts:
        if used + len(text) > width:
            break
        legend += [(text, style), ("  ", "")]
        used += len(text) + 2
    return legend


def meter(view: View, width: int) -> list[Line]:
    """Memory of the device as a bar and in numbers, then its load, temperature and power."""
    reading, history = view.reading, view.run.history
    title = "VRAM  " if reading is None or reading.kind == "cuda" else "Memory"
    if reading is None or reading.total_bytes <= 0:
        return [[(f"  {title} ", "muted"), ("...", "muted")], [(" ", "")], [(" ", "")]]
    trainer = reading.trainer_bytes or 0
    others = max(0, reading.used_bytes - trainer) if reading.others_bytes is None else reading.others_bytes
    bar = max(6, width - 11)
    mine = min(bar, round(bar * trainer / reading.total_bytes))
    theirs = min(bar - mine, round(bar * others / reading.total_bytes))
    lines: list[Line] = [
        [
            (f"  {title} ", "muted"),
            ("█" * mine, "accent"),
            ("▒" * theirs, "muted"),
            ("░" * (bar - mine - theirs), "rule"),
        ]
    ]
    numbers: list[Piece] = [
        (" " * 9, ""),
        (f"{(trainer or reading.used_bytes) / GIB:.1f} of {reading.total_bytes / GIB:.1f} GiB", ""),
    ]
    predicted = history.plan.get("predicted_bytes")
    for name, count in (("peak", history.peak_bytes), ("predicted", predicted), ("others", others)):
        text = f"  {name} {count / GIB:.1f}" if isinstance(count, int | float) and 0 < count < 1e18 else ""
        if sum(len(part) for part, _ in numbers) + len(text) <= width:
            numbers.append((text, "muted"))
    lines.append(numbers)
    load = []
    if reading.utilisation is not None:
        load.append(f"{reading.utilisation * 100:3.0f} %")
    if reading.celsius is not None:
        load.append(f"{reading.celsius:.0f} °C")
    if reading.watts is not None:
        load.append(f"{reading.watts:.0f} W")
    kind = "GPU" if reading.kind == "cuda" else "CPU"
    lines.append([(f" {kind:<8} ", "muted"), ("  ".join(load).strip(), "")])
    return lines


def facts(view: View, width: int, *, reasons: bool = False) -> list[Line]:
    """The device's name, and how a step is computed. reasons: also what each `auto` became, and why."""
    plan, reading = view.run.history.plan, view.reading
    lines: list[Line] = []
    if reading is not None and reading.kind == "cuda":
        lines.append([(" Device   ", "muted"), (cut(printable(reading.name), max(1, width - 11)).rstrip(), "")])
    if plan:
        each = printable(f"{plan.get('batch_size')} x {plan.get('accumulation')}, {plan.get('precision')}")[:24]
        lines.append([(" Batch    ", "muted"), (each, ""), (f"  ({view.run.history.images} images)", "muted")])
    if reasons:
        for name, reason in view.run.history.reasons.items():
            lines += [[("", "")], *marked("  ", printable(f"{name}: {reason}"), "", max(LEAST_WIDTH, width - 4))]
    return lines


def log(width: int, entries: Sequence[tuple[float, str]], rows: int) -> list[Line]:
    """The last lines of the log that fit below its title."""
    shown: list[Line] = []
    for t, text in reversed(entries):
        parts = wrapped(printable(text), max(LEAST_WIDTH, width - 9))
        style = "warning" if text.startswith("warning") else ""
        entry: list[Line] = [
            [(f" {clock(t) if i == 0 else '':<6} ", "muted"), (part, style)] for i, part in enumerate(parts[:3])
        ]
        if shown and len(shown) + len(entry) > rows - 1:
            break
        shown = [*entry, *shown]
    return [[("  Log", "muted")], *shown][: max(rows, 0)]


def result(view: View, file: str, width: int) -> list[Line]:
    """The result of a run that has ended, and how to use or continue it."""
    if view.run.run_file_error:
        text = f"run.toml cannot be used: {printable(view.run.run_file_error)}"
        return marked("! ", text, "error", width - 4, most=3)
    status = view.run.status
    if status is None:
        if view.step:
            return _ended("!", "status.json cannot be read.", "continues the run", style="")
        return _ended("!", "This run was never trained.", "starts it", style="")
    match status.phase:
        case "done" if view.run.scheme is not None and view.run.scheme.total_steps > max(view.step, status.step):
            more = view.run.scheme.total_steps - max(view.step, status.step)
            return _ended("■", f"The scheme has {more} more steps.", "trains them")
        case "done":
            where = " installs it in A1111, Forge or ComfyUI" if width >= 96 else " installs it"
            return [
                [("✓ ", "success b"), (f"Done. The embedding: {printable(file)}", "b")],
                [
                    ("  In a prompt: ", "muted"),
                    (f"a photo of {view.run.name}", ""),
                    ("   c", "accent b"),
                    (" copies the path   ", "muted"),
                    ("i", "accent b"),
                    (where, "muted"),
                ],
            ]
        case "stopped" if not view.run.saves():
            return _ended("■", "Stopped before the first checkpoint.", "starts again at step 0")
        case "stopped":
            where = f"step {status.step} of {status.total_steps}"
            return _ended("■", f"Stopped and saved at {where}.", "resumes it, with the same result")
        case "failed":
            text = printable(status.message) or "the trainer ended without a message"
            reason = marked("! ", text, "error", width - 4, most=4)
            how = f" resumes at step {view.run.saves()[-1]}   " if view.run.saves() else " starts again at step 0   "
            return [*reason, [("  t", "accent b"), (how, "muted"), ("l", "accent b"), (" shows the log", "muted")]]
    return []


def _ended(mark: str, text: str, key_does: str, *, style: str = "b") -> list[Line]:
    """Why a run does not train now, and what the key t does."""
    return [[(f"{mark} ", "warning b"), (f"{text} ", style), ("t", "accent b"), (f" {key_does}.", "")]]


def warnings(history: RunHistory, read: int, width: int) -> list[Line]:
    """The newest unread warning; at most two lines."""
    unread = history.warnings[read:]
    if not unread:
        return []
    newest = unread[-1]
    more = f" (and {len(unread) - 1} earlier)" if len(unread) > 1 else ""
    lines = marked("! ", f"step {newest.step}: {printable(newest.message)}{more}", "warning", width - 22, most=2)
    lines[0] = [*lines[0], ("   w", "accent b"), (" read", "muted")]
    return lines


def _rate_curve(scheme: Scheme, x: Axis) -> Curve:
    count = 200
    steps = sorted({int(x.low + (x.high - x.low) * i / count) for i in range(count + 1)})
    steps = [step for step in steps if 0 <= step < scheme.total_steps]
    return Curve("rate", steps, [max(scheme.rate_at(step), 1e-9) for step in steps], "chart-rate", own_scale=True)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The range to draw, without a few outliers that would squeeze everything else."""
    ordered = sorted(values)
    count = len(ordered)
    low, high = ordered[count // 50], ordered[-1 - count // 100]
    return max(low, high / 1e4, 1e-6), max(high, 1e-6)
