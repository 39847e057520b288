"""The charts of a run, each with a sentence that sums it up."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from ti_tui.formatting import percent, start_in_words
from ti_tui.results.outcome import decimal
from ti_tui.results.report.chart import MOST_POINTS, Chart, Marks, Point, ReportCurve
from ti_tui.run.evaluations import BANDS, Evaluation
from ti_tui.run.history import RunHistory, Series
from ti_tui.run.recipe import RunFile
from ti_tui.run.smoothing import smooth_curve
from ti_tui.run.verdicts import LEAST_FOLLOWING, LONGEST

MOST_VERDICTS = 8
"""How many of the last verdicts are marked."""
TIMESTEPS = 1000
BAND_NAMES = ("least noise", "some", "more", "most noise")


def marks_of(history: RunHistory) -> Marks:
    """The marks in all charts of the run."""
    return Marks(
        last_step=history.step,
        checkpoints=[row.step for row in history.checkpoints],
        best=history.best_step,
        verdicts=[(verdict.step, verdict.name) for verdict in history.verdicts[-MOST_VERDICTS:]],
    )


def charts_of(history: RunHistory, recipe: RunFile) -> list[tuple[Chart, Marks]]:
    """The charts with anything to draw, the most important first."""
    marks = marks_of(history)
    start = start_in_words(recipe.embedding.init, recipe.embedding.start)
    found = [
        _gain(history, start),
        _loss(history),
        _rate(history, recipe),
        _bands(history),
        _length(history),
        _following(history, start),
    ]
    ends = {"rate": max(history.step, recipe.scheme.scheme().total_steps)}
    return [
        (chart, replace(marks, last_step=ends.get(chart.key, marks.last_step))) for chart in found if chart is not None
    ]


def _gain(history: RunHistory, start: str) -> Chart | None:
    trained = _of(history.evaluations, lambda one: one.gain)
    if len(trained) < 2:
        return None
    held = _of(history.evaluations, lambda one: one.held_gain)
    curves = [
        ReportCurve("training images", "trained", trained, _around(history, trained, "gain_error"), dots=True),
        ReportCurve("held-out images", "held", held, _around(history, held, "held_gain_error"), dots=True),
    ]
    last = history.evaluations[-1]
    held_too = f", {percent(last.held_gain, last.held_gain_error)} on held-out images" if last.held_gain else ""
    says = f"{percent(last.gain, last.gain_error)} less error than with {start}{held_too}, at step {last.step}."
    low = min(value for _, value in [*trained, *held])
    # Twice the error or more means a diverged run: how much more does not matter.
    return Chart("gain", "Gain over the start", says, curves, unit="percent", zero=True, limits=(max(low, -1.0), None))


def _loss(history: RunHistory) -> Chart | None:
    points = history.loss.points()
    if not points:
        return None
    smoothed = list(zip(history.loss.steps, smooth_curve(history.loss.values), strict=True))
    curves = [_thin(history.loss), ReportCurve("smoothed", "smooth", smoothed)]
    first, last = (decimal(smoothed[place][1]) for place in (0, -1))
    says = f"Each step has different noise, so single values jump. Smoothed: {first} to {last}."
    if history.evals:
        curves.append(ReportCurve("eval loss", "eval", history.evals, dots=True))
    lows, highs = sorted(history.loss.lows), sorted(history.loss.highs)
    kept = [value for _, value in history.evals if value > 0]
    low = min([lows[len(lows) // 100], *kept])
    high = max([highs[-1 - len(highs) // 100], *kept])
    return Chart("loss", "Loss", says, curves, scale="log", limits=(low if low > 0 else None, high))


def _rate(history: RunHistory, recipe: RunFile) -> Chart | None:
    taken = _corners([(step, rate) for step, rate in history.rates.points() if rate > 0])
    curves = [ReportCurve("as trained", "rate", taken)] if taken else []
    scheme = recipe.scheme.scheme()
    if scheme.total_steps > history.step:
        steps, rates = scheme.points()
        curves.insert(0, ReportCurve("the scheme in run.toml", "plan", list(zip(steps, rates, strict=True))))
    if not curves:
        return None
    first, last = curves[-1].points[0][1], curves[-1].points[-1][1]
    says = f"From {first:g} at the start to {last:g} at step {curves[-1].points[-1][0]:.0f}."
    return Chart("rate", "Learning rate", says, curves, scale="log")


def _bands(history: RunHistory) -> Chart | None:
    curves = []
    wide = TIMESTEPS // BANDS
    for band in range(BANDS):
        points = [
            (one.step, value)
            for one in history.evaluations
            if band < len(one.bands) and (value := one.bands[band]) is not None
        ]
        name = f"{BAND_NAMES[band]}, {band * wide} to {(band + 1) * wide - 1}"
        curves.append(ReportCurve(name, f"band{band + 1}", points))
    curves = [curve for curve in curves if len(curve.points) > 1]
    if not curves:
        return None
    says = "Error relative to an empty prompt's. High noise decides composition and colours, low noise detail."
    lines = [(1.0, "an empty prompt")]
    return Chart("bands", "Loss by timestep", says, curves, unit="percent", lines=lines, limits=(0.0, 3.0))


def _length(history: RunHistory) -> Chart | None:
    median = _of(history.evaluations, lambda one: one.length)
    longest = _of(history.evaluations, lambda one: one.longest)
    if len(median) < 2:
        norms = [(row.step, row.norm) for row in history.checkpoints if row.norm is not None]
        if not norms:
            return None
        curve = ReportCurve("mean norm", "length", norms, dots=True)
        return Chart("length", "Norm of the vectors", "At each checkpoint.", [curve], zero=True)
    curves = [ReportCurve("the median vector", "length", median), ReportCurve("the longest", "longest", longest)]
    values = [value for _, value in [*median, *longest]]
    wide = min(values) > 0 and max(values) > 20 * min(values)
    says = f"Relative to the median word: {median[0][1]:.2g} at the start, {median[-1][1]:.2g} now."
    lines = [(1.0, "the median word"), *([(LONGEST, "prompts are ignored")] if max(values) > LONGEST / 2 else [])]
    scale, zero = ("log", False) if wide else ("linear", True)
    return Chart("length", "Norm of the vectors", says, curves, scale=scale, zero=zero, lines=lines)  # type: ignore[arg-type]


def _following(history: RunHistory, start: str) -> Chart | None:
    points = _of(history.evaluations, lambda one: one.follows)
    if len(points) < 2:
        return None
    says = f"How far a prompt's other words still act, relative to {start}: {percent(points[-1][1])}."
    lines = [(LEAST_FOLLOWING, "below this they are lost")]
    curve = ReportCurve("the rest of the prompt", "follows", points, dots=True)
    return Chart("follows", "Prompt-following", says, [curve], unit="percent", zero=True, lines=lines)


def _of(evaluations: Sequence[Evaluation], get: Callable[[Evaluation], float | None]) -> list[Point]:
    return [(one.step, value) for one in evaluations if (value := get(one)) is not None]


def _around(history: RunHistory, points: Sequence[Point], error: str) -> list[tuple[float, float]]:
    """One standard error to both sides; empty if unknown."""
    errors = {one.step: getattr(one, error) for one in history.evaluations}
    if not any(errors.values()):
        return []
    return [(value - (errors[int(step)] or 0.0), value + (errors[int(step)] or 0.0)) for step, value in points]


def _thin(series: Series) -> ReportCurve:
    """The raw loss: means over a few steps at a time, with their range."""
    each = -(-len(series) // MOST_POINTS)
    points, around = [], []
    for start in range(0, len(series), each):
        part = slice(start, start + each)
        points.append((series.steps[part][-1], statistics.fmean(series.values[part])))
        around.append((min(series.lows[part]), max(series.highs[part])))
    alone = all(low == high for low, high in around)
    return ReportCurve("train loss of each step", "raw", points, () if alone else around)


def _corners(points: Sequence[Point]) -> list[Point]:
    """The points without the inside of level stretches, so that thinning them keeps the edges upright."""
    return [
        point
        for place, point in enumerate(points)
        if place in (0, len(points) - 1) or not points[place - 1][1] == point[1] == points[place + 1][1]
    ]
