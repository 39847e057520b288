"""Loss masks: which part of a picture is learned. A file beside the picture, or the picture's own transparency."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ti_tui.dataset.crop import Size, fit
from ti_tui.dataset.scan import DatasetError, load_pixels, open_picture, upright_size

ENDINGS = ("-mask", "-masklabel")
"""After the picture's stem: ours (kohya's tools write the same), and OneTrainer's."""
LEAST = 1 / 255
"""A mask whose mean is below this leaves nothing to learn."""

Mask = NDArray[np.float32]


def mask_file(picture: Path) -> Path | None:
    """The mask beside a picture: `0001-mask.png` of `0001.png`, white where it is learned; None if there is none."""
    for ending in ENDINGS:
        path = picture.with_name(f"{picture.stem}{ending}.png")
        if path.is_file():
            return path
    return None


def load_mask(picture: Path, size: Size) -> Mask | None:
    """The mask of a picture as it is trained, [height, width] from 0 (not learned) to 1; None if it has none.

    It is cut and scaled as the picture is (see `crop.fit`). Raises DatasetError if it cannot be read, is not of the
    picture's shape, or leaves nothing to learn.
    """
    path = mask_file(picture)
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path or picture) as image:
            if path is None and not image.has_transparency_data:
                return None
            if path is not None:
                _raise_unless_same_shape(picture, upright_size(image))
            load_pixels(image)
            grey = image.convert("L") if path is not None else image.convert("RGBA").getchannel("A")
            turned = _upright(image, grey)
    except DatasetError as error:
        raise DatasetError(f"{(path or picture).name} {error.message}", remedy=error.remedy) from None
    pixels: Mask = np.asarray(fit(turned, size), dtype=np.float32) / np.float32(255)
    if pixels.mean() < LEAST:
        raise DatasetError(
            f"the mask of {picture.name} leaves nothing to learn", remedy="White is learned, black is not."
        )
    return pixels


def weights_of(mask: Mask, size: Size, outside: float) -> Mask:
    """A mask as weights of the loss at `size` (width, height) in latents, [height, width] of mean 1.

    outside: weight of what the mask leaves out, relative to the rest. The mean of 1 makes pictures with small masks
    count as much as the others (as A1111 weighs by transparency).
    """
    small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX), dtype=np.float32)
    weights: Mask = np.float32(outside) + np.float32(1 - outside) * small
    return weights / np.float32(weights.mean())


def _raise_unless_same_shape(picture: Path, mask: Size) -> None:
    with open_picture(picture) as image:
        own = upright_size(image)
    if abs(own[0] * mask[1] - own[1] * mask[0]) > max(own) + max(mask):
        raise DatasetError(
            f"is {mask[0]}x{mask[1]}, its picture {own[0]}x{own[1]}",
            remedy="Make the mask from the picture as it is: the same shape, any size.",
        )


def _upright(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`mask` turned as the EXIF of `image` says."""
    from PIL import ImageOps

    turned = mask.copy()
    turned.getexif()[0x0112] = image.getexif().get(0x0112, 1)
    return ImageOps.exif_transpose(turned)
