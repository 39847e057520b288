"""Rates that are changed while a run trains: its run file repeats what was trained, to the same vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import MakeRun, edit, result
from tests.training.running import Train, events, stop_at_step
from ti_tui.monitoring.steering import change_scheme
from ti_tui.run import requests
from ti_tui.run.file import load, save
from ti_tui.run.folder import RunFolder
from ti_tui.run.scheme import Scheme, Segment, parse
from ti_tui.training import rate_changes
from ti_tui.training.reporter import Reporter

At = Callable[[dict[int, Callable[[], Any]]], None]


@pytest.fixture
def at_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[At]:
    """Does something right after a step; each request is taken before the next one."""

    def set_up(todo: dict[int, Callable[[], Any]]) -> None:
        def event(self: Reporter, kind: Any, **values: Any) -> None:
            original(self, kind, **values)
            if kind == "step":
                self._last_take = -1.0
                todo.get(values["step"], lambda: None)()

        original = Reporter.event
        monkeypatch.setattr(Reporter, "event", event)

    yield set_up


def rates(folder: RunFolder) -> list[float]:
    return [event["rate"] for event in events(folder, "step")]


def repeats(folder: RunFolder, make_run: MakeRun, train: Train) -> bool:
    """Whether a new run from this one's run file gives the same vectors, without being steered."""
    again = make_run(name="again")
    save(load(folder.file), again.file)
    assert train(again) == 0
    return all(np.array_equal(vectors, result(again).vectors[key]) for key, vectors in result(folder).vectors.items())


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(parse("0.01:3, 0.005:9", "for").segments),
        Scheme((Segment(0.01, 11), Segment(0.001, 1)), 6, "cosine"),
        Scheme((Segment(0.01, 12),), 0, "linear"),
    ],
    ids=lambda scheme: scheme.shape,
)
def test_a_run_that_was_steered_twice_is_repeated_by_its_run_file(
    make_run: MakeRun, train: Train, at_steps: At, scheme: Scheme
) -> None:
    folder = make_run()
    save(load(folder.file).with_scheme(scheme), folder.file)
    at_steps({
        # Typed at step 2, and confirmed two steps later.
        4: lambda: change_scheme(folder, 2, "0.004:4, 0.002:20", now=4),
        7: lambda: change_scheme(folder, 7, "0.008:3", now=7),
    })  # fmt: skip
    assert train(folder) == 0
    assert rates(folder) == [scheme.rate_at(step) for step in range(4)] + [0.004] * 2 + [0.002] + [0.008] * 3
    assert not list(folder.requests.iterdir())
    assert repeats(folder, make_run, train)


def test_a_change_whose_trainer_was_killed_before_it_wrote_it_is_taken_by_the_next(
    make_run: MakeRun, train: Train, at_steps: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(scheme="0.01:8")
    at_steps({4: lambda: change_scheme(folder, 4, "0.002:3", now=4)})

    class Killed(BaseException):
        """A kill in the middle of the change."""

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(rate_changes, "save", killed)
        train(folder)
    assert folder.checkpoints() == [3]
    assert train(folder) == 0
    assert rates(folder)[4:] == [0.01] + [0.002] * 3
    assert repeats(folder, make_run, train)


def test_a_change_that_comes_too_late_waits_for_the_next_trainer(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.01:4")
    assert train(folder) == 0
    requests.submit(folder, "scheme", step=4, segments=[Segment(0.002, 2)])
    assert train(folder) == 0
    assert rates(folder) == [0.01] * 4 + [0.002] * 2 and result(folder).step == 6


def test_without_a_trainer_the_change_is_written_at_once(make_run: MakeRun, train: Train) -> None:
    folder = make_run(scheme="0.01:8")
    stop_at_step(folder, 4, train)
    scheme = change_scheme(folder, 4, "0.002:2", now=4)
    assert load(folder.file).scheme.scheme() == scheme and scheme.total_steps == 6
    assert train(folder) == 0
    assert rates(folder) == [0.01] * 4 + [0.002] * 2
    assert repeats(folder, make_run, train)


def test_rates_changed_by_hand_between_two_trainings_do_not_rewrite_what_was_trained(
    make_run: MakeRun, train: Train
) -> None:
    folder = make_run(scheme="0.01:8")
    stop_at_step(folder, 4, train)
    edit(folder, "learning_rate = 0.01, steps = 8", "learning_rate = 0.002, steps = 6")
    assert train(folder) == 0
    assert rates(folder) == [0.01] * 4 + [0.002] * 2
    assert any("[scheme] was changed" in event["message"] for event in events(folder, "warning"))
    assert repeats(folder, make_run, train)
    # Once it is said, it is the run file.
    text = folder.file.read_text()
    assert train(folder) == 0 and folder.file.read_text() == text


def test_rates_that_are_used_up_when_they_are_taken_are_told(make_run: MakeRun, train: Train, at_steps: At) -> None:
    folder = make_run(scheme="0.01:6")
    before = folder.file.read_text()
    at_steps({4: lambda: requests.submit(folder, "scheme", step=1, segments=[Segment(0.002, 2)])})
    assert train(folder) == 0
    assert rates(folder) == [0.01] * 6 and folder.file.read_text() == before
    told = [event["message"] for event in events(folder, "warning")]
    assert any("these rates end at step 3, and the run is at step 4" in message for message in told)


def test_a_change_beyond_the_end_is_told_and_not_taken_again(make_run: MakeRun, train: Train, at_steps: At) -> None:
    folder = make_run(scheme="0.01:4")
    at_steps({2: lambda: requests.submit(folder, "scheme", step=10**30, segments=[Segment(0.002, 2)])})
    assert train(folder) == 0 and not list(folder.requests.iterdir())
    assert any("the changed scheme is not used" in event["message"] for event in events(folder, "warning"))


def test_rates_edited_by_hand_beside_a_change_that_fails_are_not_taken_for_trained_ones(
    make_run: MakeRun, train: Train, at_steps: At
) -> None:
    folder = make_run(scheme="0.01:6")

    def edited() -> None:
        edit(folder, "learning_rate = 0.01, steps = 6", "learning_rate = 0.9, steps = 6")
        requests.submit(folder, "scheme", step=1, segments=[Segment(0.002, 1)])

    at_steps({3: edited})
    assert train(folder) == 0 and rates(folder) == [0.01] * 6
