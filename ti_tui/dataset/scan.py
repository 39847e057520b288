"""Finding the training pictures and their captions in a folder, plain or in kohya's layout."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from ti_tui.dataset.sidecars import read_caption
from ti_tui.errors import UserError
from ti_tui.run.problems import Problems

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".heic", ".heif"})
MAX_PIXELS = 120_000_000
"""Pictures above this are refused from their header: decoding one may take gigabytes."""

_REPEATS = re.compile(r"([0-9]{1,3})_(.+)")
"""kohya's folder names. More digits are a date or a year, not repeats."""
_NOT_PICTURES = re.compile(r"-(mask|masklabel|condlabel)$")


class DatasetError(UserError):
    """The folder of pictures cannot be used at all."""


@dataclass(frozen=True)
class Picture:
    """A training picture: its file, its size upright in pixels, its caption ("" for none), repeats per epoch."""

    path: Path
    width: int
    height: int
    caption: str = ""
    repeats: int = 1


@dataclass(frozen=True)
class Scan:
    """What a folder holds: usable pictures in natural order, and what was found wrong."""

    folder: Path
    pictures: tuple[Picture, ...]
    problems: Problems

    @property
    def count(self) -> int:
        """Pictures of one epoch, repeats counted."""
        return sum(picture.repeats for picture in self.pictures)


def scan(
    folder: Path,
    *,
    field: str = "dataset.images",
    decode: bool = True,
    each: Callable[[Path, Picture | None, str], bool] | None = None,
) -> Scan:
    """Find the pictures in `folder`, or in its kohya sub-folders `<repeats>_<name>`.

    decode: also decode each picture, the only way to find a truncated one.
    each:   told of every picture as it has been looked at: path, picture (None: it cannot be used), what is wrong
            with it. Looking goes on only while it returns True.
    Every picture that cannot be used is an error problem that names it. Raises DatasetError if the folder
    itself cannot be read.
    """
    problems = Problems()
    pictures: list[Picture] = []
    _raise_unless_folder(folder)
    for place, repeats in _folders(folder):
        for path in _files(place, problems, field):
            before = len(problems)
            picture = _look_at(path, repeats, problems, field, decode=decode)
            if picture is not None:
                pictures.append(picture)
            if each is not None and not each(path, picture, _said(problems, before, path)):
                return Scan(folder, tuple(pictures), problems)
    if not pictures and not problems.errors:
        problems.error(f"there are no pictures in {folder}", field=field, remedy=_found_instead(folder))
    _check_shared_stems(pictures, problems, field)
    return Scan(folder, tuple(pictures), problems)


def choose(
    found: Scan, *, leave_out: Collection[str] = (), captions: Mapping[str, str], repeats: int | None = None
) -> Scan:
    """`found` without the pictures named in `leave_out`, with other captions and repeats where they are given.

    Pictures are named by their path in the scanned folder, with `/`.
    """
    chosen = [
        replace(
            picture,
            caption=captions.get(name, picture.caption),
            repeats=picture.repeats if repeats is None else repeats,
        )
        for picture in found.pictures
        if (name := name_in(found.folder, picture.path)) not in leave_out
    ]
    return replace(found, pictures=tuple(chosen))


