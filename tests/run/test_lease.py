"""The lease of a run folder: holders in sight and out of sight, alive, dead and between."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conftest import MakeRun
from ti_tui.run import lease
from ti_tui.run.events import EventReader
from ti_tui.run.folder import RunFolder
from ti_tui.run.lease import Lease, LeaseLost, RunLocked
from ti_tui.run.process import ProcessId

OUT_OF_SIGHT = Lease(7, "another-boot:123:4026531836", "pod-a", 1.7e9, "k")
HOLDER = (
    "import sys; from pathlib import Path; from ti_tui.run import lease\n"
    "with lease.hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock.json"


def put(path: Path, held: Lease, *, age: float = 0.0) -> None:
    path.write_text(json.dumps(asdict(held)))
    os.utime(path, (time.time() - age,) * 2)


def killed_holder(path: Path) -> None:
    """A process took the lease and was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(RunLocked, match=rf"process {process.pid}, since 20"), lease.hold(path):
            pass
        process.kill()


def test_a_killed_trainers_lease_is_taken_at_once_under_any_host_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_holder(path)
    monkeypatch.setattr(socket, "gethostname", lambda: "another-name")
    assert lease.holder(path) is None
    said: list[str] = []
    with lease.hold(path, say=said.append):
        held = lease.holder(path)
        assert held is not None and held.process == ProcessId.mine() and not said


def test_a_living_trainer_is_seen_under_any_host_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease.hold(path):
        monkeypatch.setattr(socket, "gethostname", lambda: "another-name")
        assert lease.holder(path) is not None
        with pytest.raises(RunLocked, match="already running"), lease.hold(path):
            pass
        with pytest.raises(RunLocked, match="already running"):
            lease.take_from(path)


def test_a_process_of_another_container_is_not_looked_up_among_our_own(path: Path) -> None:
    me = ProcessId.mine()
    boot, ticks, namespace = me.started.split(":")
    assert ProcessId(me.pid, f"{boot}:{ticks}:{int(namespace) + 1}", me.host).alive() is None
    assert ProcessId(me.pid, f"another:{ticks}:{namespace}", me.host).alive() is None
    assert ProcessId(me.pid, f"{boot}:{int(ticks) + 1}:{namespace}", "any").alive() is False
    # Versions before wrote no namespace.
    assert ProcessId(me.pid, f"{boot}:{ticks}", me.host).alive() is True
    assert ProcessId(me.pid, f"{boot}:{ticks}", "another").alive() is None


def test_one_out_of_sight_and_silent_is_dead(path: Path) -> None:
    put(path, OUT_OF_SIGHT, age=lease.SILENT_SECONDS + 1)
    assert lease.holder(path) is None and not lease.waiting_for(path)
    with lease.hold(path):
        assert lease.holder(path) != OUT_OF_SIGHT


def test_one_out_of_sight_that_beats_is_told_with_its_place_and_time(path: Path) -> None:
    put(path, OUT_OF_SIGHT)
    assert lease.holder(path) == OUT_OF_SIGHT
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with (
            pytest.raises(RunLocked, match=r"process 7 on pod-a, since 2023-11-1.* is alive") as refused,
            lease.hold(path),
        ):
            pass
    finally:
        ended.set()
        beating.join()
    assert "--take-over" in refused.value.remedy and lease.read(path) == OUT_OF_SIGHT


def test_one_out_of_sight_that_may_be_dead_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENT_SECONDS", 1.5)
    put(path, OUT_OF_SIGHT)
    said: list[str] = []
    with lease.hold(path, say=said.append):
        held = lease.read(path)
        assert held is not None and held.process == ProcessId.mine()
    assert len(said) == 1 and said[0].startswith("process 7 on pod-a, since 20") and "waiting up to" in said[0]


def test_one_out_of_sight_can_be_taken_from_and_learns_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with lease.hold(path) as held:
        held.check()
        put(path, OUT_OF_SIGHT)
        assert lease.take_from(path) == OUT_OF_SIGHT and not path.exists()
        put(path, OUT_OF_SIGHT, age=30)
        time.sleep(0.3)
        with pytest.raises(LeaseLost, match="process 7 on pod-a"):
            held.check()
        assert time.time() - path.stat().st_mtime > 20, "another's lease is not kept alive"
    assert lease.read(path) == OUT_OF_SIGHT


def test_a_held_lease_beats_and_comes_back_when_it_is_deleted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with lease.hold(path) as held:
        mine = lease.read(path)
        os.utime(path, (0, 0))
        path_was_old = time.monotonic()
        while path.stat().st_mtime < 1 and time.monotonic() < path_was_old + 20:
            time.sleep(0.02)
        assert time.time() - path.stat().st_mtime < 20
        path.unlink()
        held.check()
        while not path.exists() and time.monotonic() < path_was_old + 20:
            time.sleep(0.02)
        assert lease.read(path) == mine
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    "content",
    [
        b'{"pid": 1e999, "started": "", "host": ""}',
        b"[" * 100_000,
        b'{"pid":' + b"9" * 9000 + b"}",
        b"[]",
        b"\xff",
        None,
    ],
)
def test_a_lock_file_of_anything_is_refused_in_words(path: Path, content: bytes | None) -> None:
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    assert lease.holder(path) is None and lease.read(path) is None
    lease.refuse_if_running(path)
    if content is not None:
        with pytest.raises(RunLocked, match="cannot be read"), lease.hold(path):
            pass


def trainer_at_step(folder: RunFolder, step: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ti_tui.training", str(folder.root)], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while ((status := folder.read_status()) is None or status.step < step) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.usefixtures("forked_processes")
def test_a_trainer_whose_run_was_taken_over_or_deleted_writes_nothing_more(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.01:5000", **{"save.every_steps": 0})
    process = trainer_at_step(folder, 2)
    put(folder.lock_file, OUT_OF_SIGHT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and "process 7 on pod-a" in said and "has taken over" in said
    assert folder.checkpoints() == [] and lease.read(folder.lock_file) == OUT_OF_SIGHT
    assert "end" not in {event.kind for event in EventReader(folder.events).read_all()}

    folder.lock_file.unlink()
    folder.status_file.unlink()
    process = trainer_at_step(folder, 2)
    shutil.rmtree(folder.root)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and "was deleted or moved" in said
    assert not folder.root.exists()
