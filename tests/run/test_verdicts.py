"""What a history of evaluations comes to."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.evaluations import Evaluation
from ti_tui.run.verdicts import NAMES, Verdict, best_of, judge

Gain = Callable[[int], float]
START = '"woman"'


def learning(step: int) -> float:
    """A gain that comes quickly and then stays."""
    return 0.36 * (1 - math.exp(-step / 15))


def evaluations(
    gain: Gain, steps: Sequence[int], *, held: Gain | None = None, follows: Gain | None = None, **more: float
) -> list[Evaluation]:
    """A history with a little noise, the same each time."""
    noise = random.Random(3)
    found = []
    for place, step in enumerate(steps):
        jump = noise.gauss(0, 0.003) if step else 0.0
        values = {"length": 2.0, "longest": 3.0, "moved": 3.0} | more
        found.append(
            Evaluation(
                step,
                0.1 * (1 - gain(step) - jump),
                gain=gain(step) + jump,
                gain_error=0.05,
                held_gain=None if held is None else held(step) + jump,
                held_gain_error=None if held is None else 0.06,
                follows=follows(step) if follows and place % 5 == 0 else None,
                **values,
            )
        )
    return found


def verdicts(history: Sequence[Evaluation]) -> list[Verdict]:
    """Each change of mind, as the trainer writes it."""
    said: list[Verdict] = []
    now = None
    for count in range(1, len(history) + 1):
        now = judge(history[:count], START, now)
        if now is not None and (not said or said[-1].name != now.name):
            said.append(now)
    return said


def names(history: Sequence[Evaluation]) -> list[str]:
    return [one.name for one in verdicts(history)]


def test_it_is_learned_once_the_gain_stays_and_that_is_said_once() -> None:
    said = verdicts(evaluations(learning, range(0, 4000, 20)))
    assert [one.name for one in said] == ["learning", "learned"]
    assert 100 <= said[1].step <= 400
    assert said[1].reason.startswith('36 % less error than "woman"; at the pace of the last 140 steps')


def test_it_is_not_learned_while_the_gain_goes_on_rising() -> None:
    assert names(evaluations(lambda step: 0.4 * step / 2000, range(0, 2000, 20))) == ["learning"]
    slow = verdicts(evaluations(lambda step: 0.36 * (1 - math.exp(-step / 800)), range(0, 4000, 20)))
    assert [one.name for one in slow] == ["learning", "learned"] and slow[1].step > 1800


def test_a_second_rise_is_seen() -> None:
    def in_two_parts(step: int) -> float:
        return learning(step) / 2 + (0.2 * (1 - math.exp(-(step - 1000) / 100)) if step > 1000 else 0)

    assert names(evaluations(in_two_parts, range(0, 3000, 20))) == ["learning", "learned", "learning", "learned"]


def test_learning_by_heart_shows_on_the_kept_back_pictures_only() -> None:
    def forgotten(step: int) -> float:
        return learning(step) * (1 - step / 8000)

    said = verdicts(evaluations(lambda step: learning(step) + step / 1e5, range(0, 4000, 20), held=forgotten))
    assert [one.name for one in said] == ["learning", "learned", "overtraining"]
    assert "the gain on kept-back pictures fell from 3" in said[-1].reason
    # A fall on both is no learning by heart.
    assert "overtraining" not in names(evaluations(forgotten, range(0, 4000, 20), held=forgotten))


def test_vectors_that_drown_the_rest_of_a_prompt_are_told() -> None:
    said = verdicts(evaluations(learning, range(0, 1000, 20), follows=lambda step: 1 - 0.6 * (step > 300)))
    assert [one.name for one in said] == ["learning", "learned", "learning", "overtraining"]
    assert said[-1].step == 500 and "move the picture by 40 % of what they do beside" in said[-1].reason
    rough = evaluations(learning, range(0, 1000, 20), follows=lambda step: 0.5 if step == 100 else 1.0)
    assert "overtraining" not in names(rough), "once is chance"


def test_what_drowns_a_prompt_is_not_called_learned() -> None:
    drowned = evaluations(learning, range(0, 200, 20), follows=lambda step: 0.3 if step else 1.0)
    assert names(drowned) == ["learning"], "asked about once, which may be chance"


def test_long_vectors_are_told() -> None:
    long = evaluations(learning, range(0, 600, 20), longest=60.0)
    assert names(long) == ["overtraining"]
    assert names(evaluations(learning, range(0, 600, 20), longest=269.0)) == ["diverging"]


def test_twice_worse_than_the_start_is_diverging() -> None:
    history = evaluations(lambda step: -0.3 if step > 20 else 0.0, range(0, 100, 20))
    assert names(history) == ["learning", "diverging"]
    assert verdicts(history)[-1].step == 60


def test_vectors_that_do_not_move_do_not_learn() -> None:
    still = verdicts(evaluations(lambda _step: 0.0, range(0, 400, 20), moved=0.011))
    assert still[-1].name == "not learning" and "moved by 1.1 % of their length" in still[-1].reason
    assert still[-1].step <= 100
    moving = verdicts(evaluations(lambda _step: 0.0, range(0, 400, 20)))
    assert moving[-1].name == "not learning" and "too high to settle" in moving[-1].reason


def test_late_learning_takes_not_learning_back() -> None:
    late = evaluations(lambda step: max(0.0, 0.3 * (1 - math.exp(-(step - 500) / 50))), range(0, 1500, 20))
    assert names(late) == ["learning", "not learning", "learning", "learned"]


def test_the_best_checkpoint_is_best_on_kept_back_pictures_and_follows_prompts() -> None:
    def forgotten(step: int) -> float:
        return learning(step) * (1 - step / 4000)

    history = evaluations(lambda step: learning(step) + step / 1e5, range(0, 2000, 20), held=forgotten)
    assert best_of(history, range(100, 2000, 100)) in (100, 200, 300)
    assert best_of(history, [1900]) == 1900 and best_of(history, [37]) is None and best_of([], [100]) is None
    drowned = evaluations(
        lambda step: learning(step) + step / 1e4, range(0, 2000, 20), follows=lambda step: 1 - 0.6 * (step > 900)
    )
    assert best_of(drowned, range(100, 2000, 100)) == 900


Number = st.floats(-1e6, 1e6) | st.none()


@given(
    st.lists(
        st.builds(
            Evaluation,
            step=st.integers(0, 10**6),
            loss=st.floats(0, 1e9),
            gain=st.floats(-1e6, 1),
            gain_error=st.floats(0, 10) | st.none(),
            held_gain=Number,
            held_gain_error=st.floats(0, 10) | st.none(),
            longest=Number,
            moved=Number,
            follows=Number,
        ),
        max_size=40,
        unique_by=lambda one: one.step,
    )
)
def test_any_history_has_a_verdict_or_none(history: list[Evaluation]) -> None:
    history.sort(key=lambda one: one.step)
    before = None
    for count in range(len(history) + 1):
        before = judge(history[:count], START, before)
        assert before is None or (before.name in NAMES and (before.reason or before.name == "learning"))
    best_of(history, [one.step for one in history])


@given(
    st.integers(0, 10**9),
    st.floats(1e-9, 1e6),
    st.dictionaries(
        st.sampled_from(["gain", "gain_error", "held_gain", "length", "longest", "moved", "rank", "follows"]),
        st.floats(-1e6, 1e6),
    ),
    st.lists(st.floats(0, 10) | st.none(), max_size=4),
)
def test_an_evaluation_is_read_as_it_was_written(step: int, loss: float, more: dict, bands: list) -> None:
    found = Evaluation(step, loss, bands=tuple(bands), **more).rounded()
    assert Evaluation.from_values(found.values()) == found
    assert found.loss == pytest.approx(loss, rel=1e-5)


@given(
    st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["step", "loss", "bands", "gain"]),
        st.none() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_whatever_a_log_holds_is_read_without_an_error(values: dict) -> None:
    Evaluation.from_values(values)
