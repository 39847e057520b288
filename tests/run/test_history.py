"""What a dashboard knows of a run: folded from its events, taken back on resume, and read fast from a long log."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run.events import KINDS, Event, EventWriter, as_one_run, parse_lines
from ti_tui.run.history import RECENT_STEPS, CheckpointRow, RecentSeries, RunHistory, SampleFile, Series
from ti_tui.run.history_reader import HistoryReader


def step(number: int, loss: float | None = 0.1, **values: Any) -> Event:
    return Event(
        float(number),
        "step",
        {"step": number, "loss": loss, "rate": 0.005, "gradient_norm": 1, "seconds": 2.0} | values,
    )


def run(at: int = 0, total: int = 100) -> Event:
    values = {"step": at, "total_steps": total, "epoch_steps": 4.0, "images": 8, "family": "sd1"}
    return Event(50.0, "run", values | {"plan": {"device": "cpu"}, "reasons": {"device": "no card"}})


def folded(events: Iterable[Event]) -> RunHistory:
    history = RunHistory()
    history.add(events)
    return history


def shown(history: RunHistory) -> dict[str, Any]:
    """All that a history says, but for the pace, which is the device's and not taken back."""
    state = {name: value for name, value in vars(history).items() if not name.startswith("_")}
    for name in ("loss", "recent", "rates"):
        state[name] = state[name].points()
    state["smooth"] = None if history.smooth is None else pytest.approx(history.smooth)
    return state


def test_a_run_tells_what_it_will_do() -> None:
    history = folded([Event(1.0, "phase", {"phase": "loading", "message": "the model"}), run()])
    assert (history.phase, history.total_steps, history.images, history.family) == ("loading", 100, 8, "sd1")
    assert history.plan == {"device": "cpu"} and history.reasons == {"device": "no card"}
    assert history.started == 50.0 and history.outcome == ""


def test_steps_give_the_curve_the_pace_and_what_is_left() -> None:
    history = folded([run(), step(1, 1.0), step(2, 0.0, seconds=4.0), step(3, 0.5, rate=0.002, seconds=2.0)])
    assert history.loss.points() == history.recent.points() == [(1, 1.0), (2, 0.0), (3, 0.5)]
    assert history.smooth == pytest.approx(0.86)
    assert (history.rate, history.rates.points()[-1], history.step) == (0.002, (3, 0.002), 3)
    assert history.seconds_per_step == 2.0
    assert history.left_seconds() == 97 * 2.0
    assert history.epoch() == 0.75


def test_nothing_is_known_of_an_empty_log() -> None:
    history = RunHistory()
    assert (history.health, history.health_step, history.best_step, history.verdict) == ((), 0, None, None)
    assert (history.left_seconds(), history.epoch(), history.seconds_per_step, history.rate) == (None,) * 4
    assert (history.started, history.last_t, history.smooth, history.loss.last) == (None,) * 4


def test_a_loss_that_was_not_a_number_is_marked_and_in_no_curve() -> None:
    history = folded([run(), step(1), step(2, None), step(3)])
    assert history.bad_steps == [2]
    assert [at for at, _ in history.loss.points()] == [1, 3]
    assert history.step == 3


def test_a_resumed_trainer_takes_back_what_it_will_do_again() -> None:
    events = [run(), *(step(at, at / 10) for at in range(1, 7)), Event(6, "eval", {"step": 4, "loss": 0.2})]
    events += [Event(6, "eval", {"step": 6, "loss": 0.3}), Event(6, "checkpoint", {"step": 4, "files": []})]
    events += [Event(6, "checkpoint", {"step": 6}), Event(6, "sample", {"step": 6, "files": ["a.png"]})]
    history = folded([*events, Event(7, "end", {"outcome": "failed", "message": "killed"})])
    assert (history.outcome, history.phase, history.message) == ("failed", "failed", "killed")
    history.add([run(4)])
    assert [at for at, _ in history.loss.points()] == [1, 2, 3, 4]
    assert (history.step, history.outcome, history.message, history.samples) == (4, "", "", {})
    assert history.evals == [(4, 0.2)] and [row.step for row in history.checkpoints] == [4]
    assert history.smooth == folded(events[:5]).smooth


