"""Run folders and photographs from strangers: nothing outside them is deleted, written or read by way of links."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.bad_pictures import photo
from ti_tui.dataset.caption_files import read_caption
from ti_tui.dataset.manifest import NAME
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.prepare import Prepared, prepare
from ti_tui.run.folder import RunFolder, RunFolderError


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("astronaut", "coffee"):
        photo(name, (300, 200)).save(folder / f"{name}.jpg", quality=92)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of somebody's own, with files that a run could have made by their names."""
    folder = tmp_path / "home"
    (folder / "1_zkz").mkdir(parents=True)
    for name in ("thesis.pdf", "0001.png", "1_zkz/0001.png"):
        (folder / name).write_bytes(b"of great value")
    return folder


def prepared(photographs: Path, run: Path, **choices: Any) -> Prepared:
    return prepare(photographs, run / "img", PictureChoices(**choices), name="zkz", resolution=64, record=run)


@pytest.mark.parametrize("file", ["lnk/thesis.pdf", "lnk/0001.png", "lnk/1_zkz/0001.png", "img/lnk/0001.png"])
@pytest.mark.parametrize("known", [False, True], ids=["no hash", "its hash"])
def test_what_a_record_calls_obsolete_is_not_deleted_by_way_of_a_link(
    photographs: Path, home: Path, tmp_path: Path, file: str, known: bool
) -> None:
    run = tmp_path / "run"
    prepared(photographs, run)
    (run / "lnk").symlink_to(home)
    (run / "img" / "lnk").symlink_to(home)
    record = json.loads((run / NAME).read_text())
    status = (run / file).stat()
    made = record["pictures"]["coffee.jpg"]["made"][0]
    size, t = (status.st_size, status.st_mtime_ns) if known else (0, 0)
    record["obsolete"] = [
        {**made, "file": file, "sha256": "0" * 64 if known else "", "size_bytes": size, "mtime_ns": t}
    ]
    (run / NAME).write_text(json.dumps(record))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    prepared(photographs, run)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_folder_of_images_that_is_a_link_to_anothers_loses_nothing(
    photographs: Path, home: Path, tmp_path: Path
) -> None:
    """Files that are older than a record are not what it announced."""
    run = tmp_path / "run"
    prepared(photographs, run)
    record = json.loads((run / NAME).read_text())
    made = record["pictures"]["coffee.jpg"]["made"][0]
    record["obsolete"] = [{**made, "file": "img/1_zkz/0001.png", "sha256": "", "size_bytes": 0, "mtime_ns": 0}]
    record["pictures"] = {}
    os.rename(run / "img", run / "away")
    (run / "img").symlink_to(home)
    (run / NAME).write_text(json.dumps(record))
    # A record that says so is newest when a folder is unpacked, and may say any other time.
    os.utime(run / NAME, (1, 1))
    prepared(photographs, run)
    assert (home / "1_zkz" / "0001.png").read_bytes() == b"of great value"


def test_a_lawful_link_of_all_images_works_throughout(photographs: Path, tmp_path: Path) -> None:
    run, disk = tmp_path / "run", tmp_path / "bigdisk"
    run.mkdir()
    disk.mkdir()
    (run / "img").symlink_to(disk)
    assert prepared(photographs, run).images == 2
    assert sorted(path.name for path in disk.rglob("*.png")) == ["0001.png", "0002.png"]
    assert prepared(photographs, run, left_out=frozenset({"coffee.jpg"})).images == 1
    assert sorted(path.name for path in disk.rglob("*.png")) == ["0001.png"]
    RunFolder(run).create()


@pytest.mark.parametrize("name", ["state", "log", "model", "sample", "requests", "log/events.jsonl", "log/trainer.log"])
def test_a_run_whose_own_files_are_links_is_not_trained(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    place = folder.root / name
    if place.is_dir():
        place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(RunFolderError, match=f"{name} is a link"):
        folder.create()


def test_a_caption_or_photograph_that_leads_out_of_the_folder_is_not_read(photographs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a password")
    (photographs / "coffee.txt").symlink_to(secret)
    found = read_caption(photographs / "coffee.jpg")
    assert found.caption == "" and "is a link to a file outside the folder" in found.notes[0].message
    (photographs / "astronaut.txt").symlink_to("coffee2.txt")
    (photographs / "coffee2.txt").write_text("a cup")
    assert read_caption(photographs / "astronaut.jpg").caption == "a cup"
    photo("rocket", (300, 200)).save(tmp_path / "outside.jpg")
    (photographs / "rocket.jpg").symlink_to(tmp_path / "outside.jpg")
    made = prepared(photographs, tmp_path / "run")
    assert made.images == 2 and made.captions == 1
    assert "rocket.jpg is a link to a file outside the folder" in "".join(map(str, made.problems))
