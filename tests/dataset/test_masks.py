"""Loss masks: found, read as the picture is, turned into weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ti_tui.dataset.crop import cut_mask, load_crops
from ti_tui.dataset.crop_boxes import Box, Crop, CropChoice, CropMode, Face, PictureContent, crops_for
from ti_tui.dataset.masks import FEATHER, load_mask, mask_error, mask_file, mask_pieces, weights_of
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.dataset.scan import scan


def left_half(width: int, height: int) -> Image.Image:
    """White on the left, black on the right."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    return mask


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "0001.png"
    Image.effect_noise((96, 64), 60).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("ending", ["-mask", "-masklabel"])
def test_a_mask_beside_a_picture_is_found_and_is_no_picture_itself(picture: Path, ending: str) -> None:
    mask = picture.with_name(f"0001{ending}.png")
    left_half(96, 64).save(mask)
    assert mask_file(picture) == mask
    assert [one.path for one in scan(picture.parent).pictures] == [picture]


def test_a_mask_is_cut_and_scaled_as_its_picture(picture: Path) -> None:
    left_half(48, 32).save(picture.with_name("0001-mask.png"))
    mask = load_mask(picture, (32, 32))
    assert mask is not None and mask.shape == (32, 32)
    # The square from the middle of 96x64 still has the border in its middle.
    assert mask[:, :14].min() > 0.95 and mask[:, 18:].max() < 0.05


def test_transparency_is_a_mask_too_and_a_file_goes_before_it(picture: Path) -> None:
    image = Image.open(picture).convert("RGBA")
    image.putalpha(left_half(96, 64))
    image.save(picture)
    mask = load_mask(picture, (96, 64))
    assert mask is not None and mask[:, :40].min() > 0.95 and mask[:, 56:].max() < 0.05
    Image.new("L", (96, 64), 255).save(picture.with_name("0001-mask.png"))
    mask = load_mask(picture, (96, 64))
    assert mask is not None and mask.min() == 1


def test_a_picture_that_the_camera_turned_has_its_transparency_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.new("RGBA", (96, 64), "red")
    image.putalpha(left_half(96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    mask = load_mask(path, (64, 96))
    assert mask is not None and mask[:44].min() > 0.95 and mask[52:].max() < 0.05


def test_without_a_mask_there_is_none(picture: Path) -> None:
    assert load_mask(picture, (32, 32)) is None


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Image.new("L", (64, 64), 255), "0001-mask.png is 64x64, its image 96x64"),
        (Image.new("L", (96, 64), 0), "the mask of 0001.png leaves nothing to learn"),
        (b"", "0001-mask.png is empty"),
        (b"<html>", "0001-mask.png is not an image"),
    ],
    ids=["shape", "black", "empty", "html"],
)
def test_a_mask_that_cannot_be_used_is_told(picture: Path, mask: Image.Image | bytes, said: str) -> None:
    path = picture.with_name("0001-mask.png")
    if isinstance(mask, bytes):
        path.write_bytes(mask)
    else:
        mask.save(path)
    with pytest.raises(DatasetError, match=said):
        load_mask(picture, (64, 64))


def test_a_small_mask_in_a_large_picture_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (1200, 800)).save(path)
    mask = Image.new("L", (1200, 800))
    mask.paste(255, (100, 100, 140, 140))
    mask.save(tmp_path / "a-mask.png")
    assert mask_error(path) is None
    (piece,) = mask_pieces(path, [Crop(Box(80, 80, 100, 100), (50, 50), (1200, 800), "manual")])
    assert piece is not None and piece.getbbox() == pytest.approx((10, 10, 30, 30), abs=3)
    assert mask_pieces(path, [Crop(Box(600, 0, 600, 600), (50, 50), (1200, 800), "manual")]) == [None]


def test_a_mask_of_16_bits_keeps_its_greys(picture: Path) -> None:
    grey = np.full((64, 96), 0.25 * 65535, dtype=np.uint16)
    grey[0, 0] = 65535
    Image.fromarray(grey).save(picture.with_name("0001-mask.png"))
    mask = load_mask(picture, (96, 64))
    assert mask is not None and mask[32, 48] == pytest.approx(0.25, abs=0.01)


