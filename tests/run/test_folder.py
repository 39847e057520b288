"""The run folder: paths, status, the lock, requests, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui import atomic
from ti_tui.run import lease, requests
from ti_tui.run.folder import RunFolder, RunFolderError, Status, step_name, step_of
from ti_tui.run.lease import RunLocked
from ti_tui.run.process import ProcessId, start_detached
from ti_tui.settings import remember_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create()
    made.file.write_text("format = 1\n")
    return made


def test_folders_are_private(folder: RunFolder) -> None:
    for path in (folder.root, folder.images, folder.models, folder.states, folder.requests):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_already_is_kept(folder: RunFolder) -> None:
    folder.create()
    assert folder.file.read_text() == "format = 1\n"


def test_a_run_is_found_by_its_folder_or_its_file(folder: RunFolder) -> None:
    assert RunFolder.find(folder.root).root == folder.root
    assert RunFolder.find(folder.file).root == folder.root


def test_a_known_run_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [tmp_path / parent / name for parent, name in (("a", "zkz"), ("a", "twice"), ("b", "twice"))]
    for root in roots:
        root.mkdir(parents=True)
        (root / "run.toml").touch()
        remember_run(root)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert RunFolder.find("zkz").root == roots[0]
    with pytest.raises(RunFolderError, match="2 runs are named twice") as caught:
        RunFolder.find("twice")
    assert str(roots[1]) in caught.value.remedy
    # What is here comes first, and a path is no name.
    (tmp_path / "here" / "zkz").mkdir()
    for path in ("zkz", "./other/zkz", "unknown"):
        with pytest.raises(RunFolderError, match=r"holds no run\.toml"):
            RunFolder.find(path)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no run\.toml"):
        RunFolder.find(tmp_path)
    (tmp_path / "x.txt").touch()
    with pytest.raises(RunFolderError, match="is not a run"):
        RunFolder.find(tmp_path / "x.txt")


def test_step_names_are_kohyas() -> None:
    assert step_name(500) == "step00000500"
    assert step_of("step00000500") == 500
    assert step_of("stepX") is None and step_of("500") is None


def test_checkpoints_are_listed_in_order_without_unfinished_ones(folder: RunFolder) -> None:
    for name in ("step00000010", "step00000002", ".step00000011.abc.tmp", "other"):
        (folder.states / name).mkdir()
    assert folder.checkpoints() == [2, 10]


def test_a_second_trainer_is_refused_and_told_who_holds_the_folder(folder: RunFolder) -> None:
    with folder.lock(), pytest.raises(RunLocked, match=rf"process {os.getpid()}"), folder.lock():
        pass
    with folder.lock():
        assert folder.trainer() == ProcessId.mine()
    assert folder.trainer() is None


def test_of_many_starters_exactly_one_gets_the_lock(folder: RunFolder) -> None:
    code = (
        "import sys,time; from ti_tui.run.folder import RunFolder; from ti_tui.run.lease import RunLocked\n"
        "try:\n"
        "    with RunFolder(sys.argv[1]).lock():\n"
        "        print('got', flush=True); sys.stdin.read()\n"
        "except RunLocked: print('refused', flush=True)\n"
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", code, str(folder.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    answers = [starter.stdout.readline().strip() for starter in starters if starter.stdout]
    for starter in starters:
        starter.communicate()
    assert sorted(answers) == [b"got"] + [b"refused"] * 5


@pytest.mark.parametrize("gone", ["dead", "pid given to another"])
def test_the_lock_of_a_dead_trainer_is_taken_over(folder: RunFolder, gone: str) -> None:
    me = ProcessId.mine()
    stale = (
        ProcessId(2**22 + 1, me.started, me.host) if gone == "dead" else ProcessId(me.pid, me.started + "1", me.host)
    )
    folder.lock_file.write_text(json.dumps(asdict(stale)))
    with folder.lock():
        assert folder.trainer() == me


def test_a_lock_from_another_machine_is_respected_while_its_holder_beats(folder: RunFolder) -> None:
    folder.lock_file.write_text(json.dumps({"pid": 1, "started": "0", "host": "elsewhere"}))
    assert folder.trainer() == ProcessId(1, "0", "elsewhere")
    long_ago = time.time() - 61
    os.utime(folder.lock_file, (long_ago, long_ago))
    assert folder.trainer() is None
    with folder.lock():
        assert folder.trainer() == ProcessId.mine()


def test_a_status_of_a_killed_trainer_reads_as_failed(folder: RunFolder) -> None:
    me = ProcessId.mine()
    folder.write_status(Status(2**22 + 1, me.started, me.host, "training", 5, 10, 0.0, 0.0))
    status = folder.current_status()
    assert status is not None and status.phase == "failed" and "killed" in status.message


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_damaged_status_is_none(folder: RunFolder, content: str) -> None:
    folder.status_file.write_text(content)
    assert folder.read_status() is None


def test_requests_are_taken_once_and_in_order(folder: RunFolder) -> None:
    for kind in ("save", "sample", "stop"):
        requests.submit(folder, kind)  # type: ignore[arg-type]
    assert [request.kind for request in requests.take(folder)] == ["save", "sample", "stop"]
    assert requests.take(folder) == []
    assert list(folder.requests.iterdir()) == []


def test_of_two_takers_each_request_goes_to_one(folder: RunFolder) -> None:
    for _ in range(200):
        requests.submit(folder, "save")
    taken: list[int] = []

    def take() -> None:
        taken.append(len(requests.take(folder)))

    takers = [threading.Thread(target=take) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sum(taken) == 200


@pytest.mark.parametrize("content", ["", "{", '{"kind": "format the disk", "t": 1}', "[]", '{"kind": "stop"}'])
def test_a_file_that_is_no_request_is_moved_aside(folder: RunFolder, content: str) -> None:
    (folder.requests / "0-x.json").write_text(content)
    assert requests.take(folder) == []
    assert [path.suffix for path in folder.requests.iterdir()] == [".bad"]


def test_requests_for_an_earlier_trainer_are_dropped_and_newer_ones_kept(folder: RunFolder) -> None:
    old = requests.submit(folder, "stop")
    os.utime(old, (1, 1))
    requests.submit(folder, "save")
    requests.clear(folder, before=time.time() - 60)
    assert [request.kind for request in requests.take(folder)] == ["save"]


def test_a_detached_process_is_in_a_session_of_its_own(folder: RunFolder) -> None:
    process = start_detached(folder.root, folder.log)
    try:
        assert os.getsid(process.pid) == process.pid != os.getsid(0)
    finally:
        process.kill()
        process.wait()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    atomic.write_text(target, "old")

    def fails(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(atomic.CannotWrite, match="disk is full"):
        atomic.write_with(target, fails)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_folder_replaced_by_half_is_put_back(folder: RunFolder) -> None:
    (folder.states / ".state.old").mkdir()
    (folder.states / ".state.old" / "x").write_text("good")
    (folder.states / ".state.123.tmp").mkdir()
    atomic.recover_folders(folder.states)
    assert (folder.states / "state" / "x").read_text() == "good"
    assert [path.name for path in folder.states.iterdir()] == ["state"]


@given(st.integers(0, 10**12))
def test_any_step_round_trips_through_its_name(step: int) -> None:
    assert step_of(step_name(step)) == step


@given(asked=st.lists(st.sampled_from(sorted(requests.KINDS)), max_size=12))
def test_any_requests_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, asked: list[Any]) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    for kind in asked:
        requests.submit(folder, kind)
    assert [request.kind for request in requests.take(folder)] == asked


def test_a_folder_that_cannot_be_written_to_is_told_in_words() -> None:
    with pytest.raises(atomic.CannotWrite, match="cannot write /proc/run"), RunFolder("/proc/run").lock():
        pass
    with pytest.raises(atomic.CannotWrite, match="cannot write"):
        RunFolder("/proc/run").create()


def test_every_path_of_a_run_has_its_place() -> None:
    root = Path("/runs/one")
    folder = RunFolder(root)
    found = {name: getattr(folder, name) for name in ("file", "images", "models", "events", "log", "states", "samples",
                                                      "cache", "requests", "status_file", "lock_file")}  # fmt: skip
    assert {name: path.relative_to(root).as_posix() for name, path in found.items()} == {
        "file": "run.toml", "images": "img", "models": "model", "events": "log/events.jsonl", "log": "log/trainer.log",
        "states": "state", "samples": "sample", "cache": "cache", "requests": "requests", "status_file": "status.json",
        "lock_file": "lock.json",
    }  # fmt: skip
    assert folder.state(7) == root / "state" / "step00000007" and folder.sample(7) == root / "sample" / "step00000007"
    assert folder.embedding("zkz", None) == root / "model" / "zkz.safetensors"
    assert folder.embedding("zkz", 7, ".pt") == root / "model" / "zkz-step00000007.pt"
    assert folder.best("zkz") == root / "model" / "zkz-best.safetensors"
    assert folder.best("zkz", ".pt") == root / "model" / "zkz-best.pt"
    assert folder.path("a/b") == root / "a" / "b" and folder.path("/a/b") == Path("/a/b")
    assert folder.path("~/b") == Path.home() / "b"
    assert RunFolder("~/x").root == Path.home() / "x" and RunFolder("x").root == Path.cwd() / "x"


@pytest.mark.parametrize("name", ["step", "step-1", "step1x", "stepp1", "xstep1", "step\u00b2", "step\u0661", ""])
def test_names_that_are_no_steps(name: str) -> None:
    assert step_of(name) is None


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).checkpoints() == []


def status(**values: Any) -> Status:
    me = ProcessId.mine()
    return replace(Status(me.pid, me.started, me.host, "training", 5, 10, 1.0, 2.0, "m"), **values)


def test_a_status_is_read_as_it_was_written(folder: RunFolder) -> None:
    assert folder.read_status() is None and folder.current_status() is None
    for durable in (True, False):
        folder.write_status(status(), durable=durable)
        assert folder.read_status() == folder.current_status() == status()
    assert status().process == ProcessId.mine()
    # Keys of a newer program are passed over.
    folder.status_file.write_text(json.dumps({**asdict(status()), "more": 1}))
    assert folder.read_status() == status()


def test_a_status_is_forced_to_the_disk_only_where_that_is_asked_for(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    folder.write_status(status())
    assert not forced, "many a second would wear out a card"
    folder.write_status(status(), durable=True)
    assert forced


@pytest.mark.parametrize(
    "odd",
    [{"pid": "1"}, {"pid": 10**15}, {"step": 1.5}, {"step": -(10**15)}, {"total_steps": None}, {"started": "x"},
     {"updated": 1e15}, {"phase": 3}, {"host": None}, {"message": 1}, {"process_started": 2}],
)  # fmt: skip
def test_a_status_changed_by_hand_is_not_believed(folder: RunFolder, odd: dict[str, Any]) -> None:
    folder.status_file.write_text(json.dumps({**asdict(status()), **odd}))
    assert folder.read_status() is None


def test_only_a_phase_of_a_live_trainer_is_corrected(folder: RunFolder) -> None:
    phases = {"starting": True, "loading": True, "caching": True, "training": True, "sampling": True, "saving": True,
              "done": False, "stopped": False, "failed": False}  # fmt: skip
    for phase, going in phases.items():
        killed = status(pid=2**22 + 1, phase=phase)
        assert killed.going is going
        folder.write_status(killed)
        found = folder.current_status()
        assert found is not None and found.phase == ("failed" if going else phase)
        assert found.step == 5 and (found.message != "m") is going
        elsewhere = status(phase=phase, host="elsewhere", process_started="0")
        folder.write_status(elsewhere)
        folder.lock_file.write_text(json.dumps(asdict(elsewhere.process)))
        assert folder.current_status() == elsewhere, "what holds the folder out of sight is believed"
        folder.lock_file.unlink()
        found = folder.current_status()
        assert found is not None and found.phase == ("failed" if going else phase)


def test_a_lock_is_gone_afterwards_and_anothers_is_left(folder: RunFolder) -> None:
    with folder.lock():
        held = lease.read(folder.lock_file)
        assert held is not None and held.process == ProcessId.mine() and abs(held.since - time.time()) < 60
    assert not folder.lock_file.exists()
    with folder.lock():
        folder.lock_file.write_text('{"pid": 1, "started": "0", "host": "elsewhere"}')
    assert folder.lock_file.exists() and folder.trainer() == ProcessId(1, "0", "elsewhere")
    assert {path.name for path in folder.root.iterdir() if path.name.startswith(".")} == set()


def test_a_lock_that_cannot_be_read_is_respected_unless_it_is_empty(folder: RunFolder) -> None:
    folder.lock_file.write_text("{")
    assert folder.trainer() is None
    with pytest.raises(RunLocked, match="cannot be read"), folder.lock():
        pass
    folder.lock_file.write_text("")
    with folder.lock():
        assert folder.trainer() == ProcessId.mine()


def test_without_hard_links_a_lock_is_made_all_the_same(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_given: Any) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", link)
    with folder.lock():
        assert folder.trainer() == ProcessId.mine() and folder.lock_file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(RunLocked, match="is already running"), folder.lock():
            pass
    assert not folder.lock_file.exists()


def test_a_lock_is_made_with_its_folder(tmp_path: Path) -> None:
    made = RunFolder(tmp_path / "new" / "run")
    with made.lock():
        assert made.root.stat().st_mode & 0o777 == 0o700
