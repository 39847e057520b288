"""Draws one chart as SVG: curves with error bands, axes, and the marks that all charts of a page share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ti_tui.formatting import percent
from ti_tui.results.report.markup import Html, tag

WIDTH, HEIGHT = 480, 264
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 24, 34
MOST_POINTS = 360
"""Points of a curve: about the width of the plot in pixels on a phone."""
MOST_DOTS, FEW_DOTS = 40, 16
"""A curve of more than MOST_DOTS points gets only FEW_DOTS."""
MOST_TICKS = 60
LOOKS = {"learned": "good", "learning": "neutral"}
"""CSS classes of verdicts; all others are "bad"."""
LETTER = 7.0
"""About the width of a letter in a label, in pixels."""

Point = tuple[float, float]


@dataclass(frozen=True)
class ReportCurve:
    """A line of a chart.

    look:   its CSS class in page.css, such as "trained".
    points: (step, value), ascending.
    around: (low, high) for each point, drawn as a pale band; no band if empty.
    dots:   whether points get dots with their values as tooltips.
    """

    name: str
    look: str
    points: Sequence[Point]
    around: Sequence[tuple[float, float]] = ()
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """What is drawn. key: unique on the page. says: the sentence under the title.

    unit: percent writes 0.5 as 50 %. lines: values to mark, with their meaning.
    """

    key: str
    title: str
    says: str
    curves: Sequence[ReportCurve]
    scale: Literal["linear", "log"] = "linear"
    unit: Literal["", "percent"] = ""
    zero: bool = False
    lines: Sequence[tuple[float, str]] = ()
    limits: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Marks:
    """The marks that all charts share: checkpoints, the best one, verdicts, and the step where the charts end."""

    last_step: int
    checkpoints: Sequence[int] = ()
    best: int | None = None
    verdicts: Sequence[tuple[int, str]] = ()


def figure(chart: Chart, marks: Marks) -> Html:
    """The chart with its title, sentence and legend."""
    legend = [
        tag("span", _swatch(curve), f" {curve.name}", class_="legend-item") for curve in chart.curves if curve.points
    ]
    caption = [
        tag("h3", chart.title),
        tag("p", chart.says) if chart.says else None,
        tag("p", legend, class_="legend") if legend else None,
    ]
    return tag("figure", tag("figcaption", caption), _svg(chart, marks), class_="chart")


def described(chart: Chart) -> str:
    """The chart in words, for people who cannot see it."""
    sentences = []
    for curve in chart.curves:
        if curve.points:
            (first, start), (last, end) = curve.points[0], curve.points[-1]
            values = f"{_value(start, chart.unit)} at step {first:.0f}, {_value(end, chart.unit)} at step {last:.0f}"
            lowest, highest = (find(value for _, value in curve.points) for find in (min, max))
            span = f"between {_value(lowest, chart.unit)} and {_value(highest, chart.unit)}"
            sentences.append(f"{curve.name}: {values}, {span}.")
    return " ".join(sentences) or "No values yet."


def nice_steps(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers within [low, high], evenly apart."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * times for times in (1, 2, 5) if power * times >= rough * 0.999), power * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def log_steps(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers within [low, high] for a logarithmic axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for parts in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 3), (1,)):
        found = [part * 10.0**power for power in range(first, last + 1) for part in parts]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if 2 < len(found) <= most:
            return found
    if high / low < 10:
        return [value for value in nice_steps(low, high, most) if value > 0]
    every = max(1, math.ceil((last - first) / max(1, most - 1)))
    return [10.0**power for power in range(first, last + 1, every) if low * 0.999 <= 10.0**power <= high * 1.001]


def thinned_points(points: Sequence[Point], most: int) -> list[int]:
    """Indices of at most `most` points, evenly spread, with the first and the last."""
    count = len(points)
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})


class _Plane:
    """Maps steps and values to coordinates."""

    def __init__(self, chart: Chart, last_step: int) -> None:
        self.log = chart.scale == "log"
        self.last_step = max(1, last_step)
        low, high = self._span(chart)
        self.ticks = (log_steps if self.log else nice_steps)(low, high, 6)
        self.low, self.high = low, high

    def _span(self, chart: Chart) -> tuple[float, float]:
        values = [value for curve in chart.curves for _, value in curve.points]
        if not self.log:
            edges = [edge for curve in chart.curves for pair in curve.around for edge in pair]
            values += [*edges, *(value for value, _ in chart.lines)]
        if chart.zero:
            values.append(0.0)
        if self.log:
            values = [value for value in values if value > 0]
        low, high = (min(values), max(values)) if values else (0.1, 1.0)
        least, most = chart.limits
        low = low if least is None else max(low, least)
        high = high if most is None else min(high, most)
        if self.log:
            low, high = max(low, high * 1e-6), max(high, low * 1.05)
            return low / 1.08, high * 1.08
        if high - low < 1e-9 * max(abs(high), 1e-9):
            high, low = high + max(abs(high) * 0.1, 1e-9), low - max(abs(low) * 0.1, 1e-9)
        room = (high - low) * 0.06
        return (low if chart.zero and low == 0 else low - room), high + room

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(step, 0.0), self.last_step) / self.last_step

    def y(self, value: float) -> float:
        """Clipped at the edges: a few distant values must not squeeze all others."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _svg(chart: Chart, marks: Marks) -> Html:
    plane = _Plane(chart, marks.last_step)
    drawn = [*_axes(plane, chart), *_marked(plane, marks), *_limits(plane, chart)]
    for curve in chart.curves:
        drawn += _band(plane, curve)
    for curve in chart.curves:
        drawn += _line(plane, curve, chart.unit)
    if not any(curve.points for curve in chart.curves):
        middle = {"x": (LEFT + WIDTH - RIGHT) / 2, "y": HEIGHT / 2, "text_anchor": "middle"}
        drawn.append(tag("text", "nothing yet", class_="tick", **middle))
    names = f"{chart.key}-title {chart.key}-text"
    return tag(
        "svg",
        tag("title", chart.title, id=f"{chart.key}-title"),
        tag("desc", described(chart), id=f"{chart.key}-text"),
        drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=names,
    )


