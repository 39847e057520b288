"""Opens picture files safely: only regular files, the size checked before decoding, errors in plain words."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from ti_tui.errors import UserError

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".jp2"}
    | {".heic", ".heif", ".hif"}
)
MAX_PIXELS = 120_000_000
"""Larger pictures are refused before decoding, which could take gigabytes."""

UNREADABLE = {
    ".jxl": "is JPEG XL, which cannot be read; save it as PNG or JPEG",
    ".svg": "is SVG, a vector drawing; save it as PNG",
    ".psd": "is a Photoshop file; save it as PNG",
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"),
        "is a camera's raw file; save it as PNG or JPEG",
    ),
}
"""Endings of pictures that cannot be read, and the message for each."""

_ORIENTATION = 0x0112
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_VIDEO_BRANDS = frozenset({b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"avc1", b"M4V "})


class DatasetError(UserError):
    """A picture, or the folder of pictures, cannot be used."""


class OutOfReach(DatasetError):
    """A picture could not be read this time, because of the disk, permissions or memory, not because of its content."""


def shown(path: Path | str) -> str:
    """A file's name for display: control characters and bytes that are not text are escaped."""
    name = path if isinstance(path, str) else path.name
    return name if name.isprintable() else repr(name)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the name of the file `path` into a DatasetError of the block."""
    try:
        yield
    except DatasetError as error:
        message = f"{shown(path)} {error.message}"
        raise DatasetError(message, where=str(path.parent), remedy=error.remedy) from None


def open_picture(path: Path) -> Image.Image:
    """Open a picture and read its header. Raises DatasetError with the reason in words."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device could block forever.
            raise DatasetError("is not a regular file")
        if status.st_size == 0:
            raise DatasetError("is empty (0 bytes)")
        if _is_heif(_start_of(path)):
            _read_heif()
        image = Image.open(path)
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise DatasetError(_why_no_picture(path)) from None
    except Image.DecompressionBombError as error:
        # Pillow's message has only the number of pixels.
        pixels = re.search(r"\d+", str(error))
        size = f"has {int(pixels[0]) / 1e6:.0f} megapixels" if pixels else "has too many pixels"
        raise DatasetError(f"{size}, over the limit of {MAX_PIXELS / 1e6:.0f}") from None
    except OSError as error:
        # Errors of Pillow's own have no errno.
        kind = DatasetError if error.errno is None else OutOfReach
        raise kind(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:
        raise DatasetError(f"is damaged ({error})") from None
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height / 1e6
        raise DatasetError(
            f"is {image.width}x{image.height} ({megapixels:.0f} megapixels), over the limit of {MAX_PIXELS / 1e6:.0f}"
        )
    return image


def load_pixels(image: Image.Image) -> None:
    """Decode `image`. Raises DatasetError if it is truncated or damaged."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image.load()
    except OSError as error:
        if error.errno is not None:
            raise OutOfReach(f"cannot be read: {error.strerror}") from None
        what = "truncated" if "truncated" in str(error) else "damaged"
        raise DatasetError(f"is {what}; copy it again") from None
    except MemoryError:
        raise OutOfReach("is too large for this machine's memory") from None
    except Exception as error:
        raise DatasetError(f"is damaged ({error}); copy it again") from None


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 if there is none, or it cannot be read."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return turned if isinstance(turned, int) and 1 <= turned <= 8 else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the EXIF rotation."""
    return (image.height, image.width) if orientation(image) in (5, 6, 7, 8) else (image.width, image.height)


def reads_heif() -> bool:
    """Whether the extra `heic` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def _read_heif() -> None:
    """Enable HEIC in Pillow, if the extra is installed."""
    if reads_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _is_heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def _why_no_picture(path: Path) -> str:
    start = _start_of(path)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if _is_heif(start):
        return "is HEIC, but damaged" if reads_heif() else "is HEIC; install ti_tui[heic] or save it as PNG"
    if start.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return UNREADABLE[".jxl"]
    if start[4:8] == b"ftyp" and start[8:12] in _VIDEO_BRANDS:
        return "is a video"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return UNREADABLE[".svg"]
    if text.startswith((b"<!doctype", b"<html", b"<head")):
        return "is not an image (it starts like HTML)"
    for magic, kind in ((b"PK\x03\x04", "a ZIP archive"), (b"%PDF", "a PDF"), (b"{", "JSON"), (b"\x1f\x8b", "gzip")):
        if start.startswith(magic):
            return f"is not an image (it starts like {kind})"
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM")):
        return "is damaged; copy it again"
    if not start.strip(b"\0"):
        return "contains only zeros; copy it again"
    return "is not an image, or of a kind that cannot be read"
