"""What the dashboard writes, as lines: pure functions of a run's history, its status and its device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ti_tui.run.folder import Status
from ti_tui.run.history import CheckpointRow, RunHistory
from ti_tui.run.monitor import Reading
from ti_tui.run.scheme import Scheme
from ti_tui.setup.words import printable, seconds
from ti_tui.widgets.canvas import Line, Piece, cut
from ti_tui.widgets.chart import Axis, Curve, chart, nice_axis, spark
from ti_tui.widgets.field_row import wrapped

GIB = 1024**3
STATES = {
    "starting": ("◌", "accent"),
    "loading": ("◌", "accent"),
    "caching": ("◌", "accent"),
    "training": ("●", "success"),
    "sampling": ("●", "success"),
    "saving": ("●", "success"),
    "done": ("✓", "success"),
    "stopped": ("■", "warning"),
    "failed": ("!", "error"),
}
LONG_SILENCE_SECONDS = 120.0


@dataclass(frozen=True)
class View:
    """Everything that a line may say: the run's name, what is known of it, and how the chart is set.

    zoom: the chart shows the last so many steps; 0 is the whole run.
    """

    name: str
    history: RunHistory
    status: Status | None
    scheme: Scheme | None
    reading: Reading | None = None
    zoom: int = 0
    overlay: bool = True
    behind: float = 0.0

    @property
    def phase(self) -> str:
        return self.status.phase if self.status else self.history.phase or "not started"

    @property
    def step(self) -> int:
        return self.history.step

    @property
    def total(self) -> int:
        return self.history.total_steps or (self.status.total_steps if self.status else 0)


def head(view: View, width: int) -> list[Line]:
    """Three lines: where the run is; how it goes; how much of it is done."""
    mark, style = STATES.get(view.phase, ("·", "muted"))
    history = view.history
    going = view.status is not None and view.status.going
    where = f"step {view.step:>{len(str(view.total))}} of {view.total}" if view.total else "not started yet"
    first: list[Piece] = [
        (f" {view.name}", "accent b"),
        (f"   {mark} {view.phase}", style),
        (f"   {where}", "b"),
    ]
    if (epoch := history.epoch()) is not None and width >= 100:
        first.append((f"   epoch {epoch:.0f}", "muted"))
    left = history.left_seconds()
    if going and left is not None and view.phase in {"training", "sampling", "saving"}:
        first.append((f"   {seconds(left):>6} left", ""))
    if going and view.phase in {"loading", "caching", "starting"} and view.status and view.status.message:
        first.append((f"   {printable(view.status.message)}", "muted"))
    pace = history.seconds_per_step
    right = ""
    if pace:
        right = f"{1 / pace:.1f} steps/s " if pace < 1 else f"{pace:.1f} s a step "
    lines: list[Line] = [_apart(first, right, width), _second(view, width)]
    done = round(width * view.step / view.total) if view.total else 0
    lines.append([("━" * done, "accent"), ("─" * (width - done), "rule")])
    return lines


def _second(view: View, width: int) -> Line:
    history = view.history
    line: list[Piece] = []
    if history.smooth is not None:
        line += [(" loss ", "muted"), (f"{history.smooth:.4f} ", "chart-smooth b")]
        if width >= 100:
            recent = history.recent.values[-240:]
            line += [(spark(recent, 30), "chart-smooth"), (" ", "")]
    if history.evals:
        start, latest = history.evals[0][1], history.evals[-1][1]
        line += [("  eval ", "muted"), (f"{latest:.4f}", "chart-eval b")]
        if start and len(history.evals) > 1:
            change = (latest - start) / start * 100
            since = " since the start" if width >= 100 else ""
            line.append((f" {change:+.1f} %{since}", "muted" if change <= 0 else "warning"))
    right = ""
    if history.rate is not None:
        right = f"rate {history.rate:.2g}"
        if view.scheme and view.step and view.step < view.scheme.total_steps:
            change_at = view.scheme.next_change(view.step - 1)
            right += f", next {change_at[1]:.2g} at {change_at[0]}" if change_at else ""
        right += " "
    if view.behind:
        right = f"reading the log, {view.behind:.0%} "
    if not line and not right:
        return [(" ", "")]
    return _apart(line, right, width)


def curves(view: View, width: int, height: int) -> list[Line]:
    """The chart: raw and smoothed loss, eval loss, the rate over it, checkpoints on the axis."""
    history = view.history
    series = history.recent if view.zoom else history.loss
    total = max(view.total, 2)
    low_step = max(0, view.step - view.zoom) if view.zoom else 0
    high_step = max(view.step, low_step + 2) if view.zoom else total
    first = next((i for i, step in enumerate(series.steps) if step > low_step), len(series.steps))
    steps, values = series.steps[first:], series.values[first:]
    if not len(steps):
        words = "The loss is drawn here from the first steps on." if view.phase != "failed" else ""
        return [[(" " * 10 + words if row == height // 2 else "", "muted")] for row in range(height)]
    x = Axis(low_step, high_step)
    drawn = [
        Curve("loss", steps, values, "chart-raw", lows=series.lows[first:], highs=series.highs[first:]),
    ]
    if view.overlay and view.scheme is not None:
        drawn.insert(0, _rate_curve(view.scheme, x))
    smoothed = smooth_curve(values, weight=max(0.02, min(0.2, 30 / max(len(values), 1))))
    drawn.append(Curve("smoothed", steps, smoothed, "chart-smooth"))
    evals = [(step, loss) for step, loss in history.evals if low_step <= step <= high_step]
    if evals:
        drawn.append(Curve("eval", [s for s, _ in evals], [v for _, v in evals], "chart-eval"))
    everything = [*values, *(loss for _, loss in evals)]
    y = nice_axis(_low_end(everything), max(everything), log=True)
    marks = [row.step for row in history.checkpoints]
    legend: list[Piece] = [
        (" " * 8, ""), ("⠿ loss", "chart-raw"), ("   ", ""), ("⠒ smoothed", "chart-smooth"),
    ]  # fmt: skip
    if evals:
        legend += [("   ", ""), ("⠒ eval", "chart-eval")]
    if view.overlay and view.scheme is not None:
        legend += [("   ", ""), ("⠒ rate", "chart-rate")]
    legend += [("   ┴ save", "muted")]
    if view.zoom:
        legend.append((f"   the last {view.zoom} steps", "muted"))
    return [legend, *chart(width, height - 1, drawn, x, y, marks=marks)]


def smooth_curve(values: Sequence[float], weight: float) -> list[float]:
    """Exponential mean from left to right."""
    result: list[float] = []
    mean = values[0] if len(values) else 0.0
    for value in values:
        mean += weight * (value - mean)
        result.append(mean)
    return result


def meter(view: View, width: int) -> list[Line]:
    """Memory of the device as a bar and in numbers, then its load, heat and power."""
    reading = view.reading
    history = view.history
    title = "VRAM  " if reading is None or reading.kind == "cuda" else "Memory"
    if reading is None:
        return [[(f" {title}  ", "muted"), ("...", "muted")], [(" ", "")], [(" ", "")]]
    trainer = reading.trainer_bytes or 0
    others = reading.others_bytes if reading.others_bytes is not None else reading.used_bytes - trainer
    bar = max(6, width - 32)
    mine = round(bar * trainer / reading.total_bytes)
    theirs = round(bar * max(0, others) / reading.total_bytes)
    theirs = min(theirs, bar - mine)
    used = f"{(trainer or reading.used_bytes) / GIB:4.1f} of {reading.total_bytes / GIB:.1f} GiB"
    lines: list[Line] = [
        [
            (f" {title}  ", "muted"),
            ("█" * mine, "accent"),
            ("▒" * theirs, "muted"),
            ("░" * (bar - mine - theirs), "rule"),
            (f"  {used}", ""),
        ]
    ]
    parts = [f"others {max(0, others) / GIB:.1f}"]
    if history.peak_bytes:
        parts.insert(0, f"peak {history.peak_bytes / GIB:.1f}")
    if predicted := history.plan.get("predicted_bytes"):
        parts.insert(1, f"predicted {predicted / GIB:.1f}")
    lines.append([(" " * 9, ""), ("   ".join(parts), "muted")])
    load = []
    if reading.utilisation is not None:
        load.append(f"{reading.utilisation * 100:3.0f} %")
    if reading.celsius is not None:
        load.append(f"{reading.celsius:.0f} °C")
    if reading.watts is not None:
        load.append(f"{reading.watts:.0f} W")
    kind, name = ("GPU", f"  {reading.name}"[: width - 24]) if reading.kind == "cuda" else ("CPU", "")
    lines.append([(f" {kind:<8}", "muted"), ("  ".join(load), ""), (name, "muted")])
    return lines


def about(view: View, width: int, told: Sequence[tuple[float, str]], rows: int) -> list[Line]:
    """What the run is made of, then the last lines of its log."""
    plan = view.history.plan
    lines: list[Line] = [[("", "")]]
    if plan:
        each = f"{plan.get('batch_size')} x {plan.get('accumulation')}, {plan.get('precision')}"
        lines.append([(" Step     ", "muted"), (each, ""), (f"  of {view.history.images} images", "muted")])
    lines.append([("", "")])
    room = max(0, rows - len(lines) - 1)
    if room < 2:
        return lines[: max(rows, 0)]
    lines.append([(" Log", "muted")])
    shown: list[Line] = []
    for t, text in reversed(told):
        clock = time.strftime("%H:%M", time.localtime(t))
        parts = wrapped(printable(text), width - 9)
        style = "warning" if text.startswith("warning") else ""
        entry: list[Line] = [
            [(f" {clock if i == 0 else '':<6} ", "muted"), (part, style)] for i, part in enumerate(parts[:3])
        ]
        if len(shown) + len(entry) > room:
            break
        shown = [*entry, *shown]
    return [*lines, *shown]


def checkpoint_heading(width: int) -> Line:
    """The columns' names, over those of `checkpoint`."""
    return [(cut(f" {'step':>7}  {'loss':>7} {'eval':>7} {'norm':>6}  installed", width), "muted")]


