"""The outline of a run says what its whole history says, though it reads few of the steps."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run.test_history import events_of_a_run, folded, run, step
from ti_tui.run.events import Event, EventWriter
from ti_tui.run.outline import read_outline


def write(path: Path, events: list[Event]) -> None:
    """As the trainer writes them."""
    times = iter(events)
    writer = EventWriter(path, clock=lambda: next(times).t)
    for event in events:
        writer.write(event.kind, **event.values)  # type: ignore[arg-type]
    writer.close()


@st.composite
def trained(draw: st.DrawFn) -> list[Event]:
    """A run as trainers write it: it goes on, is resumed at an earlier step, or goes back by itself with a warning."""
    events, at = [run()], 0
    for kind in draw(
        st.lists(st.sampled_from(["steps", "steps", "eval", "checkpoint", "resumed", "retry"]), max_size=12)
    ):
        match kind:
            case "steps":
                count = draw(st.integers(1, 5))
                events += [step(number) for number in range(at + 1, at + count + 1)]
                at += count
            case "eval":
                events.append(Event(1.0, "eval", {"step": at, "loss": 0.1}))
            case "checkpoint":
                events.append(Event(1.0, "checkpoint", {"step": at, "loss": 0.1, "files": ["a"], "best": at}))
            case "resumed":
                at = draw(st.integers(0, at))
                events.append(run(at))
            case "retry" if at:
                at = draw(st.integers(0, at - 1))
                events += [Event(1.0, "warning", {"message": "again", "step": at}), step(at + 1)]
                at += 1
    return events


@given(trained())
def test_an_outline_says_what_the_whole_history_says(events: list[Event]) -> None:
    whole = folded(events)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "events.jsonl", events)
        found = read_outline(Path(folder) / "events.jsonl").history
    for name in ("step", "total_steps", "evaluations", "checkpoints", "best_step", "outcome"):
        assert getattr(found, name) == getattr(whole, name), name


@given(st.lists(events_of_a_run, max_size=20))
def test_nothing_in_a_log_can_stop_an_outline(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "events.jsonl", events)
        assert read_outline(Path(folder) / "events.jsonl").seconds >= 0


def test_the_time_of_every_session_counts_and_none_between_them(tmp_path: Path) -> None:
    def session(start: float, first: int, last: int) -> list[Event]:
        steps = [Event(start + 10 + 2 * (number - first), "step", step(number).values) for number in range(first, last)]
        return [Event(start, "phase", {"phase": "loading"}), Event(start + 10, "run", run(first - 1).values), *steps]

    # The first is killed after 10 + 2 * 39 s; the second begins a day later and ends by itself.
    later = session(90_000, 21, 61)
    events = [*session(1000, 1, 41), *later, Event(later[-1].t + 3, "end", {"outcome": "done", "step": 60})]
    write(tmp_path / "events.jsonl", events)
    outline = read_outline(tmp_path / "events.jsonl")
    assert outline.sessions == 2
    assert outline.seconds == pytest.approx(10 + 2 * 39 + 10 + 2 * 39 + 3)
    assert outline.seconds_per_step == 2.0


def test_the_most_memory_of_all_sessions_and_when_a_verdict_was_given(tmp_path: Path) -> None:
    events = [run(), Event(2.0, "memory", {"used_bytes": 5, "peak_bytes": 70})]
    events += [Event(9.0, "verdict", {"step": 0, "verdict": "learning", "reason": "r"}), run(0)]
    write(tmp_path / "events.jsonl", [*events, Event(3.0, "memory", {"used_bytes": 5, "peak_bytes": 7})])
    outline = read_outline(tmp_path / "events.jsonl")
    assert (outline.peak_bytes, outline.history.peak_bytes) == (70, 7)
    assert outline.verdict_times == {0: 9.0}


def test_a_run_of_a_hundred_thousand_steps_is_read_at_once(tmp_path: Path) -> None:
    lines = [
        f'{{"t":{number},"kind":"step","step":{number},"loss":0.1,"rate":0.005,"gradient_norm":1,"seconds":0.5}}\n'
        for number in range(1, 100_001)
    ]
    lines.insert(50_000, '{"t":50000,"kind":"eval","step":50000,"loss":0.2}\n')
    (tmp_path / "events.jsonl").write_text("".join(lines))
    start = time.process_time()
    outline = read_outline(tmp_path / "events.jsonl")
    # Parsed one by one they take about a second.
    assert time.process_time() - start < 0.5
    assert (outline.history.step, outline.history.evals) == (100_000, [(50_000, 0.2)])


def test_without_a_log_nothing_is_known(tmp_path: Path) -> None:
    outline = read_outline(tmp_path / "no.jsonl")
    assert (outline.sessions, outline.seconds, outline.seconds_per_step, outline.history.last_t) == (0, 0.0, None, None)
