"""Lists the image files, captions and masks in a folder, for `scan` and `survey`."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ti_tui.dataset import caption_files
from ti_tui.dataset.picture_file import SUFFIXES, UNREADABLE, DatasetError, shown
from ti_tui.paths import leads_out
from ti_tui.run.problems import Problems

MOST_FOLDERS = 2_000
"""At most this many sub-folders are searched, in case a home folder or a whole disk was given by mistake."""

KOHYA_IMAGES = "img"
"""The folder of the training images in a project of kohya_ss."""
_REPEATS = re.compile(r"([0-9]{1,3})_(.+)")
"""kohya's folder names. More digits are a date or a year, not repeats."""
_NOT_PICTURES = re.compile(r"-(mask|masklabel|condlabel)$")


@dataclass(frozen=True)
class PictureFolder:
    """A folder with photographs, and how often an epoch uses each of them."""

    folder: Path
    repeats: int


def raise_unless_folder(folder: Path) -> None:
    """Raise DatasetError unless `folder` is a folder that can be read."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        raise DatasetError(f"there is no folder {shown(str(folder))}") from None
    except OSError as error:
        raise DatasetError(f"{shown(str(folder))} cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise DatasetError(f"{shown(str(folder))} is a file", remedy="Give the folder that holds the images.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DatasetError(f"no permission to read {shown(str(folder))}")


def places(folder: Path, *, subfolders: bool = False) -> Iterator[PictureFolder]:
    """`folder` itself and kohya's folders `<repeats>_<name>` in it. subfolders: also every other folder below it.

    Where there are none, those in its `img`: kohya_ss keeps `img`, `reg`, `log` and `model` in a project's folder.
    """
    own = _REPEATS.fullmatch(folder.name)
    repeats = _repeats_of(folder)
    yield PictureFolder(folder, repeats)
    if subfolders:
        yield from (PictureFolder(inner, _repeats_of(inner, repeats)) for inner in _below(folder))
    elif not own:
        inner = _kohya_folders(folder) or _kohya_folders(folder / KOHYA_IMAGES)
        yield from (PictureFolder(entry, _repeats_of(entry)) for entry in inner)


def _kohya_folders(folder: Path) -> list[Path]:
    """The folders `<repeats>_<name>` in `folder`, in natural order."""
    try:
        inner = [path for path in folder.iterdir() if _REPEATS.fullmatch(path.name) and stat.S_ISDIR(_mode(path))]
    except OSError:
        return []
    return sorted(inner, key=natural_key)


def pictures_in(folder: Path, problems: Problems, field: str, *, unreadable: bool = False) -> list[Path]:
    """Picture files directly in `folder`, in natural order. Those that are not regular files are added to `problems`.

    unreadable: also report photographs of kinds that cannot be read, such as a camera's raw files.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        problems.error(
            f"{shown(str(folder))} cannot be read: {error.strerror}", field=field, subject=folder, kind="unreadable"
        )
        return []
    found: list[Path] = []
    for path in sorted(entries, key=natural_key):
        if path.name.startswith("."):
            continue
        suffix = path.suffix.lower()
        if suffix in SUFFIXES and not _NOT_PICTURES.search(path.stem):
            # Only regular files are opened: reading a pipe or a device could block forever.
            mode = _mode(path)
            if leads_out(path, folder) and stat.S_ISREG(mode):
                remedy = "Copy the file into the folder."
                message = f"{shown(path)} is a link to a file outside the folder"
                problems.error(message, field=field, remedy=remedy, subject=path, kind="not-regular")
            elif stat.S_ISREG(mode):
                found.append(path)
            elif not stat.S_ISDIR(mode):
                remedy = "Remove it from the folder."
                problems.error(_why_not_regular(path), field=field, remedy=remedy, subject=path, kind="not-regular")
        elif unreadable and suffix in UNREADABLE and stat.S_ISREG(_mode(path)) and not _developed(path):
            problems.error(f"{shown(path)} {UNREADABLE[suffix]}", field=field, subject=path, kind="unreadable")
    return found


