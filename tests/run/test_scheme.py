"""The scheme: notation, the two readings, rates at each step, kohya's rules."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.scheme import PRESETS, Scheme, SchemeError, Segment, format_scheme, parse, readings, step_rules

GUIDE = "0.05:10, 0.02:20, 0.01:60, 0.005:200, 0.002:500, 0.001:3000"

segments = st.lists(
    st.builds(Segment, st.floats(1e-9, 10, allow_nan=False), st.integers(1, 10_000)), min_size=1, max_size=8
)


def test_the_guides_text_has_3790_steps_for_n_and_3000_until_n() -> None:
    both = readings(GUIDE)
    assert both.for_steps is not None and both.until_step is not None
    assert both.for_steps.total_steps == 3790
    assert both.until_step.total_steps == 3000
    assert both.ambiguous
    assert "3790" in both.describe() and "3000" in both.describe()


def test_for_n_steps_gives_each_rate_for_its_number_of_steps() -> None:
    scheme = parse("0.05:10, 0.02:20, 0.01:5", "for")
    rates = [scheme.rate_at(step) for step in range(scheme.total_steps)]
    assert rates == [0.05] * 10 + [0.02] * 20 + [0.01] * 5


def test_until_step_n_gives_each_rate_until_its_step() -> None:
    scheme = parse("0.05:10, 0.02:20, 0.01:60", "until")
    rates = [scheme.rate_at(step) for step in range(scheme.total_steps)]
    assert rates == [0.05] * 10 + [0.02] * 10 + [0.01] * 40


@pytest.mark.parametrize("last", ["0.001", "0.001:-1", "1e-3", "1E-3 : -1"])
def test_a_last_rate_without_a_number_holds_to_the_end(last: str) -> None:
    scheme = parse(f" 0.05 : 10 ,, 0.02:20,{last} ", "until", total_steps=100)
    assert [segment.steps for segment in scheme.segments] == [10, 10, 80]
    assert scheme.segments[-1].learning_rate == 0.001


def test_until_step_n_is_cut_at_the_total_as_in_a1111() -> None:
    scheme = parse("0.05:10, 0.02:2000, 0.01:3000", "until", total_steps=100)
    assert [segment.steps for segment in scheme.segments] == [10, 90]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("0.05:10, 0.02", "does not say for how many steps"),
        ("0.05, 0.02:20", "no number of steps"),
        ("fast:10", "`fast` is not a number"),
        ("0.05:ten", "`ten` is not a whole number"),
        ("0.05:1.5", "is not a whole number"),
        ("-0.05:10", "above 0"),
        ("0:10", "above 0"),
        ("nan:10", "above 0"),
        ("inf:10", "above 0"),
        ("0.05:0", "at least 1"),
        ("0.05:1e999", "not a whole number"),
    ],
)
def test_a_bad_scheme_says_which_part_is_wrong(text: str, says: str) -> None:
    with pytest.raises(SchemeError, match=r"part|empty") as caught:
        parse(text, "for")
    assert says in str(caught.value)


def test_numbers_that_do_not_grow_cannot_be_read_until_step() -> None:
    both = readings("0.05:20, 0.02:10")
    assert both.until_step is None and both.for_steps is not None
    assert "part 2" in both.until_error
    assert not both.ambiguous


def test_warm_up_is_a_ramp_inside_the_first_segment() -> None:
    scheme = Scheme((Segment(0.1, 10), Segment(0.01, 5)), warmup_steps=4)
    rates = [scheme.rate_at(step) for step in range(15)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[10:] == [0.01] * 5
    with pytest.raises(SchemeError, match="does not fit"):
        Scheme((Segment(0.1, 10),), warmup_steps=11)


def test_smooth_shapes_go_from_the_first_rate_to_the_last() -> None:
    parts = (Segment(0.1, 50), Segment(0.01, 50))
    constant, linear, cosine = (Scheme(parts, shape=shape) for shape in ("constant", "linear", "cosine"))
    assert {constant.rate_at(step) for step in range(100)} == {0.1}
    for scheme in (linear, cosine):
        rates = [scheme.rate_at(step) for step in range(100)]
        assert rates[0] == pytest.approx(0.1) and rates[-1] == pytest.approx(0.01, rel=0.1)
        assert rates == sorted(rates, reverse=True)
    assert cosine.rate_at(50) == pytest.approx(0.055)


def test_a_step_outside_the_scheme_is_an_error() -> None:
    scheme = parse("0.05:10", "for")
    for step in (-1, 10):
        with pytest.raises(ValueError, match="outside"):
            scheme.rate_at(step)


def test_step_rules_are_kohyas() -> None:
    assert step_rules(parse(GUIDE, "until")) == "1:10,0.4:20,0.2:60,0.1:200,0.04:500,0.02"


def test_step_rules_give_the_same_rates_in_diffusers() -> None:
    import torch
    from diffusers.optimization import get_piecewise_constant_schedule

    scheme = parse("0.05:3, 0.02:4, 0.001:5", "for")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    schedule = get_piecewise_constant_schedule(optimizer, step_rules(scheme))
    rates = []
    for _ in range(scheme.total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([scheme.rate_at(step) for step in range(scheme.total_steps)])


def test_next_change_is_what_the_header_shows() -> None:
    scheme = parse("0.05:10, 0.02:20", "for")
    assert scheme.next_change(0) == (10, 0.02)
    assert scheme.next_change(15) is None


def test_every_preset_can_be_read() -> None:
    assert {name: parse(text, "for").total_steps for name, text in PRESETS.items()} == {
        "faces": 3790,
        "styles": 2500,
        "first look": 790,
    }


@given(segments)
def test_text_round_trips_in_both_readings(parts: list[Segment]) -> None:
    assert parse(format_scheme(parts, "for"), "for").segments == tuple(parts)
    assert parse(format_scheme(parts, "until"), "until").segments == tuple(parts)


@given(segments)
def test_rates_cover_every_step_and_change_only_at_segment_ends(parts: list[Segment]) -> None:
    scheme = Scheme(tuple(parts))
    for index, end in enumerate(scheme.ends):
        assert scheme.rate_at(end - 1) == parts[index].learning_rate
    assert scheme.ends[-1] == scheme.total_steps


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    for reading in ("for", "until"):
        try:
            scheme = parse(text, reading)  # type: ignore[arg-type]
        except SchemeError as error:
            assert str(error)
        else:
            assert all(math.isfinite(part.learning_rate) for part in scheme.segments)
