"""`ti-tui demo` as a person runs it: what it trains, shows, leaves behind and takes away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.commands.test_commands import refused, ti_tui
from tests.fixtures.terminal import Terminal
from ti_tui import settings
from ti_tui.embeddings import files
from ti_tui.run.folder import RunFolder
from ti_tui.setup import demo

TRAIN = ("-m", "tests.fixtures.plain_demo")
SHOW = """
import subprocess
import sys
from pathlib import Path
from ti_tui.commands.demo import show_samples
show_samples({int(Path(path).stem): Path(path) for path in sys.argv[1:]})
print("THE END")
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of one's own, for processes too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def terminal(*arguments: str) -> Terminal:
    """A process of Python in a terminal that is wide enough for the paths of tests."""
    return Terminal([sys.executable, *arguments], columns=240, rows=60)


def test_the_plain_demo_trains_shows_both_pictures_and_can_be_removed(temporary: Path) -> None:
    with terminal(*TRAIN, "0.01:2, 0.005:1") as shown:
        text = shown.wait_for("remove it", seconds=120)
        shown.process.wait(20)
    for said in ("zkz learns a teal striped ring from 12 images", "step 3 of 3", "done at step 3", "demo --clean"):
        assert said in text
    (run,) = temporary.glob("ti_tui-demo-*/teal-ring")
    assert files.read(run / "model" / "zkz.safetensors").count == 12
    assert f"embedding      {run}/model/zkz.safetensors" in text
    assert f"after 3 steps  {run}/sample/step00000003/01.png" in text
    assert f"look at it     ti-tui watch {run}" in text
    assert "▀" * demo.RESOLUTION in text and "after 3 steps: zkz" in text
    cleaned = ti_tui("demo", "--clean")
    assert cleaned.returncode == 0 and f"Removed {run.parent}: " in cleaned.stdout and " bytes)" in cleaned.stdout
    # What torch puts there is its own.
    assert list(temporary.glob("ti_tui*")) == [] and settings.known_runs() == []
    assert ti_tui("demo", "--clean").stdout == "There is nothing to remove.\n"


def test_ctrl_c_saves_and_says_how_to_go_on_and_cleaning_waits_for_the_trainer(temporary: Path) -> None:
    with terminal(*TRAIN, "0.01:100000") as shown:
        shown.wait_for("step 1 of 100000", seconds=120)
        (run,) = temporary.glob("ti_tui-demo-*/teal-ring")
        refused(ti_tui("demo", "--clean"), f"ti-tui stop {run}")
        shown.press("ctrl+c")
        text = shown.wait_for("remove it")
        shown.process.wait(20)
    assert shown.process.returncode == 0 and "saving and stopping" in text and "Traceback" not in text
    assert f"continue    ti-tui train {run}" in text and f"embedding   {run}/model/zkz-step" in text
    assert RunFolder(run).trainer() is None
    assert ti_tui("demo", "--clean").returncode == 0


def test_the_list_names_every_concept() -> None:
    listed = ti_tui("demo", "--list")
    easy, _, hard = listed.stdout.partition("Hard")
    for found in demo.concepts().values():
        assert found.name in (hard if found.hard else easy) and found.title in listed.stdout


def test_what_is_mistyped_is_refused_and_makes_nothing(temporary: Path) -> None:
    refused(ti_tui("demo", "--plain", "teal"), "did you mean teal-ring?")
    assert ti_tui("demo", "--clean", "orange-drop").returncode == 2
    assert list(temporary.iterdir()) == [] and settings.known_demos() == []


def test_list_and_clean_load_nothing_heavy() -> None:
    code = "import sys; from ti_tui.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    with terminal("-c", code, "demo", "--list") as shown:
        shown.process.wait(30)
        shown.read(0.5)
        assert "teal-ring" in shown.text
        assert not {"torch", "textual", "PIL", "numpy", "rich"} & set(shown.text.split())


def test_pictures_are_drawn_where_there_are_colours_and_room(tmp_path: Path) -> None:
    paths = [tmp_path / f"{step}.png" for step in (0, 50, 300)]
    for path, colour in zip(paths, ("red", "green", "blue"), strict=True):
        Image.new("RGB", (48, 48), colour).save(path)
    with Terminal([sys.executable, "-c", SHOW, *map(str, paths)]) as shown:
        lines = shown.wait_for("THE END").splitlines()
        pixels = shown.screen.buffer[1]
        assert (pixels[2].fg, pixels[2].bg, pixels[2 + 32 + 4].fg) == ("ff0000", "ff0000", "0000ff")
    assert lines[1:17] == [f"  {'▀' * 32}    {'▀' * 32}"] * 16
    assert lines[17] == f"  {'before: the word thing':<32}    after 300 steps: zkz"
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb", "COLORTERM": ""}):
        with Terminal([sys.executable, "-c", SHOW, *map(str, paths)], environment=environment) as plain:
            assert "▀" not in plain.wait_for("THE END")


def test_a_preview_that_is_missing_or_damaged_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "50.png"
    Image.new("RGB", (48, 48), "green").save(path)
    with Terminal([sys.executable, "-c", SHOW, str(path)]) as shown:
        text = shown.wait_for("THE END")
        assert "after 50 steps: zkz" in text and "before" not in text
    path.write_bytes(path.read_bytes()[:90])
    with Terminal([sys.executable, "-c", SHOW, str(path)]) as shown:
        assert "▀" not in shown.wait_for("THE END") and "Traceback" not in shown.text


def test_ctrl_c_while_models_are_built_is_no_mistake_of_the_program() -> None:
    """pydantic makes an error of its own of it."""
    code = (
        "import ti_tui.cli as door\n"
        "def interrupted(**_): raise ValueError('Error building \"model\" validator:\\n  KeyboardInterrupt: ')\n"
        "door.cli.main = interrupted\n"
        "door.main()"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (outcome.returncode, outcome.stderr) == (130, "aborted\n")
