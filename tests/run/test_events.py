"""The event log: appended, followed, cut in half, replaced; and what a resumed run takes back."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.run import events as events_module
from ti_tui.run.events import (
    KINDS,
    VALUES,
    Event,
    EventReader,
    EventWriter,
    LineReader,
    as_one_run,
    goes_back_to,
    parse_lines,
)
from ti_tui.run.events import step_of as event_step


def test_what_is_written_is_read_once(tmp_path: Path) -> None:
    writer, reader = EventWriter(tmp_path / "e.jsonl"), EventReader(tmp_path / "e.jsonl")
    writer.write("run", step=0, total_steps=10)
    writer.write("warning", message="zügig\nund [bold]")
    first = reader.read_new()
    assert [event.kind for event in first] == ["run", "warning"]
    assert first[1]["message"] == "zügig\nund [bold]"
    assert reader.read_new() == []
    writer.write("end", outcome="done")
    assert [event.kind for event in reader.read_new()] == ["end"]


def test_numbers_that_are_not_finite_become_null_with_a_warning(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "e.jsonl")
    writer.write("step", step=3, loss=float("nan"), rate=float("inf"))
    writer.close()
    step, warning = EventReader(tmp_path / "e.jsonl").read_new()
    assert step["loss"] is None and step["rate"] is None
    assert warning.kind == "warning" and "loss, rate are not" in warning["message"] and warning["step"] == 3


def test_steps_are_flushed_once_a_second_and_the_rest_at_once(tmp_path: Path) -> None:
    now = [100.0]
    writer, reader = EventWriter(tmp_path / "e.jsonl", clock=lambda: now[0]), EventReader(tmp_path / "e.jsonl")
    writer.write("step", step=1)
    assert len(reader.read_new()) == 1
    writer.write("step", step=2)
    assert reader.read_new() == []
    now[0] += 1.0
    writer.write("step", step=3)
    assert len(reader.read_new()) == 2
    writer.write("step", step=4)
    writer.write("checkpoint", step=4)
    assert len(reader.read_new()) == 2


def test_a_half_written_last_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    line = json.dumps({"t": 1.0, "kind": "step", "step": 1})
    path.write_text(line[:10])
    reader = EventReader(path)
    assert reader.read_new() == []
    with path.open("a") as file:
        file.write(line[10:] + "\n")
    assert [event["step"] for event in reader.read_new()] == [1]


def test_a_line_cut_by_a_kill_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"t":1,"kind":"step","st')
    EventWriter(path).write("run", step=0)
    assert [event.kind for event in EventReader(path).read_new()] == ["run"]


def test_a_replaced_or_shortened_file_is_read_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"t":1,"kind":"a"}\n{"t":1,"kind":"b"}\n')
    reader = EventReader(path)
    assert len(reader.read_new()) == 2
    path.write_text('{"t":1,"kind":"c"}\n')
    assert [event.kind for event in reader.read_new()] == ["c"]
    (tmp_path / "new").write_text('{"t":1,"kind":"d"}\n{"t":1,"kind":"e"}\n')
    os.replace(tmp_path / "new", path)
    assert [event.kind for event in reader.read_new()] == ["d", "e"]


def test_a_reader_can_start_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"t":1,"kind":"old"}\n')
    reader = EventReader(path, from_end=True)
    assert reader.read_new() == []
    with path.open("a") as file:
        file.write('{"t":2,"kind":"new"}\n')
    assert [event.kind for event in reader.read_new()] == ["new"]


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert EventReader(tmp_path / "none").read_new() == []


def test_many_lines_are_read_in_pieces_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    line = b'{"t":1795403584.8,"kind":"step","step":1,"loss":0.1}\n'
    path.write_bytes(line * 300_000)
    reader = EventReader(path)
    largest, count = 0, 0
    while events := reader.read_new():
        largest, count = max(largest, len(events)), count + len(events)
    assert count == 300_000
    assert largest < 150_000
    started = time.perf_counter()
    assert reader.read_new() == []
    assert time.perf_counter() - started < 1.0


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(content: bytes) -> None:
    assert isinstance(list(parse_lines(content.split(b"\n"))), list)


def test_a_line_without_an_end_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    with path.open("wb") as file:
        file.write(b'{"t":1,"kind":"a"}\n')
        file.truncate(300 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"t":2,"kind":"b"}\n')
    tracemalloc.start()
    kinds = [event.kind for event in EventReader(path).read_all()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kinds == ["a", "b"] and peak < 40 << 20


def test_a_line_longer_than_a_piece_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps({"t": 1, "kind": "warning", "message": "x" * 5000}) + "\n" + '{"t":1,"kind":"b"}\n')
    reader = EventReader(path)
    kinds = []
    while events := reader.read_new(limit_bytes=100):
        kinds += [event.kind for event in events]
    assert kinds == ["warning", "b"]


def test_a_resumed_run_takes_back_the_steps_after_its_checkpoint() -> None:
    def step(number: int) -> Event:
        return Event(0, "step", {"step": number})

    events = [Event(0, "run", {"step": 0}), step(1), step(2), step(3), Event(0, "run", {"step": 2}), step(3), step(4)]
    assert [event["step"] for event in as_one_run(events) if event.kind == "step"] == [1, 2, 3, 4]


def test_a_log_that_cannot_be_written_says_so_in_words(tmp_path: Path) -> None:
    from ti_tui.atomic import CannotWrite

    with pytest.raises(CannotWrite, match="cannot write"):
        EventWriter(Path("/dev/null/log.jsonl"))
    writer = EventWriter(Path("/dev/full"))
    with pytest.raises(CannotWrite, match="disk is full"):
        writer.write("end", outcome="done")


def test_a_run_that_begins_again_has_one_evaluation_of_its_initial_vectors() -> None:
    samples = Event(1.0, "sample", {"step": 0, "files": []})
    begun = [Event(0.0, "run", {"step": 0}), Event(1.0, "eval", {"step": 0, "loss": 0.2}), samples]
    again = [Event(2.0, "run", {"step": 0}), Event(3.0, "eval", {"step": 0, "loss": 0.2})]
    # Samples that are there are not drawn again.
    assert as_one_run([*begun, *again]) == [begun[0], samples, *again]


names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
plain = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | names
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(KINDS)), st.dictionaries(names, plain | st.lists(plain, max_size=4), max_size=5)
        )
    )
)
def test_any_events_round_trip_in_order(tmp_path_factory: pytest.TempPathFactory, written: list[Any]) -> None:
    path = tmp_path_factory.mktemp("e") / "e.jsonl"
    writer = EventWriter(path)
    wanted = []
    for kind, values in written:
        # Names with a fixed meaning are left out: an event with other values under them is not read back.
        clean = {key: value for key, value in values.items() if key not in {"t", "kind", "self", *VALUES}}
        writer.write(kind, **clean)
        wanted.append((kind, clean))
    writer.close()
    assert [(event.kind, event.values) for event in EventReader(path).read_all()] == wanted


def test_an_event_line_has_its_time_to_the_millisecond_and_no_blanks(tmp_path: Path) -> None:
    path = tmp_path / "new" / "e.jsonl"
    writer = EventWriter(path, clock=lambda: 100.12345)
    writer.write("warning", message="zügig", step=1)
    writer.close()
    assert path.read_text(encoding="utf-8") == '{"t":100.123,"kind":"warning","message":"zügig","step":1}\n'


def test_one_number_that_is_not_finite_is_told_once_wherever_it_stands(tmp_path: Path) -> None:
    nan = float("nan")
    writer = EventWriter(tmp_path / "e.jsonl")
    writer.write("eval", bands=[0.5, nan, (nan, 1.0)], more={"a": nan, "b": [2]}, loss=1.0)
    writer.close()
    found, warning = EventReader(tmp_path / "e.jsonl").read_new()
    assert found.values == {"bands": [0.5, None, [None, 1.0]], "more": {"a": None, "b": [2]}, "loss": 1.0}
    assert "bands, more are not" in warning["message"] and warning["step"] is None
    writer = EventWriter(tmp_path / "one.jsonl")
    writer.write("step", step=7, loss=nan)
    # Flushed at once although it is a step: something is wrong.
    assert EventReader(tmp_path / "one.jsonl").read_new()[1]["message"] == "loss is not a finite number"


def test_what_was_written_can_be_flushed_before_its_time(tmp_path: Path) -> None:
    writer, reader = EventWriter(tmp_path / "e.jsonl", clock=lambda: 0.5), EventReader(tmp_path / "e.jsonl")
    writer.write("step", step=1)
    assert reader.read_new() == []
    writer.flush()
    assert [event["step"] for event in reader.read_new()] == [1]


def test_a_line_that_was_whole_is_not_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"t":1,"kind":"a"}\n')
    EventWriter(path).close()
    assert path.read_text() == '{"t":1,"kind":"a"}\n'
    EventWriter(tmp_path / "empty.jsonl").close()
    assert (tmp_path / "empty.jsonl").read_bytes() == b""


def test_lines_that_are_no_events_are_passed_over() -> None:
    lines = [b"", b"[1]", b'{"t":1}', b'{"kind":"a"}', b'{"t":"x","kind":"a"}', b'{"t":1,"kind":3}', b"{", b' {"t":1}',
             b'{"t":1e999,"kind":"end"}', b'{"t":2,"kind":"b","step":4}']  # fmt: skip
    assert list(parse_lines(lines)) == [Event(2.0, "b", {"step": 4})]


def test_values_of_an_event_are_had_by_name() -> None:
    event = Event(1.0, "step", {"step": 4})
    assert event["step"] == 4 and event.get("loss") is None and event.get("loss", 3) == 3
    with pytest.raises(KeyError):
        event["loss"]


@pytest.mark.parametrize(
    ("value", "step"),
    [(0, 0), (7, 7), (2**62 - 1, 2**62 - 1), (2**62, None), (-1, None), (True, None), ("7", None), (None, None)],
)
def test_the_step_of_an_event_is_one_that_a_run_can_have(value: Any, step: int | None) -> None:
    assert event_step(Event(1.0, "step", {"step": value})) == step


def test_a_run_goes_back_with_a_new_trainer_or_a_step_that_was_there() -> None:
    def back(kind: str, at: int, **values: Any) -> int | None:
        return goes_back_to(Event(1.0, kind, values), at)

    assert back("run", 9, step=4) == 4 and back("run", 9) == 0 and back("run", 9, step="x") == 0
    assert back("step", 9, step=10) is None
    assert back("step", 9, step=9) == 8 and back("step", 9, step=3) == 2
    assert back("step", 9) is None and back("eval", 9, step=3) is None


def test_what_was_said_stays_when_a_run_goes_back() -> None:
    kinds = ["step", "eval", "verdict", "checkpoint", "sample", "warning", "request"]
    events = [Event(1.0, kind, {"step": at}) for at in (3, 4) for kind in kinds]
    kept = as_one_run([*events, Event(2.0, "run", {"step": 3})])
    assert [(event.kind, event["step"]) for event in kept] == [
        *((kind, 3) for kind in kinds), ("warning", 4), ("request", 4), ("run", 3),
    ]  # fmt: skip
    without = [Event(1.0, "step", {"step": 5}), Event(1.0, "eval", {}), Event(2.0, "run", {"step": 0})]
    assert [event.kind for event in as_one_run(without)] == ["eval", "run"]


def test_a_reader_counts_its_restarts_and_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "e"
    reader = LineReader(path)
    assert reader.waiting_bytes() == 0 and reader.read_new() == []
    path.write_bytes(b"one\ntwo\nhal")
    assert reader.waiting_bytes() == 11
    assert reader.read_new() == [b"one", b"two"] and reader.waiting_bytes() == 3 and reader.restarts == 0
    path.write_bytes(b"1\n")
    assert reader.waiting_bytes() == 0
    assert reader.read_new() == [b"1"] and reader.restarts == 1 and reader.offset == 2
    (tmp_path / "new").write_bytes(b"a\nb\n")
    os.replace(tmp_path / "new", path)
    assert reader.read_new() == [b"a", b"b"] and reader.restarts == 2


def test_a_reader_takes_about_as_much_as_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"12345\n" * 10)
    reader = LineReader(tmp_path / "e")
    assert [len(reader.read_new(limit_bytes=size)) for size in (6, 12, 17, 5, 1000)] == [1, 2, 2, 1, 4]
    (tmp_path / "e").write_bytes(b"a" * 20)
    assert reader.read_new(limit_bytes=10) == [] and reader.offset == 0


def test_a_reader_from_the_end_begins_after_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b"one\ntwo\nhal")
    reader = LineReader(path, from_end=True)
    assert reader.offset == 8 and reader.read_new() == []
    with path.open("ab") as file:
        file.write(b"f\n")
    assert reader.read_new() == [b"half"] and reader.restarts == 0
    assert LineReader(tmp_path / "none", from_end=True).offset == 0
    path.write_bytes(b"no newline")
    assert LineReader(path, from_end=True).offset == 0


def test_a_reader_from_the_end_looks_back_a_piece_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "CHUNK_BYTES", 8)
    (tmp_path / "e").write_bytes(b"one\ntwo\nthree\nhal")
    assert LineReader(tmp_path / "e", from_end=True).offset == 14
