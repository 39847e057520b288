"""Opens an image of any size for a grid or a page. Pillow; no torch."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ti_tui.dataset.crop import load_upright
from ti_tui.dataset.picture_file import DatasetError


def small_picture(path: Path, side: int) -> Image.Image | None:
    """The image in RGB, with sides of at most `side` pixels; None if it is missing or damaged."""
    try:
        image = load_upright(path)
    except (DatasetError, OSError):
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image
