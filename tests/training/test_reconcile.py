"""What follows from a checkpoint is there after any interruption: at each start it is made from the states alone."""

from __future__ import annotations

import pkgutil
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeRun
from ti_tui.run.events import EventReader, as_one_run
from ti_tui.run.folder import RunFolder

SETTINGS = {
    "dataset.resolution": 32, "training.batch_size": 2, "training.accumulation": 1, "save.every_steps": 2,
    "save.keep": 2, "evaluation.every_steps": 2, "sample.every_steps": 4,
    "sample.prompts": ["[name] --s 1", "a [name] --s 1"],
}  # fmt: skip


def tree(folder: RunFolder) -> dict[str, bytes]:
    """Every file but logs, caches and what holds a time."""
    skipped = {"log", "cache"}
    return {
        str(path.relative_to(folder.root)): path.read_bytes()
        for path in sorted(folder.root.rglob("*"))
        if path.is_file() and path.relative_to(folder.root).parts[0] not in skipped and path.name != "status.json"
    }


def told(folder: RunFolder) -> set[tuple[str, int]]:
    """(kind, step) of the events that follow from states."""
    events = as_one_run(EventReader(folder.events).read_all())
    return {(event.kind, event["step"]) for event in events if event.kind in {"checkpoint", "sample"}}


class Killed(BaseException):
    """Ends a trainer as a kill does: nothing catches it."""


WHERE = {
    "ti_tui.training.checkpoints.export": 3,
    "ti_tui.training.checkpoints.keep_best": 1,
    "ti_tui.training.checkpoint_writer.CheckpointWriter._report_checkpoint": 3,
    "ti_tui.training.checkpoints.drop_old": 3,
    "ti_tui.training.sample_images.SampleRenderer.draw_one": 4,
    "ti_tui.training.trainer.Trainer._report_samples": 2,
}
"""Where a trainer is killed, and at which call."""


def test_a_resumed_run_has_all_that_an_undisturbed_one_has(
    make_run: MakeRun, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(scheme="0.05:8", **SETTINGS)
    assert train(folder) == 0
    whole, events = tree(folder), told(folder)
    assert {("checkpoint", 4), ("sample", 4), ("checkpoint", 8)} <= events
    for where, call in WHERE.items():
        for path in (folder.states, folder.models, folder.samples):
            shutil.rmtree(path)
        folder.events.unlink()
        with monkeypatch.context() as patched:
            kill_at(patched, where, call)
            with pytest.raises(Killed):
                train(folder)
        (folder.models / ".x.safetensors.0123abcd.tmp").write_bytes(b"half")
        (folder.root / ".status.json.0123abcd.tmp").write_bytes(b"half")
        assert tree(folder) != whole, where
        assert train(folder) == 0
        assert tree(folder) == whole, where
        assert told(folder) == events, where


def kill_at(patched: pytest.MonkeyPatch, where: str, call: int) -> None:
    """Let the `call`-th call of the function `where` end the trainer."""
    place, _, name = where.rpartition(".")
    owner = pkgutil.resolve_name(place)
    real, calls = getattr(owner, name), []

    def killed(*given: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return real(*given, **named)

    patched.setattr(owner, name, killed)
