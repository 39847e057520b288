"""From any picture to the pixels that are trained: upright, sRGB, no transparency, the wanted size."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from ti_tui.dataset.scan import DatasetError, load_pixels, open_picture

Size = tuple[int, int]


def load_fitted(path: Path, size: Size) -> Image.Image:
    """The picture at `path` as RGB, cropped around its centre and resized to `size` (width, height) in pixels.

    Raises DatasetError, with the path in its place, if it cannot be decoded.
    """
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path) as image:
            load_pixels(image)
            return fit(upright_rgb(image), size)
    except DatasetError as error:
        raise DatasetError(f"{path.name} {error.message}", where=str(path.parent), remedy=error.remedy) from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn by EXIF, convert to sRGB by the embedded profile, put transparency on white."""
    # Broken metadata says nothing about which way is up; the picture itself may be fine.
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
    image = _to_srgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def fit(image: Image.Image, size: Size) -> Image.Image:
    """Crop the largest centred piece of the wanted shape and resize it once (Lanczos)."""
    if image.size == size:
        return image
    width, height = image.size
    scale = min(width / size[0], height / size[1])
    box_width, box_height = size[0] * scale, size[1] * scale
    left, top = (width - box_width) / 2, (height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def bucket_for(width: int, height: int, resolution: int, *, step: int = 64) -> Size:
    """The size to train a picture at that keeps its shape: multiples of `step`, area at most resolution squared.

    Of all such sizes, the nearest in shape; of equally near ones the largest.
    """
    sizes = buckets(resolution, step=step)
    wanted = width / height
    return min(sizes, key=lambda size: (abs(_log_ratio(size[0] / size[1], wanted)), -size[0] * size[1]))


def buckets(resolution: int, *, step: int = 64, widest: float = 2.5) -> list[Size]:
    """Every bucket of a resolution, no side more than `widest` times the other."""
    limit = resolution * resolution
    sizes = set()
    for width in range(step, limit // step + 1, step):
        height = limit // width // step * step
        if height and max(width, height) <= widest * min(width, height):
            sizes |= {(width, height), (height, width)}
    return sorted(sizes) or [(resolution, resolution)]


def _to_8_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits a pixel, its range brought to 0..255; Pillow would cut it off at 255."""
    pixels = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        top = 1.0 if pixels.max(initial=0) <= 1 else 255.0 if pixels.max() <= 255 else 65535.0
    else:
        top = 65535.0 if image.mode.startswith("I;16") or pixels.max(initial=0) > 255 else 255.0
    return Image.fromarray((pixels / top * 255).clip(0, 255).round().astype(np.uint8))


def _log_ratio(a: float, b: float) -> float:
    return math.log(a / b)


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in {"RGB", "RGBA", "CMYK", "L"}:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
        return converted if converted is not None else image
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A broken profile is common and harmless: the numbers are sRGB in nearly every such file.
        return image
