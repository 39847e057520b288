"""The scheme: notation, the two readings, rates at each step, kohya's rules."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.recipe import SchemeTable
from ti_tui.run.scheme import (
    PRESETS,
    EarlierScheme,
    Scheme,
    SchemeError,
    SchemeReading,
    SchemeShape,
    Segment,
    format_scheme,
    parse,
    readings,
    segment_values,
    segments_from_values,
    step_rules,
)

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


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("0.05:10 0.02:20", "Put commas between the parts: `0.05:10, 0.02:20`."),
        ("0.05:10, 0.02:20 0.01:5 0.001:9", "Put commas between the parts: `0.02:20, 0.01:5, 0.001:9`."),
        ("0,005:100", "Did you mean `0.005:100`, with a decimal point?"),
        ("0.05:10, 0,005:100", "Did you mean `0.005:100`, with a decimal point?"),
        ("0.05:10 steps", "Write it like `0.005:200`."),
    ],
)
@pytest.mark.parametrize("reading", ["for", "until"])
def test_common_slips_are_named(text: str, remedy: str, reading: SchemeReading) -> None:
    with pytest.raises(SchemeError) as caught:
        parse(text, reading)
    assert caught.value.remedy == remedy


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
    assert {name: scheme.total_steps for name, scheme in PRESETS.items()} == {
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


def test_smooth_shapes_lie_on_their_curves_and_end_at_the_last_rate() -> None:
    parts = (Segment(0.1, 40), Segment(0.5, 20), Segment(0.02, 40))
    linear, cosine = Scheme(parts, shape="linear"), Scheme(parts, shape="cosine")
    assert [linear.rate_at(step) for step in (0, 25, 50)] == pytest.approx([0.1, 0.08, 0.06])
    quarter = 0.02 + 0.08 * (1 + math.cos(math.pi / 4)) / 2
    assert [cosine.rate_at(step) for step in (0, 25, 50)] == pytest.approx([0.1, quarter, 0.06])
    # Of one segment alone the end is 0.
    assert Scheme((Segment(0.1, 10),), shape="linear").rate_at(5) == pytest.approx(0.05)
    assert linear.next_change(0) is None and cosine.next_change(0) is None


def test_a_segment_and_its_steps_belong_together_at_the_borders() -> None:
    scheme = parse("0.05:10, 0.02:20, 0.01:5", "for")
    assert [scheme.segment_at(step) for step in (0, 9, 10, 29, 30, 34)] == [0, 0, 1, 1, 2, 2]
    assert scheme.next_change(9) == (10, 0.02) and scheme.next_change(10) == (30, 0.01)
    assert scheme.next_change(29) == (30, 0.01) and scheme.next_change(30) is None


@pytest.mark.parametrize("values", [(0.0, 1), (-1.0, 1), (math.nan, 1), (math.inf, 1), (0.1, 0), (0.1, 1_000_001)])
def test_a_segment_has_a_rate_above_0_and_1_to_a_million_steps(values: tuple[float, int]) -> None:
    with pytest.raises(SchemeError):
        Segment(*values)
    assert Segment(1e-12, 1).steps == 1 and Segment(0.1, 1_000_000).steps == 1_000_000


def test_a_scheme_has_a_segment_and_a_warm_up_within_the_first() -> None:
    parts = (Segment(0.1, 10), Segment(0.1, 10))
    assert Scheme(parts, 10).warmup_steps == 10 and Scheme(parts, 0).warmup_steps == 0
    for segments, warmup in (((), 0), (parts, 11), (parts, -1)):
        with pytest.raises(SchemeError):
            Scheme(segments, warmup)


def test_the_points_of_a_short_scheme_are_all_steps_with_their_rates() -> None:
    scheme = Scheme((Segment(0.1, 4), Segment(0.01, 3)), warmup_steps=2)
    steps, rates = scheme.points()
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert rates == pytest.approx([scheme.rate_at(step) for step in range(7)])


def test_the_points_of_a_long_scheme_are_few_and_hold_every_corner() -> None:
    scheme = Scheme((Segment(0.1, 1000), Segment(0.01, 9000), Segment(0.001, 90_000)), warmup_steps=5)
    steps, rates = scheme.points(50)
    assert steps == sorted(set(steps)) and 50 <= len(steps) <= 50 + 4 + 2 * 3 + 6
    corners = {1, 2, 3, 4, 5, 6, 1000, 1001, 10_000, 10_001, 100_000}
    assert corners <= set(steps) and min(steps) >= 1 and max(steps) == 100_000
    assert rates == [scheme.rate_at(int(step) - 1) for step in steps]
    # In between they are spread evenly over the logarithm of the steps.
    ratios = [later / earlier for earlier, later in itertools.pairwise(step for step in steps if step > 20)]
    assert max(ratios) < 1.3
    # A rate of 0 could not be drawn on such an axis.
    assert Scheme((Segment(1e-10, 2),)).points() == ([1.0, 2.0], [1e-9, 1e-9])
    # A warm-up of thousands of steps is drawn with about as many points as are asked for.
    assert len(Scheme((Segment(0.1, 10_000),), warmup_steps=9000).points(50)[0]) <= 50 + 52


def test_numbers_of_steps_may_be_written_in_scientific_notation() -> None:
    assert parse("5e-2:1e2, 1E-3:2E1", "for").segments == (Segment(0.05, 100), Segment(0.001, 20))


def test_parts_are_divided_by_commas_semicolons_and_lines() -> None:
    expected = (Segment(0.05, 10), Segment(0.02, 20), Segment(0.01, 5))
    assert parse("0.05:10; 0.02:20\n0.01:5,", "for").segments == expected


def test_a_long_part_is_shortened_in_a_message() -> None:
    for letters, shown in ((28, "x" * 28 + ":1"), (29, "x" * 29 + ":...")):
        with pytest.raises(SchemeError) as caught:
            parse(f"0.1:5, {'x' * letters}:1", "for")
        assert caught.value.message.startswith(f"part 2 of the scheme, `{shown}`:")


@pytest.mark.parametrize(("reading", "steps"), [("for", [10, 20, 70]), ("until", [10, 10, 80])])
def test_a_last_rate_without_a_number_takes_what_is_left(reading: SchemeReading, steps: list[int]) -> None:
    scheme = parse("0.05:10, 0.02:20, 0.01", reading, total_steps=100)
    assert [segment.steps for segment in scheme.segments] == steps
    one_left = 31 if reading == "for" else 21
    assert parse("0.05:10, 0.02:20, 0.01", reading, total_steps=one_left).segments[-1].steps == 1
    if reading == "for":
        with pytest.raises(SchemeError, match="nothing is left of 30 steps"):
            parse("0.05:10, 0.02:20, 0.01", reading, total_steps=30)


def test_until_the_total_itself_is_not_cut() -> None:
    assert parse("0.05:10, 0.02:100", "until", total_steps=100).segments == (Segment(0.05, 10), Segment(0.02, 90))
    assert parse("0.05:10, 0.02:101", "until", total_steps=100).segments == (Segment(0.05, 10), Segment(0.02, 90))
    assert parse("0.05:10, 0.02:100, 0.01:200", "until", total_steps=100).total_steps == 100
    with pytest.raises(SchemeError, match=r"part 2 .* ends at step 10, but the part before it ends at 10"):
        parse("0.05:10, 0.02:10", "until")


def test_a_text_that_only_one_reading_can_read() -> None:
    both = readings("0.05:10, 0.02:200, 0.01", total_steps=100)
    assert both.for_steps is None and "nothing is left" in both.for_error and both.until_error == ""
    assert both.until_step is not None and both.until_step.total_steps == 100
    assert both.describe() == f"for N steps: not possible ({both.for_error}); until step N: 100 in all"
    assert not both.ambiguous
    both = readings("0.05:20, 0.02:10")
    assert both.for_error == "" and both.describe().startswith("for N steps: 30 in all; until step N: not possible (")
    with pytest.raises(SchemeError, match="empty"):
        readings("")


def test_one_part_reads_the_same_both_ways() -> None:
    both = readings("0.05:10")
    assert both.for_steps == both.until_step and not both.ambiguous
    assert readings("0.05:10, 0.02", total_steps=40).for_steps == parse("0.05:10, 0.02:30", "for")


def test_step_rules_of_what_they_cannot_say_are_refused() -> None:
    parts = (Segment(0.1, 10), Segment(0.03, 5))
    assert step_rules(Scheme(parts)) == "1:10,0.3"
    for scheme in (Scheme(parts, warmup_steps=1), Scheme(parts, shape="cosine")):
        with pytest.raises(SchemeError, match="step_rules"):
            step_rules(scheme)


def test_what_is_ahead_of_a_step_and_how_it_is_changed() -> None:
    scheme = parse("0.05:10, 0.02:20, 0.01:5", "for")
    assert scheme.segments_after(0) == scheme.segments
    assert scheme.segments_after(9) == (Segment(0.05, 1), *scheme.segments[1:])
    assert scheme.segments_after(10) == scheme.segments[1:]
    assert scheme.segments_after(31) == (Segment(0.01, 4),) and scheme.segments_after(35) == ()
    other = (Segment(0.3, 7), Segment(0.1, 2))
    assert scheme.continued(10, other).segments == (Segment(0.05, 10), *other)
    assert scheme.continued(12, other).segments == (Segment(0.05, 10), Segment(0.02, 2), *other)
    assert scheme.continued(0, other).segments == other
    # The same rate goes on as one segment.
    same = (Segment(0.02, 7), Segment(0.1, 2))
    assert scheme.continued(12, same).segments == (Segment(0.05, 10), Segment(0.02, 9), Segment(0.1, 2))
    for step in range(36):
        ahead = scheme.segments_after(step)
        assert not ahead or scheme.continued(step, ahead) == scheme


def test_a_change_inside_a_warm_up_keeps_the_ramp_that_was_trained() -> None:
    scheme, ahead = Scheme((Segment(0.1, 10),), warmup_steps=5), (Segment(0.01, 3),)
    assert scheme.continued(8, ahead) == Scheme((Segment(0.1, 8), Segment(0.01, 3)), 5)
    assert scheme.continued(0, ahead) == Scheme(ahead, 0)
    changed = scheme.continued(3, ahead)
    assert [changed.rate_at(step) for step in range(6)] == [scheme.rate_at(step) for step in range(3)] + [0.01] * 3


_PARTS = st.lists(st.builds(Segment, st.floats(1e-6, 1), st.integers(1, 30)), min_size=1, max_size=4)


@given(
    st.sampled_from(["segments", "constant", "cosine", "linear"]),
    _PARTS,
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30), _PARTS), min_size=1, max_size=4),
)
def test_changes_keep_every_rate_behind_them_and_hold_from_the_step_they_are_taken_at(
    shape: SchemeShape, parts: list[Segment], warmup: int, changes: list[tuple[int, int, list[Segment]]]
) -> None:
    scheme, step = Scheme(tuple(parts), min(warmup, parts[0].steps), shape), 0
    for typed, late, ahead in changes:
        typed_at = min(step + typed, scheme.total_steps)
        step = min(typed_at + late, scheme.total_steps)
        typed_rates = [segment.learning_rate for segment in ahead for _ in range(segment.steps)]
        if typed_at + len(typed_rates) <= step:
            with pytest.raises(SchemeError, match=f"and the run is at step {step}"):
                scheme.steered(typed_at, ahead, step)
            continue
        changed = scheme.steered(typed_at, ahead, step)
        assert [changed.rate_at(at) for at in range(step)] == [scheme.rate_at(at) for at in range(step)]
        later = [changed.rate_at(at) for at in range(step, changed.total_steps)]
        assert changed.total_steps == typed_at + len(typed_rates)
        if step >= changed.warmup_steps:
            assert later == typed_rates[step - typed_at :]
        # What a resumed trainer and the run file make of it.
        assert changed.after(changed, step) == changed
        assert SchemeTable.from_scheme(changed).scheme() == changed
        scheme = changed


def test_a_smooth_shape_that_is_changed_keeps_its_curve_behind_the_change() -> None:
    scheme = Scheme((Segment(0.005, 1999), Segment(0.0001, 1)), shape="cosine")
    changed = scheme.steered(900, (Segment(0.001, 500),), 1000)
    assert changed.rate_at(999) == scheme.rate_at(999) == pytest.approx(0.00255, abs=1e-5)
    assert changed.rate_at(1000) == 0.001 and changed.total_steps == 1400
    assert changed.next_change(500) == (1000, 0.001) and changed.next_change(1200) is None
    steps, rates = changed.points()
    assert rates[steps.index(1000)] == scheme.rate_at(999) and rates[steps.index(1001)] == 0.001
    # Proposed are the curve's own rates, not its first one.
    offered = scheme.proposal_after(1000)
    middles = [1125, 1375, 1625, 1875]
    assert [part.learning_rate for part in offered] == [float(f"{scheme.rate_at(step):.2g}") for step in middles]
    assert sum(part.steps for part in offered) == 1000
    assert changed.proposal_after(1200) == (Segment(0.001, 200),)


def test_earlier_rates_that_do_not_fit_are_refused() -> None:
    past = Scheme((Segment(0.1, 5),))
    with pytest.raises(SchemeError, match="earlier scheme of 5 steps"):
        EarlierScheme(6, past)
    for untils in ((3, 3), (4, 2), (0,)):
        with pytest.raises(SchemeError, match="earlier rates until"):
            Scheme((Segment(0.1, 5),), earlier=tuple(EarlierScheme(until, past) for until in untils))
    with pytest.raises(SchemeError, match="earlier rates until the steps 5"):
        Scheme((Segment(0.1, 4),), earlier=(EarlierScheme(5, past),))


def test_segments_are_read_from_the_values_they_were_written_as() -> None:
    segments = (Segment(0.1, 10), Segment(0.01, 3))
    values = segment_values(segments)
    assert values == [{"learning_rate": 0.1, "steps": 10}, {"learning_rate": 0.01, "steps": 3}]
    assert segments_from_values(values) == segments
    with pytest.raises(SchemeError):
        segments_from_values([{"learning_rate": 0.1, "steps": 0}])


def test_a_scheme_that_has_ended_cannot_be_continued_and_has_bounded_parts() -> None:
    scheme = parse("0.1:10, 0.05:20", "for")
    with pytest.raises(SchemeError, match="ends at step 30, and the run is at step 31"):
        scheme.steered(31, (Segment(0.1, 100),), 31)
    with pytest.raises(SchemeError, match="1000 at most"):
        Scheme((Segment(0.1, 1),) * 1001)
    past = Scheme((Segment(0.2, 1000),))
    with pytest.raises(SchemeError, match="100 at most"):
        Scheme((Segment(0.1, 1000),), earlier=tuple(EarlierScheme(until, past) for until in range(1, 102)))
