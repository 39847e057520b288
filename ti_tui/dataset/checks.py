"""What can be said about a picture from its pixels. The dataset step shows it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from ti_tui.dataset.scan import DatasetError, load_pixels, open_picture

SHARPNESS_SIDE = 512


def sharpness(path: Path) -> float | None:
    """Variance of the Laplacian of the grey picture, its longer side at most 512 pixels; None if it cannot be read.

    The measure is Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000).
    """
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path) as image:
            # A JPEG is decoded at the reduced size at once, which is several times quicker.
            image.draft("L", (SHARPNESS_SIDE, SHARPNESS_SIDE))
            load_pixels(image)
            grey = image.convert("L")
    except DatasetError:
        return None
    except (OSError, ValueError):
        return None
    return laplacian_variance(grey)


def laplacian_variance(grey: Image.Image) -> float:
    """Variance of the four-neighbour Laplacian of a grey picture, brought to at most 512 pixels first."""
    grey = grey.copy()
    grey.thumbnail((SHARPNESS_SIDE, SHARPNESS_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=np.float32)
    if min(pixels.shape) < 3:
        return 0.0
    middle = pixels[1:-1, 1:-1]
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return float((around - 4 * middle).var())