def captions_without_picture(folder: Path) -> list[Path]:
    """Caption files in `folder` without another file of the same stem, or of the name before their ending."""
    entries = _visible(folder)
    others = [path for path in entries if path.suffix.lower() not in caption_files.SUFFIXES]
    stems = {path.stem for path in others} | {path.name for path in others}
    return [path for path in entries if path.suffix.lower() in caption_files.SUFFIXES and path.stem not in stems]


def masks_not_used(folder: Path) -> list[tuple[Path, str]]:
    """Files in `folder` that are named like masks but are not the mask of any photograph; and why."""
    entries = [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]
    stems = {path.stem for path in entries}
    found = []
    for path in entries:
        stem = _NOT_PICTURES.sub("", path.stem)
        if stem not in stems:
            found.append((path, f"is named like a mask, but there is no photograph {shown(stem)}"))
        elif stem != path.stem and path.suffix != ".png":
            found.append((path, "is named like a mask, but masks are only read from .png"))
    return found


def _visible(folder: Path) -> list[Path]:
    """What is in `folder` and not hidden, in natural order; nothing if it cannot be read."""
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)
    except OSError:
        return []


def count_below(folder: Path) -> int:
    """Number of photographs in sub-folders that are only searched on request."""
    own = {place.folder for place in places(folder)}
    return sum(len(pictures_in(inner, Problems(), "")) for inner in _below(folder) if inner not in own)


def names_in(folder: Path, *, subfolders: bool = False) -> list[str]:
    """Names of all photographs in `folder`, as used elsewhere: their paths within it, with `/`."""
    found = [pictures_in(place.folder, Problems(), "") for place in places(folder, subfolders=subfolders)]
    return [path.relative_to(folder).as_posix() for paths in found for path in paths]


def folder_contents(folder: Path, below: int = 0) -> str:
    """What a folder without images contains, in a sentence or two. below: number of photographs in its sub-folders."""
    counts: dict[str, int] = {}
    for path in folder.iterdir():
        if stat.S_ISREG(_mode(path)):
            suffix = shown(path.suffix.lower()) or "(no ending)"
            counts[suffix] = counts.get(suffix, 0) + 1
    found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    said = [f"It contains {found}."] if found else []
    said += [f"Its sub-folders contain {below} {'photograph' if below == 1 else 'photographs'}."] if below else []
    return " ".join(said) or "It is empty."


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts 2.png before 10.png."""
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", path.name) if part]


def _repeats_of(folder: Path, otherwise: int = 1) -> int:
    named = _REPEATS.fullmatch(folder.name)
    return max(1, int(named[1])) if named else otherwise


def _mode(path: Path) -> int:
    """The file mode of `path`, links followed; 0 if it cannot be read."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _below(folder: Path) -> list[Path]:
    """Every folder below `folder` that is not hidden, in natural order. Links are not followed: they may be loops."""
    found: list[Path] = []
    for root, names, _ in os.walk(folder):
        inner = sorted((Path(root, name) for name in names if not name.startswith(".")), key=natural_key)
        names[:] = [path.name for path in inner]
        found += [path for path in inner if not path.is_symlink()]
        if len(found) >= MOST_FOLDERS:
            return found[:MOST_FOLDERS]
    return found


def _developed(raw: Path) -> bool:
    """Whether there is a readable photograph of the same name beside a raw file: cameras write both."""
    return any(raw.with_suffix(suffix).is_file() for end in SUFFIXES for suffix in (end, end.upper()))


def _why_not_regular(path: Path) -> str:
    name = repr(path.name)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"{name} is not a regular file: it is a link that leads to itself"
        if path.is_symlink():
            return f"{name} is not a regular file: it is a broken link"
        return f"{name} is not a regular file: {error.strerror}"
    for test, kind in ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return f"{name} is not a regular file: it is {kind}"
    return f"{name} is not a regular file: it is a device"
