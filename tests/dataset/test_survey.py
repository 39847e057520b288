"""Looking over a folder: every bad kind is told with its words, and nothing stops the look."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from tests.fixtures import bad_pictures
from tests.fixtures.bad_pictures import Bad, photo
from ti_tui.dataset.caption_files import MOST_BYTES, one_line, read_caption
from ti_tui.dataset.crop import load_crops
from ti_tui.dataset.crop_boxes import AUTO, CropChoice, crop_for, crops_for
from ti_tui.dataset.parallel import Room, in_order
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.dataset.picture_quality import measure
from ti_tui.dataset.scan import scan
from ti_tui.dataset.survey import Survey, SurveyCache, check_count, survey


@pytest.fixture(scope="module")
def bad(
    tmp_path_factory: pytest.TempPathFactory, make_bad_pictures: Callable[[Path], list[Bad]]
) -> tuple[Path, list[Bad], Survey]:
    folder = tmp_path_factory.mktemp("photographs") / "bad"
    made = make_bad_pictures(folder)
    return folder, made, survey(folder, faces="none")


def remark_of(look: SurveyedFile) -> str:
    """The errors and warnings of a file, without its name."""
    return "; ".join(p.message.removeprefix(f"{look.path.name} ") for p in look.problems if p.severity != "info")


def test_every_bad_picture_is_told_with_its_words(bad: tuple[Path, list[Bad], Survey]) -> None:
    _, made, found = bad
    usable = {picture.path.name for picture in found.scan.pictures}
    summed = next(problem.message for problem in found.problems if problem.kind == "converted")
    for one in made:
        assert (one.name in usable) == one.usable, one.name
        about = "\n".join(str(p) for p in found.problems if p.subject is not None and p.subject.name == one.name)
        assert all(words in about for words in one.says), (one, about)
        assert one.summed in summed


def test_messages_are_one_line_that_cannot_move_the_cursor(bad: tuple[Path, list[Bad], Survey]) -> None:
    _, _, found = bad
    for problem in found.problems:
        assert str(problem).isprintable(), str(problem)
        assert problem.kind and problem.field == "dataset.images"


def test_good_photographs_are_told_nothing_about(bad: tuple[Path, list[Bad], Survey]) -> None:
    _, _, found = bad
    told = {look.name: look.kinds for look in found.files if look.name.startswith("good-")}
    assert len(told) == 4 and set().union(*told.values()) <= {"caption"}


def test_captions_are_read_whatever_they_are_in(bad: tuple[Path, list[Bad], Survey]) -> None:
    _, _, found = bad
    captions = {picture.path.name: picture.caption for picture in found.scan.pictures}
    assert captions["good-astronaut.jpg"] == "a woman in a suit, café"
    assert captions["good-coffee.jpg"] == "a cup"
    assert captions["good-rocket.jpg"] == "a rocket, café"
    assert captions["good-motorcycle.jpg"] == "a motorcycle"
    assert captions["small.jpg"] == "first line"
    assert captions["grey.jpg"] == ""
    assert captions["snow.png"] == "a bell and nothing"
    assert len(captions["night.png"]) == 9999
    assert captions["black.png"] == "in the other ending"
    kinds = {p.subject.name for p in found.problems if p.kind == "orphan" and p.subject}
    assert kinds == {"nobody.txt", "nobody-mask.png", "grey-mask.jpg"}


def test_hidden_files_and_masks_are_no_pictures(bad: tuple[Path, list[Bad], Survey]) -> None:
    folder, _, found = bad
    names = {look.name for look in found.files}
    assert ".hidden.jpg" not in names and not any("-mask" in name for name in names)
    assert not any("-mask" in picture.path.name for picture in scan(folder, decode=False).pictures)


def test_a_look_says_where_the_mask_is(bad: tuple[Path, list[Bad], Survey]) -> None:
    _, _, found = bad
    masks = {look.name: look.mask for look in found.files if look.mask}
    assert masks == {"good-coffee.jpg": "file", "alpha.png": "transparency", "palette.png": "transparency"}
    told = {look.name for look in found.files if "mask" in look.kinds}
    assert told == {"small.jpg", "banner.jpg", "blurred.jpg"}
    text = "\n".join(problem.message for problem in found.problems if problem.kind == "orphan")
    assert "nobody-mask.png is named like a mask, but there is no photograph nobody" in text
    assert "grey-mask.jpg is named like a mask, but masks are only read from .png" in text


def test_a_name_too_long_for_a_mask_beside_it_is_no_trouble(tmp_path: Path) -> None:
    name = f"{'a' * 250}.jpg"
    photo("coffee").save(tmp_path / name)
    (look,) = survey(tmp_path, faces="none").files
    assert look.picture is not None and look.mask == ""


def test_a_look_says_what_is_wrong_and_what_was_measured(bad: tuple[Path, list[Bad], Survey]) -> None:
    _, _, found = bad
    looks = {look.name: look for look in found.files}
    assert remark_of(looks["same.jpg"]) == "is the same file as good-astronaut.jpg"
    assert looks["tiny.jpg"].picture is None and looks["tiny.jpg"].measured is not None
    assert looks["truncated.jpg"].measured is None
    turned = looks["turned.jpg"].measured
    assert turned is not None and turned.turned and turned.size == (600, 700) and turned.format == "JPEG"


def test_the_look_goes_on_only_while_it_is_wanted(bad: tuple[Path, list[Bad], Survey]) -> None:
    folder, _, found = bad
    seen: list[SurveyedFile] = []

    def three(look: SurveyedFile) -> bool:
        seen.append(look)
        return len(seen) < 3

    stopped = survey(folder, faces="none", each=three)
    assert not stopped.complete and [look.name for look in seen] == [look.name for look in found.files[:3]]


def test_what_was_measured_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo("coffee").save(tmp_path / "a.jpg")
    photo("rocket").save(tmp_path / "b.jpg")
    memory: SurveyCache = {}
    first = survey(tmp_path, faces="none", memory=memory)
    measured: list[str] = []

    def counting(path: Path, **options: object) -> object:
        measured.append(path.name)
        return measure(path)

    monkeypatch.setattr("ti_tui.dataset.survey.measure", counting)
    assert survey(tmp_path, faces="none", memory=memory).files == first.files
    assert measured == []
    photo("chelsea").save(tmp_path / "b.jpg")
    survey(tmp_path, faces="none", memory=memory)
    assert measured == ["b.jpg"]


def test_what_cannot_be_read_is_remembered_unless_it_may_be_another_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cut.jpg", "far.jpg"):
        photo("coffee").save(tmp_path / name)
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page.jpg").write_text("<html></html>")
    memory: SurveyCache = {}
    measured: list[str] = []
    away = True

    def counting(path: Path, **options: object) -> object:
        measured.append(path.name)
        return measure(path)

    def loaded(image: Image.Image) -> object:
        if away and "far" in str(getattr(image, "filename", "")):
            raise OSError(errno.EIO, "Input/output error")
        return ImageFile.ImageFile.load(image)  # type: ignore[arg-type]

    monkeypatch.setattr("ti_tui.dataset.survey.measure", counting)
    monkeypatch.setattr(JpegImageFile, "load", loaded)
    first = survey(tmp_path, faces="none", memory=memory)
    assert [remark_of(look) for look in first.files] == [
        "is truncated; copy it again",
        "cannot be read: Input/output error",
        "is not an image (it starts like HTML)",
    ]
    measured.clear()
    assert survey(tmp_path, faces="none", memory=memory).files == first.files
    assert measured == ["far.jpg"]
    away = False
    assert [look.picture is not None for look in survey(tmp_path, faces="none", memory=memory).files] == [
        False, True, False,
    ]  # fmt: skip
    (tmp_path / "cut.jpg").write_bytes(whole)
    measured.clear()
    found = survey(tmp_path, faces="none", memory=memory, force="all")
    assert measured == ["cut.jpg"] and found.files[0].picture is not None


def test_a_copy_of_a_picture_that_is_left_out_is_no_copy(tmp_path: Path) -> None:
    photo("coffee").save(tmp_path / "a.jpg")
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert [picture.path.name for picture in survey(tmp_path).scan.pictures] == ["a.jpg"]
    found = survey(tmp_path, leave_out=["a.jpg"])
    assert [picture.path.name for picture in found.scan.pictures] == ["a.jpg", "b.jpg"], "a.jpg can be taken back"
    assert not found.problems
    assert len(survey(tmp_path, force=["b.jpg"]).scan.pictures) == 2


def test_pictures_in_subfolders_are_told_and_taken_if_asked(tmp_path: Path) -> None:
    (tmp_path / "2023" / "may").mkdir(parents=True)
    photo("coffee").save(tmp_path / "2023" / "may" / "a.jpg")
    (tmp_path / "2023" / "loop").symlink_to(tmp_path)
    found = survey(tmp_path)
    assert "there are no photographs" in str(found.problems.errors[0])
    assert found.problems.errors[0].remedy == "Its sub-folders contain 1 photograph." and found.below == 1
    inside = survey(tmp_path, subfolders=True)
    assert [look.name for look in inside.files] == ["2023/may/a.jpg"] and not inside.problems
    photo("rocket").save(tmp_path / "b.jpg")
    assert [problem.kind for problem in survey(tmp_path).problems] == ["below"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, says in (("none", "there is no folder"), ("file", "is a file"), ("loop", "cannot be read")):
        with pytest.raises(DatasetError, match=says):
            survey(tmp_path / name)
    assert "It is empty." in str(survey_of_empty(tmp_path).problems.errors[0])


def survey_of_empty(tmp_path: Path) -> Survey:
    (tmp_path / "empty").mkdir()
    return survey(tmp_path / "empty")


def test_a_file_that_goes_away_while_it_is_looked_at_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo("coffee").save(tmp_path / "a.jpg")
    photo("rocket").save(tmp_path / "b.jpg")

    def gone(path: Path, **options: object) -> object:
        if path.name == "a.jpg":
            path.unlink()
        return measure(path)

    monkeypatch.setattr("ti_tui.dataset.survey.measure", gone)
    found = survey(tmp_path, faces="none")
    assert [picture.path.name for picture in found.scan.pictures] == ["b.jpg"]
    assert "a.jpg cannot be read: No such file" in str(found.problems.errors[0])


def test_a_grey_set_is_no_reason_for_a_warning(tmp_path: Path) -> None:
    for name in ("coffee", "rocket", "chelsea"):
        photo(name).convert("L").save(tmp_path / f"{name}.jpg")
    assert "grey" not in {problem.kind for problem in survey(tmp_path, faces="none").problems}


def test_simple_drawings_are_not_called_blurred_or_alike(tmp_path: Path) -> None:
    for name, side in (("a", 48), ("b", 49), ("large", 400)):
        Image.new("RGB", (side, side), (200, 60, 60)).save(tmp_path / f"{name}.png")
        image = Image.open(tmp_path / f"{name}.png")
        image.paste((60, 160, 80), (0, 0, side // 2, side))
        image.save(tmp_path / f"{name}.png")
    kinds = {look.name: look.kinds for look in survey(tmp_path, resolution=48, faces="none").files}
    assert kinds == {"a.png": frozenset(), "b.png": frozenset(), "large.png": {"blurred"}}


def test_what_belongs_to_a_file_is_told_apart_from_what_belongs_to_the_folder(
    bad: tuple[Path, list[Bad], Survey],
) -> None:
    _, made, found = bad
    assert {problem.kind for problem in found.general} == {"converted", "orphan"}
    strays = {look.name: look for look in found.strays}
    assert {"drawing.svg", "camera.cr2", "new.jxl"} <= set(strays)
    assert all(look.picture is None and len(look.problems) == 1 for look in strays.values())
    assert {look.name for look in (*found.files, *found.strays)} == {one.name for one in made}
    alpha = next(look for look in found.files if look.name == "alpha.png")
    assert "shared-stem" in alpha.kinds


def test_a_camera_that_writes_raw_and_jpeg_is_right(tmp_path: Path) -> None:
    photo("coffee").save(tmp_path / "a.jpg")
    (tmp_path / "a.CR2").write_bytes(b"II*\0")
    assert not survey(tmp_path, faces="none").problems


def test_a_portrait_before_a_soft_background_is_not_blurred(tmp_path: Path) -> None:
    sharp = photo("astronaut", (260, 260))
    soft = Image.new("RGB", (1200, 900), (90, 110, 130))
    soft.paste(sharp, (450, 300))
    soft.save(tmp_path / "a.png")
    one = measure(tmp_path / "a.png")
    assert one.detail > 300
    assert not {"blurred", "soft"} & survey(tmp_path, faces="none").files[0].kinds


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 2), (3, 5), (640, 641), (5000, 8)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr"])
def test_pictures_of_any_kind_and_size_are_measured_and_cropped(
    tmp_path: Path, size: tuple[int, int], mode: str
) -> None:
    path = tmp_path / "a.tif"
    grey = Image.linear_gradient("L").resize(size)
    grey.convert({"I;16": "I", "F": "F", "I": "I", "LA": "L", "1": "L"}.get(mode, "RGB")).convert(mode).save(path)
    one = measure(path)
    assert one.size == size
    for choice in (AUTO, CropChoice("whole"), CropChoice("split")):
        images = load_crops(path, crops_for(one.content, (64, 64), choice))
        assert {(image.size, image.mode) for image in images} == {((64, 64), "RGB")}


@pytest.mark.parametrize("turn", range(1, 9))
def test_measures_are_those_of_the_upright_picture(tmp_path: Path, turn: int) -> None:
    pixels = np.zeros((300, 500, 3), dtype=np.uint8)
    pixels[:, 400:] = np.random.default_rng(0).integers(0, 255, (300, 100, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[bad_pictures.ORIENTATION] = turn
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    one = measure(tmp_path / "a.png")
    assert one.size == ((500, 300) if turn < 5 else (300, 500)) and one.turned == (turn > 1)
    crop = crop_for(one.content, (64, 64))
    # The noise is at the right before turning; where it is after it is what PIL's own turning says.
    from PIL import ImageOps

    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")).convert("L"), dtype=float)
    box = crop.box
    inside = upright[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    assert inside.sum() > 0.9 * upright.sum(), "the box holds what there is to see"


def test_formats_are_told_by_their_content_whatever_pillow_calls_them(tmp_path: Path) -> None:
    image = photo("coffee")
    for name in ("a.jpg", "b.jfif", "c.JPEG", "d.webp", "e.tif", "f.bmp", "g.gif", "h.avif", "i.jp2", "j.png"):
        image = image.rotate(7)
        image.save(tmp_path / name, format=Image.registered_extensions()[Path(name).suffix.lower()])
    image.rotate(90).save(tmp_path / "k.jpg", format="MPO", save_all=True, append_images=[image])
    kinds = {look.name: look.kinds & {"ending", "frames", "unreadable"} for look in survey(tmp_path).files}
    assert len(kinds) == 11 and not set().union(*kinds.values())


@pytest.mark.parametrize(
    ("count", "says"), [(0, ""), (2, "only 2 images"), (4, "narrow"), (12, ""), (42, "fine"), (201, "teach more")]
)
def test_the_number_of_pictures_is_judged(count: int, says: str) -> None:
    told = "".join(map(str, check_count(count)))
    assert says in told and bool(told) == bool(says)


def test_a_large_picture_waits_until_there_is_room() -> None:
    room, order = Room(100), []
    inside = threading.Event()

    def large() -> None:
        inside.wait()
        with room.taken(1000):
            order.append("large")

    thread = threading.Thread(target=large)
    thread.start()
    with room.taken(60):
        inside.set()
        thread.join(0.2)
        assert thread.is_alive()
        order.append("small")
    thread.join(10)
    assert order == ["small", "large"]


def test_results_come_in_order_and_the_rest_is_dropped_when_nobody_wants_it() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number * number

    assert list(in_order(work, range(20))) == [number * number for number in range(20)]
    begun.clear()
    results = in_order(work, range(1000))
    assert next(results) == 0
    results.close()
    assert len(begun) < 10


def test_invisible_characters_go_and_joined_letters_stay() -> None:
    assert one_line("\ufeffa\u200bb \u202ec\x1b[31m") == "ab c[31m"
    assert one_line("می\u200cخواهم") == "می\u200cخواهم"
    assert one_line("\ud800x\x00y") == "xy"


def test_a_caption_as_large_as_a_film_is_read_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"words " * (MOST_BYTES // 6 + 100))
    sidecar = read_caption(tmp_path / "a.png")
    assert len(sidecar.caption) <= MOST_BYTES and "larger than 1 MB" in sidecar.notes[0].message
    (tmp_path / "b.txt").write_text("one")
    (tmp_path / "b.caption").write_text("two")
    assert read_caption(tmp_path / "b.jpg").caption == "one"
    os.mkfifo(tmp_path / "c.txt")
    assert read_caption(tmp_path / "c.jpg").path is None


def test_a_crop_of_what_was_measured_needs_nothing_else(tmp_path: Path) -> None:
    photo("astronaut", (900, 600)).save(tmp_path / "a.jpg")
    found = survey(tmp_path)
    one = found.files[0].measured
    assert one is not None
    for choice in (AUTO, CropChoice("centre"), CropChoice("whole")):
        assert crop_for(one.content, (512, 512), choice).source == (900, 600)