def test_a_trainer_that_loads_again_is_going_again() -> None:
    history = folded([run(), step(1), Event(2, "end", {"outcome": "stopped", "message": "asked to stop"})])
    history.add([Event(9, "phase", {"phase": "loading", "message": ""})])
    assert (history.outcome, history.phase, history.step) == ("", "loading", 1)


def test_a_step_that_was_undone_counts_once() -> None:
    events = [run(), step(1), step(2), step(3, 9.0), Event(3, "eval", {"step": 3, "loss": 1.0})]
    events += [Event(4, "warning", {"message": "undone, back at step 2", "step": 3}), step(3, 0.3)]
    history = folded(events)
    assert [loss for _, loss in history.loss.points()] == [0.1, 0.1, 0.3]
    assert history.evals == []
    assert [event["step"] for event in as_one_run(events) if event.kind == "step"] == [1, 2, 3]


def test_a_changed_scheme_changes_the_total() -> None:
    history = folded([run(), step(1), Event(2, "request", {"request": "scheme", "message": "taken"})])
    assert history.total_steps == 100
    history.add([Event(3, "request", {"request": "scheme", "message": "new scheme", "step": 1, "total_steps": 7})])
    assert history.total_steps == 7
    said = [(notice.request, notice.message) for notice in history.requests]
    assert said == [("scheme", "taken"), ("scheme", "new scheme")]


def test_an_installed_checkpoint_marks_its_row() -> None:
    saved = {"step": 9, "state": "state/step9", "files": ["model/zkz.pt"], "loss": 0.2, "eval_loss": None}
    history = folded([run(), Event(1, "checkpoint", saved | {"norms": [[0.2, 0.4], [0.6]]})])
    (row,) = history.checkpoints
    assert row == CheckpointRow(9, 0.2, None, row.norm, ("model/zkz.pt",)) and row.norm == pytest.approx(0.4)
    history.add([Event(2, "checkpoint", {"step": 9, "files": [], "installed": "/a/zkz.pt", "loss": 0.2, "norms": []})])
    assert history.checkpoints == [CheckpointRow(9, 0.2, None, row.norm, row.files, "/a/zkz.pt")]


def test_samples_warnings_errors_and_memory_are_kept() -> None:
    history = folded([run(), step(1), Event(2, "sample", {"step": 1, "files": ["a.png", "b.png"], "prompts": ["x"]})])
    history.add(
        [Event(3, "warning", {"message": "hot", "step": None}), Event(4, "error", {"message": "no", "step": 1})]
    )
    history.add([Event(5, "memory", {"used_bytes": 5, "peak_bytes": 7, "step": 1})])
    assert history.samples == {1: (SampleFile("a.png", "x"), SampleFile("b.png", ""))}
    assert [(notice.t, notice.step, notice.message) for notice in history.warnings] == [(3, 1, "hot")]
    assert [notice.message for notice in history.errors] == ["no"]
    assert (history.used_bytes, history.peak_bytes, history.last_t) == (5, 7, 5)


steps = st.integers(0, 12)
losses = st.none() | st.floats(-10, 10)
events_of_a_run = st.one_of(
    st.builds(run, steps),
    st.builds(step, st.integers(1, 12), losses),
    st.builds(lambda at, loss: Event(1.0, "eval", {"step": at, "loss": loss}), steps, losses),
    st.builds(lambda at, loss: Event(1.0, "checkpoint", {"step": at, "loss": loss, "files": ["a"]}), steps, losses),
    st.builds(lambda at: Event(1.0, "checkpoint", {"step": at, "installed": "/a"}), steps),
    st.builds(lambda at: Event(1.0, "sample", {"step": at, "files": [str(at)]}), steps),
    st.builds(lambda at: Event(1.0, "warning", {"step": at, "message": "w"}), steps),
    st.builds(lambda total: Event(1.0, "request", {"step": 1, "total_steps": total}), steps),
    st.builds(lambda: Event(1.0, "end", {"outcome": "stopped", "message": "m"})),
    st.builds(lambda: Event(1.0, "phase", {"phase": "training", "message": ""})),
)


