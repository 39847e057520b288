"""A1111's image embeddings: the data is in a PNG text chunk, or hidden in strips at both sides.

The layout (AUTOMATIC1111/stable-diffusion-webui, modules/textual_inversion/image_embedding.py): the chunk
`sd-ti-embedding` holds base64 JSON. The strips hold zlib-compressed JSON, low half-bytes on the left and high ones on
the right, in the low 4 bits of the colours, xored with a linear congruential sequence.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ti_tui import bounded
from ti_tui.errors import UserError

CHUNK = "sd-ti-embedding"
LARGEST_PIXELS = 16_000_000
LARGEST_TEXT = 64_000_000
"""Bytes of the JSON text, unpacked."""
Bytes = NDArray[np.uint8]


class NoEmbeddingInside(UserError):
    """An image without an embedding in it."""


def read_data(path: Path) -> dict[str, Any]:
    """The embedding's dict in the image at `path`. Raises NoEmbeddingInside."""
    nothing = NoEmbeddingInside(f"{path} is an image without an embedding in it")
    try:
        with bounded.open_regular(path) as file, Image.open(file, formats=["PNG", "WEBP"]) as image:
            chunk = image.info.get(CHUNK)
            if chunk:
                return _table(bounded.parse_json(base64.b64decode(chunk)))
            if image.width * image.height > LARGEST_PIXELS:
                raise nothing
            pixels = np.asarray(image.convert("RGB"))
    except NoEmbeddingInside:
        raise
    except Exception:
        # Pillow raises several classes for damaged files, SyntaxError among them.
        raise nothing from None
    found = from_strips(pixels)
    if found is None:
        raise nothing
    return found


def from_strips(pixels: Bytes) -> dict[str, Any] | None:
    """The dict hidden in the side strips of an RGB image [h, w, 3], or None."""
    lit = np.all(pixels > 0, axis=2)
    rows, columns = np.flatnonzero(np.any(lit, axis=1)), np.flatnonzero(np.any(lit, axis=0))
    if not len(rows):
        return None
    low_bits = (pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F).astype(np.uint8)
    black = np.flatnonzero(low_bits.sum(axis=(0, 2)) == 0)
    if len(black) < 2:
        return None
    low, high = unmask(low_bits[:, : black[0]].copy()), unmask(low_bits[:, black[-1] + 1 :].copy())
    if low.shape != high.shape or low.size == 0:
        return None
    packed = ((high << 4) | low).astype(np.uint8).tobytes()
    try:
        return _table(bounded.parse_json(zlib.decompressobj().decompress(packed, LARGEST_TEXT)))
    except (zlib.error, ValueError):
        return None


def unmask(block: Bytes) -> Bytes:
    """Xor the low 4 bits with the sequence x -> (1664525 x + 1013904223) mod 2^32, taken mod 255. Its own inverse."""
    states = np.array([1013904223], dtype=np.uint64)
    factor, term = 1664525, 1013904223
    while states.size < block.size:
        # The states so far, as many steps on: x -> factor x + term, which is itself applied twice each time.
        states = np.concatenate([states, (states * np.uint64(factor) + np.uint64(term)) & np.uint64(2**32 - 1)])
        factor, term = factor * factor % 2**32, (factor * term + term) % 2**32
    sequence = (states[: block.size] % 255).astype(np.uint8) & 0x0F
    unmasked: Bytes = np.bitwise_xor(block & 0x0F, sequence.reshape(block.shape)).astype(np.uint8)
    return unmasked


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return value
