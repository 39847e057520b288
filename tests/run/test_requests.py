"""Requests to a running trainer, as files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ti_tui.run import requests
from ti_tui.run.folder import RunFolder
from ti_tui.run.scheme import Segment


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create()
    return made


def test_requests_are_taken_once_oldest_first_with_their_time(folder: RunFolder) -> None:
    before = time.time()
    for kind in ("save", "sample", "stop"):
        requests.submit(folder, kind)  # type: ignore[arg-type]
    taken = requests.take(folder)
    assert [request.kind for request in taken] == ["save", "sample", "stop"]
    assert all(before <= request.t <= time.time() for request in taken)
    assert requests.take(folder) == [] and list(folder.requests.iterdir()) == []


def test_names_of_requests_sort_by_time_and_say_what_is_asked(folder: RunFolder) -> None:
    path = requests.submit(folder, "scheme")
    number, kind, end = path.name.split("-")
    assert len(number) == 20 and number.isdigit() and kind == "scheme" and end.endswith(".json") and len(end) == 11
    assert json.loads(path.read_text()).keys() == {"kind", "t"}


def test_a_change_of_the_rates_is_kept_until_it_is_in_the_run_file(folder: RunFolder) -> None:
    ahead = (Segment(0.01, 3), Segment(0.001, 2))
    path = requests.submit(folder, "scheme", step=7, segments=ahead)
    os.utime(path, (1000, 1000))
    requests.clear(folder, before=time.time())
    (taken,) = requests.take(folder)
    assert (taken.kind, taken.step, taken.segments) == ("scheme", 7, ahead)
    # Its trainer was killed here: the next one gets it, and nobody takes it twice.
    assert requests.take(folder) == []
    assert requests.left_over(folder) == [taken]
    requests.finish(taken)
    assert requests.left_over(folder) == [] and list(folder.requests.iterdir()) == []


@pytest.mark.parametrize("segments", ["3", "[[]]", '[{"learning_rate": -1, "steps": 2}]', '[{"steps": 2}]'])
def test_a_change_that_cannot_be_read_is_moved_aside(folder: RunFolder, segments: str) -> None:
    (folder.requests / "1-scheme-a.json").write_text(f'{{"kind": "scheme", "t": 1, "segments": {segments}}}')
    (folder.requests / ".0-scheme-a.json.7.taken").write_text("[]")
    assert requests.take(folder) == [] and requests.left_over(folder) == []
    assert {path.suffix for path in folder.requests.iterdir()} == {".bad"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"kind": "save"}', '{"kind": "explode", "t": 1}', '{"t": 1}', '{"kind": "save", "t": "x"}',
             '{"kind": ["save"], "t": 1}']
)  # fmt: skip
def test_what_is_no_request_is_moved_aside_and_the_others_are_taken(folder: RunFolder, text: str) -> None:
    (folder.requests / "0-odd.json").write_text(text)
    requests.submit(folder, "save")
    assert [request.kind for request in requests.take(folder)] == ["save"]
    assert [path.name for path in folder.requests.iterdir()] == ["0-odd.json.bad"]
    assert (folder.requests / "0-odd.json.bad").read_text() == text
    assert requests.take(folder) == []


def test_a_request_that_another_taker_was_quicker_to_take_is_passed_over(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("save", "sample"):
        requests.submit(folder, kind)  # type: ignore[arg-type]
    rename = os.rename

    def quicker(source: Path, target: Path) -> None:
        if "-save-" in source.name:
            source.unlink()
        rename(source, target)

    monkeypatch.setattr(os, "rename", quicker)
    assert [request.kind for request in requests.take(folder)] == ["sample"]


def test_files_that_are_being_written_or_taken_are_left_alone(folder: RunFolder) -> None:
    names = {".1-save.json", ".1-save.json.7.taken", "note.txt", "1-save.json.tmp"}
    for name in names:
        (folder.requests / name).write_text('{"kind": "save", "t": 1}')
    assert requests.take(folder) == []
    requests.clear(folder, before=time.time() + 10)
    assert {path.name for path in folder.requests.iterdir()} == names


def test_where_there_is_no_spool_there_are_no_requests(tmp_path: Path) -> None:
    missing = RunFolder(tmp_path / "none")
    assert requests.take(missing) == []
    requests.clear(missing, before=time.time())


def test_requests_of_an_earlier_trainer_are_dropped(folder: RunFolder) -> None:
    old, new = requests.submit(folder, "stop"), requests.submit(folder, "save")
    os.utime(old, (1000, 1000))
    os.utime(new, (2000, 2000))
    requests.clear(folder, before=2000)
    assert [request.kind for request in requests.take(folder)] == ["save"]


def test_asking_to_stop_leaves_a_request_and_a_signal(folder: RunFolder) -> None:
    class Trainer:
        signals = 0

        def terminate(self) -> None:
            self.signals += 1

    trainer = Trainer()
    requests.ask_to_stop(folder, trainer)  # type: ignore[arg-type]
    assert trainer.signals == 1 and [request.kind for request in requests.take(folder)] == ["stop"]
