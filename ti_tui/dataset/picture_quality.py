"""Measures a picture: sharpness, brightness, faces, edges. The dataset step shows it and crops by it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ti_tui.dataset.crop import Profiled, on_white, to_8_bits, to_srgb, turned
from ti_tui.dataset.crop_boxes import Face, PictureContent, PixelSize, Profile
from ti_tui.dataset.duplicates import Fingerprint, fingerprint
from ti_tui.dataset.faces import LONGEST
from ti_tui.dataset.parallel import BYTES_A_PIXEL, Room
from ti_tui.dataset.picture_file import load_pixels, open_picture, orientation

SHARPNESS_SIDE = 512
TILES = 6
"""The sharpest parts of a picture are found in a grid of this many tiles per side."""
EDGES_SIDE, STRIPS = 128, 64
"""Edges are measured in a small copy: at full size, grain and grass would outweigh the subject."""

GREY_LEVELS, GREY_PART = 12, 0.995
"""A picture is grey if the channels differ by at most this much in this share of its pixels: JPEG adds some colour."""

PictureForm = Literal["transparent", "CMYK", "16-bit"]
FaceSearch = Callable[[Image.Image, PixelSize], tuple[Face, ...] | None]
"""Finds faces in an upright RGB picture of at most 640 pixels; the size is that of the whole picture."""


@dataclass(frozen=True)
class PictureFormat:
    """What a picture's file holds.

    size:   upright, in pixels. format: Pillow's name (`JPEG`). frames: more than 1 for animations and pages.
    turned: EXIF says that it has to be turned. forms: what has to be converted. profile: its colour profile.
    """

    size: PixelSize
    format: str
    frames: int
    turned: bool
    forms: tuple[PictureForm, ...]
    profile: Profiled


@dataclass(frozen=True)
class Measured(PictureFormat):
    """The measurements of a picture.

    sharpness:  variance of the Laplacian of the grey picture, its longer side at most SHARPNESS_SIDE pixels
                (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000). detail: the same of its
                sharpest parts, which a portrait before a soft background has as well.
    brightness: mean of the grey levels, 0..255. contrast: the largest standard deviation of a colour channel.
    faces:      in pixels of the upright picture; None if it was not searched.
    edges:      mean edge strength of strips across and down.
    """

    sharpness: float
    detail: float
    brightness: float
    contrast: float
    grey: bool
    fingerprint: Fingerprint
    faces: tuple[Face, ...] | None
    edges: tuple[Profile, Profile]

    @property
    def content(self) -> PictureContent:
        """What the crop depends on."""
        return PictureContent(self.size, self.faces, self.edges)


def measure(path: Path, *, find_faces: FaceSearch | None = None, room: Room | None = None) -> Measured:
    """Decode a picture once, as small as possible, and measure it. Raises DatasetError with the reason in words.

    find_faces: None skips the search for faces. room: memory that is shared with other threads.
    Truncated files are detected too: even a JPEG that is decoded at an eighth of its size is read to its end.
    """
    image, found = _decode(path, room or Room())
    small = _at_most(image, LONGEST)
    grey = _at_most(image, SHARPNESS_SIDE).convert("L")
    pixels = np.asarray(small)
    sharp, detail = _sharpness_of(grey)
    faces = find_faces(small, found.size) if find_faces is not None else None
    if faces:
        scale = found.size[0] / small.width
        faces = tuple(
            Face(face.left * scale, face.top * scale, face.width * scale, face.height * scale, face.score)
            for face in faces
        )
    return Measured(
        **vars(found),
        sharpness=sharp,
        detail=detail,
        brightness=float(np.asarray(grey).mean()),
        contrast=float(pixels.std(axis=(0, 1)).max()),
        grey=_is_grey(pixels),
        fingerprint=fingerprint(grey),
        faces=faces,
        edges=_edges(_at_most(grey, EDGES_SIDE)),
    )


def small_copy(path: Path) -> Image.Image:
    """A small copy of a picture, upright and in sRGB, its longer side LONGEST or a little more.

    Raises DatasetError with the reason in words.
    """
    with warnings.catch_warnings(action="ignore"):
        return _decode(path, Room())[0]


def _decode(path: Path, room: Room) -> tuple[Image.Image, PictureFormat]:
    """A picture, upright, in RGB and reduced in size; and what its file holds."""
    with open_picture(path) as image:
        size, kind, frames, deep = image.size, image.format or "", _frames(image), _is_deep(image)
        longest = max(size)
        wanted = (max(1, size[0] * LONGEST // longest), max(1, size[1] * LONGEST // longest))
        # Pillow can decode a JPEG directly at a half, a quarter or an eighth of its size.
        image.draft("RGB", wanted)
        with room.taken(image.width * image.height * BYTES_A_PIXEL):
            load_pixels(image)
            turn = orientation(image)
            forms: list[PictureForm] = ["transparent"] if image.has_transparency_data and not _opaque(image) else []
            forms += ["CMYK"] if image.mode == "CMYK" else []
            forms += ["16-bit"] if deep else []
            base = _reduced(to_8_bits(image), wanted)
            # Frees the pixels of the whole picture before the room is given back.
            image.close()
    base, profile = to_srgb(base)
    base = turned(on_white(base), turn)
    upright = size[::-1] if turn in (5, 6, 7, 8) else size
    return base, PictureFormat(upright, kind, frames, turn != 1, tuple(forms), profile)


def _frames(image: Image.Image) -> int:
    """Frames of an animation or pages of a document. The additional pictures in a camera's MPO do not count."""
    if image.format == "MPO":
        return 1
    with contextlib.suppress(Exception):
        if getattr(image, "is_animated", False):
            return int(getattr(image, "n_frames", 1))
    return 1


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits; Pillow's mode says so for grey pictures only."""
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _opaque(image: Image.Image) -> bool:
    """Whether there is an alpha channel that hides nothing, as many programs write it."""
    if image.mode in ("RGBA", "LA", "PA"):
        least, _ = image.getchannel("A").getextrema()
        return least == 255
    return False


