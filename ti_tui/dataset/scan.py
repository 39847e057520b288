"""Finds the training images and their captions in a folder, plain or in kohya's layout."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from ti_tui.dataset.caption_files import CaptionFile, read_caption
from ti_tui.dataset.listing import folder_contents, pictures_in, places, raise_unless_folder
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError, load_pixels, open_picture, shown, upright_size
from ti_tui.run.problems import Problems


@dataclass(frozen=True)
class TrainingImage:
    """A training image: its file, its upright size in pixels, its caption ("" for none), its repeats."""

    path: Path
    width: int
    height: int
    caption: str = ""
    repeats: int = 1


@dataclass(frozen=True)
class Scan:
    """The usable images of a folder, in natural order, and the problems."""

    folder: Path
    pictures: tuple[TrainingImage, ...]
    problems: Problems

    @property
    def count(self) -> int:
        """Images in an epoch, repeats counted."""
        return sum(picture.repeats for picture in self.pictures)

    @property
    def captions(self) -> int:
        """Number of images with a caption."""
        return sum(bool(picture.caption) for picture in self.pictures)


def scan(folder: Path, *, field: str = "dataset.images", decode: bool = True) -> Scan:
    """Find the images in `folder`, or in its kohya sub-folders `<repeats>_<name>`.

    decode: also decode each image, the only way to find a truncated one.
    Every image that cannot be used gives an error that names it. Raises DatasetError if the folder itself cannot be
    read.
    """
    problems = Problems()
    pictures: list[TrainingImage] = []
    raise_unless_folder(folder)
    for place in places(folder):
        for path in pictures_in(place.folder, problems, field):
            picture = _read(path, place.repeats, problems, field, decode=decode)
            if picture is not None:
                pictures.append(picture)
    if not pictures and not problems.errors:
        problems.error(f"there are no images in {shown(str(folder))}", field=field, remedy=folder_contents(folder))
    report_shared_stems(pictures, problems, field)
    return Scan(folder, tuple(pictures), problems)


def choose(found: Scan, choices: PictureChoices) -> Scan:
    """`found` without the images that are left out, with the chosen captions and repeats."""
    captions, repeats, left_out = choices.whole_captions(), choices.repeats, set(choices.left_out)
    chosen = [
        replace(
            picture,
            caption=captions.get(name, picture.caption),
            repeats=picture.repeats if repeats is None else repeats,
        )
        for picture in found.pictures
        if (name := name_in(found.folder, picture.path)) not in left_out
    ]
    return replace(found, pictures=tuple(chosen))


def name_in(folder: Path, path: Path) -> str:
    """The path of an image within its folder, with `/` on every system."""
    return path.relative_to(folder).as_posix()


def _read(path: Path, repeats: int, problems: Problems, field: str, *, decode: bool) -> TrainingImage | None:
    try:
        # Pillow prints warnings about odd metadata; what matters is whether the pixels can be read.
        with warnings.catch_warnings(action="ignore"), open_picture(path) as image:
            width, height = upright_size(image)
            if decode:
                load_pixels(image)
    except DatasetError as error:
        report_unreadable(path, error, problems, field)
        return None
    caption_file = read_caption(path)
    report_caption_notes(path, caption_file, problems, field)
    return TrainingImage(path, width, height, caption_file.caption, repeats)


def report_unreadable(path: Path, error: DatasetError, problems: Problems, field: str) -> None:
    """Report that the image at `path` cannot be used, and what to do."""
    # Some messages contain a remedy already.
    remedy = error.remedy or ("" if ";" in error.message else "Repair it or remove it from the folder.")
    problems.error(f"{shown(path)} {error.message}", field=field, remedy=remedy, subject=path, kind="unreadable")


def report_caption_notes(path: Path, file: CaptionFile, problems: Problems, field: str) -> None:
    """Report the notes about the caption file of the image at `path`."""
    for note in file.notes:
        text = f"{shown(path)}: {note.message}"
        problems.add([replace(note, message=text, field=field, subject=path, kind="caption")])


def report_shared_stems(pictures: list[TrainingImage], problems: Problems, field: str) -> None:
    """Report images whose names differ only in their ending: they would share a caption file."""
    seen: dict[Path, Path] = {}
    for picture in pictures:
        stem = picture.path.with_suffix("")
        if stem in seen:
            problems.error(
                f"{shown(seen[stem])} and {shown(picture.path)} would share one caption file",
                field=field,
                remedy="Rename one of them.",
                subject=picture.path,
                kind="shared-stem",
            )
        seen[stem] = picture.path
