"""Images inside the page: small JPEGs as data URIs, all together within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ti_tui.results.small_picture import small_picture

BUDGET_BYTES = 2_200_000
"""Of all images together, encoded as they are in the page."""
SIZES = ((320, 84), (256, 80), (192, 76), (128, 70), (96, 55))
"""Longer side in pixels and JPEG quality, tried in turn until all images fit."""
SMALL = 128
"""Up to this longer side, in pixels, the JPEG keeps colours at full resolution."""


@dataclass(frozen=True)
class Thumbnail:
    """uri: for an <img>. width, height: of the image, in pixels."""

    uri: str
    width: int
    height: int


def thumbnails(paths: Iterable[Path], *, budget_bytes: int = BUDGET_BYTES) -> Mapping[Path, Thumbnail]:
    """Thumbnails of the readable `paths`, as large as the budget allows."""
    side = SIZES[0][0]
    images = {path: image for path in dict.fromkeys(paths) if (image := small_picture(path, side)) is not None}
    made: dict[Path, Thumbnail] = {}
    for side, quality in SIZES:
        made = {path: _encoded(image, side, quality) for path, image in images.items()}
        if sum(len(one.uri) for one in made.values()) <= budget_bytes:
            return made
    left, kept = budget_bytes, {}
    for path, one in made.items():
        left -= len(one.uri)
        if left >= 0:
            kept[path] = one
    return kept


def _encoded(image: Image.Image, side: int, quality: int) -> Thumbnail:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if max(image.size) <= SMALL:
        # Small images are mostly edges, which reduced colour resolution would blur.
        image.save(content, "JPEG", quality=min(95, quality + 8), subsampling=0, optimize=True)
    else:
        image.save(content, "JPEG", quality=quality, optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", *image.size)