def _axes(plane: _Plane, chart: Chart) -> list[Html]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn: list[Html] = []
    for tick in plane.ticks:
        y = plane.y(tick)
        drawn.append(_rule(LEFT, y, right, y, "axis" if tick == 0 and chart.zero else "grid"))
        drawn.append(tag("text", _value(tick, chart.unit), x=LEFT - 7, y=y + 4, class_="tick", text_anchor="end"))
    drawn.append(_rule(LEFT, bottom, right, bottom, "axis"))
    steps = [tick for tick in nice_steps(0, plane.last_step, 6) if tick == int(tick)]
    for tick in steps:
        # The first and last numbers stay within the axis: "step" is on the left, and the image ends on the right.
        anchor = "start" if tick == 0 else "end" if plane.x(tick) > right - 12 else "middle"
        x = right if anchor == "end" else plane.x(tick)
        drawn.append(tag("text", _step(tick), x=x, y=bottom + 19, class_="tick", text_anchor=anchor))
    drawn.append(tag("text", "step", x=LEFT - 7, y=bottom + 19, class_="tick quiet", text_anchor="end"))
    return drawn


def _marked(plane: _Plane, marks: Marks) -> list[Html]:
    """Checkpoints as ticks on the axis, the best as a star, verdicts as lines with their name at the top."""
    bottom = HEIGHT - BOTTOM
    points = [(step, 0.0) for step in marks.checkpoints]
    drawn = [
        _rule(x, bottom, x, bottom - 6, "checkpoint")
        for place in thinned_points(points, MOST_TICKS)
        for x in [plane.x(points[place][0])]
    ]
    free = float(WIDTH)
    # From the right: the last verdict is the current one and always gets its label.
    for step, name in reversed(marks.verdicts):
        x, half = plane.x(step), len(name) * LETTER / 2
        look = LOOKS.get(name, "bad")
        drawn.append(_rule(x, TOP - 6, x, bottom, f"verdict {look}"))
        middle = min(max(x, LEFT + half), WIDTH - half)
        if middle + half <= free:
            free = middle - half
            label = {"x": middle, "y": TOP - 11, "text_anchor": "middle"}
            drawn.append(tag("text", name, class_=f"label {look}", **label))
    if marks.best is not None:
        x = plane.x(marks.best)
        drawn.append(_rule(x, TOP, x, bottom, "best"))
        drawn.append(
            tag("path", tag("title", f"best checkpoint: step {marks.best}"), d=_star(x, bottom), class_="star")
        )
    return drawn


