"""Copying a folder of photographs into a run: upright, cropped, resized, numbered, with their captions."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ti_tui import atomic
from ti_tui.dataset.crop import bucket_for, load_fitted
from ti_tui.dataset.scan import DatasetError, Picture, choose, scan
from ti_tui.dataset.sidecars import write_caption
from ti_tui.paths import user_path
from ti_tui.run.problems import Problems


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: number of pictures, of captions, the folders, and what it has to say."""

    images: int
    captions: int
    folders: tuple[Path, ...]
    problems: Problems


def prepare(
    source: Path,
    destination: Path,
    *,
    name: str,
    resolution: int,
    buckets: bool = False,
    step: int = 64,
    repeats: int | None = None,
    leave_out: Collection[str] = (),
    captions: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Write the pictures of `source` as 0001.png, 0002.png, ... at the size they are trained at.

    They go to `destination`/<repeats>_<name>, kohya's layout.

    repeats:   of every picture; None takes those of the source's own folders.
    leave_out: pictures that stay behind, by their path in the source (`a.jpg`, `10_zkz/b.jpg`).
    captions:  captions by such a path, in place of the sidecar's; "" is none.

    The source is only read. A PNG that already has the size is copied byte for byte. Pictures that cannot
    be read are left out and named in the problems. Raises DatasetError if none can be used, or if the
    destination lies in the source.
    """
    source, destination = user_path(source).resolve(), user_path(destination).resolve()
    if destination == source or source in destination.parents:
        raise DatasetError(f"{destination} lies inside the folder of photographs", remedy="Choose another run folder.")
    if destination.is_dir() and any(destination.iterdir()):
        raise DatasetError(f"{destination} already holds files", remedy="Choose another run folder, or empty it.")
    found = scan(source)
    if not found.pictures:
        lines = [f"{problem.message}. {problem.remedy}".strip() for problem in found.problems.errors]
        raise DatasetError(f"no picture in {source} can be used", remedy="\n".join(lines[:2]))
    chosen = choose(found, leave_out=leave_out, captions=captions or {}, repeats=repeats)
    if not chosen.pictures:
        raise DatasetError(f"all {len(found.pictures)} pictures of {source} are left out")
    written = 0
    folders: dict[Path, None] = {}
    for number, picture in enumerate(chosen.pictures, start=1):
        size = _size_for(picture, resolution, buckets=buckets, step=step)
        target = destination / f"{picture.repeats}_{name}" / f"{number:04d}.png"
        folders.setdefault(target.parent)
        write_fitted(picture.path, target, size)
        if picture.caption:
            write_caption(target, picture.caption)
            written += 1
        if min(picture.width / size[0], picture.height / size[1]) < 1:
            enlarged = max(size[0] / picture.width, size[1] / picture.height)
            found.problems.warning(
                f"{picture.path.name} is {picture.width}x{picture.height}: enlarged {enlarged:.2g} times",
                field="dataset.images",
            )
        if progress:
            progress(number, len(chosen.pictures))
    return Prepared(len(chosen.pictures), written, tuple(folders), found.problems)


def write_fitted(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write one picture as an RGB PNG of `size`, atomically and without its metadata (places, cameras)."""
    if _is_ready(source, size):
        atomic.write_with(target, lambda temporary: _copy(source, temporary))
        return
    content = io.BytesIO()
    load_fitted(source, size).save(content, "PNG", compress_level=4)
    atomic.write_bytes(target, content.getvalue())


def _size_for(picture: Picture, resolution: int, *, buckets: bool, step: int) -> tuple[int, int]:
    return bucket_for(picture.width, picture.height, resolution, step=step) if buckets else (resolution, resolution)


def _is_ready(source: Path, size: tuple[int, int]) -> bool:
    from ti_tui.dataset.scan import open_picture

    with open_picture(source) as image:
        plain = not image.info and not image.getexif()
        return image.format == "PNG" and image.mode == "RGB" and image.size == size and plain


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    atomic.sync(target)
