"""Turns any picture into a training image: upright, sRGB, without transparency, in the wanted size."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from ti_tui.dataset.crop_boxes import Box, Crop, PixelSize, largest_box
from ti_tui.dataset.picture_file import DatasetError, load_pixels, naming, open_picture, orientation

Profiled = Literal["", "sRGB", "converted", "broken"]
"""A picture's colour profile: none, sRGB, another one that was converted, a broken one."""

WHITE = (255, 255, 255)
EVEN = 6.0
"""A border with at most this standard deviation (levels) counts as one colour, which the bands then get too."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_PROFILE = frozenset({"RGB", "RGBA", "CMYK", "L"})
_ROWS = 256
_REACH = 3
"""Radius of the Lanczos filter, in pixels of the result."""


def load_fitted(path: Path, size: PixelSize) -> Image.Image:
    """The picture at `path` as RGB, cropped around its centre and resized to `size` (width, height) in pixels.

    Raises DatasetError, which names the file, if it cannot be decoded.
    """
    with naming(path), warnings.catch_warnings(action="ignore"):
        image = _load_upright(path)
        return _cut(image, largest_box(image.size, size), size)


def load_crops(path: Path, crops: Sequence[Crop]) -> list[Image.Image]:
    """The `crops` of the picture at `path`, as RGB in their sizes.

    Raises DatasetError, which names the file, if it cannot be decoded or has another size than before. Does not
    suppress Pillow's warnings: the caller does, because several threads may call this.
    """
    with naming(path):
        image = _load_upright(path)
        if any(image.size != crop.source for crop in crops):
            raise DatasetError("has changed since it was checked", remedy="Check the folder again.")
        return [_padded(_rgb(image), crop.size) if crop.padded else _cut(image, crop.box, crop.size) for crop in crops]


def cut_mask(mask: Image.Image, crop: Crop) -> Image.Image:
    """Crop an upright grey mask like its picture.

    The mask has the picture's shape and any size. Bands of a padded picture are black.
    """
    if crop.padded:
        inner, corner = within(crop.source, crop.size)
        canvas = Image.new("L", crop.size, 0)
        canvas.paste(mask.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0), corner)
        return canvas
    return _resized(mask, box_in(mask.size, crop), crop.size)


def cut_copy(copy: Image.Image, crop: Crop, size: PixelSize) -> Image.Image:
    """A crop of a small upright RGB copy of a picture, at `size`, for display."""
    return _padded(copy, size) if crop.padded else _resized(copy, box_in(copy.size, crop), size)


def box_in(size: PixelSize, crop: Crop) -> Box:
    """The box of a crop in a copy of the picture with another size."""
    across, down = size[0] / crop.source[0], size[1] / crop.source[1]
    box = crop.box
    return Box(box.left * across, box.top * down, box.width * across, box.height * down).inside(size)


def load_upright(path: Path) -> Image.Image:
    """The whole image, upright, in RGB. Raises DatasetError with the reason in words."""
    with warnings.catch_warnings(action="ignore"):
        image = _load_upright(path)
        try:
            return _rgb(image)
        except Exception as error:
            raise DatasetError(f"is damaged ({error}); copy it again") from None


def load_reduced(path: Path, long_side: int) -> Image.Image:
    """`load_upright`, reduced to a long side of at most `long_side` pixels, for models that see small images."""
    image = load_upright(path)
    image.thumbnail((long_side, long_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def fit(image: Image.Image, size: PixelSize) -> Image.Image:
    """Crop the largest centred box in the shape of `size` and resize it once (Lanczos)."""
    return _resized(image, largest_box(image.size, size), size)


def turned(image: Image.Image, turn: int) -> Image.Image:
    """`image` turned by the EXIF orientation `turn`; itself if there is nothing to turn."""
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def to_srgb(image: Image.Image) -> tuple[Image.Image, Profiled]:
    """`image` in sRGB by its embedded profile, and the kind of that profile. A broken profile is ignored."""
    content = image.info.get("icc_profile")
    if not content or image.mode not in _WITH_PROFILE:
        return image, ""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if image.mode != "CMYK" and "sRGB" in ImageCms.getProfileDescription(source):
            return image, "sRGB"
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
        return (converted, "converted") if converted is not None else (image, "broken")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # Broken profiles are common and harmless: nearly all such files are sRGB.
        return image, "broken"


def on_white(image: Image.Image) -> Image.Image:
    """`image` as RGB, transparency replaced by white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def to_8_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits per pixel, scaled to 0..255; Pillow would clip it at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image)
    highest = float(pixels.max(initial=0))
    if image.mode == "F":
        top = 1.0 if highest <= 1 else 255.0 if highest <= 255 else 65535.0
    else:
        top = 65535.0 if image.mode.startswith("I;16") or highest > 255 else 255.0
    grey = np.empty(pixels.shape, dtype=np.uint8)
    # A few rows at a time: the whole as floating point would take eight times the memory.
    for row in range(0, len(pixels), _ROWS):
        rows = pixels[row : row + _ROWS].astype(np.float64)
        grey[row : row + _ROWS] = (rows / top * 255).clip(0, 255).round()
    return Image.fromarray(grey)