def checkpoint(row: CheckpointRow, width: int, *, last: bool) -> list[Piece]:
    """One checkpoint as columns of fixed width."""

    def number(value: float | None, form: str) -> str:
        return format(value, form) if value is not None else "-"

    text = f"{row.step:>7}  {number(row.loss, '.4f'):>7} {number(row.eval_loss, '.4f'):>7} {number(row.norm, '.2f'):>6}"
    installed = "  ✓" if row.installed else ""
    return [(text, "b" if last else ""), (installed, "success")]


def result(view: View, token: str, file: str, width: int) -> list[Line]:
    """What came out of a run that has ended, and how to use it or go on."""
    status = view.status
    if status is None:
        return [[("! ", "warning b"), ("This run was never trained. ", ""), ("t", "accent b"), (" starts it.", "")]]
    match status.phase:
        case "done":
            return [
                [("✓ ", "success b"), (f"Done. The embedding: {file}", "b")],
                [
                    ("  In a prompt: ", "muted"),
                    (f"a photo of {token}", ""),
                    ("   c", "accent b"),
                    (" copies the path   ", "muted"),
                    ("i", "accent b"),
                    (" installs it in A1111, Forge or ComfyUI", "muted"),
                ],
            ]
        case "stopped":
            where = f"Stopped at step {status.step} of {status.total_steps}, saved. "
            goes_on = " goes on from there, to the same result."
            return [[("■ ", "warning b"), (where, "b"), ("t", "accent b"), (goes_on, "")]]
        case "failed":
            text = wrapped(printable(status.message) or "the trainer ended without a word", width - 4)[:4]
            said: list[Line] = [[("! " if i == 0 else "  ", "error b"), (part, "error")] for i, part in enumerate(text)]
            goes_on, log = " goes on from the last checkpoint   ", " shows the log"
            return [*said, [("  t", "accent b"), (goes_on, "muted"), ("l", "accent b"), (log, "muted")]]
    return []


