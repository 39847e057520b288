"""Curves in braille characters: the loss of a run, or the rates of a scheme. Pure functions; a Canvas shows them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ti_tui.run.scheme import Scheme
from ti_tui.widgets.canvas import Line, Piece

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by row and column of its dots (Unicode 10.0, block U+2800)."""
BARS = "▁▂▃▄▅▆▇█"
AXIS_CELLS, RIGHT_CELLS = 8, 8
FEW_ROWS = 6
ROUND = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
"""Leading digits that the ends of an axis may have."""


@dataclass(frozen=True)
class Curve:
    """One curve: points with ascending x, its style, and how it is drawn.

    band:        draw the middle three fifths of the values in each column as a bar, instead of a line.
    own_scale:   scale the curve to the whole height by itself.
    mark:        a character at each point, such as ●.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str
    band: bool = False
    own_scale: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Axis:
    """A range, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float, cells: int) -> int:
        """The index of `value` in `cells` equal parts, limited to the range."""
        low, high, at = (_log(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return min(cells - 1, max(0, int(share * cells)))


def chart(
    width: int,
    height: int,
    curves: Sequence[Curve],
    x: Axis,
    y: Axis,
    *,
    marks: Sequence[float] = (),
    y_text: Callable[[float], str] | None = None,
    right_axis: bool = False,
) -> list[Line]:
    """The lines of a chart of `width` x `height` cells, axes included.

    marks:      positions to mark on the x axis.
    right_axis: label the curve that has its own scale, at the right.
    """
    own = next((curve for curve in curves if curve.own_scale), None) if right_axis else None
    columns, rows = width - AXIS_CELLS - (RIGHT_CELLS if own else 0), height - 2
    if columns < 8 or rows < 2:
        return [[(" " * max(width, 0), "")] for _ in range(height)]
    letters = [[0] * columns for _ in range(rows)]
    styles = [[""] * columns for _ in range(rows)]
    text: dict[tuple[int, int], str] = {}
    for curve in curves:
        scale = _own_axis(curve) if curve.own_scale else y
        _draw(curve, x, scale, letters, styles, text)
    labels = _labels(y, rows, y_text or _number)
    right = _labels(_own_axis(own), rows, _number) if own else {}
    lines: list[Line] = []
    for row in range(rows):
        label = labels.get(row, "")
        pieces: list[Piece] = [(f"{label:>{AXIS_CELLS - 2}} {'┤' if label else '│'}", "muted")]
        pieces += _merged(letters[row], styles[row], {c: t for (r, c), t in text.items() if r == row})
        if own:
            pieces.append((f"{'├' if row in right else '│'} {right.get(row, ''):<{RIGHT_CELLS - 2}}", own.style))
        lines.append(pieces)
    lines.append(_axis_line(columns, x, marks))
    lines.append(_tick_line(columns, x, _x_ticks(x)))
    return lines


def scheme_chart(scheme: Scheme, width: int, height: int, marks: Sequence[float] = ()) -> list[Line]:
    """The rates of a scheme over its steps, both logarithmic. marks: steps to mark on the axis."""
    xs, ys = scheme.points()
    x, y = Axis(1, max(2, scheme.total_steps), log=True), nice_axis(min(ys), max(ys), log=True)
    return chart(width, height, [Curve("rate", xs, ys, "chart-rate")], x, y, marks=marks)


def spark(values: Sequence[float], width: int) -> str:
    """The values as one row of bars; means of equal parts if there are more than `width`."""
    if not values or width < 1:
        return " " * max(width, 0)
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        parts = [values[a:b] for a, b in itertools.pairwise(edges)]
        values = [sum(part) / len(part) for part in parts]
    low, high = min(values), max(values)
    span = high - low
    bars = [BARS[3] if span <= 0 else BARS[min(7, int((value - low) / span * 8))] for value in values]
    return "".join(bars).ljust(width)


def nice_axis(low: float, high: float, *, log: bool) -> Axis:
    """An axis around `low`..`high` with round ends, so that it stays the same when values change a little."""
    if not log:
        return Axis(low, high if high > low else low + 1)
    low, high = max(low, 1e-12), max(high, 1e-12)
    return Axis(_round_down(low), _round_up(high), log=True)


def _draw(
    curve: Curve,
    x: Axis,
    y: Axis,
    letters: list[list[int]],
    styles: list[list[str]],
    text: dict[tuple[int, int], str],
) -> None:
    rows, columns = len(letters), len(letters[0])
    wide, high = columns * 2, rows * 4

    def dot(across: int, up: int) -> None:
        row, column = (high - 1 - up) // 4, across // 2
        if styles[row][column] != curve.style:
            # A character has one colour: the later curve takes the whole cell, so that its shape is readable.
            letters[row][column] = 0
        letters[row][column] |= DOTS[(high - 1 - up) % 4][across % 2]
        styles[row][column] = curve.style

    buckets: dict[int, list[float]] = {}
    for index, at in enumerate(curve.xs):
        if x.low <= at <= x.high:
            buckets.setdefault(x.place(at, wide), []).append(curve.ys[index])
    last: tuple[int, int] | None = None
    for across in sorted(buckets):
        values = buckets[across]
        if curve.band:
            values.sort()
            fifth = len(values) // 5
            low, top = y.place(values[fifth], high), y.place(values[-1 - fifth], high)
            for up in range(low, top + 1):
                dot(across, up)
            continue
        up = y.place(sum(values) / len(values), high)
        if last is not None:
            _line(last, (across, up), dot)
        dot(across, up)
        last = (across, up)
        if curve.mark:
            text[(high - 1 - up) // 4, across // 2] = curve.mark


def _line(start: tuple[int, int], end: tuple[int, int], dot: Callable[[int, int], None]) -> None:
    """Dots on the straight line between two points."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0))
    for i in range(1, count):
        dot(round(x0 + (x1 - x0) * i / count), round(y0 + (y1 - y0) * i / count))


def _merged(letters: Sequence[int], styles: Sequence[str], text: dict[int, str]) -> list[Piece]:
    pieces: list[Piece] = []
    for column, bits in enumerate(letters):
        letter = text.get(column) or (chr(0x2800 + bits) if bits else " ")
        style = styles[column] if bits else ""
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + letter, style)
        else:
            pieces.append((letter, style))
    return pieces


def _own_axis(curve: Curve) -> Axis:
    low, high = min(curve.ys, default=1.0), max(curve.ys, default=1.0)
    # Some room above and below keeps a constant rate in the middle of the chart.
    return Axis(low / 1.3, high * 1.3, log=True)


def _labels(y: Axis, rows: int, number: Callable[[float], str]) -> dict[int, str]:
    labels: dict[int, str] = {}
    if rows < FEW_ROWS:
        # Each row covers many values, so only the ends can be labelled correctly.
        return {0: number(y.high), rows - 1: number(y.low)}
    values = _decades(y.low, y.high) if y.log else [y.low + (y.high - y.low) * i / 4 for i in range(5)]
    most = max(2, rows // 2)
    if len(values) > most:
        # Counted from the top, where a falling curve starts.
        values = values[:: -math.ceil(len(values) / most)]
    for value in values:
        row = rows - 1 - y.place(value, rows * 4) // 4
        labels.setdefault(row, number(value))
    return labels


def _decades(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5) from `low` to `high`; finer ones in a narrow range."""
    digits = (1, 2, 5) if high / low >= 5 else ROUND
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [digit * 10.0**power for power in powers for digit in digits]
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def _x_ticks(x: Axis) -> list[float]:
    if x.log:
        inner = [10.0**power for power in range(8) if x.low < 10.0**power < x.high]
        return [x.low, *inner, x.high]
    span = max(x.high - x.low, 1)
    power = 10.0 ** math.floor(math.log10(span / 4))
    each = next(digit * power for digit in (1, 2, 5, 10) if span / (digit * power) <= 5)
    first = math.ceil(x.low / each)
    inner = [index * each for index in range(first, int(x.high // each) + 1)]
    # Label the end, and drop ticks too near to it.
    return [*(tick for tick in inner if x.high - tick > each / 2), x.high]


def _axis_line(columns: int, x: Axis, marks: Sequence[float]) -> Line:
    line = ["─"] * columns
    for mark in marks:
        if x.low <= mark <= x.high:
            line[x.place(mark, columns)] = "┴"
    return [(" " * (AXIS_CELLS - 1) + "└", "muted"), ("".join(line), "rule")]


def _tick_line(columns: int, x: Axis, ticks: Sequence[float]) -> Line:
    line = [" "] * (columns + AXIS_CELLS)
    for tick in (*ticks[-1:], *ticks[:-1]):
        label = f"{tick:.0f}"
        start = min(AXIS_CELLS + x.place(tick, columns), len(line) - len(label))
        around = line[max(0, start - 1) : start + len(label) + 1]
        if all(letter == " " for letter in around):
            line[start : start + len(label)] = label
    return [("".join(line), "muted")]


def _number(value: float) -> str:
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _log(value: float) -> float:
    return math.log10(max(value, 1e-12))


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(digit * power for digit in ROUND if digit * power <= value * 1.0001)


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return min(digit * power for digit in (*ROUND, 10) if digit * power >= value * 0.9999)