@given(st.lists(events_of_a_run, max_size=40), st.integers(1, 7))
def test_a_history_in_pieces_is_that_of_the_events_as_one_run(events: list[Event], piece: int) -> None:
    history = RunHistory()
    for at in range(0, len(events), piece):
        history.add(events[at : at + piece])
    kept = as_one_run(events)
    assert shown(history) == shown(folded(kept))
    trained = [event for event in kept if event.kind == "step"]
    assert history.loss.points() == [(event["step"], event["loss"]) for event in trained if event["loss"] is not None]
    assert history.bad_steps == [event["step"] for event in trained if event["loss"] is None]
    assert dict(history.evals) == {e["step"]: e["loss"] for e in kept if e.kind == "eval" and e["loss"] is not None}
    assert [row.step for row in history.checkpoints] == sorted({e["step"] for e in kept if e.kind == "checkpoint"})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = ("step", "loss", "rate", "seconds", "norms", "files", "prompts", "plan", "reasons", "total_steps", "installed",
         "epoch_steps", "images", "used_bytes", "outcome", "phase", "message")  # fmt: skip


values = st.dictionaries(st.sampled_from(NAMES), st.integers(-3, 9) | st.floats() | anything, max_size=8)


@given(st.lists(st.builds(Event, st.floats(), st.sampled_from(sorted(KINDS)), values), max_size=12))
def test_no_value_in_a_log_can_stop_a_history(events: list[Event]) -> None:
    history = folded(events)
    history.left_seconds(), history.epoch()
    assert all(value == value and abs(value) != float("inf") for value in history.loss.values)
    as_one_run(events)


def test_a_series_of_any_length_stays_small_and_keeps_its_spikes() -> None:
    series = Series(limit=8)
    for at in range(1, 1001):
        series.append(at, 100.0 if at == 333 else 1.0)
    assert 4 <= len(series) <= 8
    assert max(series.highs) == 100.0 and min(series.lows) == 1.0
    assert series.steps[-1] == 1000 and list(series.steps) == sorted(series.steps)
    assert max(series.values) < 3.0


def test_each_point_of_a_thinned_series_is_the_mean_of_its_steps() -> None:
    series = Series(limit=4)
    for at in range(1, 12):
        series.append(at, float(at))
    assert series.points() == [(4, 2.5), (8, 6.5), (11, 10.0)]
    series.truncate_after(9)
    assert series.points() == [(4, 2.5), (8, 6.5)]
    series.append(9, 9.0)
    assert series.points()[-1] == (9, 9.0)
    series.truncate_after(0)
    series.append(1, 5.0)
    series.append(2, 7.0)
    assert series.points() == [(1, 5.0), (2, 7.0)]


def write_log(path: Path, count: int, *, bad: Iterable[int] = (), undone: int = 0) -> None:
    """A log as the trainer writes it; the step `undone` is trained twice, the first time with a huge loss."""
    now, bad = [1_795_403_584.0], set(bad)
    writer = EventWriter(path, clock=lambda: now[0])
    writer.write("run", step=0, total_steps=count, epoch_steps=1.0, images=4, family="sd1", plan={}, reasons={})

    def write_step(at: int, loss: float) -> None:
        writer.write("step", step=at, loss=loss, rate=0.005, gradient_norm=0.013, seconds=0.61)

    for at in range(1, count + 1):
        now[0] += 0.6
        if at == undone:
            write_step(at, 5e9)
            writer.write("warning", message='the loss: "kind":"step", undone', step=at)
        write_step(at, float("nan") if at in bad else 0.1 + at / count)
        if at % 1000 == 0:
            writer.write("eval", step=at, loss=0.2)
    writer.write("end", outcome="done", step=count, message="", seconds=1.0)
    writer.close()


