"""A step without finite numbers: how often it is tried again, and what a run goes back to then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.conftest import MakeRun, result
from tests.training.running import Train, events, open_trainer, stop_at_step
from ti_tui.errors import TrainingError
from ti_tui.run.folder import RunFolder
from ti_tui.training import loop
from ti_tui.training.data import Data
from ti_tui.training.recovery import Recovery

FAST = {"evaluation.every_steps": 0}
Spoils = Callable[[int], bool]
"""Whether the loss is spoiled, given the number of steps that are done."""


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Spoils], list[int]]:
    """Makes losses not-a-number; returns the steps done at each of the spoiled ones."""
    losses, step = loop.losses, Recovery.step

    def begin(spoils: Spoils) -> list[int]:
        spoiled: list[int] = []

        def taken(recovery: Recovery, rate_at: Callable[[int], float]) -> Any:
            def spoiling(*given: Any) -> Tensor:
                done = recovery._session.step
                if not spoils(done):
                    return losses(*given)
                spoiled.append(done)
                return losses(*given) * float("nan")

            monkeypatch.setattr(loop, "losses", spoiling)
            return step(recovery, rate_at)

        monkeypatch.setattr(Recovery, "step", taken)
        return spoiled

    return begin


def steps_of(folder: RunFolder) -> list[int]:
    return [event["step"] for event in events(folder, "step")]


def test_a_first_step_that_never_works_is_tried_3_times(
    make_run: MakeRun, spoil: Callable[[Spoils], list[int]]
) -> None:
    folder = make_run(**FAST)
    spoiled = spoil(lambda _step: True)
    trainer = open_trainer(folder)
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    assert spoiled == [0, 0, 0]
    assert "at step 1" in caught.value.message and "those of step 0" in caught.value.message
    assert "0.01" in (caught.value.remedy or "")
    assert len(events(folder, "warning")) == 2, "one for each new try"


def test_a_step_that_works_at_the_third_try_is_taken(make_run: MakeRun, spoil: Callable[[Spoils], list[int]]) -> None:
    folder, left = make_run(**FAST), [None, None]

    def twice(step: int) -> bool:
        return step == 3 and bool(left) and left.pop() is None

    spoiled = spoil(twice)
    assert open_trainer(folder).run() == "done"
    assert spoiled == [3, 3]
    # Each time the step before is undone and taken again.
    assert steps_of(folder) == [1, 2, 3, 3, 3, 4, 5, 6]


def test_tries_are_counted_anew_after_a_step_that_works(
    make_run: MakeRun, spoil: Callable[[Spoils], list[int]]
) -> None:
    folder, left = make_run(**FAST), {1: 2, 4: 2}

    def twice_each(step: int) -> bool:
        left[step] = left.get(step, 0) - 1
        return left[step] >= 0

    spoiled = spoil(twice_each)
    assert open_trainer(folder).run() == "done"
    assert spoiled == [1, 1, 4, 4]
    assert np.isfinite(result(folder).in_order()[0]).all()


def test_each_try_draws_other_noise(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    original, attempts = Data.inputs, []

    def inputs(data: Data, number: int, attempt: int, batch_size: int) -> Any:
        attempts.append((number, attempt))
        prepared = original(data, number, attempt, batch_size)
        for batch in prepared.micro_batches:
            batch.noise.fill_(float("nan"))
        return prepared

    monkeypatch.setattr(Data, "inputs", inputs)
    trainer = open_trainer(make_run(**FAST))
    with pytest.raises(TrainingError):
        trainer.run()
    assert attempts == [(0, 0), (0, 1), (0, 2)]
    tries = [trainer.session.data.order.step(0, attempt) for attempt in range(3)]
    assert len({tuple(one.seed for one in drawn) for drawn in tries}) == 3
    assert len({tuple(one.index for one in drawn) for drawn in tries}) == 1, "of the same images"


def test_after_3_tries_the_good_vectors_before_the_step_are_kept(
    make_run: MakeRun, train: Train, spoil: Callable[[Spoils], list[int]]
) -> None:
    folder = make_run(**FAST)
    stop_at_step(folder, 2, train)
    spoiled = spoil(lambda step: step >= 3)
    assert train(folder) == 3
    assert len(spoiled) == 3
    assert folder.checkpoints()[-1] == 2
    assert np.isfinite(result(folder, 2).in_order()[0]).all()


def test_where_a_checkpoint_is_spoiled_the_one_before_is_taken_after_3_tries(
    make_run: MakeRun, train: Train, spoil: Callable[[Spoils], list[int]]
) -> None:
    folder = make_run(**FAST)
    stop_at_step(folder, 4, train)
    assert folder.checkpoints() == [3, 4]
    left = [None] * 3

    def three_times(step: int) -> bool:
        return step == 4 and bool(left) and left.pop() is None

    spoiled = spoil(three_times)
    assert train(folder) == 0
    assert spoiled == [4, 4, 4]
    assert any("went back to the checkpoint of step 3" in event["message"] for event in events(folder, "warning"))
    assert steps_of(folder) == [1, 2, 3, 4, 4, 5, 6] and folder.checkpoints() == [3, 6]
