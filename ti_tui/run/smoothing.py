"""Exponential moving averages of noisy values: of the train loss, wherever it is shown, and of the pace."""

from __future__ import annotations

from collections.abc import Sequence

WEIGHT = 0.1
"""Weight of a new value in an average that follows a run."""
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 0.2
WHOLE_CURVE = 20
"""A curve is averaged over about 1/20 of its length."""


def smoothed(mean: float | None, value: float | None, weight: float = WEIGHT) -> float | None:
    """The average after a new value; None (a value that was not a number) changes nothing."""
    if value is None or mean is None:
        return mean if value is None else value
    return mean + weight * (value - mean)


def smooth_curve(values: Sequence[float]) -> list[float]:
    """The moving average at each value, from left to right; long curves are averaged over more values."""
    weight = max(LEAST_WEIGHT, min(MOST_WEIGHT, WHOLE_CURVE / max(len(values), 1)))
    result: list[float] = []
    mean = values[0] if len(values) else 0.0
    for value in values:
        mean += weight * (value - mean)
        result.append(mean)
    return result