def read_all(reader: HistoryReader) -> int:
    return 1 + sum(1 for _ in iter(reader.read, False))


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    write_log(path, 250_000, bad=[77_777, 249_000], undone=123_456)
    return path


def test_a_short_log_is_read_in_full(tmp_path: Path) -> None:
    write_log(tmp_path / "e.jsonl", 3000, bad=[17])
    reader = HistoryReader(tmp_path / "e.jsonl")
    assert read_all(reader) >= 1
    assert len(reader.history.loss) == 2999 and reader.history.bad_steps == [17]
    assert reader.history.outcome == "done" and len(reader.history.warnings) == 1


def test_a_long_log_is_thinned_but_for_its_end(long_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0

    def counted(lines: list[bytes]) -> Iterable[Event]:
        nonlocal parsed
        parsed += len(lines)
        return parse_lines(lines)

    monkeypatch.setattr("ti_tui.run.history_reader.parse_lines", counted)
    reader = HistoryReader(long_log)
    assert read_all(reader) > 1
    history = reader.history
    assert 40_000 < parsed < 90_000
    newest = range(250_000 - RECENT_STEPS + 1, 250_001)
    assert set(newest) - {249_000} <= set(history.recent.steps)
    assert (history.step, history.outcome, len(history.evals)) == (250_000, "done", 250)
    assert history.loss.steps[0] < 1000 and len(history.loss) <= 8192
    # The curve is that of the whole log: 0.1 to 1.1, straight.
    assert statistics.fmean(history.loss.values) == pytest.approx(0.6, abs=0.05)


def test_what_went_wrong_in_a_long_log_is_not_passed_over(long_log: Path) -> None:
    reader = HistoryReader(long_log)
    read_all(reader)
    assert reader.history.bad_steps == [77_777, 249_000]
    assert len(reader.history.warnings) == 3
    assert max(reader.history.loss.highs) < 2.0


def test_a_turn_ends_in_time(long_log: Path) -> None:
    reader = HistoryReader(long_log)
    assert reader.read(0.0)
    assert 0 < reader.history.step < 10_000


def test_a_log_is_followed_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log" / "events.jsonl"
    reader = HistoryReader(path)
    assert not reader.read()
    writer = EventWriter(path)
    writer.write("run", step=0, total_steps=5)
    assert not reader.read()
    assert reader.history.total_steps == 5
    writer.write("step", step=1, loss=0.5, rate=0.1, gradient_norm=1.0, seconds=1.0)
    writer.write("phase", phase="saving", message="")
    assert not reader.read()
    assert (reader.history.step, reader.history.phase) == (1, "saving")


def test_a_half_written_line_waits_and_a_line_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    line = json.dumps({"t": 1.0, "kind": "step", "step": 3, "loss": 0.25})
    path.write_bytes(b'null\n{"t":1e999\n{"t":' + b"9" * 400 + b',"kind":"step"}\n\xff\xfe\n' + line[:20].encode())
    reader = HistoryReader(path)
    assert read_all(reader) <= 2
    assert reader.history.step == 0
    with path.open("a") as file:
        file.write(line[20:] + "\n")
    assert not reader.read()
    assert reader.history.loss.points() == [(3, 0.25)]


def test_a_replaced_log_begins_a_new_history(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write_log(path, 50)
    reader = HistoryReader(path)
    read_all(reader)
    old = reader.history
    write_log(tmp_path / "new", 90)
    os.replace(tmp_path / "new", path)
    read_all(reader)
    assert reader.history is not old and reader.history.step == 90
    path.write_text("")
    read_all(reader)
    assert reader.history.step == 0


def test_a_log_that_is_deleted_keeps_its_history(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write_log(path, 50)
    reader = HistoryReader(path)
    read_all(reader)
    path.unlink()
    assert not reader.read()
    assert reader.history.step == 50


def test_reading_a_history_loads_no_large_library() -> None:
    large = "{'torch', 'numpy', 'textual', 'pydantic'}"
    code = f"import sys, ti_tui.run.history_reader; print(*{large} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_first_steps_after_going_back_make_the_mean_anew() -> None:
    history = folded([run(), step(1, 1.0), step(2, 9.0), run(1), step(2, 2.0)])
    assert history.smooth == pytest.approx(1.1) and history.loss.points() == [(1, 1.0), (2, 2.0)]
    assert history.rate == 0.005
    history.add([run(0)])
    assert history.smooth is None and history.rate is None and history.step == 0


def test_values_that_no_trainer_writes_are_passed_over() -> None:
    history = folded([run(), step(1), step(2, 1e300, rate=True, seconds=-1.0), step(-1), step(3, loss="0.1")])
    assert history.bad_steps == [2, 3] and history.step == 3
    assert history.rate == 0.005 and [at for at, _ in history.rates.points()] == [1, 3]
    assert history.seconds_per_step == 2.0
    history.add([Event(float("nan"), "step", {"step": 4}), Event(1.0, "step", {"step": True})])
    assert history.step == 3
    odd = {"total_steps": -1, "images": 1.5, "epoch_steps": 0.0, "family": 3, "plan": [], "reasons": {"a": 1}}
    history.add([Event(60.0, "run", {"step": 3, **odd})])
    assert (history.total_steps, history.images, history.epoch_steps, history.family) == (0, 0, None, "")
    assert history.plan == {} and history.reasons == {"a": "1"} and history.epoch() is None


def test_notices_keep_the_last_thousand() -> None:
    history = folded(Event(1.0, "warning", {"message": str(number)}) for number in range(1005))
    assert len(history.warnings) == 1000 and history.warnings[0].message == "5" and history.warnings[-1].step == 0
    history.add(step(at, None) for at in range(1, 1006))
    assert len(history.bad_steps) == 1000 and history.bad_steps[0] == 6


def test_the_pace_is_the_median_of_the_last_hundred_steps() -> None:
    history = folded([run(), *(step(at, seconds=50.0) for at in range(1, 61)), *(step(at) for at in range(61, 121))])
    assert history.seconds_per_step == 2.0
    history.add([step(121, seconds=0.0)])
    assert history.seconds_per_step == 2.0 and history.left_seconds() == 0


def evaluation(at: int, loss: float = 0.2, **values: Any) -> Event:
    return Event(float(at), "eval", {"step": at, "loss": loss, **values})


def test_evaluations_stay_in_order_and_a_second_one_of_a_step_replaces_the_first() -> None:
    history = folded(
        [run(), evaluation(0), evaluation(20), evaluation(10, 0.5), evaluation(10, 0.4), evaluation(20, 0.1)]
    )
    assert history.evals == [(0, 0.2), (10, 0.4), (20, 0.1)]
    found = [history.evaluation_at(at) for at in (-1, 0, 9, 10, 25)]
    assert [one and one.step for one in found] == [None, 0, 0, 10, 20]
    history.add([Event(1.0, "eval", {"step": -1, "loss": 1.0}), Event(1.0, "eval", {"step": 30})])
    assert len(history.evaluations) == 3


def test_verdicts_are_kept_and_taken_back() -> None:
    said = [Event(float(at), "verdict", {"step": at, "verdict": name, "reason": f"since {at}"})
            for at, name in ((10, "learning"), (20, "learned"), (30, "splendid"))]  # fmt: skip
    history = folded([run(), *said])
    assert history.verdict is not None and (history.verdict.step, history.verdict.reason) == (20, "since 20")
    history.add([run(10)])
    assert history.verdict is not None and history.verdict.name == "learning"
    history.add([run(9)])
    assert history.verdict is None


def test_checkpoints_say_which_is_best_and_how_the_newest_vectors_are() -> None:
    saved = [Event(float(at), "checkpoint", {"step": at, "best": best, "health": [{"norm": at}, 3]})
             for at, best in ((10, 10), (20, 20), (30, None))]  # fmt: skip
    history = folded([run(), *saved])
    assert (history.best_step, history.health, history.health_step) == (20, ({"norm": 30},), 30)
    history.add([run(30)])
    assert (history.best_step, history.health_step) == (20, 30)
    history.add([run(20)])
    assert (history.best_step, history.health, history.health_step) == (20, (), 0)
    history.add([run(19)])
    assert history.best_step is None and [row.step for row in history.checkpoints] == [10]
    assert folded([Event(1.0, "checkpoint", {"best": 3})]).best_step is None


def test_checkpoints_stay_in_order_and_a_second_one_of_a_step_replaces_the_first() -> None:
    saved = [Event(1.0, "checkpoint", {"step": at, "loss": loss, "eval_loss": loss, "files": [str(loss)]})
             for at, loss in ((20, 1.0), (10, 2.0), (20, 3.0))]  # fmt: skip
    history = folded([run(), *saved])
    assert history.checkpoints == [
        CheckpointRow(10, 2.0, 2.0, None, ("2.0",)), CheckpointRow(20, 3.0, 3.0, None, ("3.0",)),
    ]  # fmt: skip
    installed = Event(2.0, "checkpoint", {"step": 20, "installed": "/a"})
    history.add([installed, saved[2]])
    assert history.checkpoints[-1] == CheckpointRow(20, 3.0, 3.0, None, ("3.0",), "/a")
    odd = Event(3.0, "checkpoint", {"step": 30, "norms": [[1, "x"], "y", [None, 2]], "files": "z"})
    history.add([odd])
    assert history.checkpoints[-1] == CheckpointRow(30, None, None, 1.5, ())


def test_samples_of_a_step_that_comes_again_are_taken_back() -> None:
    drawn = [Event(1.0, "sample", {"step": at, "files": ["a", 3], "prompts": ["p", "q", "r"]}) for at in (0, 5, 10)]
    history = folded([run(), *drawn, Event(1.0, "sample", {"files": ["x"]})])
    assert history.samples[5] == (SampleFile("a", "p"), SampleFile("3", "q")) and list(history.samples) == [0, 5, 10]
    history.add([run(5)])
    assert list(history.samples) == [0, 5]


def test_an_end_has_its_outcome_or_failed() -> None:
    history = folded([run(), Event(9.0, "end", {"outcome": "done", "message": "m"})])
    assert (history.outcome, history.phase, history.message, history.last_t) == ("done", "done", "m", 9.0)
    assert folded([Event(9.0, "end")]).outcome == "failed"
    history.add([Event(10.0, "phase", {"phase": "loading", "message": "the model"})])
    assert (history.phase, history.message, history.outcome) == ("loading", "the model", "")


def test_recent_steps_are_kept_in_full_and_half_of_them_go_at_once() -> None:
    recent = RecentSeries(limit=3)
    for at in range(1, 7):
        recent.append(at, float(at))
    assert list(recent.steps) == [1, 2, 3, 4, 5, 6]
    recent.append(7, 7.0)
    assert recent.points() == [(at, float(at)) for at in (4, 5, 6, 7)]
    assert list(recent.lows) == list(recent.highs) == [4.0, 5.0, 6.0, 7.0]
    recent.truncate_after(5)
    assert recent.last == 5.0 and len(recent) == 2


def test_a_thinned_point_keeps_its_lowest_and_its_highest() -> None:
    series = Series(limit=2)
    for at, value in enumerate([1.0, 5.0, 3.0, -2.0, 4.0], start=1):
        series.append(at, value)
    assert series.points() == [(4, 1.75), (5, 4.0)]
    assert list(series.lows) == [-2.0, 4.0] and list(series.highs) == [5.0, 4.0]
    series.append(6, 8.0)
    assert (list(series.lows)[-1], list(series.highs)[-1], series.last) == (4.0, 8.0, 6.0)
    three = Series(limit=4)
    for at, value in enumerate([1.0, 1.0, 2.0, 2.0, 4.0, 0.0], start=1):
        three.append(at, value)
    assert list(three.lows) == [1.0, 2.0, 0.0] and list(three.highs) == [1.0, 2.0, 4.0]
    assert len(Series(limit=3).steps) == 0 and Series(limit=3).last is None
