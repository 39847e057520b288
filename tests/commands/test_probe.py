"""`ti-tui probe` on real runs: what it shows and proposes, and that a run stays as it was, however the probe ends."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.commands.test_commands import refused, ti_tui
from tests.conftest import MakeRun, edit
from tests.fixtures.terminal import Terminal
from tests.fixtures.terminal import ti_tui as command_line
from ti_tui.jobs.probing import ProbingError, apply
from ti_tui.run import file as run_file
from ti_tui.run import overhead
from ti_tui.run.folder import RunFolder
from ti_tui.run.rate_search import rung_near
from ti_tui.run.scheme import Scheme, Segment, format_scheme, parse

FEW = ("--steps", "48")


@pytest.fixture(autouse=True)
def small_eval_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a probe measures with; forked processes have it, too."""
    monkeypatch.setattr(overhead, "MOST_ITEMS", overhead.FEWEST_ITEMS)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scheme_of(folder: RunFolder) -> Scheme:
    return run_file.load(folder.file).scheme.scheme()


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return process.children(recursive=True)


def test_a_probe_proposes_a_scheme_and_leaves_the_run_as_it_was(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.05:10, 0.02:30")
    before = contents(folder.root)
    done = ti_tui("probe", folder.root, *FEW)
    assert done.returncode == 0, done.stderr
    assert contents(folder.root) == before
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if str(folder.root) not in line) <= 80
    assert lines[0] == 'From the start, "woman"; each rate for 8 steps, on the same images and noise:'
    (chosen,) = (line for line in lines if line.startswith("> "))
    assert chosen.endswith("chosen")
    (proposal,) = (line.strip() for line in lines if line.startswith("  0.") and ":" in line)
    scheme = parse(proposal, "for")
    assert scheme.total_steps == 40 and f"{scheme.segments[0].learning_rate:g}" == chosen.split()[1]
    assert "Proposed, 40 steps in all" in done.stdout and "The run now has 0.05:10, 0.02:30." in done.stdout
    assert "Warm-up " in done.stdout and "after 8 steps" in done.stdout and "warm-up 2" in done.stdout
    assert f"ti-tui probe {folder.root} --apply" in done.stdout.replace("\n", " ")
    assert "1. rate 0." in done.stderr and "\r" not in done.stderr


def test_apply_writes_the_part_ahead_of_a_run_that_goes_on(make_run: MakeRun, train: Callable[..., int]) -> None:
    folder = make_run("sd2-v", scheme="0.001:3")
    assert train(folder) == 0
    refused(ti_tui("probe", folder.root, "--apply"), "its scheme ends at 3: no steps are left")
    edit(folder, "learning_rate = 0.001, steps = 3", "learning_rate = 0.001, steps = 43")
    before = contents(folder.root)
    done = ti_tui("probe", folder.root, *FEW, "--apply")
    assert done.returncode == 0, done.stderr
    assert "From step 3;" in done.stdout and "Warm-up" not in done.stdout and "warm-up" not in done.stdout
    assert "Proposed from step 3 on, 40 steps in all" in done.stdout
    assert f"Written into {folder.file}: 43 steps in all" in " ".join(done.stdout.split())
    scheme, after = scheme_of(folder), contents(folder.root)
    assert scheme.total_steps == 43 and scheme.segments[0] == Segment(0.001, 3) != scheme.segments[1]
    assert after.pop("run.toml") != before.pop("run.toml") and after == before


def test_a_run_that_gains_nothing_any_more_is_told_so(make_run: MakeRun, train: Callable[..., int]) -> None:
    folder = make_run(scheme="0.02:6")
    assert train(folder) == 0
    edit(folder, "learning_rate = 0.02, steps = 6", "learning_rate = 0.02, steps = 20")
    before = contents(folder.root)
    done = ti_tui("probe", folder.root, *FEW, "--apply")
    assert done.returncode == 0, done.stderr
    assert "No proposal: after 8 steps no rate had a gain that differs from chance." in done.stdout
    assert contents(folder.root) == before


@pytest.mark.usefixtures("new_processes")
def test_a_probe_that_is_killed_leaves_everything_as_it_was_and_no_process(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    before = contents(folder.root)
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "ti_tui", "probe", str(folder.root)], stdout=said, stderr=said
        )
    try:
        while "1. rate" not in (tmp_path / "said").read_text():
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
        (worker,) = workers_of(psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.wait(timeout=20)
    assert not worker.is_running() and contents(folder.root) == before
    assert folder.trainer() is None


def test_ctrl_c_ends_a_probe_in_one_line(make_run: MakeRun) -> None:
    folder = make_run()
    before = contents(folder.root)
    with Terminal(command_line("probe", str(folder.root), "--steps", "5000")) as shown:
        shown.wait_for("left", seconds=120)
        (worker,) = workers_of(psutil.Process(shown.process.pid))
        shown.press("ctrl+c")
        assert shown.wait_for_end() == 130
        assert "Stopped. The run is unchanged." in shown.text and "Traceback" not in shown.text
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.wait(timeout=20)
    assert not worker.is_running() and contents(folder.root) == before


def test_on_a_terminal_it_asks_whether_to_write_it(make_run: MakeRun) -> None:
    folder = make_run(scheme="0.05:10, 0.02:30")
    with Terminal(command_line("probe", str(folder.root), *FEW), rows=40) as shown:
        shown.wait_for("[y/N]", seconds=120)
        shown.press("y", "enter")
        assert shown.wait_for_end() == 0
        assert "Written into" in shown.text and "40 steps in all" in shown.text
    scheme = scheme_of(folder)
    places = [rung_near(segment.learning_rate) for segment in scheme.segments]
    assert scheme.total_steps == 40 and places == list(range(places[0], places[0] - len(places), -1))


def test_what_cannot_be_probed_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    with folder.lock():
        refused(ti_tui("probe", folder.root), "a trainer (process", "Stop it first: `ti-tui stop")
    assert "7 is not in the range 48<=x<=5000" in ti_tui("probe", folder.root, "--steps", "7").stderr
    refused(ti_tui("probe", tmp_path), "holds no run.toml")
    edit(folder, 'optimizer = "adamw"', 'optimizer = "sgd"')
    refused(ti_tui("probe", folder.root), "training.optimizer: a probe needs an optimizer whose steps")
    shutil.rmtree(folder.images)
    refused(ti_tui("probe", folder.root), "dataset.images")


def test_a_proposal_is_written_for_what_is_not_trained_yet_only(make_run: MakeRun, train: Callable[..., int]) -> None:
    folder = make_run(scheme="0.01:6")
    new = Scheme(parse("0.02:10, 0.01:20", "for").segments, warmup_steps=3)
    assert apply(folder, new, 0) == new == scheme_of(folder)
    with folder.lock(), pytest.raises(ProbingError, match="a trainer"):
        apply(folder, new, 0)
    assert apply(folder, Scheme(parse("0.01:6", "for").segments), 0).total_steps == 6
    assert train(folder) == 0
    with pytest.raises(ProbingError, match="was probed at step 0, and is at step 6 now"):
        apply(folder, new, 0)
    whole = apply(folder, new, 6)
    assert format_scheme(whole.segments) == "0.01:6, 0.02:10, 0.01:20" and whole == scheme_of(folder)
