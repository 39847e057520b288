"""What follows from a checkpoint is there after any interruption: at each start it is made from the states alone."""

from __future__ import annotations

import pkgutil
import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import MakeRun
from ti_tui.embeddings import files, run_files
from ti_tui.embeddings.run_files import reconcile_if_idle
from ti_tui.run.events import EventReader, as_one_run
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder

SETTINGS = {
    "dataset.resolution": 32, "training.batch_size": 2, "training.accumulation": 1, "save.every_steps": 2,
    "save.keep": 2, "evaluation.every_steps": 2, "sample.every_steps": 4,
    "sample.prompts": ["[name] --s 1", "a [name] --s 1"],
}  # fmt: skip


def tree(folder: RunFolder) -> dict[str, bytes]:
    """Every file but logs, caches and what holds a time."""
    with_times = {"log", "cache", "status.json", "dataset.json"}
    paths = [path for path in sorted(folder.root.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder.root): path for path in paths}
    return {str(name): path.read_bytes() for name, path in names.items() if name.parts[0] not in with_times}


def told(folder: RunFolder) -> set[tuple[str, int]]:
    """(kind, step) of the events that follow from states."""
    events = as_one_run(EventReader(folder.events).read_all())
    return {(event.kind, event["step"]) for event in events if event.kind in {"checkpoint", "sample"}}


class Killed(BaseException):
    """Ends a trainer as a kill does: nothing catches it."""


WHERE = [
    ("ti_tui.embeddings.run_files.export", 3),
    ("ti_tui.embeddings.run_files.keep_best", 1),
    ("ti_tui.training.checkpoint_writer.CheckpointWriter._report_checkpoint", 3),
    ("ti_tui.embeddings.run_files.drop_old", 3),
    ("ti_tui.training.sample_images.SampleRenderer.draw_one", 4),
    ("ti_tui.training.trainer.Trainer._report_samples", 2),
]
"""Where a trainer is killed, and at which call."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("where", "call"), WHERE)
def test_a_resumed_run_has_all_that_an_undisturbed_one_has(
    trained: MakeRun, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch, where: str, call: int
) -> None:
    folder = trained(scheme="0.05:8", **SETTINGS)
    whole, events = tree(folder), told(folder)
    assert {("checkpoint", 4), ("sample", 4), ("checkpoint", 8)} <= events
    for path in (folder.states, folder.models, folder.samples):
        shutil.rmtree(path)
    folder.events.unlink()
    with monkeypatch.context() as patched:
        kill_at(patched, where, call)
        with pytest.raises(Killed):
            train(folder)
    (folder.models / ".x.safetensors.0123abcd.tmp").write_bytes(b"half")
    (folder.root / ".status.json.0123abcd.tmp").write_bytes(b"half")
    assert tree(folder) != whole
    assert train(folder) == 0
    assert tree(folder) == whole
    assert told(folder) == events


@pytest.mark.parametrize(
    ("where", "call"), [("run_files.export", 3), ("run_files.keep_best", 2), ("run_files.checkpoint_event", 3)]
)
def test_who_looks_at_a_killed_run_sees_all_that_its_checkpoints_hold(
    make_run: MakeRun,
    trained: MakeRun,
    train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    call: int,
) -> None:
    """Without torch, and without taking anything away; the run then ends as if nobody had looked."""
    formats = {"save.formats": ["safetensors", "a1111-pt"]}
    whole = trained(scheme="0.05:8", name="whole", **SETTINGS, **formats)
    folder = make_run(scheme="0.05:8", **SETTINGS, **formats)
    with monkeypatch.context() as patched:
        kill_at(patched, f"ti_tui.embeddings.{where}", call)
        with pytest.raises(Killed):
            train(folder)
    step = folder.checkpoints()[-1]
    (folder.models / ".x.safetensors.0123abcd.tmp").write_bytes(b"half")
    assert not run_files.is_settled(folder, load(folder.file))
    with folder.lock():
        before = tree(folder)
        reconcile_if_idle(folder)
        assert tree(folder) == before, "a trainer is at work"
    kept = folder.checkpoints()
    reconcile_if_idle(folder)
    assert ("checkpoint", step) in told(folder) and folder.checkpoints() == kept
    for suffix in (".safetensors", ".pt"):
        assert files.read(folder.embedding("zkz", step, suffix)).step == step
    assert not list(folder.models.glob(".*"))
    after, log = tree(folder), folder.events.read_bytes()
    reconcile_if_idle(folder)
    assert (tree(folder), folder.events.read_bytes()) == (after, log), "twice is once"
    assert train(folder) == 0
    assert tree(folder) == tree(whole)
    assert told(folder) == told(whole)


def test_a_folder_with_damaged_checkpoints_is_looked_at_without_harm(trained: MakeRun) -> None:
    folder = trained(scheme="0.05:4", **SETTINGS)
    folder.embedding("zkz", 4).unlink()
    (folder.state(4) / "vectors.safetensors").write_bytes(b"x")
    for content in ("[]", '{"evaluation": 1}', '{"evaluation": {"history": [1]}, "metadata": 3}'):
        (folder.state(2) / "state.json").write_text(content)
        (folder.state(2) / "SHA256SUMS").unlink(missing_ok=True)
        reconcile_if_idle(folder)
    assert folder.checkpoints() == [2, 4] and not folder.embedding("zkz", 4).exists()


def test_the_deletion_of_an_old_checkpoint_is_finished_after_a_kill(
    make_run: MakeRun, trained: MakeRun, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(scheme="0.05:8", name="whole", **SETTINGS)
    folder = make_run(scheme="0.05:8", name="killed", **SETTINGS)

    def killed(*_given: Any, **_more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(run_files, "shutil", SimpleNamespace(rmtree=killed))
        with pytest.raises(Killed):
            train(folder)
    assert train(folder) == 0
    assert tree(folder) == tree(whole)


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
