"""Loss masks: which part of an image is learned, from a file beside it, its transparency, or a face.

The trainer reads them with `load_mask`; `prepare` makes those of a run's images with `mask_pieces`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ti_tui.dataset.crop import cut_mask, fit, to_8_bits, turned, within
from ti_tui.dataset.crop_boxes import Crop, Face, PixelSize
from ti_tui.dataset.picture_file import (
    DatasetError,
    load_pixels,
    naming,
    open_picture,
    orientation,
    shown,
    upright_size,
)
from ti_tui.paths import is_there

ENDINGS = ("-mask", "-masklabel")
"""Follow the stem of the image's name: ours (kohya's tools use the same), and OneTrainer's."""
LEAST = 1 / 255
"""A mask whose mean is below this leaves nothing to learn."""

FEATHER = 0.35
"""Width of the soft edge of a face's mask, outside the head, as a share of the radius."""
FACE_PART = 0.5
"""Share of a face that has to be inside a crop, for the crop to get a mask around it."""

Mask = NDArray[np.float32]


def mask_file(picture: Path) -> Path | None:
    """The mask file of a picture: `0001-mask.png` for `0001.png`, white where it is learned; None if there is none."""
    for ending in ENDINGS:
        path = picture.with_name(f"{picture.stem}{ending}.png")
        if is_there(path) and path.is_file():
            return path
    return None


def load_mask(picture: Path, size: PixelSize) -> Mask | None:
    """The mask of a training image, [height, width] from 0 (not learned) to 1; None if it has none.

    It is cropped and resized like the image (see `crop.fit`). Raises DatasetError if it cannot be read, is not of the
    image's shape, or leaves nothing to learn.
    """
    with warnings.catch_warnings(action="ignore"):
        whole = open_mask(picture)
    if whole is None:
        return None
    piece = fit(whole, size)
    if _is_empty(piece):
        raise _empty(picture)
    pixels: Mask = np.asarray(piece, dtype=np.float32) / np.float32(255)
    return pixels


def open_mask(picture: Path) -> Image.Image | None:
    """The whole mask of an image, grey and upright; None if it has no mask file and no alpha channel.

    Raises DatasetError as `load_mask` does. Does not suppress Pillow's warnings: the caller does, because several
    threads may call this.
    """
    path = mask_file(picture)
    with naming(path or picture), open_picture(path or picture) as image:
        if path is None and not image.has_transparency_data:
            return None
        if path is not None:
            _raise_unless_same_shape(picture, upright_size(image))
        load_pixels(image)
        grey = to_8_bits(image).convert("L") if path is not None else image.convert("RGBA").getchannel("A")
        whole = turned(grey, orientation(image))
    # Only completely black masks are empty here: a small subject in a large image has a small mean.
    if not whole.getextrema()[1]:
        raise _empty(picture)
    return whole


def mask_error(picture: Path) -> DatasetError | None:
    """Why the mask file of an image cannot be used; None if it can, or if there is none."""
    if mask_file(picture) is not None:
        try:
            open_mask(picture)
        except DatasetError as error:
            return error
    return None


def mask_pieces(picture: Path, crops: Sequence[Crop], face: Face | None = None) -> list[Image.Image | None]:
    """A grey mask for each crop of an image, in its size; None for a crop in which nothing would be learned.

    face: draw the mask around this face, in pixels of the upright image; otherwise crop the image's own mask.
    Raises DatasetError as `load_mask` does, and where the image has none.
    """
    if face is not None:
        return [face_mask(face, crop) if _share_inside(face, crop) >= FACE_PART else None for crop in crops]
    whole = open_mask(picture)
    if whole is None:
        raise DatasetError(f"the mask of {shown(picture)} has changed since it was checked")
    found = [cut_mask(whole, crop) for crop in crops]
    return [None if _is_empty(mask) else mask for mask in found]


def face_mask(face: Face, crop: Crop) -> Image.Image:
    """The mask of a face in a crop: an ellipse around the head, with a soft edge.

    The ellipse fills the head's box (see `Face.whole_head`): hair, ears and chin are inside.
    """
    head, box = face.whole_head, crop.box
    (width, height), corner = within(crop.source, crop.size) if crop.padded else (crop.size, (0, 0))
    across, down = width / box.width, height / box.height
    x, y = (head.middle[0] - box.left) * across, (head.middle[1] - box.top) * down
    columns = (np.arange(width, dtype=np.float32) + np.float32(0.5 - x)) / np.float32(head.width / 2 * across)
    rows = (np.arange(height, dtype=np.float32) + np.float32(0.5 - y)) / np.float32(head.height / 2 * down)
    inside = ((1 + FEATHER - np.hypot(columns[None], rows[:, None])) / FEATHER).clip(0, 1)
    smooth = inside * inside * (3 - 2 * inside)
    mask = Image.new("L", crop.size, 0)
    mask.paste(Image.fromarray((smooth * 255).round().astype(np.uint8)), corner)
    return mask


def weights_of(mask: Mask, size: PixelSize, outside: float) -> Mask:
    """A mask as loss weights at `size` (width, height) in latents, [height, width] with a mean of 1.

    outside: weight outside the mask, relative to inside. With a mean of 1, images with small masks count as much as
    others (as in A1111's weighting by transparency).
    """
    small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX), dtype=np.float32)
    weights: Mask = np.float32(outside) + np.float32(1 - outside) * small
    return weights / np.float32(weights.mean())


def _share_inside(face: Face, crop: Crop) -> float:
    """Share of a face's box that is inside a crop, from 0 to 1."""
    width = min(face.right, crop.box.right) - max(face.left, crop.box.left)
    height = min(face.bottom, crop.box.bottom) - max(face.top, crop.box.top)
    return max(width, 0.0) * max(height, 0.0) / (face.width * face.height)


def _is_empty(mask: Image.Image) -> bool:
    return float(np.asarray(mask).mean()) < 255 * LEAST


def _empty(picture: Path) -> DatasetError:
    return DatasetError(
        f"the mask of {shown(picture)} leaves nothing to learn", remedy="White is learned, black is not."
    )


def _raise_unless_same_shape(picture: Path, mask: PixelSize) -> None:
    with open_picture(picture) as image:
        own = upright_size(image)
    if abs(own[0] * mask[1] - own[1] * mask[0]) > max(own) + max(mask):
        raise DatasetError(
            f"is {mask[0]}x{mask[1]}, its image {own[0]}x{own[1]}: a different shape",
            remedy="Make the mask in the shape of its image; its size does not matter.",
        )
