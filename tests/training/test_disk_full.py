"""A disk that becomes full while a run trains: nothing is lost, and training goes on when there is room."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import MakeRun, edit
from tests.training.running import Train, events, stop_at_step
from ti_tui import atomic
from ti_tui.run.folder import RunFolder
from ti_tui.training import disk_room

ROOT = Path(__file__).parents[2]
SMALL_DISK_MIB = 80
"""A run starts only where it can keep 50 MB free."""
EVERY_STEP = {"save.every_steps": 1, "save.keep": 3, "evaluation.every_steps": 10, "dataset.resolution": 32}


class Disk:
    """A disk of its own, that can be filled up."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with (self.path / "filler").open("ab", buffering=0) as file:
            for piece in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(bytes(piece)) == piece:
                        pass
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    def empty(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def on_disk(make_run: MakeRun, disk: Disk) -> RunFolder:
    run = make_run(scheme="0.01:2000", name="small", **EVERY_STEP)
    return RunFolder(shutil.copytree(run.root, disk.path / "run"))


def wait_until(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def phase(folder: RunFolder) -> str:
    status = folder.read_status()
    return "" if status is None else status.phase


def step(folder: RunFolder) -> int:
    status = folder.read_status()
    return 0 if status is None else status.step


@pytest.mark.usefixtures("forked_processes")
def test_training_waits_while_the_disk_is_full_and_then_goes_on_to_the_same_vectors(
    on_disk: RunFolder, disk: Disk, make_run: MakeRun, train: Train
) -> None:
    trainer = subprocess.Popen([sys.executable, "-m", "ti_tui.training", str(on_disk.root)], cwd=ROOT)
    wait_until(lambda: step(on_disk) >= 5, "it trains")
    assert (on_disk.states / ".reserve").stat().st_size > 2**20
    for _ in range(2):
        disk.fill()
        wait_until(lambda: phase(on_disk) == "paused", "it says that it waits")
        status = on_disk.read_status()
        assert status is not None and "disk is full" in status.message
        wait_until(lambda: on_disk.checkpoints()[-1] == step(on_disk), "the last step is saved")
        at = step(on_disk)
        disk.fill()
        time.sleep(1.5)
        assert (step(on_disk), trainer.poll()) == (at, None), "it neither trains nor ends"
        disk.empty()
        wait_until(lambda before=at: step(on_disk) > before + 3, "it goes on by itself")
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0
    last = on_disk.checkpoints()[-1]
    calm = make_run(scheme="0.01:2000", name="calm", **EVERY_STEP)
    stop_at_step(calm, last, train)
    ours, theirs = (load_file(folder.state(last) / "vectors.safetensors")["rows0"] for folder in (on_disk, calm))
    assert torch.equal(ours, theirs)
    names = [{path.relative_to(folder.root) for path in folder.root.rglob("*")} for folder in (on_disk, calm)]
    assert names[0] == names[1], "nothing is left over and nothing is missing"
    warnings = [event["message"] for event in events(on_disk, "warning")]
    assert warnings[1:] == ["the disk has room again: training goes on"] * 2
    assert [event["phase"] for event in events(on_disk, "phase")].count("paused") == 2


@pytest.mark.usefixtures("forked_processes")
def test_a_run_that_waits_for_room_can_be_stopped_and_has_lost_nothing(on_disk: RunFolder, disk: Disk) -> None:
    trainer = subprocess.Popen([sys.executable, "-m", "ti_tui.training", str(on_disk.root)], cwd=ROOT)
    wait_until(lambda: step(on_disk) >= 3, "it trains")
    disk.fill()
    wait_until(lambda: phase(on_disk) == "paused", "it says that it waits")
    wait_until(lambda: on_disk.checkpoints()[-1] == step(on_disk), "the last step is saved")
    at = step(on_disk)
    disk.fill()
    done = subprocess.run(
        [sys.executable, "-m", "ti_tui", "stop", str(on_disk.root)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert trainer.wait(60) == 0
    assert on_disk.checkpoints()[-1] == at


@pytest.mark.usefixtures("forked_processes")
def test_what_is_saved_for_want_of_room_goes_with_the_next_checkpoint(on_disk: RunFolder, disk: Disk) -> None:
    edit(on_disk, "every_steps = 1\n", "every_steps = 60\n")
    trainer = subprocess.Popen([sys.executable, "-m", "ti_tui.training", str(on_disk.root)], cwd=ROOT)
    wait_until(lambda: step(on_disk) >= 3, "it trains")
    disk.fill()
    wait_until(lambda: bool(on_disk.checkpoints()), "the last step is saved")
    (extra,) = on_disk.checkpoints()
    assert 3 <= extra < 60
    disk.empty()
    wait_until(lambda: on_disk.checkpoints() == [60], "the next checkpoint takes its place")
    assert not on_disk.embedding("zkz", extra).exists() and on_disk.embedding("zkz", 60).exists()
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0


@pytest.mark.usefixtures("forked_processes")
def test_a_run_that_cannot_save_at_all_ends_with_status_3(on_disk: RunFolder, disk: Disk) -> None:
    """Somebody else fills the disk as soon as the reserve is given up, and goes on with it."""
    trainer = subprocess.Popen([sys.executable, "-m", "ti_tui.training", str(on_disk.root)], cwd=ROOT)
    wait_until(lambda: step(on_disk) >= 3, "it trains")
    (on_disk.states / ".reserve").unlink()
    disk.fill()
    time.sleep(2)
    assert trainer.poll() is None
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 3
    disk.empty()
    trainer = subprocess.Popen([sys.executable, "-m", "ti_tui.training", str(on_disk.root)], cwd=ROOT)
    before = on_disk.checkpoints()[-1]
    wait_until(lambda: on_disk.checkpoints()[-1] > before, "it resumes")
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0


def test_links_in_a_strangers_run_lead_to_no_write_or_deletion_outside(
    make_run: MakeRun, train: Train, tmp_path: Path
) -> None:
    folder = make_run(**EVERY_STEP)
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".draft.tmp").write_text("mine")
    (folder.states / ".reserve").symlink_to(tmp_path / "thesis")
    (folder.samples / "step00000001").symlink_to(tmp_path / "home")
    assert train(folder) == 0
    assert (tmp_path / "thesis").read_text() == (tmp_path / "home" / ".draft.tmp").read_text() == "mine"


@pytest.mark.parametrize(("number", "status"), [(errno.EIO, 0), (errno.EROFS, 3)])
def test_an_error_that_may_pass_is_tried_again_and_another_ends_the_run(
    make_run: MakeRun, train: Train, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    folder = make_run(**EVERY_STEP)
    replace, failures = os.replace, iter(range(3))

    def fails(source: Path, target: Path) -> None:
        if Path(target).name == "step00000003" and next(failures, None) is not None:
            raise OSError(number, os.strerror(number))
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", fails)
    monkeypatch.setattr(disk_room, "RETRY_SECONDS", 0.01)
    assert train(folder) == status
    # What ends the run is tried once more at its end.
    assert folder.checkpoints()[-1] == (6 if status == 0 else 2)
    assert not (folder.states / ".reserve").exists()
    said = [event["message"] for event in events(folder, "phase") if event["phase"] == "paused"]
    assert len(said) == (1 if status == 0 else 0) and all("trying again" in message for message in said)
