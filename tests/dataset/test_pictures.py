"""Pictures: found, refused with a reason, prepared; captions beside them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ti_tui.dataset.caption_files import decode, read_caption, write_caption
from ti_tui.dataset.crop import bucket_for, buckets, fit, load_upright
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.dataset.prepare import prepare
from ti_tui.dataset.scan import scan


def messages(folder: Path) -> str:
    return "\n".join(str(problem) for problem in scan(folder).problems)


def test_real_photographs_are_found_in_natural_order_with_their_captions(photos: Path) -> None:
    found = scan(photos)
    assert [picture.path.name for picture in found.pictures] == [
        "astronaut.jpg",
        "chelsea.jpg",
        "coffee.jpg",
        "rocket.jpg",
    ]
    assert [picture.caption for picture in found.pictures] == ["", "", "a cup on a table", ""]
    assert not found.problems


def test_numbers_in_names_are_sorted_as_numbers(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "1.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    assert [picture.path.name for picture in scan(tmp_path).pictures] == ["1.png", "2.png", "10.png"]


def test_kohyas_folders_give_repeats(tmp_path: Path) -> None:
    for name in ("3_zkz woman", "1_zkz far", "notes"):
        (tmp_path / "img" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "img" / name / "a.png")
    found = scan(tmp_path / "img")
    assert {picture.path.parent.name: picture.repeats for picture in found.pictures} == {
        "3_zkz woman": 3,
        "1_zkz far": 1,
    }
    assert found.count == 4
    assert scan(tmp_path / "img" / "3_zkz woman").count == 3


def test_every_bad_file_is_named_with_its_reason_and_the_good_ones_stay(tmp_path: Path, photos: Path) -> None:
    good = (photos / "coffee.jpg").read_bytes()
    (tmp_path / "good.jpg").write_bytes(good)
    (tmp_path / "cut.jpg").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_text("<!DOCTYPE html><html>")
    (tmp_path / "noise.png").write_bytes(bytes(range(256)))
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    os.mkfifo(tmp_path / "pipe.jpg")
    Image.new("1", (15000, 15000)).save(tmp_path / "huge.png")
    found = scan(tmp_path)
    assert [picture.path.name for picture in found.pictures] == ["good.jpg"]
    text = messages(tmp_path)
    for says in (
        "cut.jpg is truncated",
        "empty.png is empty (0 bytes)",
        "page.jpg is not an image (it starts like HTML)",
        "noise.png is not an image",
        "phone.heic is HEIC",
        "'pipe.jpg' is not a regular file",
        "huge.png has 225 megapixels, over the limit of 120",
    ):
        assert says in text


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert "there are no images" in messages(tmp_path) and "1 .mp4" in messages(tmp_path)
    with pytest.raises(DatasetError, match="there is no folder"):
        scan(tmp_path / "none")
    with pytest.raises(DatasetError, match="is a file"):
        scan(tmp_path / "a.mp4")


def test_two_pictures_that_would_share_a_caption_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    assert "would share one caption file" in messages(tmp_path)


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        ("snow, café".encode(), "snow, café", ""),
        ("\ufeffsnow".encode(), "snow", "byte-order mark"),
        ("\ufeffsnow".encode("utf-16-le")[2:], "snow", "UTF-16 without a byte-order mark"),
        ("snow, café".encode("cp1252"), "snow, café", "Windows-1252"),
        ("snow, café".encode("utf-16"), "snow, café", "UTF-16"),
        (b"one\r\ntwo\r\n", "one", "2 lines"),
        (b"  \n", "", "is empty"),
        (b"a\tb   c\n", "a b c", ""),
    ],
)
def test_captions_in_every_encoding_are_read(tmp_path: Path, content: bytes, text: str, note: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    found = read_caption(tmp_path / "a.png")
    assert found.caption == text
    assert any(note in one.message for one in found.notes) if note else not found.notes


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_a_caption(content: bytes) -> None:
    text, _ = decode(content)
    assert isinstance(text, str)


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_a_written_caption_is_one_clean_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    picture = tmp_path_factory.mktemp("c") / "a.png"
    write_caption(picture, text)
    content = picture.with_suffix(".txt").read_bytes() if picture.with_suffix(".txt").exists() else None
    if content is not None:
        assert content and b"\n" not in content and not content.startswith(b"\xef\xbb\xbf")


def test_prepared_pictures_are_upright_square_rgb_and_carry_no_place(tmp_path: Path, photos: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    half = Image.fromarray(
        np.repeat(np.array([[[255, 0, 0]], [[0, 0, 255]]], dtype=np.uint8), 100, axis=0).repeat(200, axis=1)
    )
    half.save(source / "1.jpg", exif=exif, quality=98)
    Image.new("RGBA", (300, 200), (255, 0, 0, 0)).save(source / "2.png")
    Image.new("CMYK", (200, 200), (0, 255, 255, 0)).save(source / "3.jpg")
    Image.fromarray(np.full((100, 100), 40000, dtype=np.uint16)).save(source / "4.png")
    made = prepare(source, tmp_path / "out", name="zkz", resolution=64)
    assert made.images == 4
    pictures = [Image.open(tmp_path / "out" / "1_zkz" / f"{n:04d}.png") for n in (1, 2, 3, 4)]
    assert all(picture.size == (64, 64) and picture.mode == "RGB" and not picture.getexif() for picture in pictures)
    left, right = pictures[0].getpixel((4, 32)), pictures[0].getpixel((60, 32))
    assert left[2] > 200 > 60 > left[0] and right[0] > 200 > 60 > right[2]
    assert pictures[1].getpixel((32, 32)) == (255, 255, 255)
    assert pictures[3].getpixel((32, 32)) == (156, 156, 156), "40000 of 65535"


def test_preparing_leaves_the_source_as_it_was_and_brings_captions(tmp_path: Path, photos: Path) -> None:
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in photos.iterdir()}
    made = prepare(photos, tmp_path / "out", name="zkz", resolution=64)
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in photos.iterdir()} == before
    assert made.captions == 1 and (tmp_path / "out" / "1_zkz" / "0003.txt").read_text() == "a cup on a table"


def test_a_picture_that_is_ready_is_copied_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "in" / "a.png", compress_level=1)
    prepare(tmp_path / "in", tmp_path / "out", name="zkz", resolution=64)
    assert (tmp_path / "out" / "1_zkz" / "0001.png").read_bytes() == (tmp_path / "in" / "a.png").read_bytes()


def test_output_into_the_source_or_over_other_files_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DatasetError, match="inside the folder of photographs"):
        prepare(photos, photos / "out", name="zkz", resolution=64)
    (tmp_path / "x").touch()
    with pytest.raises(DatasetError, match="already contains files"):
        prepare(photos, tmp_path, name="zkz", resolution=64)


def test_enlarging_much_is_refused_unless_forced_and_then_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "in" / "a.png")
    with pytest.raises(DatasetError, match="can be used") as refused:
        prepare(tmp_path / "in", tmp_path / "out", name="zkz", resolution=512)
    assert "a.png is 100x80: it would be enlarged 6.4 times to 512" in str(refused.value)
    made = prepare(tmp_path / "in", tmp_path / "out", PictureChoices(forced=["a.png"]), name="zkz", resolution=512)
    assert "a.png is 100x80: enlarged 6.4 times" in str(made.problems.found[0])


@given(st.integers(64, 6000), st.integers(64, 6000), st.sampled_from([256, 512, 768, 1024]))
def test_a_bucket_is_in_steps_within_the_area_and_of_the_nearest_shape(
    width: int, height: int, resolution: int
) -> None:
    bucket = bucket_for(width, height, resolution)
    assert bucket[0] % 64 == bucket[1] % 64 == 0
    assert bucket[0] * bucket[1] <= resolution * resolution
    wanted = np.log(width / height)
    assert (
        abs(np.log(bucket[0] / bucket[1]) - wanted)
        <= min(abs(np.log(w / h) - wanted) for w, h in buckets(resolution)) + 1e-9
    )


@given(st.integers(8, 300), st.integers(8, 300))
def test_fitting_gives_exactly_the_wanted_size(width: int, height: int) -> None:
    assert fit(Image.new("RGB", (width, height)), (64, 48)).size == (64, 48)


def test_a_broken_colour_profile_is_ignored(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png", icc_profile=b"broken")
    assert load_upright(tmp_path / "a.png").getpixel((0, 0)) == (10, 20, 30)


def test_repeats_of_kohyas_folders_are_kept(tmp_path: Path) -> None:
    for colour, folder in enumerate(("10_anna", "1_bob", "2023_paris")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        Image.new("RGB", (64, 64), (colour, 0, 0)).save(tmp_path / "in" / folder / "a.png")
    made = prepare(tmp_path / "in", tmp_path / "out", name="zkz", resolution=64)
    assert sorted(path.name for path in made.folders) == ["10_zkz", "1_zkz"], "a year is no number of repeats"
    assert scan(tmp_path / "out").count == 11


def test_a_run_cannot_be_put_into_the_photographs_through_a_link(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(DatasetError, match="inside the folder of photographs"):
        prepare(photos, tmp_path / "link" / "out", name="zkz", resolution=64)
