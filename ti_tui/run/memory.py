"""Predicted memory of a training step, from measured coefficients of the full-size families."""

from __future__ import annotations

from dataclasses import dataclass

from ti_tui.run.recipe import Family

MIB = 1024**2


@dataclass(frozen=True)
class Coefficients:
    """MiB, in half precision, at the family's own resolution: what one image adds, and what is always there.

    Measured on the real modules with saved-tensor accounting through forward and backward, fused attention.
    """

    resolution: int
    widths: tuple[int, ...]
    unet: int
    text: int
    image: int
    image_recomputed: int
    decode: int


COEFFICIENTS: dict[Family, Coefficients] = {
    "sd1": Coefficients(512, (768,), 1639, 235, 748, 235, 544),
    "sd2": Coefficients(512, (1024,), 1652, 650, 790, 260, 544),
    "sdxl": Coefficients(1024, (768, 1280), 4897, 1560, 5177, 589, 709),
}

CONTEXT_MIB = 500
"""CUDA context, workspaces of cuBLAS and cuDNN, slack of the allocator: assumed, not measured."""


def predict_bytes(
    family: Family,
    widths: tuple[int, ...],
    resolution: int,
    batch_size: int,
    *,
    half: bool,
    recompute: bool,
    cuda: bool,
) -> int | None:
    """Peak bytes of training and previews, or None for a model that is not of the family's full size."""
    coefficients = COEFFICIENTS[family]
    if widths != coefficients.widths:
        return None
    area = (resolution / coefficients.resolution) ** 2
    image = coefficients.image_recomputed if recompute else coefficients.image
    weights = coefficients.unet + coefficients.text
    peak = weights + max(image * area * batch_size, coefficients.decode * area)
    return int(peak * (1 if half else 2) * MIB) + (CONTEXT_MIB * MIB if cuda else 0)
