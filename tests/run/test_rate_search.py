"""Which rate: what is tried, what is chosen, and the scheme that follows."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.formatting import percent
from ti_tui.run.rate_search import (
    CLOSE,
    HOLD_SHARE,
    LEAST_GAIN,
    LONGEST,
    LOWEST_SHARE,
    MOST_RATES,
    Trial,
    TrialReading,
    choose,
    flaw_of,
    judge_warmup,
    next_rate,
    propose,
    readings_at,
    rung,
    rung_near,
    steps_each,
    steps_to_gain,
    warmup_steps,
)
from ti_tui.run.scheme import format_scheme, parse

BEFORE = TrialReading(0, 0.0, 0.8, 0.9, 1.0)
RATES = st.floats(1e-6, 10)


def trial(
    rate: float, gain: float, *, longest: float = 1.5, follows: float = 1.0, early: float | None = None, warmup: int = 0
) -> Trial:
    """A trial of 20 steps; `early` is its gain half-way."""
    half = TrialReading(10, gain / 2 if early is None else early, 1.0, longest, 1.0)
    return Trial(rate, (half, TrialReading(20, gain, 1.2, longest, follows)), warmup)


def probed(spread: float, world: Callable[[float], Trial]) -> list[Trial]:
    """The trials of a probe in a world where each rate comes out as it says."""
    trials: list[Trial] = []
    while (rate := next_rate(trials, BEFORE, spread)) is not None:
        trials.append(world(rate))
    return trials


def usual(needed: float, limit: float) -> Callable[[float], Trial]:
    """A world where 20 steps at `needed` learn everything, and rates from `limit` on make vectors too long."""
    return lambda rate: trial(rate, 0.3 * (1 - math.exp(-3 * rate / needed)), longest=LONGEST * rate / limit)


@given(st.integers(-20, 5))
def test_a_rung_is_its_own_nearest(place: int) -> None:
    assert rung_near(rung(place)) == place


@given(RATES)
def test_every_rate_has_a_rung_close_by(rate: float) -> None:
    assert 1 / 1.6 < rung(rung_near(rate)) / rate < 1.6


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_rate_has_no_rung(rate: float) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        rung_near(rate)


@pytest.mark.parametrize(("spread", "rate"), [(0.079, 0.02), (0.0137, 0.005)])
def test_the_first_rate_is_the_usual_one_of_demo_model_and_clip(spread: float, rate: float) -> None:
    assert next_rate([], BEFORE, spread) == rate


@given(st.floats(1e-4, 1), st.floats(0.01, 100), st.floats(1.5, 100))
def test_a_probe_tries_neighbouring_rungs_each_once_and_comes_to_an_end(
    spread: float, needed: float, room: float
) -> None:
    trials = probed(spread, usual(needed * spread, room * needed * spread))
    places = sorted(rung_near(one.rate) for one in trials)
    assert places == list(range(places[0], places[-1] + 1)) and len(places) <= MOST_RATES


@given(
    st.floats(1e-3, 1),
    st.dictionaries(st.integers(-40, 10), st.tuples(st.floats(-1, 1), st.floats(0, 9), st.floats(0, 2), st.booleans())),
)
def test_whatever_the_trials_say_a_probe_ends_and_chooses_a_usable_rate_that_is_close_to_the_best(
    spread: float, said: dict[int, tuple[float, float, float, bool]]
) -> None:
    def world(rate: float) -> Trial:
        gain, longest, follows, finite = said.get(rung_near(rate), (0.1, 1.0, 1.0, True))
        return Trial(rate, (TrialReading(20, gain, longest, longest, follows),), finite=finite)

    trials = probed(spread, world)
    assert 1 <= len(trials) <= MOST_RATES and len({one.rate for one in trials}) == len(trials)
    usable = [one for one in trials if not flaw_of(one, BEFORE)]
    chosen, best = choose(trials, BEFORE), max((one.gain for one in usable), default=0.0)
    if chosen is None:
        assert best < LEAST_GAIN
    else:
        assert chosen in usable and chosen.gain >= CLOSE * best >= CLOSE * LEAST_GAIN


@given(st.floats(0.3, 3), st.floats(4, 100))
def test_the_chosen_rate_learns_and_stays_short_where_the_usual_one_is_not_far_off(off: float, room: float) -> None:
    needed = 0.02 * off
    chosen = choose(probed(0.055, usual(needed, room * needed)), BEFORE)
    assert chosen is not None and 0.7 * needed <= chosen.rate < room * needed


def test_of_rates_that_do_as_well_the_middle_one_is_taken_and_flawed_ones_are_not() -> None:
    equal = [trial(rate, 0.3) for rate in (0.01, 0.02, 0.05)]
    more = [trial(0.002, 0.1), trial(0.1, 0.5, longest=9), trial(0.2, 0.5, follows=0.3)]
    assert choose([*more, *equal], BEFORE) == equal[1]
    assert choose(more[1:], BEFORE) is None


def test_nothing_is_chosen_where_nothing_was_gained() -> None:
    assert choose([trial(0.01, 0.004), trial(0.02, -0.1)], BEFORE) is None
    # Vectors that are trained already jump by so much from step to step.
    little = trial(0.01, 0.02)
    assert choose([little], BEFORE) == little and choose([little], BEFORE, goes_on=True) is None
    assert choose([], BEFORE) is None


def test_what_makes_a_rate_unusable() -> None:
    assert flaw_of(trial(0.1, 0.3), BEFORE) == ""
    assert flaw_of(trial(0.1, 0.3, longest=4.1), BEFORE) == "too long"
    assert flaw_of(trial(0.1, 0.3, follows=0.66), BEFORE) == "drowns prompt"
    assert flaw_of(Trial(0.1, (BEFORE,), finite=False), BEFORE) == "not a number"
    # What was lost early counts, though it came back.
    early = TrialReading(5, 0.1, 1, 1, 0.3)
    assert flaw_of(Trial(0.1, (early, TrialReading(20, 0.3, 1, 1, 1.1))), BEFORE) == "drowns prompt"
    # Vectors that are beyond a limit already are compared with themselves.
    long = TrialReading(0, 0.0, 60, 70, 0.5)
    assert flaw_of(trial(0.1, 0.3, longest=75, follows=0.46), long) == ""


def test_steps_to_the_gain_are_read_between_the_readings() -> None:
    readings = (TrialReading(5, 0.1, 1, 1, 1), TrialReading(10, 0.3, 1, 1, 1), TrialReading(20, 0.3, 1, 1, 1))
    # 0.27 of 0.3 lie at 85 % of the way from 0.1 to 0.3.
    assert steps_to_gain(Trial(0.02, readings)) == pytest.approx(5 + 0.85 * 5)


@given(st.lists(st.floats(-0.5, 0.9), min_size=1, max_size=5))
def test_steps_to_the_gain_lie_within_the_trial(gains: list[float]) -> None:
    readings = tuple(TrialReading(5 * place, gain, 1, 1, 1) for place, gain in enumerate(gains, start=1))
    assert 0 <= steps_to_gain(Trial(0.02, readings)) <= 5 * len(gains)


@given(st.integers(-12, 0), st.floats(0.01, 0.9), st.floats(0, 1), st.integers(1, 20_000))
def test_a_proposal_falls_rung_by_rung_and_has_all_the_steps(place: int, gain: float, share: float, steps: int) -> None:
    chosen = trial(rung(place), gain, early=share * gain)
    scheme = propose(chosen, steps)
    rates = [segment.learning_rate for segment in scheme.segments]
    counts = [segment.steps for segment in scheme.segments]
    assert scheme.total_steps == steps and rates[0] == rung(place)
    assert [rung_near(rate) for rate in rates] == list(range(place, place - len(rates), -1))
    assert rates[-1] >= rates[0] / LOWEST_SHARE * (1 - 1e-9)
    assert counts[0] <= max(steps // HOLD_SHARE, 1)
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(counts[:-1]))
    assert parse(format_scheme(scheme.segments), "for").segments == scheme.segments


def test_a_proposal_for_a_short_run_and_for_a_long_one() -> None:
    chosen = trial(0.02, 0.3, early=0.28)
    assert format_scheme(propose(chosen, 200).segments) == "0.02:40, 0.01:80, 0.005:80"
    assert format_scheme(propose(chosen, 3790).segments) == (
        "0.02:40, 0.01:80, 0.005:160, 0.002:320, 0.001:640, 0.0005:2550"
    )
    assert format_scheme(propose(chosen, 1).segments) == "0.02:1"
    with pytest.raises(ValueError, match="a scheme needs at least one step"):
        propose(chosen, 0)


def test_a_warm_up_is_proposed_where_it_helps_and_the_sentence_has_the_numbers() -> None:
    plain = trial(0.02, 0.2)
    helps = judge_warmup(plain, trial(0.02, 0.3, warmup=5), BEFORE)
    assert helps.effect == "helps" and propose(plain, 200, helps).warmup_steps == 5
    assert helps.describe() == (
        "Warm-up helps here, and the proposal has one: after 20 steps the gain is 20 % without it and 30 % with a "
        "ramp over 5 steps (norm 1.2 and 1.2, prompt-following 1.00 and 1.00)."
    )
    none = judge_warmup(plain, trial(0.02, 0.21, warmup=5), BEFORE)
    assert none.effect == "none" and propose(plain, 200, none).warmup_steps == 0
    assert "makes no difference" in none.describe()
    for worse in (trial(0.02, 0.1, warmup=5), trial(0.02, 0.3, follows=0.2, warmup=5)):
        costs = judge_warmup(plain, worse, BEFORE)
        assert costs.effect == "costs" and propose(plain, 200, costs).warmup_steps == 0


@given(st.integers(1, 5000))
def test_a_trial_is_read_early_half_way_and_at_its_end(steps: int) -> None:
    each = steps_each(steps)
    at = readings_at(each)
    assert at[-1] == each and 1 <= len(at) <= 3 and all(1 <= step <= each for step in at)
    assert 1 <= warmup_steps(each) <= each


def test_a_trial_survives_a_line_of_json() -> None:
    one = trial(0.02, 0.3, warmup=5)
    assert Trial.from_values(json.loads(json.dumps(one.values()))) == one


def after(*trials: Trial) -> float | None:
    return next_rate(trials, BEFORE, 0.08)


def test_a_probe_goes_up_until_a_rate_gains_less_then_down_until_one_does() -> None:
    usual_one = trial(0.02, 0.3)
    assert after(usual_one) == 0.05
    assert after(usual_one, trial(0.05, 0.3)) == 0.1
    higher = trial(0.05, 0.2)
    assert after(usual_one, higher) == 0.01
    assert after(higher, usual_one) == 0.01, "in whatever order they were tried"
    assert after(usual_one, higher, trial(0.01, 0.2)) is None


def test_a_rate_within_a_tenth_of_the_best_is_near_it() -> None:
    best, lower = trial(0.05, 0.3), trial(0.02, 0.1)
    assert after(best, lower, trial(0.1, 0.271)) == 0.2
    assert after(best, lower, trial(0.1, 0.269)) is None
    # Where next to nothing was gained a tenth of the least that counts is as near.
    assert after(trial(0.05, 0.001), trial(0.02, -0.1), trial(0.1, 0.0001)) == 0.2
    assert after(trial(0.05, 0.001), trial(0.02, -0.1), trial(0.1, -0.0001)) is None


def test_a_flawed_rate_is_gone_below_and_never_above() -> None:
    flawed = trial(0.02, 0.3, longest=LONGEST + 1)
    assert after(flawed) == 0.01
    assert after(flawed, trial(0.01, 0.3)) == 0.005
    assert after(trial(0.02, 0.3), trial(0.05, 0.5, longest=9)) == 0.01


def test_a_probe_has_nine_rates_at_most() -> None:
    many = [trial(rung(place), 0.3) for place in range(-9, 0)]
    assert len(many) == MOST_RATES and after(*many) is None and after(*many[1:]) == rung(0)


def test_close_to_the_best_means_nine_tenths_of_it() -> None:
    best = trial(0.05, 0.3)
    assert choose([trial(0.02, 0.271), best], BEFORE) == best
    assert choose([trial(0.01, 0.271), trial(0.02, 0.271), best], BEFORE) == trial(0.02, 0.271)
    assert choose([trial(0.01, 0.269), trial(0.02, 0.269), best], BEFORE) == best


def test_limits_of_a_run_that_goes_on_are_those_of_its_own_vectors() -> None:
    long = TrialReading(0, 0.0, 3, 3, 1.0)
    assert (
        flaw_of(trial(0.1, 0.3, longest=6.0), long) == "" and flaw_of(trial(0.1, 0.3, longest=6.1), long) == "too long"
    )
    assert flaw_of(trial(0.1, 0.3, longest=LONGEST), BEFORE) == ""
    drowned = TrialReading(0, 0.0, 1, 1, 0.5)
    assert flaw_of(trial(0.1, 0.3, follows=0.45), drowned) == ""
    assert flaw_of(trial(0.1, 0.3, follows=0.44), drowned) == "drowns prompt"
    assert flaw_of(trial(0.1, 0.3, follows=0.67), BEFORE) == ""


def test_the_gain_of_the_first_reading_is_read_on_the_line_from_the_start() -> None:
    # 0.27 of 0.3 at step 10.
    assert steps_to_gain(trial(0.02, 0.3, early=0.3)) == pytest.approx(9)
    assert steps_to_gain(trial(0.02, 0.3, early=0.0)) == pytest.approx(19)
    # What loses has its 90 % at once.
    assert steps_to_gain(trial(0.02, -0.3, early=-0.2)) == 10.0


def test_readings_of_a_trial_are_at_a_quarter_half_and_the_end() -> None:
    assert [readings_at(steps) for steps in (20, 4, 3, 2, 1)] == [(5, 10, 20), (1, 2, 4), (1, 3), (1, 2), (1,)]
    assert [warmup_steps(steps) for steps in (20, 4, 3, 1)] == [5, 1, 1, 1]
    assert [steps_each(steps) for steps in (120, 125, 6, 1)] == [20, 20, 1, 1]


def test_shares_in_percent_have_a_digit_more_where_they_are_small() -> None:
    assert [percent(share, digits=None) for share in (0.0, 0.0123, 0.0999, 0.1, -0.05, -0.5)] == [
        "0.0 %", "1.2 %", "10.0 %", "10 %", "-5.0 %", "-50 %",
    ]  # fmt: skip


def test_a_warm_up_must_change_the_gain_by_15_percent_to_matter() -> None:
    def effect(plain: float, ramped: float) -> str:
        return judge_warmup(trial(0.02, plain), trial(0.02, ramped, warmup=5), BEFORE).effect

    assert (effect(0.3, 0.352), effect(0.3, 0.354)) == ("none", "helps")
    assert (effect(0.3, 0.256), effect(0.3, 0.254)) == ("none", "costs")
    assert (effect(0.02, 0.029), effect(0.02, 0.031)) == ("none", "helps"), "0.01 at least"
    # A warm-up is never longer than the first segment.
    short = propose(trial(0.02, 0.3), 8, judge_warmup(trial(0.02, 0.1), trial(0.02, 0.3, warmup=5), BEFORE))
    assert short.segments[0].steps == 2 and short.warmup_steps == 2