def name_in(folder: Path, path: Path) -> str:
    """The path of a picture within its folder, with `/` on every system."""
    return path.relative_to(folder).as_posix()


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts 2.png before 10.png."""
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", path.name) if part]


def open_picture(path: Path) -> Image.Image:
    """Open a picture and read its header. Raises DatasetError with the reason in words."""
    try:
        if path.stat().st_size == 0:
            raise DatasetError("is empty (0 bytes)")
        if path.suffix.lower() in {".heic", ".heif"}:
            _read_heif()
        image = Image.open(path)
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise DatasetError(_why_no_picture(path)) from None
    except Image.DecompressionBombError:
        raise DatasetError(f"is over the limit of {MAX_PIXELS // 1_000_000} megapixels") from None
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:
        raise DatasetError(f"is damaged ({error})") from None
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height / 1e6
        raise DatasetError(
            f"is {image.width}x{image.height} ({megapixels:.0f} megapixels), over the limit of {MAX_PIXELS / 1e6:.0f}"
        )
    return image


@cache
def _read_heif() -> None:
    """Teach Pillow HEIC, if the extra is installed."""
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()


def load_pixels(image: Image.Image) -> None:
    """Decode `image`. Raises DatasetError if it is truncated or damaged."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image.load()
    except OSError as error:
        what = "truncated" if "truncated" in str(error) else "damaged"
        raise DatasetError(f"is {what}; copy it again") from None
    except Exception as error:
        raise DatasetError(f"is damaged ({error}); copy it again") from None


def _raise_unless_folder(folder: Path) -> None:
    if not folder.exists():
        raise DatasetError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file", remedy="Give the folder that holds the pictures.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DatasetError(f"no permission to read {folder}")


def _folders(folder: Path) -> Iterator[tuple[Path, int]]:
    own = _REPEATS.fullmatch(folder.name)
    yield folder, max(1, int(own[1])) if own else 1
    if own:
        return
    for entry in sorted((p for p in folder.iterdir() if p.is_dir()), key=natural_key):
        if inner := _REPEATS.fullmatch(entry.name):
            yield entry, max(1, int(inner[1]))


def _files(folder: Path, problems: Problems, field: str) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        problems.error(f"{folder} cannot be read: {error.strerror}", field=field)
        return []
    found = []
    for path in entries:
        if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES or _NOT_PICTURES.search(path.stem):
            continue
        # Only regular files are opened: a pipe or a device would block for ever.
        if path.is_file():
            found.append(path)
        elif not path.is_dir():
            problems.error(f"{path.name!r} is not a regular file", field=field, remedy="Remove it from the folder.")
    return sorted(found, key=natural_key)


def _said(problems: Problems, before: int, path: Path) -> str:
    """What was found wrong with `path` since there were `before` problems, without its name."""
    new = [problem.message for problem in problems.found[before:]]
    return "; ".join(message.removeprefix(path.name).lstrip(": ") for message in new)


def _look_at(path: Path, repeats: int, problems: Problems, field: str, *, decode: bool) -> Picture | None:
    name = path.name if path.name.isprintable() else repr(path.name)
    try:
        # Pillow prints warnings about odd metadata; what matters is whether the pixels can be read.
        with warnings.catch_warnings(action="ignore"), open_picture(path) as image:
            width, height = upright_size(image)
            if decode:
                load_pixels(image)
    except DatasetError as error:
        problems.error(f"{name} {error.message}", field=field, remedy="Mend it or take it out of the folder.")
        return None
    caption, note = read_caption(path)
    if note:
        problems.warning(f"{name}: {note}", field=field)
    return Picture(path, width, height, caption, repeats)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the EXIF rotation."""
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:
        turned = False
    return (image.height, image.width) if turned else (image.width, image.height)


def _check_shared_stems(pictures: list[Picture], problems: Problems, field: str) -> None:
    seen: dict[Path, Path] = {}
    for picture in pictures:
        stem = picture.path.with_suffix("")
        if stem in seen:
            problems.error(
                f"{seen[stem].name} and {picture.path.name} would share one caption file",
                field=field,
                remedy="Rename one of them.",
            )
        seen[stem] = picture.path


def _why_no_picture(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(32)
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "is HEIC; install ti_tui[heic] or save it as PNG"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is not a picture (it starts like HTML)"
    return "is not a picture, or of a kind that cannot be read"


def _found_instead(folder: Path) -> str:
    counts: dict[str, int] = {}
    for path in folder.iterdir():
        if path.is_file():
            counts[path.suffix.lower() or "(no ending)"] = counts.get(path.suffix.lower() or "(no ending)", 0) + 1
    found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    return f"It holds {found}." if found else "It is empty."
