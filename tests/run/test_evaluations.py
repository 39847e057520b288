"""One evaluation: how it is written, read back and scored."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ti_tui.run.evaluations import Evaluation

FULL = Evaluation(
    20,
    0.123456789,
    0.3,
    0.01,
    0.2,
    0.02,
    (0.9, None, 0.7, 0.6),
    length=1.5,
    longest=2.5,
    moved=0.5,
    rank=3.0,
    follows=0.8,
)  # fmt: skip


def test_an_evaluation_is_written_with_six_digits_and_without_what_is_not_known() -> None:
    assert FULL.values() == {
        "step": 20, "loss": 0.123457, "gain": 0.3, "gain_error": 0.01, "held_gain": 0.2, "held_gain_error": 0.02,
        "bands": [0.9, None, 0.7, 0.6], "length": 1.5, "longest": 2.5, "moved": 0.5, "rank": 3.0, "follows": 0.8,
    }  # fmt: skip
    assert Evaluation(0, 123456.789).values() == {"step": 0, "loss": 123457.0}
    assert Evaluation(0, 0.1, bands=(0.12345678,)).values()["bands"] == [0.123457]


def test_rounded_is_what_will_be_read_back() -> None:
    rounded = FULL.rounded()
    assert rounded == Evaluation.from_values(FULL.values()) and rounded.loss == 0.123457
    assert rounded.bands == FULL.bands and rounded.follows == 0.8
    # What cannot be written as a number stays as it is.
    assert math.isnan(Evaluation(0, math.nan).rounded().loss)


@pytest.mark.parametrize(
    "values", [{}, {"step": 1}, {"loss": 0.1}, {"step": 1.0, "loss": 0.1}, {"step": True, "loss": 0.1},
               {"step": "1", "loss": 0.1}, {"step": 1, "loss": None}, {"step": 1, "loss": "0.1"},
               {"step": 1, "loss": True}, {"step": 1, "loss": 1e300}, {"step": 1, "loss": math.nan}]
)  # fmt: skip
def test_without_a_step_or_a_loss_there_is_no_evaluation(values: dict[str, Any]) -> None:
    assert Evaluation.from_values(values) is None


def test_odd_values_are_passed_over() -> None:
    odd = {"step": 1, "loss": 2, "gain": "0.1", "moved": None, "follows": math.inf, "rank": 4, "bands": 3, "more": 1}
    assert Evaluation.from_values(odd) == Evaluation(1, 2.0, rank=4.0)
    bands = {"step": 1, "loss": 2, "bands": [1, "x", None, 0.5, 0.6]}
    assert Evaluation.from_values(bands) == Evaluation(1, 2.0, bands=(1.0, None, None, 0.5))


def test_the_score_weighs_both_gains_by_their_errors() -> None:
    assert Evaluation(0, 0.1).score is None and Evaluation(0, 0.1, gain=0.3).score == 0.3
    assert Evaluation(0, 0.1, held_gain=0.3).score is None
    both = Evaluation(0, 0.1, gain=0.3, gain_error=0.1, held_gain=0.2, held_gain_error=0.2)
    # Weights of 100 and 25.
    assert both.score == pytest.approx((100 * 0.3 + 25 * 0.2) / 125, rel=1e-4)
    assert Evaluation(0, 0.1, gain=0.3, held_gain=0.2).score == pytest.approx(0.25)
    sure = Evaluation(0, 0.1, gain=0.3, gain_error=0.1, held_gain=0.2)
    assert sure.score == pytest.approx(0.2, abs=1e-6)
