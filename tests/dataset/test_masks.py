"""Loss masks: found, read as the picture is, turned into weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ti_tui.dataset.masks import load_mask, mask_file, weights_of
from ti_tui.dataset.scan import DatasetError, scan


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
        (Image.new("L", (64, 64), 255), "0001-mask.png is 64x64, its picture 96x64"),
        (Image.new("L", (96, 64), 0), "the mask of 0001.png leaves nothing to learn"),
        (b"", "0001-mask.png is empty"),
        (b"<html>", "0001-mask.png is not a picture"),
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
