"""`ti-tui caption` as a person uses it: real processes, real photographs, what is written and what is said."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.test_commands import ROOT, refused, ti_tui
from tests.conftest import MakeRun
from tests.fixtures.tiny_blip import shared
from ti_tui.dataset import caption_history
from ti_tui.run.folder import RunFolder


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory)


@pytest.fixture
def run(make_run: MakeRun) -> RunFolder:
    """A run with four pictures, of which 0003 has the caption `a cup on a table`."""
    return make_run()


def sidecars(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.txt"))}


def test_pictures_of_a_run_without_a_caption_get_one(run: RunFolder, blip: Path) -> None:
    done = ti_tui("caption", run.root, "--model", blip)
    assert done.returncode == 0, done.stderr
    written = sidecars(run.images)
    assert list(written) == ["0001.txt", "0002.txt", "0003.txt", "0004.txt"]
    assert written["0003.txt"] == "a cup on a table"
    assert all(text and "\n" not in text for text in written.values())
    for words in (
        "BLIP, ",
        "on the CPU, loaded in",
        f"1/3  0001.png  {written['0001.txt']}",
        "3/3  0004.png",
        "3 images captioned in",
        "1 already had a caption",
        "template does not use captions",
    ):
        assert words in done.stdout, done.stdout
    again = ti_tui("caption", run.images / "1_zkz woman", "--model", blip)
    assert again.returncode == 0 and "4 images in" in again.stdout and "all have captions" in again.stdout


def test_replaced_captions_are_kept(run: RunFolder, blip: Path) -> None:
    done = ti_tui("caption", run.file, "--model", blip, "--mode", "replace", "--first-words", "a photo of")
    assert done.returncode == 0, done.stderr
    assert all(text.startswith("a photo of") for text in sidecars(run.images).values())
    assert f"kept in {run.root / 'captions.jsonl'}" in done.stdout
    (batch,) = caption_history.read(run.root / "captions.jsonl")
    assert [change.old for change in batch] == ["", "", "a cup on a table", ""]
    assert {change.how for change in batch} == {"BLIP"} and batch[0].picture == "img/1_zkz woman/0001.png"


@pytest.mark.parametrize(
    ("mode", "begins", "ends"),
    [("prepend", "of zk, ", ", a cup on a table"), ("append", "of zk, a cup on a table, ", "")],
)
def test_new_words_go_before_or_after_the_old_ones_and_twice_is_once(
    run: RunFolder, blip: Path, mode: str, begins: str, ends: str
) -> None:
    for _ in range(2):
        options = ("--mode", mode, "--prefix", "of zk,", "--leave-out", "0001.png")
        done = ti_tui("caption", run.root, "--model", blip, *options)
        assert done.returncode == 0, done.stderr
        written = sidecars(run.images)
        assert written["0003.txt"].startswith(begins) and written["0003.txt"].endswith(ends)
        assert written["0003.txt"].count("of zk,") == 1 and written["0003.txt"].count("a cup on a table") == 1
        assert written["0002.txt"].startswith("of zk, ") and "0001.txt" not in written


def test_photographs_are_only_read_unless_it_is_said(photos: Path, blip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    before = sorted(path.name for path in folder.iterdir())
    refused(ti_tui("caption", folder, "--model", blip), "are only read", "ti-tui init", "--write-beside")
    assert sorted(path.name for path in folder.iterdir()) == before
    done = ti_tui("caption", folder, "--model", blip, "--write-beside")
    assert done.returncode == 0 and "3 images captioned" in done.stdout
    assert list(sidecars(folder)) == ["astronaut.txt", "chelsea.txt", "coffee.txt", "rocket.txt"]
    assert (folder / "captions.jsonl").exists()


def test_a_run_on_photographs_elsewhere_does_not_write_to_them(
    run: RunFolder, photos: Path, blip: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    text = run.file.read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("images = "))
    run.file.write_text(text.replace(line, f'images = "{folder}"'))
    refused(ti_tui("caption", run.root, "--model", blip), "trains on", "are only read")
    # A link out of the run leads to the same folder.
    (run.images / "5_zkz").symlink_to(folder)
    refused(ti_tui("caption", run.images / "5_zkz", "--model", blip), "are only read")
    assert list(sidecars(folder)) == ["coffee.txt"]


def test_file_names_need_no_model(photos: Path, tmp_path: Path, run: RunFolder) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos / "coffee.jpg", folder / "01-a_red_cup.jpg")
    done = ti_tui("caption", folder, "--engine", "filename", "--write-beside", "--prefix", "studio light,")
    assert done.returncode == 0 and sidecars(folder) == {"01-a_red_cup.txt": "studio light, a red cup"}
    numbered = ti_tui("caption", run.root, "--engine", "filename")
    assert numbered.returncode == 2 and "before `ti-tui init`" in numbered.stderr


def test_a_bad_picture_is_said_the_others_are_captioned_and_the_status_tells(
    photos: Path, blip: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    (folder / "page.jpg").write_text("<html>")
    (folder / "rocket.jpg").write_bytes((folder / "rocket.jpg").read_bytes()[:5000])
    done = ti_tui("caption", folder, "--model", blip, "--write-beside")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "page.jpg is not an image" in done.stderr and "rocket.jpg: is truncated" in done.stderr
    assert "2 images captioned" in done.stdout and "1 could not be captioned" in done.stdout
    assert list(sidecars(folder)) == ["astronaut.txt", "chelsea.txt", "coffee.txt"]


def test_mistakes_are_said_before_anything_starts(run: RunFolder, blip: Path, tmp_path: Path) -> None:
    refused(ti_tui("caption", tmp_path / "nowhere"), "there is no folder")
    refused(ti_tui("caption", run.root, "--model", tmp_path / "gone"), "there is no captioner at", "hf download")
    damaged = Path(shutil.copytree(blip, tmp_path / "blip"))
    (damaged / "tokenizer.json").unlink()
    refused(ti_tui("caption", run.root, "--model", damaged), "lacks tokenizer.json")
    refused(ti_tui("caption", run.root, "--model", blip, "--leave-out", "1.png"), "there is no image '1.png'")


def test_a_run_that_is_trained_just_now_is_left_alone(run: RunFolder, blip: Path) -> None:
    with run.lock():
        refused(ti_tui("caption", run.root, "--model", blip), "a trainer (process", "ti-tui stop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_written_and_the_same_command_goes_on(
    blip: Path, photos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for copy in range(200):
        (folder / f"{copy:03}.jpg").hardlink_to(photos / "coffee.jpg")
    command = [sys.executable, "-m", "ti_tui", "caption", str(folder), "--model", str(blip), "--write-beside"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while len(sidecars(folder)) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        said, wrong = process.communicate(timeout=60)
    assert process.returncode == 130, wrong
    written = sidecars(folder)
    assert 3 <= len(written) < 200 and all(written.values())
    assert f"{len(written)} images captioned" in said and "run the same command to continue" in said
    assert sum(map(len, caption_history.read(folder / "captions.jsonl"))) == len(written)


def test_images_are_sent_to_another_machine_only_when_that_was_said(make_run: MakeRun) -> None:
    folder = make_run()
    refused(
        ti_tui("caption", folder.root, "--endpoint", "http://192.0.2.1/v1", "--model", "llava"),
        "images will be sent to 192.0.2.1, unencrypted", "--yes",
    )  # fmt: skip
    refused(ti_tui("caption", folder.root, "--endpoint", "nowhere", "--model", "llava"), "is not the address")