@given(
    source=st.tuples(st.integers(60, 400), st.integers(60, 400)),
    size=st.tuples(st.integers(16, 96), st.integers(16, 96)),
    mode=st.sampled_from(["centre", "whole", "split", "auto", "manual"]),
    scale=st.sampled_from([1, 2]),
    data=st.data(),
)
def test_a_mask_is_cut_with_the_box_of_its_picture(
    source: tuple[int, int], size: tuple[int, int], mode: CropMode, scale: int, data: st.DataObject
) -> None:
    """What is white in the mask is where it is red in the picture, in every mode, also from a larger mask."""
    left, top = data.draw(st.integers(0, source[0] - 30)), data.draw(st.integers(0, source[1] - 30))
    where = (left, top, left + 30, top + 30)
    image = Image.new("RGB", source)
    image.paste((255, 0, 0), where)
    mask = Image.new("L", (source[0] * scale, source[1] * scale))
    mask.paste(255, tuple(scale * corner for corner in where))
    box = Box(left - 20, top - 20, 60, 60) if mode == "manual" else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        image.save(path)
        mask.save(Path(folder) / "a-mask.png")
        crops = crops_for(PictureContent(source), size, CropChoice(mode, box))
        pictures, pieces = load_crops(path, crops), mask_pieces(path, crops)
    for picture, piece, crop in zip(pictures, pieces, crops, strict=True):
        red = np.asarray(picture).astype(int)
        red[(red > 200).all(axis=2)] = 0  # a white band beside a padded picture
        expected = red[:, :, 0]
        if piece is None:
            assert expected.mean() < 255 * 0.02
        else:
            assert piece.size == size and piece.mode == "L"
            # Reducing first, where it pays, blurs both a little differently.
            assert np.abs(np.asarray(piece).astype(int) - expected).mean() < 6, crop


@given(
    middle=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
    tall=st.floats(0.1, 0.25),
    padded=st.booleans(),
    size=st.sampled_from([(64, 64), (96, 64), (256, 256)]),
)
def test_the_mask_of_a_face_holds_the_face_and_fades_outside_the_head(
    middle: tuple[float, float], tall: float, padded: bool, size: tuple[int, int]
) -> None:
    source = (1000, 800)
    height = tall * 800
    width = 0.75 * height
    face = Face(middle[0] * 1000 - width / 2, middle[1] * 800 - height / 2, width, height)
    choice = CropChoice("whole") if padded else CropChoice("manual", Box(100, 0, 800, 800))
    (crop,) = crops_for(PictureContent(source, (face,)), size, choice)
    (mask,) = mask_pieces(Path("not opened"), [crop], face)
    assert mask is not None and mask.size == size
    # Where face and head come to lie is found by cutting drawings of them the same way.
    head, pixels = face.whole_head, np.asarray(mask)
    around = Box(
        head.left - FEATHER * head.width / 2, head.top - FEATHER * head.height / 2,
        head.width * (1 + FEATHER), head.height * (1 + FEATHER),
    )  # fmt: skip
    inside = np.asarray(cut_mask(_drawn(Box(face.left, face.top, width, height), source), crop)) == 255
    outside = np.asarray(cut_mask(_drawn(around, source), crop)) == 0
    assert pixels[inside].min() >= 250 and pixels[outside].max(initial=0) <= 5
    assert (pixels > 0).sum() > (pixels == 255).sum(), "soft-edged"


def _drawn(box: Box, source: tuple[int, int]) -> Image.Image:
    """A white box on black."""
    image = Image.new("L", source)
    image.paste(255, tuple(map(round, (box.left, box.top, box.right, box.bottom))))
    return image


def test_a_piece_that_shows_less_than_half_of_the_face_gets_no_mask() -> None:
    face = Face(400, 100, 100, 100)
    shows = Crop(Box(0, 0, 460, 460), (64, 64), (1000, 460), "split")
    cuts = Crop(Box(460, 0, 460, 460), (64, 64), (1000, 460), "split")
    there, not_there = mask_pieces(Path("not opened"), [shows, cuts], face)
    assert there is not None and not_there is None


@given(seed=st.integers(0, 1000), outside=st.floats(0, 1))
def test_weights_have_a_mean_of_one_and_keep_their_proportion(seed: int, outside: float) -> None:
    chance = np.random.default_rng(seed)
    mask = (chance.random((16, 24)) > 0.5).astype(np.float32).repeat(4, 0).repeat(4, 1)
    weights = weights_of(mask, (24, 16), outside)
    assert weights.shape == (16, 24)
    assert weights.mean() == pytest.approx(1, abs=1e-4)
    small = mask[::4, ::4]
    if 0 < small.mean() < 1:
        assert weights[small == 0].max() == pytest.approx(outside * weights[small == 1].min(), rel=1e-3, abs=1e-4)
