"""Exponential means of noisy values: of the train loss, wherever it is shown, and of the pace."""

from __future__ import annotations

from collections.abc import Sequence

WEIGHT = 0.1
"""Of a new value in a mean that follows a run."""
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 0.2
WHOLE_CURVE = 20
"""A curve's means look back over one part in so many of it."""


def smoothed(mean: float | None, value: float | None, weight: float = WEIGHT) -> float | None:
    """The mean with a new value; None, for one that was not a number, changes nothing."""
    if value is None or mean is None:
        return mean if value is None else value
    return mean + weight * (value - mean)


def smooth_curve(values: Sequence[float]) -> list[float]:
    """The mean at each value, from left to right; the more values there are, the further back it looks."""
    weight = max(LEAST_WEIGHT, min(MOST_WEIGHT, WHOLE_CURVE / max(len(values), 1)))
    result: list[float] = []
    mean = values[0] if len(values) else 0.0
    for value in values:
        mean += weight * (value - mean)
        result.append(mean)
    return result
