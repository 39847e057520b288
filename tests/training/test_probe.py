"""A probe's trials: they train as the trainer does, each from the same vectors, and touch nothing of the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeRun, result
from tests.training.running import stop_at_step
from ti_tui.jobs.probing import checked_for_probing
from ti_tui.run import overhead
from ti_tui.run.folder import RunFolder
from ti_tui.training.probe import Prober


@pytest.fixture(autouse=True)
def small_eval_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "MOST_ITEMS", overhead.FEWEST_ITEMS)


def opened(folder: RunFolder, *, told: list[str] | None = None) -> Prober:
    def answer(kind: str, **values: Any) -> None:
        if told is not None:
            told.append(f"{kind}: {values}")

    return Prober(checked_for_probing(folder), answer, lambda: False)


def vectors(prober: Prober) -> list[list[float]]:
    return prober._session.rows[0].detach().tolist()


def try_rate(prober: Prober, rate: float, steps: int, warmup: int = 0) -> Any:
    return prober.try_rate(rate, steps, warmup, lambda done: None)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, and when it was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("model", ["sd1", "sd2-v", "sdxl"])
def test_a_trial_gives_the_vectors_that_the_trainer_gives(
    make_run: MakeRun, train: Callable[..., int], model: str
) -> None:
    folder = make_run(model, scheme="0.01:4", **{"scheme.warmup_steps": 2, "evaluation.every_steps": 0})
    tried = opened(folder)
    assert tried.step == 0 and tried.before.gain == 0 and tried.before.follows == 1
    try_rate(tried, 0.5, 2)
    trial = try_rate(tried, 0.01, 4, 2)
    assert train(folder) == 0
    trained = result(folder).in_order()
    for row, wanted in zip(tried._session.rows, trained, strict=True):
        assert torch.equal(row.detach(), torch.from_numpy(wanted))
    assert trial.finite and [reading.steps for reading in trial.readings] == [1, 2, 4]


def test_a_trial_of_a_run_that_goes_on_continues_from_its_checkpoint(
    make_run: MakeRun, train: Callable[..., int]
) -> None:
    folder = make_run(scheme="0.01:6")
    stop_at_step(folder, 3, train)
    prober = opened(folder)
    assert prober.step == 3
    first = try_rate(prober, 0.01, 3)
    ahead = vectors(prober)
    assert try_rate(prober, 0.01, 3) == first and vectors(prober) == ahead
    assert train(folder) == 0
    # With the optimizer's moments: as if the run had gone on.
    assert ahead == result(folder).in_order()[0].tolist()
    assert first.last.gain != 0 and prober.before.gain == 0 and prober.before.follows != 1


def test_a_rate_whose_numbers_are_not_finite_is_told_as_such_and_spoils_no_other(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    prober = opened(make_run())
    before = try_rate(prober, 0.01, 4)
    wild = try_rate(prober, 1e30, 4)
    assert not wild.finite and wild.readings
    assert try_rate(prober, 0.01, 4) == before


def test_opening_a_run_for_a_probe_changes_nothing_in_it(make_run: MakeRun, train: Callable[..., int]) -> None:
    folder = make_run()
    # What a kill left in the middle of a write is the trainer's to mend.
    left = folder.states / ".step00000003.old"
    left.mkdir(parents=True)
    (left / "state.json").write_text("{}")
    before = contents(folder.root)
    told: list[str] = []
    try_rate(opened(folder, told=told), 0.01, 2)
    assert contents(folder.root) == before and not folder.cache.exists()
    assert any("encoding the images" in line for line in told)
    shutil.rmtree(left)
    # With a cache it is read.
    assert train(folder) == 0
    trained = contents(folder.root)
    try_rate(opened(folder), 0.01, 2)
    assert contents(folder.root) == trained