def warnings(view: View, read: int, width: int) -> list[Line]:
    """Warnings that were not read yet; at most three lines."""
    unread = view.history.warnings[read:]
    if not unread:
        return []
    newest = unread[-1]
    more = f" (and {len(unread) - 1} before)" if len(unread) > 1 else ""
    text = wrapped(f"step {newest.step}: {printable(newest.message)}{more}", width - 22)[:2]
    lines: list[Line] = [[("! " if i == 0 else "  ", "warning b"), (part, "warning")] for i, part in enumerate(text)]
    lines[0] = [*lines[0], ("   w", "accent b"), (" read", "muted")]
    return lines


def how_to_use(token: str, file: str) -> str:
    """The help's paragraph about the result."""
    return f"The embedding is in {file}. Copied into a program's embeddings folder, `{token}` calls it."


def _rate_curve(scheme: Scheme, x: Axis) -> Curve:
    count = 200
    steps = sorted({int(x.low + (x.high - x.low) * i / count) for i in range(count + 1)})
    steps = [step for step in steps if 0 <= step < scheme.total_steps]
    return Curve("rate", steps, [max(scheme.rate_at(step), 1e-9) for step in steps], "chart-rate", own_scale=True)


def _low_end(values: Sequence[float]) -> float:
    """The lowest value that matters: a few tiny ones would press everything else together."""
    ordered = sorted(values)
    return max(ordered[len(ordered) // 200], ordered[-1] / 1e4, 1e-6)


def _apart(left: list[Piece], right: str, width: int) -> Line:
    from rich.cells import cell_len

    used = sum(cell_len(text) for text, _ in left)
    gap = width - used - cell_len(right)
    if gap < 1:
        return left
    return [*left, (" " * gap, ""), (right, "")]