def size_for(source: PixelSize, resolution: int, *, buckets: bool = False, step: int = 64) -> PixelSize:
    """Size of the image that a picture of `source` pixels becomes: a square, or with buckets the nearest shape."""
    return bucket_for(*source, resolution, step=step) if buckets else (resolution, resolution)


def bucket_for(width: int, height: int, resolution: int, *, step: int = 64) -> PixelSize:
    """The bucket for a picture: sides that are multiples of `step`, area at most resolution squared.

    Of all buckets, the nearest in shape; of equally near ones the largest.
    """

    def rank(size: PixelSize) -> tuple[float, int]:
        return abs(math.log(size[0] / size[1] / (width / height))), -size[0] * size[1]

    return min(buckets(resolution, step=step), key=rank)


def buckets(resolution: int, *, step: int = 64, widest: float = 2.5) -> list[PixelSize]:
    """Every bucket of a resolution, with sides that differ by at most a factor of `widest`."""
    limit = resolution * resolution
    sizes = set()
    for width in range(step, limit // step + 1, step):
        height = limit // width // step * step
        if height and max(width, height) <= widest * min(width, height):
            sizes |= {(width, height), (height, width)}
    return sorted(sizes) or [(resolution, resolution)]


def _load_upright(path: Path) -> Image.Image:
    with open_picture(path) as image:
        load_pixels(image)
        # A PNG may have its orientation after its pixels.
        return turned(image, orientation(image))


def _cut(image: Image.Image, box: Box, size: PixelSize) -> Image.Image:
    """Crop an upright picture of any mode to RGB of `size`."""
    if image.mode != "RGB" or image.info.get("icc_profile") or image.has_transparency_data:
        image, box = _piece(image, box, size)
    return _resized(_rgb(image), box, size)


def _piece(image: Image.Image, box: Box, size: PixelSize) -> tuple[Image.Image, Box]:
    """The needed part of a picture that has to be converted, and the box within it.

    Converting colours takes many times as long as cropping. The margin that Lanczos needs is kept.
    """
    margin = _REACH * max(box.width / size[0], box.height / size[1], 1.0) + 1
    left, top = max(math.floor(box.left - margin), 0), max(math.floor(box.top - margin), 0)
    right, bottom = min(math.ceil(box.right + margin), image.width), min(math.ceil(box.bottom + margin), image.height)
    if (left, top, right, bottom) == (0, 0, *image.size):
        return image, box
    return image.crop((left, top, right, bottom)), Box(box.left - left, box.top - top, box.width, box.height)


def _rgb(image: Image.Image) -> Image.Image:
    return on_white(to_srgb(to_8_bits(image))[0])


def _resized(image: Image.Image, box: Box, size: PixelSize) -> Image.Image:
    if image.size == size and box == Box(0.0, 0.0, *size):
        return image
    corners = (box.left, box.top, min(box.right, image.width), min(box.bottom, image.height))
    return image.resize(size, Image.Resampling.LANCZOS, box=corners, reducing_gap=3.0)


def _padded(image: Image.Image, size: PixelSize) -> Image.Image:
    """The whole picture within `size`, with bands in the colour of its border if that is even, otherwise white."""
    inner, corner = within(image.size, size)
    image = image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(image)
    tall = inner[1] >= size[1]
    border = np.concatenate([pixels[:, 0], pixels[:, -1]] if tall else [pixels[0], pixels[-1]])
    even = bool(border.std(axis=0).max() <= EVEN)
    colour = tuple(int(channel) for channel in np.median(border, axis=0)) if even else WHITE
    canvas = Image.new("RGB", size, colour)
    canvas.paste(image, corner)
    return canvas


def within(source: PixelSize, size: PixelSize) -> tuple[PixelSize, tuple[int, int]]:
    """(size, upper left corner) of the whole picture when it is padded to `size`."""
    scale = min(size[0] / source[0], size[1] / source[1])
    inner = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
    return inner, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
