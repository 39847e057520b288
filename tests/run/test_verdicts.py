"""What a history of evaluations comes to."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.evaluations import Evaluation
from ti_tui.run.verdicts import Verdict, VerdictName, best_of, judge, ranks

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


def test_learning_by_heart_shows_on_the_held_out_images_only() -> None:
    def forgotten(step: int) -> float:
        return learning(step) * (1 - step / 8000)

    said = verdicts(evaluations(lambda step: learning(step) + step / 1e5, range(0, 4000, 20), held=forgotten))
    assert [one.name for one in said] == ["learning", "learned", "overtraining"]
    assert "the gain on held-out images fell from 3" in said[-1].reason
    # A fall on both is no learning by heart.
    assert "overtraining" not in names(evaluations(forgotten, range(0, 4000, 20), held=forgotten))


def test_vectors_that_drown_the_rest_of_a_prompt_are_told() -> None:
    said = verdicts(evaluations(learning, range(0, 1000, 20), follows=lambda step: 1 - 0.6 * (step > 300)))
    assert [one.name for one in said] == ["learning", "learned", "learning", "overtraining"]
    assert said[-1].step == 500 and "prompt-following is down to 40 % of what it is with" in said[-1].reason
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
    assert still[-1].name == "not learning" and "moved by 1.1 % of their norm" in still[-1].reason
    assert still[-1].step <= 100
    moving = verdicts(evaluations(lambda _step: 0.0, range(0, 400, 20)))
    assert moving[-1].name == "not learning" and "too high to settle" in moving[-1].reason


def test_late_learning_takes_not_learning_back() -> None:
    late = evaluations(lambda step: max(0.0, 0.3 * (1 - math.exp(-(step - 500) / 50))), range(0, 1500, 20))
    assert names(late) == ["learning", "not learning", "learning", "learned"]


def test_the_best_checkpoint_is_best_on_held_out_images_and_follows_prompts() -> None:
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
        assert before is None or (before.name in VerdictName and (before.reason or before.name == "learning"))
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


OVERTRAINING = Verdict(100, "overtraining", "said before")
LEARNED = Verdict(100, "learned", "said before")


def exact(
    gains: Sequence[float],
    *,
    losses: Sequence[float] | None = None,
    held: Sequence[float] | None = None,
    follows: Sequence[float | None] | None = None,
    **more: float,
) -> list[Evaluation]:
    """A history with just these numbers, every 20 steps."""
    values = {"length": 2.0, "longest": 3.0, "moved": 3.0} | more
    return [
        Evaluation(
            20 * place,
            0.1 * (1 - gain) if losses is None else losses[place],
            gain=gain,
            held_gain=None if held is None else held[place],
            follows=None if follows is None else follows[place],
            **values,
        )
        for place, gain in enumerate(gains)
    ]


def name_of(history: Sequence[Evaluation], before: Verdict | None = None) -> str:
    verdict = judge(history, START, before)
    assert verdict is not None
    return verdict.name


@pytest.mark.parametrize(("variance", "name"), [(0.14, "learned"), (0.16, "learning")])
def test_learned_needs_an_eval_loss_that_varies_little_compared_with_the_whole_run(variance: float, name: str) -> None:
    # A window of 8 that jumps by `small`, after 12 that jump by 0.01, all about the same mean and without a trend.
    small = 0.01 * math.sqrt(12 * variance / (20 - 8 * variance))
    signs = (1, -1, -1, 1) * 5
    losses = [0.1 + sign * (0.01 if place < 12 else small) for place, sign in enumerate(signs)]
    assert name_of(exact([0.3] * 20, losses=losses)) == name


@pytest.mark.parametrize(("points", "name"), [(1.9, "learned"), (2.1, "learning")])
def test_learned_needs_a_gain_that_as_many_steps_again_would_hardly_raise(points: float, name: str) -> None:
    # The last 8 of 20 evaluations lie within 140 of 380 steps.
    rise = points / 100 * 140 / 380
    gains = [0.0, *[0.3] * 11, *(0.3 + rise * place / 7 for place in range(8))]
    verdict = judge(exact(gains), START)
    assert verdict is not None and verdict.name == name
    if name == "learned":
        assert "the last 140 steps" in verdict.reason and f"{points} points" in verdict.reason


def test_learned_needs_a_gain_and_a_window_of_evaluations() -> None:
    assert name_of(exact([0.0, *[0.031] * 8])) == "learned"
    assert name_of(exact([0.0, *[0.029] * 8])) == "learning"
    assert name_of(exact([0.0, *[0.3] * 8])) == "learned"
    assert name_of(exact([0.0, *[0.3] * 7])) == "learning"
    # Later in a run the window is a quarter of it: here 10 evaluations, of which the first still rises.
    late = [0.0, *[0.2] * 30, 0.22, *[0.3] * 9]
    assert name_of(exact(late)) == "learning" and name_of(exact(late[-20:])) == "learned"


def test_learned_is_taken_back_only_for_what_was_gained_since() -> None:
    # A steep end would not be called learned for the first time.
    steep = [0.0, *[0.3] * 8, *(0.3 + 0.01 * place for place in range(1, 5))]
    assert name_of(exact(steep)) == "learning"
    said = Verdict(160, "learned", "said before")
    assert judge(exact(steep), START, said) == said
    # The means of 8 evaluations, then and now, are compared: 0.04 more is news.
    assert name_of(exact([0.0, *[0.3] * 8, *[0.3] * 7, 0.61]), said) == "learned"
    assert name_of(exact([0.0, *[0.3] * 8, *[0.3] * 7, 0.63]), said) == "learning"


def test_a_prompt_that_is_drowned_is_overtraining_until_half_of_what_was_lost_is_back() -> None:
    def name(follows: float, before: Verdict | None) -> str:
        return name_of(exact([0.0, *[0.3] * 4], follows=[1.0, 1.0, 1.0, follows, follows]), before)

    assert name(0.66, None) == "overtraining" and name(0.68, None) != "overtraining"
    # Half of what is lost at 0.67 is back at 0.835.
    assert name(0.83, OVERTRAINING) == "overtraining" and name(0.84, OVERTRAINING) != "overtraining"
    assert name(0.83, LEARNED) != "overtraining"


def test_a_prompt_must_be_drowned_twice_running_and_not_in_the_first_steps() -> None:
    gains = [0.0, *[0.3] * 4]
    assert name_of(exact(gains, follows=[1.0, None, 0.5, None, 0.5])) == "overtraining"
    assert name_of(exact(gains, follows=[1.0, None, 0.5, None, 1.0])) != "overtraining"
    assert name_of(exact(gains, follows=[None, None, 0.5, None, 0.5])) != "overtraining"


HELD = [0.4] * 8
"""Of which a fall of 5 %, 0.02, is overtraining."""


@pytest.mark.parametrize(
    ("fall", "before", "name"),
    [
        (0.021, None, "overtraining"),
        (0.019, None, "learned"),
        (0.011, OVERTRAINING, "overtraining"),
        (0.009, OVERTRAINING, "learned"),
        (0.019, LEARNED, "learned"),
    ],
)
def test_a_fall_on_held_out_images_is_overtraining_until_half_of_it_is_back(
    fall: float, before: Verdict | None, name: str
) -> None:
    assert name_of(exact([0.0, *[0.3] * 15], held=[*HELD, *[0.4 - fall] * 8]), before) == name


def test_a_small_fall_on_held_out_images_says_nothing() -> None:
    # 5 % of a small gain is less than could be told from chance: 0.015 are needed at least.
    assert name_of(exact([0.0, *[0.3] * 15], held=[*[0.1] * 8, *[0.086] * 8])) != "overtraining"
    assert name_of(exact([0.0, *[0.3] * 15], held=[*[0.1] * 8, *[0.084] * 8])) == "overtraining"
    assert name_of(exact([0.0, *[0.3] * 15], held=[*[0.029] * 8, *[0.0] * 8])) != "overtraining"


def test_a_fall_that_is_no_more_than_the_jumps_says_nothing() -> None:
    # Neighbours differ by 0.05: as a mean of 8, three standard deviations are 0.0556.
    def jumping(fall: float) -> list[float]:
        return [0.4 + 0.025 * (-1) ** place - fall * (place >= 8) for place in range(16)]

    assert name_of(exact([0.0, *[0.3] * 15], held=jumping(0.054))) != "overtraining"
    assert name_of(exact([0.0, *[0.3] * 15], held=jumping(0.057))) == "overtraining"


def test_a_fall_on_all_images_is_no_overtraining() -> None:
    held = [*HELD, *[0.35] * 8]
    assert name_of(exact([*[0.3] * 8, *[0.31] * 8], held=held)) == "overtraining"
    assert name_of(exact([*[0.3] * 8, *[0.29] * 8], held=held)) != "overtraining"
    # Once said, the others may lose up to half.
    assert name_of(exact([*[0.3] * 8, *[0.16] * 8], held=held), OVERTRAINING) == "overtraining"
    assert name_of(exact([*[0.3] * 8, *[0.14] * 8], held=held), OVERTRAINING) != "overtraining"


def test_overtraining_on_held_out_images_needs_two_windows_and_all_of_their_evaluations() -> None:
    gains, held = [0.3] * 16, [*HELD, *[0.35] * 8]
    assert name_of(exact(gains, held=held)) == "overtraining"
    assert name_of(exact(gains[1:], held=held[1:])) != "overtraining"
    partly = exact(gains[:1]) + exact(gains, held=held)[1:]
    assert name_of(partly) != "overtraining"
    verdict = judge(exact(gains, held=held), START)
    assert verdict is not None and "since step 140" in verdict.reason
    assert "from 40.0 % to 35.0 %" in verdict.reason and "from 30.0 % to 30.0 %" in verdict.reason


def test_long_vectors_are_overtraining_only_where_something_is_learned() -> None:
    assert name_of(exact([0.0, 0.03], longest=50.1)) == "overtraining"
    assert name_of(exact([0.0, 0.03], longest=50.0)) == "learning"
    assert name_of(exact([0.0, 0.029], longest=50.1)) == "learning"


def test_a_verdict_whose_reason_is_the_same_is_the_one_from_before() -> None:
    history = exact([0.0, 0.03], longest=60.0)
    first = judge(history, START)
    later = [*history, Evaluation(40, 0.09, gain=0.03, longest=60.0)]
    assert first is not None and judge(later, START, first) is first
    other = [*history, Evaluation(40, 0.09, gain=0.03, longest=70.0)]
    assert judge(other, START, first) == replace(first, step=40, reason=first.reason.replace("60", "70"))


def test_the_limit_of_diverging_is_twice_the_error_and_at_least_2_percent() -> None:
    def name(gain: float, error: float) -> str:
        first, *others = exact([0.0, gain, gain])
        return name_of([first, *(Evaluation(one.step, one.loss, one.gain, error) for one in others)])

    assert name(-0.021, 0.0) == "diverging" and name(-0.02, 0.0) == "learning"
    assert name(-0.101, 0.05) == "diverging" and name(-0.099, 0.05) == "learning"
    assert name_of(exact([0.0, -0.5, 0.0])) == "learning" and name_of(exact([0.0, 0.0, -0.5])) == "learning"
    assert name_of(exact([0.0, 0.3], longest=100.0)) != "diverging"
    assert name_of(exact([0.0, 0.3], longest=100.1)) == "diverging"


def test_patience_before_not_learning() -> None:
    def name(count: int, *, gain: float = 0.0, moved: float = 0.1) -> str:
        return name_of(exact([0.0, *[gain] * count], moved=moved))

    assert name(4) == "not learning" and name(3) == "learning"
    assert name(4, gain=0.0199) == "not learning" and name(4, gain=0.02) == "learning"
    assert name(4, moved=0.199) == "not learning"
    # Vectors that do move are given three times the evaluations.
    assert name(11, moved=0.2) == "learning" and name(12, moved=0.2) == "not learning"
    close = [Evaluation(step, 0.1, gain=0.0, moved=0.1) for step in (0, 10, 20, 30, 49)]
    assert name_of(close) == "learning"
    assert name_of([*close[:-1], Evaluation(50, 0.1, gain=0.0, moved=0.1)]) == "not learning"


def test_how_far_vectors_moved_has_a_digit_more_where_it_is_little() -> None:
    for moved, said in ((0.0123, "1.2 %"), (0.099, "9.9 %"), (0.1, "10 %")):
        verdict = judge(exact([0.0] * 6, moved=moved), START)
        assert verdict is not None and said in verdict.reason


def test_nothing_is_said_of_the_start_alone_or_without_a_gain() -> None:
    assert judge([], START) is None and judge(exact([0.0]), START) is None
    assert judge([Evaluation(0, 0.1), Evaluation(20, 0.09)], START) is None
    verdict = judge(exact([0.0, 0.125]), START)
    assert verdict == Verdict(20, "learning", f"12 % less error than {START}") and not verdict.ends
    assert OVERTRAINING.ends and LEARNED.ends


def test_checkpoints_are_ranked_by_the_mean_with_their_neighbours() -> None:
    # Each counts twice in its own mean.
    history = exact([0.1, 0.1, 0.3, 0.1, 0.2])
    expected = [(0, 0.1), (20, 0.15), (40, 0.2), (60, 0.175), (80, 0.5 / 3)]
    assert [(one.step, one.value) for one in ranks(history)] == [(step, pytest.approx(rank)) for step, rank in expected]
    assert [one.evaluations for one in ranks(history)] == [2, 3, 3, 3, 2]


def test_a_lucky_jump_makes_no_best_checkpoint() -> None:
    history = exact([0.0, 0.2, 0.3, 0.2, 0.27, 0.27, 0.27, 0.2])
    assert best_of(history, [one.step for one in history]) == 100


def test_ranks_count_the_part_of_a_prompt_that_is_followed_and_leave_losses_as_they_are() -> None:
    follows = [None, 0.9, None, 0.375, None, None]
    found = list(ranks(exact([0.2] * 5 + [-0.4], follows=follows)))
    # 0.375 is half of what is enough; it holds until it is measured again. What gained nothing is not made better.
    assert [rank.value for rank in found] == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.025, -0.2])
    assert [rank.factor for rank in found] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    assert [(one.step, one.value) for one in ranks([Evaluation(0, 0.1), *exact([0.2])])] == [(0, 0.2)]
