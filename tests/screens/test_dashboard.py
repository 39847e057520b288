"""The dashboard by its keys: what it shows of a run, and what it hands on."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from textual.pilot import Pilot

from tests.screens.conftest import BEGAN, REASONS, MakeHistory, evaluated
from tests.screens.driving import drive, until, words
from ti_tui.cli import cli
from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding
from ti_tui.run.folder import RunFolder
from ti_tui.run.requests import take
from ti_tui.run.scheme import Segment
from ti_tui.screens.dashboard.screen import DashboardScreen
from ti_tui.screens.dialogs import QuestionDialog

pytestmark = pytest.mark.usefixtures("card")


def dashboard(pilot: Pilot[None]) -> DashboardScreen:
    """The dashboard's screen."""
    screen = pilot.app.screen
    assert isinstance(screen, DashboardScreen)
    return screen


async def shown(pilot: Pilot[None], step: int = 340) -> None:
    """Wait until the log was read."""
    await until(pilot, lambda: re.search(rf"step +{step} of \d+", words(pilot)))
    await pilot.pause(0.3)


def asked(run: RunFolder) -> list[str]:
    """What was asked of the trainer."""
    return [request.kind for request in take(run)]


def append(run: RunFolder, *lines: str) -> None:
    """Write lines into the run's log."""
    with run.events.open("a") as log:
        log.writelines(f"{line}\n" for line in lines)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_header_says_where_the_run_is_and_what_comes_next(size: tuple[int, int], history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        text = words(pilot)
        assert "● training" in text
        assert "left" in text
        assert "rate 0.002, next 0.001 at 790" in text
        assert "2.1 steps/s" in text
        assert "eval 0.1041" in text and "+38" in text
        assert "4.1 of 6.0 GiB" in text
        assert "71 °C" in text

    drive(steps, run=history(), size=size)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_run_that_waits_for_room_on_the_disk_says_so(size: tuple[int, int], history: MakeHistory) -> None:
    run = history()
    status = run.read_status()
    assert status is not None
    run.write_status(replace(status, phase="paused", message="the disk is full: waiting for room"))

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        text = words(pilot)
        assert "▌ paused" in text and "the disk is full: waiting for room" in text
        assert "steps/s" not in text and " left" not in text

    drive(steps, run=run, size=size)


def test_requests_go_to_the_trainer_by_single_keys(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("s", "p")
        assert "Samples will be drawn after this step." in words(pilot)

    drive(steps, run=run)
    assert asked(run) == ["save", "sample"]


def test_the_rates_ahead_can_be_changed_and_those_behind_stay(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("e", "ctrl+u", "x", "enter")
        await until(pilot, lambda: "`x` is not a number" in words(pilot))
        await pilot.press("ctrl+u", *"0.0005:100")
        await until(pilot, lambda: "440 steps in all, -3350" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "The rates change after this step: 440 steps in all." in words(pilot))

    before = run.file.read_text()
    drive(steps, run=run)
    # The trainer writes it into the run file, at the step where it takes it.
    (request,) = take(run)
    assert (request.kind, request.step, request.segments) == ("scheme", 340, (Segment(0.0005, 100),))
    assert run.file.read_text() == before


def test_a_warning_stays_until_it_was_read(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        assert "too hot [/b] [red]" in words(pilot)
        await pilot.press("w")
        await pilot.pause(0.1)
        assert "step 340: too hot" not in words(pilot)

    drive(steps, run=history(warning="too hot [/b] [red]"), size=(80, 24))


def test_an_embedding_is_installed_by_one_key_and_a_path(history: MakeHistory, home: Path) -> None:
    run = history(phase="done")
    target = home / "webui" / "embeddings"
    target.mkdir(parents=True)
    for step in (100, 200, 300):
        embedding = Embedding.from_rows([np.full((2, 768), step, np.float32)], token="zkz", step=step)
        files.write(embedding, run.embedding("zkz", step), "safetensors")

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("down", "i", "ctrl+u", *"nowhere", "enter")
        await until(pilot, lambda: "there is no folder" in words(pilot))
        await pilot.press("i", "ctrl+u", *"~/webui", "enter")
        await until(pilot, lambda: "Installed" in words(pilot))

    drive(steps, run=run)
    assert files.read(target / "zkz.safetensors").step == 200


def test_deleting_a_checkpoint_asks_and_spares_the_newest_while_it_trains(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("d", "y")
        await until(pilot, lambda: "the trainer may go back to the newest checkpoint" in words(pilot))
        await pilot.press("down", "d", "enter")
        await pilot.press("d", "down", "enter")
        await until(pilot, lambda: run.checkpoints() == [100, 300])

    drive(steps, run=run)
    assert not run.embedding("zkz", 200).exists()
    assert run.embedding("zkz", 100).exists()
    assert run.sample(200).exists()


def test_the_path_of_a_checkpoint_is_copied(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("down", "c")

    assert drive(steps, run=run).clipboard == str(run.embedding("zkz", 200))


def test_leaving_a_run_that_trains_asks_and_leaves_it_running_by_default(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("q")
        assert isinstance(pilot.app.screen, QuestionDialog)
        await pilot.press("escape")
        dashboard(pilot)
        await pilot.press("q", "enter")
        await pilot.pause(0.2)

    app = drive(steps, run=run)
    assert app._exit
    assert asked(run) == []


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("done", "Done. The embedding: ~/runs/zkz/model/zkz.safetensors"),
        ("stopped", "Stopped and saved at step 340 of 3790."),
        ("failed", "the disk is full"),
    ],
)
def test_a_run_that_has_ended_says_what_came_out_and_is_left_without_a_question(
    phase: str, said: str, history: MakeHistory
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        assert said in words(pilot)
        await pilot.press("s", "q")
        await pilot.pause(0.2)

    run = history(phase=phase)
    assert drive(steps, run=run, size=(80, 24))._exit
    assert asked(run) == []


def test_losses_that_are_no_numbers_and_lines_that_are_no_events_break_nothing(history: MakeHistory) -> None:
    run = history(steps=20)
    odd = [
        {"kind": "step", "step": 21, "loss": None, "rate": None, "seconds": None},
        {"kind": "step", "step": "22", "loss": "low", "rate": [], "seconds": {}},
        {"kind": "step"},
        {"kind": "eval", "step": 21, "loss": None},
        {"kind": "eval"},
        {"kind": "checkpoint", "step": 21, "files": None, "norms": "x"},
        {"kind": "sample", "step": 21, "files": ["sample/none.png", 3], "prompts": []},
        {"kind": "memory", "used_bytes": "all"},
        {"kind": "warning", "message": None},
        {"kind": "run", "step": None, "plan": 3, "reasons": []},
        {"kind": "end", "outcome": 7},
        {"kind": "phase", "phase": 5},
    ]
    append(run, *(json.dumps({"t": 1.0, **event}) for event in odd), "{", "\x00\x01", '{"t": 1, "kind": "st')

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "of 3790" in words(pilot))
        await pilot.pause(0.5)
        await pilot.press("g", "escape", "l", "escape", "z", "z", "o", "c")
        await pilot.pause(0.2)

    assert drive(steps, run=run).crash is None


def test_every_key_in_a_run_that_was_never_trained_says_something_or_nothing(history: MakeHistory) -> None:
    run = history()
    for path in (run.events, run.status_file, run.lock_file):
        path.unlink()
    shutil.rmtree(run.states)
    shutil.rmtree(run.samples)
    run.states.mkdir()

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "This run was never trained" in words(pilot))
        keys = "s p i g l escape z o c d escape w right_square_bracket left_square_bracket question_mark escape"
        for key in keys.split():
            await pilot.press(key)
            await pilot.pause(0.05)
        await pilot.press("escape", "escape")

    assert drive(steps, run=run, size=(80, 24)).crash is None


def test_a_run_folder_that_goes_away_meanwhile_breaks_nothing(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        shutil.rmtree(run.root)
        await pilot.pause(0.6)
        for key in ("s", "e", "escape", "i", "escape", "d", "escape", "c", "g", "escape", "l", "escape"):
            await pilot.press(key)
            await pilot.pause(0.05)

    assert drive(steps, run=run).crash is None


def test_what_the_trainer_writes_meanwhile_is_shown(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        append(run, '{"t":1700000200.0,"kind":"step","step":341,"loss":0.1,"rate":0.002,"seconds":0.4}')
        await shown(pilot, 341)
        append(run, '{"t":1700000300.0,"kind":"request","request":"scheme","message":"","total_steps":500}')
        await until(pilot, lambda: "step 341 of 500" in words(pilot))

    drive(steps, run=run)


def test_a_long_log_is_read_in_turns_to_its_end(history: MakeHistory) -> None:
    run = history(steps=10)
    with run.events.open("a") as log:
        for step in range(11, 150_001):
            log.write(
                f'{{"t":1.0,"kind":"step","step":{step},"loss":0.1,"rate":0.002,"gradient_norm":1,"seconds":0.4}}\n'
            )

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "step 150000" in words(pilot))
        await pilot.pause(0.3)
        assert "reading the log" not in words(pilot)

    drive(steps, run=run)


def test_two_steps_are_compared_side_by_side(history: MakeHistory) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("g")
        await until(pilot, lambda: words(pilot).count("▀") > 300)
        assert "‹200 ›★300" in words(pilot)
        await pilot.press("left", "left")
        await until(pilot, lambda: "‹100" in words(pilot) and "›★300" in words(pilot))
        await pilot.press("j")
        await until(pilot, lambda: "›200" in words(pilot))
        await pilot.press("escape")
        dashboard(pilot)

    drive(steps, run=history())


def test_watch_without_any_run_says_how_to_start_one() -> None:
    result = CliRunner().invoke(cli, ["watch"])
    assert "Start one with `ti-tui`" in str(result.exception)


@pytest.mark.parametrize(
    ("verdict", "advice"),
    [
        ("learned", "More steps refine it at most; the best checkpoint is step 300."),
        ("overtraining", "Use an earlier one: the best checkpoint is step 300."),
        ("diverging", "Divide the rates by ten and start again: x stops."),
    ],
)
def test_a_verdict_stands_with_its_reason_and_what_to_do(history: MakeHistory, verdict: str, advice: str) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        text = words(pilot)
        assert f"{verdict} at step 280: " in text and REASONS[verdict][:40] in text
        assert advice in re.sub(r"\s+", " ", text)
        assert re.search(r"★ +300 +\+37 % +\+30 % +82 % +35\.6 %", text), "the best checkpoint has a star, and its rank"
        assert "★ 300: gain 35.6 % (with held-out images," in text and "rank 35.6 %, the highest" in text

    drive(steps, run=history(verdict=verdict))


def test_the_vectors_are_shown_and_follow_the_run(history: MakeHistory) -> None:
    run = history()

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot)
        await pilot.press("v")
        await until(pilot, lambda: "the vectors at step 300" in words(pilot))
        text = words(pilot)
        assert re.search(r"gain, held out +\+30 %", text) and re.search(r"much .* 0\.51 +from 0\.98", text)
        assert re.search(r"12 +1\.18 +3\.1x +-0\.02 +woman 0\.61  lady \[b\] 0\.5", text)
        evaluated_again = json.dumps({"t": BEGAN + 400, "kind": "eval", **evaluated(340), "held_gain": 0.07})
        append(run, evaluated_again)
        await until(pilot, lambda: re.search(r"gain, held out +\+7 %", words(pilot)))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))

    drive(steps, run=run)


def test_a_log_without_evaluations_has_nothing_to_show_of_them(history: MakeHistory) -> None:
    run = history(steps=15)
    kept = [line for line in run.events.read_text().splitlines() if '"eval"' not in line]
    run.events.write_text("".join(f"{line}\n" for line in kept))

    async def steps(pilot: Pilot[None]) -> None:
        await shown(pilot, 15)
        assert "eval 0" not in words(pilot)
        await pilot.press("v")
        await until(pilot, lambda: "from the second evaluation on" in words(pilot))
        assert "from the first checkpoint on" in words(pilot)

    drive(steps, run=run)
