"""Commands of the user and trackers: what they are told of a run, and that none of it can harm the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ti_tui.run.events import Event, EventWriter
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId
from ti_tui.settings import Settings, load_settings
from ti_tui.trackers import hooks
from ti_tui.trackers.follow import Follower
from ti_tui.trackers.hooks import Hooks
from ti_tui.trackers.start import start_beside, wanted

TELL = (
    f"{sys.executable} -c \"import json, os, sys; print(json.dumps({{k: v for k, v in os.environ.items() "
    "if k.startswith('TI_TUI_')}), file=open(os.environ['TOLD'], 'a'))\""
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "lena")
    made.create()
    return made


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where TELL writes what it was told, a line each time."""
    path = tmp_path / "told.jsonl"
    monkeypatch.setenv("TOLD", str(path))
    return path


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ended_process() -> ProcessId:
    process = subprocess.Popen(["true"])
    process.wait()
    return ProcessId(process.pid, "0:0:0", "")


class Recorder:
    """A tracker that keeps what it is given."""

    name = "recorder"

    def __init__(self, *, fails: bool = False) -> None:
        self.kinds: list[str] = []
        self.back: list[int] = []
        self._fails = fails

    def back_to(self, step: int) -> None:
        self.back.append(step)

    def add(self, event: Event) -> None:
        self.kinds.append(event.kind)
        if self._fails:
            raise RuntimeError("the disk is full")

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.kinds.append("closed")


def test_commands_are_told_of_verdicts_and_ends_with_the_facts_in_their_environment(
    folder: RunFolder, told: Path
) -> None:
    writer = EventWriter(folder.events)
    writer.write("end", outcome="done", step=3, message="of an earlier trainer")
    since = time.time() + 0.001
    time.sleep(0.01)
    writer.write("run", step=0, total_steps=9)
    writer.write("step", step=1, loss=0.1)
    writer.write("verdict", step=7, verdict="learned", reason="gain 40 % \x1b]52;c;eA==\x07 $(touch x) `id` '\"")
    writer.write("end", outcome="stopped", step=8, message="")
    follower = Follower(folder, [], Hooks({"end": TELL, "verdict": TELL, "error": "exit 3"}, "zkz"), since)
    follower.follow(ProcessId.mine())
    verdict, end = lines(told)
    assert verdict["TI_TUI_EVENT"] == "verdict" and verdict["TI_TUI_VERDICT"] == "learned"
    assert verdict["TI_TUI_STEP"] == "7" and verdict["TI_TUI_RUN"] == str(folder.root)
    assert verdict["TI_TUI_NAME"] == "lena" and verdict["TI_TUI_TOKEN"] == "zkz"
    assert "$(touch x) `id` '\"" in verdict["TI_TUI_MESSAGE"] and "\x1b" not in verdict["TI_TUI_MESSAGE"]
    assert (end["TI_TUI_EVENT"], end["TI_TUI_OUTCOME"], end["TI_TUI_STEP"]) == ("end", "stopped", "8")


@pytest.mark.parametrize("outcome", ["failed", None])
def test_a_run_that_failed_or_was_killed_is_an_error(folder: RunFolder, told: Path, outcome: str | None) -> None:
    writer = EventWriter(folder.events)
    writer.write("step", step=5, loss=0.1)
    if outcome:
        writer.write("end", outcome=outcome, step=5, message="out of memory")
    writer.flush()
    Follower(folder, [], Hooks({"end": TELL, "error": TELL}, "zkz")).follow(ended_process())
    (error,) = lines(told)
    assert error["TI_TUI_EVENT"] == "error" and error["TI_TUI_STEP"] == "5"
    assert ("out of memory" if outcome else "probably killed") in error["TI_TUI_MESSAGE"]


def test_a_command_that_hangs_or_fails_is_told_and_ended(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hooks, "SECONDS", 0.3)
    end = Event(1.0, "end", {"outcome": "done"})
    Hooks({"end": "sleep 60 & sleep 60"}, "zkz").tell(folder, end, 1)
    Hooks({"end": "no-such-command-here"}, "zkz").tell(folder, end, 1)
    said = capfd.readouterr().err
    assert "on_end took longer than 0.3 s and was ended" in said and "on_end ended with status 127" in said


def test_a_tracker_that_fails_does_not_keep_the_others_from_their_work(folder: RunFolder) -> None:
    writer = EventWriter(folder.events)
    for step in (1, 2, 3, 2):
        writer.write("step", step=step, loss=0.1)
    writer.write("run", step=1, total_steps=4)
    writer.write("end", outcome="done", step=2)
    bad, good = Recorder(fails=True), Recorder()
    follower = Follower(folder, [bad, good], Hooks({}, "zkz"))
    follower.read()
    follower.close()
    assert bad.kinds == ["step"] and good.kinds == ["step"] * 4 + ["run", "end", "closed"]
    assert good.back == [1, 1]


def test_commands_stand_in_the_users_settings_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TI_TUI_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text('on_end = "echo"\nlog_to = ["tensorboard"]\non_error = 3\non_nothing = "x"\n')
    settings, problems = load_settings()
    assert settings.on_end == "echo" and settings.on_error == "" and len(problems) == 2
    assert wanted(settings, ["wandb", "tensorboard"]) == ["tensorboard", "wandb"]
    assert Hooks.of(settings, "zkz").commands == {"end": "echo"}
    assert Hooks.of(replace(settings, on_end=" "), "zkz").commands == {}
    (tmp_path / "config.toml").write_text('log_to = ["neptune"]\n')
    settings, problems = load_settings()
    assert settings == Settings() and "Write a list of these, in quotes: tensorboard, wandb." in problems[0]


def test_nothing_is_started_where_nothing_is_wanted(folder: RunFolder) -> None:
    assert start_beside(folder, [], "zkz") is None


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_sigusr1_asks_for_a_checkpoint(folder: RunFolder) -> None:
    from ti_tui.run import requests
    from ti_tui.training.__main__ import _save_on_signal

    before = signal.getsignal(signal.SIGUSR1)
    try:
        _save_on_signal(folder)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert [request.kind for request in requests.take(folder)] == ["save"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_command_does_not_run_in_the_run_folder(
    folder: RunFolder, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.root)
    Hooks({"end": 'pwd > "$TOLD"'}, "zkz").tell(folder, Event(1.0, "end", {"outcome": "done"}), 1)
    assert told.read_text().strip() != str(folder.root)


def test_events_of_a_later_trainer_are_its_own_followers(folder: RunFolder, told: Path) -> None:
    writer = EventWriter(folder.events)
    writer.write("run", step=0, total_steps=9)
    writer.write("step", step=3, loss=0.1)
    writer.write("run", step=3, total_steps=9)
    writer.write("verdict", step=4, verdict="learned", reason="x")
    writer.write("end", outcome="done", step=9)
    Follower(folder, [], Hooks({"end": TELL, "verdict": TELL, "error": TELL}, "zkz")).follow(ended_process())
    assert [line["TI_TUI_EVENT"] for line in lines(told)] == ["error"]
