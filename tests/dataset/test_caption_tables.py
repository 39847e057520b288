"""Captions from the files of other programs: tables for a folder, JSON beside an image, kohya's project folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ti_tui.dataset.caption_export import CAPTION_FORMS, CaptionForm, export_captions
from ti_tui.dataset.caption_files import read_caption
from ti_tui.dataset.listing import names_in
from ti_tui.dataset.scan import scan
from ti_tui.dataset.survey import survey
from ti_tui.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images without captions."""
    found = tmp_path / "photos"
    found.mkdir()
    for shade, name in enumerate(("a.png", "b.png", "c.png")):
        Image.effect_noise((96, 96), 40 + 20 * shade).convert("RGB").save(found / name)
    return found


def captions(folder: Path) -> dict[str, str]:
    return {picture.path.name: picture.caption for picture in scan(folder).pictures}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a cup"}\n\n{"file_name": "./b.png", "caption": "two"}\n'),
        ("metadata.csv", 'file_name,text\na.png,"a cup"\nb.png,two\n'),
        ("meta_lat.json", '{"/data/a": {"caption": "a", "tags": "cup"}, "C:\\\\x\\\\b.png": {"tags": "two"}}'),
        ("meta_cap.json", '{"a": {"caption": "a cup"}, "b": {"caption": "two"}, "other": 3}'),
    ],
)
def test_a_file_with_the_captions_of_a_folder_is_read_with_a_note(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    found = captions(folder)
    assert found["a.png"].replace(", ", " ") == "a cup" and found["b.png"] == "two" and found["c.png"] == ""
    notes = [problem.message for problem in scan(folder).problems if problem.kind == "caption"]
    assert notes == [f"{image}: its caption is read from {name}, and saved as .txt" for image in ("a.png", "b.png")]


def test_a_table_in_the_folder_above_names_its_images_with_their_folder(folder: Path) -> None:
    row = {"file_name": "photos/a.png", "text": "a cup"}
    (folder.parent / "metadata.jsonl").write_text(json.dumps(row))
    assert read_caption(folder / "a.png").caption == "a cup" and read_caption(folder / "b.png").caption == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"caption": "a cup", "url": "x"}'),
        ("a.png.json", '{"title": "IMG", "description": "a cup"}'),
        ("a.json", '{"tags": ["a", "cup"]}'),
        ("a.json", '"a cup"'),
        ("a.png.txt", "a cup"),
        ("a.png.caption", "a cup"),
    ],
)
def test_a_caption_beside_an_image_is_read_whatever_its_name(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    found = read_caption(folder / "a.png")
    assert found.caption.replace(", ", " ") == "a cup" and found.path == folder / name
    assert [note.message for note in found.notes] == [f"its caption is read from {name}, and saved as .txt"]
    assert not [problem for problem in survey(folder).problems if problem.kind == "orphan"]


def test_a_caption_file_goes_before_what_other_programs_wrote(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "of the table"}')
    (folder / "a.json").write_text('{"caption": "of the json"}')
    assert read_caption(folder / "a.png").caption == "of the json"
    (folder / "a.txt").write_text("its own")
    assert read_caption(folder / "a.png").caption == "its own"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"caption": 1e999}',
        b'{"description": ""}',
        b"\xff\xfe",
        b'{"tags": {"a": 1}}',
        b"[]",
    ],
)
def test_a_json_file_that_holds_no_caption_is_none(folder: Path, content: bytes) -> None:
    (folder / "a.json").write_bytes(content)
    found = read_caption(folder / "a.png")
    assert (found.caption, found.notes) == ("", ())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "a"}\nnot json\n', "line 2"),
        ("metadata.jsonl", b"[" * 100_000, "nested too deeply"),
        ("meta_lat.json", b"[]", "not a table of images"),
        ("metadata.csv", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_once(folder: Path, name: str, content: bytes, says: str) -> None:
    (folder / name).write_bytes(content)
    told = [problem.message for problem in survey(folder).problems if problem.subject == folder / name]
    assert len(told) == 1 and name in told[0] and says in told[0]


def test_rows_without_an_image_are_counted_and_links_out_are_not_read(folder: Path) -> None:
    (folder.parent / "secret").write_text('{"file_name": "a.png", "text": "secret"}')
    (folder / "metadata.jsonl").symlink_to(folder.parent / "secret")
    (folder / "meta_cap.json").write_text('{"a": {"caption": "a"}, "x": {"caption": "x"}, "y": {"caption": "y"}}')
    told = [
        problem.message for problem in survey(folder).problems if problem.subject and problem.subject.parent == folder
    ]
    assert any("metadata.jsonl is a link to a file outside the folder" in message for message in told)
    assert any("meta_cap.json has 2 captions of images that are not here" in message for message in told)
    assert read_caption(folder / "a.png").caption == "a"


@pytest.mark.parametrize("form", CAPTION_FORMS)
def test_captions_come_back_from_every_form_that_they_are_exported_in(folder: Path, form: CaptionForm) -> None:
    texts = {"a.png": 'a "cup", hot\u00e9', "b.png": "two, three"}
    for name, text in texts.items():
        (folder / name).with_suffix(".txt").write_text(text)
    found = scan(folder)
    place = folder.parent / "out"
    files = export_captions(found, form, place)
    with pytest.raises(UserError, match="already exists"):
        export_captions(found, form, place)
    export_captions(found, form, place, force=True)
    for path in folder.glob("*.txt"):
        path.unlink()
    for path in files:
        path.rename(folder / path.relative_to(place))
    assert captions(folder) == {**texts, "c.png": ""}


def test_without_captions_there_is_nothing_to_export(folder: Path) -> None:
    with pytest.raises(UserError, match="has a caption"):
        export_captions(scan(folder), "jsonl", folder.parent / "out")


def test_a_project_of_kohya_ss_is_read_by_its_img_folder(folder: Path) -> None:
    project = folder.parent / "project"
    for name in ("img", "log", "model", "reg"):
        (project / name).mkdir(parents=True)
    folder.rename(project / "img" / "7_zkz woman")
    Image.new("RGB", (96, 96)).save(project / "log" / "preview.png")
    assert names_in(project) == [f"img/7_zkz woman/{name}.png" for name in "abc"]
    assert [picture.repeats for picture in scan(project).pictures] == [7, 7, 7]
    assert [file.name for file in survey(project).files] == names_in(project)


def test_images_of_the_same_name_in_two_folders_keep_their_captions(folder: Path) -> None:
    root = folder.parent / "project"
    for name, text in (("5_x", "red"), ("10_y", "blue")):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(root / name / "1.png")
        (root / name / "1.txt").write_text(text)
    export_captions(scan(root), "sd-scripts", root)
    for path in root.rglob("*.txt"):
        path.unlink()
    found = {picture.path.parent.name: picture.caption for picture in scan(root).pictures}
    assert found == {"5_x": "red", "10_y": "blue"}


def test_an_export_stays_in_its_folder(folder: Path) -> None:
    (folder / "5_x").mkdir()
    (folder / "a.png").rename(folder / "5_x" / "a.png")
    (folder / "5_x" / "a.txt").write_text("a cup")
    place, outside = folder.parent / "out", folder.parent / "outside"
    place.mkdir()
    outside.mkdir()
    (place / "5_x").symlink_to(outside)
    with pytest.raises(UserError, match="leads out"):
        export_captions(scan(folder), "txt", place)
    assert not list(outside.iterdir())