def _limits(plane: _Plane, chart: Chart) -> list[Html]:
    drawn: list[Html] = []
    for value, meaning in chart.lines:
        if plane.low <= value <= plane.high:
            y = plane.y(value)
            drawn.append(_rule(LEFT, y, WIDTH - RIGHT, y, "limit"))
            drawn.append(tag("text", meaning, x=WIDTH - RIGHT - 2, y=y - 5, class_="tick", text_anchor="end"))
    return drawn


def _band(plane: _Plane, curve: ReportCurve) -> list[Html]:
    if not curve.around or len(curve.points) < 2:
        return []
    places = thinned_points(curve.points, MOST_POINTS)
    top = [(plane.x(curve.points[place][0]), plane.y(curve.around[place][1])) for place in places]
    below = [(plane.x(curve.points[place][0]), plane.y(curve.around[place][0])) for place in reversed(places)]
    return [tag("path", d=f"{_path([*top, *below])}Z", class_=f"band {curve.look}")]


def _line(plane: _Plane, curve: ReportCurve, unit: str) -> list[Html]:
    if not curve.points:
        return []
    chosen = [curve.points[place] for place in thinned_points(curve.points, MOST_POINTS)]
    at = [(plane.x(step), plane.y(value)) for step, value in chosen]
    drawn = [tag("path", d=_path(at), class_=f"line {curve.look}")]
    if curve.dots or len(at) == 1:
        for place in thinned_points(curve.points, MOST_DOTS if len(curve.points) <= MOST_DOTS else FEW_DOTS):
            step, value = curve.points[place]
            tooltip = f"step {step:.0f}: {_value(value, unit)}{_error(curve, place, value)}, {curve.name}"
            dot = {"cx": plane.x(step), "cy": plane.y(value), "r": 2.6}
            drawn.append(tag("circle", tag("title", tooltip), class_=f"dot {curve.look}", **dot))
    return drawn


def _error(curve: ReportCurve, place: int, value: float) -> str:
    return f" ± {(curve.around[place][1] - value) * 100:.0f}" if curve.around else ""


def _swatch(curve: ReportCurve) -> Html:
    """A sample of the curve for the legend."""
    line = tag("path", d="M0 5H22", class_=f"line {curve.look}")
    dot = tag("circle", cx=11, cy=5, r=2.6, class_=f"dot {curve.look}") if curve.dots else None
    return tag("svg", line, dot, class_="swatch", viewBox="0 0 22 10", aria_hidden="true")


def _rule(x1: float, y1: float, x2: float, y2: float, look: str) -> Html:
    return tag("path", d=_path([(x1, y1), (x2, y2)]), class_=look)


def _path(points: Sequence[Point]) -> str:
    """A path through the points, rounded to a tenth of a pixel."""
    written = [f"{x:.1f} {y:.1f}".replace(".0", "") for x, y in points]
    return f"M{'L'.join(written)}"


def _star(x: float, y: float) -> str:
    corners = [
        (x + math.sin(turn) * far, y - math.cos(turn) * far)
        for turn, far in ((point * math.pi / 5, 7.0 if point % 2 == 0 else 3.0) for point in range(10))
    ]
    return f"{_path(corners)}Z"


def _step(step: float) -> str:
    """A step on the axis: `3000`, `200 000`."""
    return f"{step:,.0f}".replace(",", " ") if step >= 10_000 else f"{step:.0f}"


def _value(value: float, unit: str) -> str:
    if unit == "percent":
        return f"{value * 100:.3g} %" if abs(value) < 9.995 else percent(value)
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.0e}"
