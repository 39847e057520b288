"""How often a run is evaluated, on how many items, and the time that this and the samples are predicted to take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ti_tui.run.file import from_values
from ti_tui.run.model import ModelFacts
from ti_tui.run.overhead import Overhead, plan_overhead
from ti_tui.run.prediction import PredictionTruth

SD1 = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (768,), 49408, True)
TINY = ModelFacts(Path("m"), True, "sd1", PredictionTruth("epsilon"), (64,), 49408, True)

FORWARD = 0.46
"""Work of a forward pass in that of a training step."""
FOLLOWING = 2
"""Passes that prompt-following takes, as a mean over all evaluations."""


def planned(
    effective: int,
    *,
    steps: int = 200,
    save: int = 100,
    sample: int = 0,
    prompts: tuple[str, ...] = ("a [name]",),
    evaluation: int | str = "auto",
    resolution: int = 512,
    facts: ModelFacts = SD1,
) -> Overhead:
    values: dict[str, Any] = {
        "format": 1,
        "model": {"base": "m"},
        "dataset": {"images": "i", "resolution": resolution},
        "embedding": {"token": "zkz"},
        "scheme": {"segments": [{"learning_rate": 0.01, "steps": steps}]},
        "save": {"every_steps": save},
        "sample": {"every_steps": sample, "prompts": list(prompts)},
        "evaluation": {"every_steps": evaluation},
    }
    return plan_overhead(from_values(values, Path("run.toml")), facts, effective, {})


def strides(effective: int, **run: Any) -> tuple[int, int]:
    """Steps between evaluations, and items of the eval set."""
    made = planned(effective, **run)
    return made.evaluation_steps, made.eval_items


def test_a_short_run_is_evaluated_every_5_steps_and_a_long_one_every_20() -> None:
    assert strides(20, steps=100) == (5, 8)
    assert strides(20, steps=200) == (5, 8)
    assert strides(20, steps=400) == (10, 19)
    assert strides(20, steps=4000) == (20, 41)


def test_a_very_long_run_has_400_evaluations_at_most() -> None:
    assert strides(20, steps=20_000) == (50, 64)
    assert strides(20, steps=20_001, save=51) == (51, 64)


def test_small_steps_are_evaluated_less_often_on_8_items_at_least() -> None:
    # 5 % of a step of 1 image pay 0.109 forward passes: 92 steps for 8 items and prompt-following.
    assert strides(1, save=0) == (92, 8)
    assert strides(5, save=0) == (19, 8)


def test_evaluations_meet_the_checkpoints_where_that_takes_at_most_twice_as_long() -> None:
    assert strides(20, steps=600, save=100)[0] == 20, "15 does not divide 100"
    assert strides(20, steps=600, save=30)[0] == 15
    assert strides(20, steps=600, save=31)[0] == 15, "31 is more than twice 15"
    assert strides(20, steps=600, save=29)[0] == 29
    assert strides(20, steps=600, save=7)[0] == 15, "there are more checkpoints than evaluations"


def test_a_stride_of_the_run_file_is_taken_as_it_is() -> None:
    assert strides(20, evaluation=7) == (7, 13)
    assert strides(20, evaluation=1) == (1, 8)
    assert strides(20, evaluation=1000) == (1000, 64)
    off = planned(20, evaluation=0)
    assert (off.evaluation_steps, off.evaluation) == (0, 0.0)


@pytest.mark.parametrize("effective", [1, 5, 20, 40])
@pytest.mark.parametrize("steps", [50, 790, 3790, 50_000])
def test_the_eval_loss_takes_5_percent_of_the_time_at_most(effective: int, steps: int) -> None:
    made = planned(effective, steps=steps)
    expected = (made.eval_items + FOLLOWING) * FORWARD / (made.evaluation_steps * effective)
    assert made.evaluation == pytest.approx(expected) and 0 < made.evaluation <= 0.05


def test_samples_take_their_share_of_the_time() -> None:
    # SD 1.5: 40 guided passes of 0.803 TFLOP and a decoder of 2.515, beside 50 steps of 10 images of 1.722.
    drawn, steps = 40 * 0.803 + 2.515, 50 * 10 * 1.722
    assert planned(10, sample=50).samples == pytest.approx(drawn / (drawn + steps))
    assert planned(10, sample=50, prompts=("a", "b")).samples == pytest.approx(2 * drawn / (2 * drawn + steps))
    # Twice the side is four times the area, of a sample and of a step.
    large = planned(10, sample=50, prompts=("a --w 1024 --h 1024",)).samples
    assert large == pytest.approx(4 * drawn / (4 * drawn + steps))
    assert planned(10, sample=50, prompts=("a --w 1024",)).samples == pytest.approx(2 * drawn / (2 * drawn + steps))
    assert planned(10, sample=50, resolution=1024).samples == pytest.approx(drawn / (drawn + steps))
    unguided = 10 * 0.803 + 2.515
    short = planned(10, sample=50, prompts=("a --l 1 --s 10",)).samples
    assert short == pytest.approx(unguided / (unguided + steps))


def test_samples_cost_nothing_where_they_are_off_unreadable_or_of_an_unknown_model() -> None:
    assert planned(10).samples == 0.0
    assert planned(10, sample=50, facts=TINY).samples == 0.0
    one = planned(10, sample=50).samples
    assert planned(10, sample=50, prompts=("a --w big", "a [name]")).samples == one


def test_evaluations_take_what_samples_leave_of_a_tenth() -> None:
    made = planned(10, sample=27, save=0)
    left = 0.1 - made.samples
    assert 0.03 < left < 0.05 and made.evaluation_steps == math.ceil((8 + FOLLOWING) * FORWARD / (10 * left))
    assert 0.9 * left < made.evaluation <= left
    greedy = planned(1, sample=1, save=0)
    assert greedy.samples > 0.9 and greedy.evaluation == pytest.approx(0.01)


def test_what_it_takes_is_said_in_a_line() -> None:
    both = Overhead(10, 20, evaluation=0.041, samples=0.067)
    assert "6.7 %" in both.describe() and "4.1 %" in both.describe()
    assert "eval loss" not in Overhead(0, 8, evaluation=0.0, samples=0.067).describe()
    assert "%" not in Overhead(0, 8, evaluation=0.0, samples=0.0).describe()
