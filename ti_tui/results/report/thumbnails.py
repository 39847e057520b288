"""Pictures inside the page: small JPEGs as data URIs, all together within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ti_tui.dataset.crop import load_upright
from ti_tui.dataset.scan import DatasetError

BUDGET_BYTES = 2_200_000
"""Of all pictures together as they stand in the page."""
SIZES = ((320, 84), (256, 80), (192, 76), (128, 70), (96, 55))
"""Longest side in pixels and JPEG quality, tried in turn until all fit."""
SMALL = 128
"""Pixels of a picture's longer side up to which its colours are kept at every pixel."""


@dataclass(frozen=True)
class Thumbnail:
    """uri: for an <img>. width, height: of the picture, in pixels."""

    uri: str
    width: int
    height: int


def thumbnails(paths: Iterable[Path], *, budget_bytes: int = BUDGET_BYTES) -> Mapping[Path, Thumbnail]:
    """Those of `paths` that can be read, as large as the budget allows."""
    side = SIZES[0][0]
    images = {path: image for path in dict.fromkeys(paths) if (image := _opened(path, side)) is not None}
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


def _opened(path: Path, side: int) -> Image.Image | None:
    """The picture in RGB, no larger than `side`; None for one that is gone or damaged."""
    try:
        image = load_upright(path)
    except (DatasetError, OSError):
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _encoded(image: Image.Image, side: int, quality: int) -> Thumbnail:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if max(image.size) <= SMALL:
        # Edges are most of such a picture.
        image.save(content, "JPEG", quality=min(95, quality + 8), subsampling=0, optimize=True)
    else:
        image.save(content, "JPEG", quality=quality, optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", *image.size)
