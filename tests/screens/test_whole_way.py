"""The whole way in a real terminal, by keyboard alone: photographs -> wizard -> training -> an embedding."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests.fixtures.terminal import Terminal, ti_tui
from ti_tui.embeddings import files
from ti_tui.run.folder import RunFolder


def own_environment() -> dict[str, str]:
    """The test's own folders, and a quick start of the trainer."""
    names = ("TI_TUI_CONFIG", "TI_TUI_CACHE", "TI_TUI_STATE")
    return {"OMP_NUM_THREADS": "1", **{name: os.environ[name] for name in names}}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("columns", "rows", "scheme", "steps"),
    [
        (80, 24, ("right", "right"), 790),
        # A scheme of one's own, not so long: the letters of it count as keystrokes too.
        (120, 40, ("enter", "ctrl+u", *"0.01:300"), 300),
    ],
)
def test_a_newcomer_gets_from_photographs_to_an_embedding_by_keyboard_alone(
    columns: int,
    rows: int,
    scheme: tuple[str, ...],
    steps: int,
    models: dict[str, Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    """At most 25 keystrokes beyond typing the two paths, the token and the init word."""
    config = Path(os.environ["TI_TUI_CONFIG"])
    config.mkdir(parents=True)
    runs = tmp_path / "runs"
    (config / "config.toml").write_text(f'runs_folder = "{runs}"\n')
    with Terminal(ti_tui(), columns=columns, rows=rows, environment=own_environment()) as terminal:
        terminal.wait_for("Photographs")
        terminal.type(str(photos))
        terminal.press("enter")
        terminal.wait_for("4 images to train")
        terminal.wait_for("narrows the list")
        terminal.type(str(models["sd1"]))
        terminal.press("enter")
        terminal.wait_for("space leaves")
        terminal.wait_for("Stable Diffusion 1")
        terminal.press("enter")
        terminal.wait_for("Template")
        terminal.press("enter")
        terminal.wait_for("Class word")
        terminal.type("zkz")
        terminal.press("enter")
        terminal.wait_for("Class word: ")
        terminal.type("woman")
        for after in ("Run folder: ", "Repeats: ", "Install to: ", "Resolution: "):
            terminal.press("enter")
            terminal.wait_for(after)
        # A picture of 512 pixels takes a tiny model on one core long; nobody types this on a real one.
        terminal.type("64")
        terminal.press("ctrl+n")
        terminal.wait_for("Preset")
        terminal.press(*scheme)
        terminal.wait_for(lambda text: f" {steps} in all" in text or f" {steps} steps in all" in text)
        terminal.press("ctrl+n")
        terminal.wait_for("tab goes on to Start")
        terminal.press("tab")
        terminal.wait_for("enter starts")
        terminal.press("enter")
        terminal.wait_for(lambda text: "step " in text and f"of {steps}" in text, seconds=120)
        terminal.press("s")
        terminal.wait_for("saved", seconds=60) if columns >= 100 else terminal.read(3)
        keys = terminal.pressed
        terminal.wait_for("Done. The embedding", seconds=240)
        terminal.press("q")
        terminal.wait_for_end()
    folder = RunFolder(runs / "zkz")
    embedding = files.read(folder.embedding("zkz", None))
    assert embedding.token == "zkz"
    assert embedding.count == 12
    assert embedding.step == steps
    assert keys <= 25
    assert terminal.process.returncode == 0


@pytest.mark.usefixtures("forked_processes")
def test_a_lost_connection_leaves_the_trainer_alive_and_a_new_dashboard_shows_the_same_history(
    models: dict[str, Path], make_run: object, tmp_path: Path
) -> None:
    folder = make_run(scheme="0.01:4000", **{"save.every_steps": 50})  # type: ignore[operator]
    environment = own_environment()
    with Terminal(ti_tui("watch", str(folder.root)), environment=environment) as terminal:
        terminal.wait_for("This run was never trained")
        terminal.press("t")
        terminal.wait_for(lambda text: "●" in text and "training" in text and "step  " in text, seconds=120)
        terminal.read(2)
        trainer = folder.trainer()
        assert trainer is not None
        terminal.hang_up()
    assert terminal.process.poll() is not None
    before = folder.read_status()
    assert before is not None
    time.sleep(2.5)
    after = folder.read_status()
    assert trainer.alive()
    assert after is not None
    assert after.step > before.step
    with Terminal(ti_tui("watch"), environment=environment) as again:
        text = again.wait_for(lambda text: "● training" in text and "of 4000" in text)
        step = int(text.partition("step")[2].split()[0])
        assert step >= before.step
        again.wait_for("saved" if "saved" in text else "    50 ")
        again.press("q")
        again.wait_for("leave it running")
        again.press("x")
        again.wait_for_end()
    end = time.monotonic() + 60
    while folder.trainer() is not None and time.monotonic() < end:
        time.sleep(0.1)
    status = folder.current_status()
    assert status is not None
    assert status.phase == "stopped"


def test_alt_and_a_digit_jump_to_a_step_also_while_typing() -> None:
    with Terminal(ti_tui(), environment=own_environment()) as terminal:
        terminal.wait_for("Photographs")
        terminal.type("abc")
        terminal.wait_for("abc")
        terminal.type("\x1b5")
        terminal.wait_for("5/6 LR scheme")
        terminal.type("\x1b1")
        assert "abc" in terminal.wait_for("1/6 Dataset")
        terminal.press("ctrl+q")
        terminal.wait_for_end()


@pytest.mark.usefixtures("forked_processes")
@pytest.mark.parametrize("at_once", [True, False])
def test_keys_that_arrive_at_once_go_where_they_would_go_one_by_one(at_once: bool) -> None:
    """A stalled connection delivers what was typed meanwhile as one write."""
    keys = ["abc", "\x15", "zkz", "\t", "person", "\t"]
    with Terminal(ti_tui(), environment=own_environment()) as terminal:
        terminal.wait_for("Photographs")
        terminal.type("\x1b3")
        terminal.wait_for("Class word")
        for text in ["".join(keys)] if at_once else keys:
            terminal.type(text)
        terminal.wait_for(
            lambda text: (
                re.search(r"Token +zkz\b", text) is not None and re.search(r"Class word +person\b", text) is not None
            )
        )
