"""Means of noisy values, and shares as text."""

from __future__ import annotations

import pytest

from ti_tui.formatting import percent
from ti_tui.run.smoothing import smooth_curve, smoothed


def test_a_mean_follows_its_values_and_passes_over_those_that_are_no_number() -> None:
    assert smoothed(None, 3.0) == 3.0 and smoothed(None, None) is None
    assert smoothed(1.0, None) == 1.0
    assert smoothed(1.0, 2.0) == pytest.approx(1.1) and smoothed(1.0, 2.0, 0.5) == 1.5
    assert smoothed(1.0, 5.0) == pytest.approx(1.4)


def test_a_curve_begins_at_its_first_value_and_looks_further_back_the_longer_it_is() -> None:
    assert smooth_curve([]) == [] and smooth_curve([5.0]) == [5.0]
    assert smooth_curve([0.0, 4.0, 4.0]) == pytest.approx([0.0, 0.8, 1.44])
    assert smooth_curve([1.0, 2.0]) == pytest.approx([1.0, 1.2])
    assert smooth_curve([1.0] * 399 + [2.0])[-1] == pytest.approx(1.05)
    assert smooth_curve([1.0] * 9999 + [2.0])[-1] == pytest.approx(1.01)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (percent(0.456), "46 %"),
        (percent(0.456, 0.078), "46 ± 8 %"),
        (percent(0.456, sign=True), "+46 %"),
        (percent(-0.0449, digits=1), "-4.5 %"),
        (percent(0.0449, digits=None), "4.5 %"),
        (percent(0.449, digits=None), "45 %"),
        (percent(-12345.0), "< -100000 %"),
        (percent(100.0 + 1e-9, 2.0, digits=2), "10000 %"),
        (percent(1e300, sign=True), "> +100000 %"),
        (percent(-1e300), "< -100000 %"),
        (percent(None), ""),
    ],
)
def test_a_share_is_written_as_a_percentage(text: str, wanted: str) -> None:
    assert text == wanted