def _reduced(image: Image.Image, least: PixelSize) -> Image.Image:
    """`image` reduced by a whole factor, but not below `least`; palettes and bits are converted to colours first."""
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")
    factor = min(image.width // least[0], image.height // least[1])
    return image.reduce(factor) if factor > 1 else image.copy()


def _at_most(image: Image.Image, longest: int) -> Image.Image:
    """`image` with its longer side at most `longest` pixels; never enlarged."""
    if max(image.size) <= longest:
        return image
    scale = longest / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _laplacian(grey: Image.Image) -> npt.NDArray[np.float32]:
    pixels = np.asarray(grey, dtype=np.float32)
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return around - 4 * pixels[1:-1, 1:-1]


def _sharpness_of(grey: Image.Image) -> tuple[float, float]:
    """Variance of the Laplacian of the whole picture, and of the sharpest tenth of its tiles."""
    if min(grey.size) < 3:
        return 0.0, 0.0
    laplacian = _laplacian(grey)
    if min(laplacian.shape) < TILES:
        return float(laplacian.var()), float(laplacian.var())
    tiles = [float(tile.var()) for rows in np.array_split(laplacian, TILES) for tile in np.array_split(rows, TILES, 1)]
    return float(laplacian.var()), float(np.percentile(tiles, 90))


def _is_grey(pixels: npt.NDArray[np.uint8]) -> bool:
    spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    return bool((spread <= GREY_LEVELS).mean() >= GREY_PART)


def _edges(grey: Image.Image) -> tuple[Profile, Profile]:
    """Mean edge strength in equally wide strips, across and down."""
    pixels = np.asarray(grey, dtype=np.float32)
    strength = np.zeros_like(pixels)
    strength[:, 1:] += np.abs(np.diff(pixels, axis=1))
    strength[1:] += np.abs(np.diff(pixels, axis=0))
    return _strips(strength.mean(axis=0)), _strips(strength.mean(axis=1))


def _strips(means: npt.NDArray[np.float32]) -> Profile:
    sums = np.concatenate([[0.0], np.cumsum(means, dtype=np.float64)])
    places = np.linspace(0, len(means), STRIPS + 1)
    strips = np.diff(np.interp(places, np.arange(len(sums)), sums)) * STRIPS / len(means)
    return tuple(round(float(value), 3) for value in strips)
