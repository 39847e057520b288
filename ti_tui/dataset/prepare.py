"""Copying a folder of photographs into a run: upright, cropped, resized, numbered, with their captions.

A second time only what changed is made again; dataset.json in the run folder (see `manifest`) is the memory of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ti_tui import atomic
from ti_tui.dataset.caption_files import write_caption
from ti_tui.dataset.crop import load_crops
from ti_tui.dataset.crop_boxes import Crop, CropMode, PixelSize
from ti_tui.dataset.faces import FaceFinder
from ti_tui.dataset.faces import installed as faces_installed
from ti_tui.dataset.manifest import Manifest, MaskOrigin, PreparedFile, read_manifest
from ti_tui.dataset.mask_planning import FIELD as MASKS_FIELD
from ti_tui.dataset.mask_planning import no_finder
from ti_tui.dataset.masks import mask_file, mask_pieces
from ti_tui.dataset.parallel import Room, in_order
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError, open_picture, shown
from ti_tui.dataset.prepare_plan import (
    FIELD,
    Obsolete,
    PlannedPicture,
    PreparePlan,
    caption_beside,
    plan_preparation,
)
from ti_tui.dataset.survey import Faces, Survey, SurveyCache, survey
from ti_tui.paths import is_there, user_path
from ti_tui.run.problems import Problems

BYTES_A_PIXEL = 8
"""Memory that decoding, turning and converting take for each pixel, about."""
DISK_TIMES, KEEP_FREE_BYTES = 3, 10_000_000
COMPRESSION = 4


@dataclass(frozen=True)
class PreparedPicture:
    """A source picture and what was made of it.

    name: its path in the source folder. files and crops: one, or several of a picture that was split.
    again: whether it, or a mask of it, was made now; else all was there already, as it should be.
    mask: what its masks were made from; None if it has none that were made here.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    crops: tuple[Crop, ...]
    again: bool
    mask: MaskOrigin | None = None


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: number of pictures, of captions, the folders, and what it has to say.

    pictures: those of the source that are trained. left_out: names of those that were left out on purpose.
    masks: pictures beside which a mask lies; face_masks: those that were drawn around a face.
    """

    images: int
    captions: int
    folders: tuple[Path, ...]
    problems: Problems
    pictures: tuple[PreparedPicture, ...] = ()
    left_out: tuple[str, ...] = ()
    masks: int = 0
    face_masks: int = 0


def prepare(
    source: Path,
    destination: Path,
    choices: PictureChoices | None = None,
    *,
    name: str,
    resolution: int,
    buckets: bool = False,
    step: int = 64,
    record: Path | None = None,
    finder: FaceFinder | None = None,
    memory: SurveyCache | None = None,
    each: Callable[[SurveyedFile], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Write the pictures of `source` as 0001.png, 0002.png, ... at the size they are trained at.

    They go to `destination`/<repeats>_<name>, kohya's layout.

    choices: what a person chose; None takes what was chosen the last time. A mask is a file 0001-mask.png, white
             where its picture is learned, cut as that is; of one that cannot be used the picture is made without it.
    record:  the run folder, in which dataset.json is kept. With it, `destination` may hold what was made before:
             numbers stay with their sources, only what changed is made again, files of others are never touched.
    finder, memory, each: as `survey` takes them. progress: pictures made so far, and how many will be.

    The source is only read. A PNG that already has the size is copied byte for byte. Pictures that cannot be read
    are left out and named in the problems, also where that shows only while they are cropped. Raises DatasetError if
    none can be used, if the destination lies in the source, or if masks are wanted from faces and nothing finds them;
    CannotWrite if a file cannot be written: those that were made until then stay whole, and the next time goes on with
    the rest.
    """
    source, destination = _resolved(source), _resolved(destination)
    run = _resolved(record) if record is not None else None
    if destination == source or source in destination.parents:
        raise DatasetError(f"{destination} lies inside the folder of photographs", remedy="Choose another run folder.")
    if destination in source.parents:
        raise DatasetError(f"{source} holds the pictures that are made", remedy="Give the folder of photographs.")
    old = read_manifest(run) if run is not None else None
    if old is None and destination.is_dir() and any(destination.iterdir()):
        raise DatasetError(f"{destination} already holds files", remedy="Choose another run folder, or empty it.")
    before = old.entries if old is not None else {}
    if choices is None:
        choices = old.choices if old is not None else PictureChoices()
    if choices.masks == "faces" and finder is None and not faces_installed():
        raise no_finder()
    crops = {key: entry.choice for key, entry in before.items() if entry.choice is not None} | dict(choices.crops)
    forced_before = {key for key, entry in before.items() if entry.forced}
    modes = {choices.crop_all.mode, *(choice.mode for choice in crops.values())}
    found = survey(
        source,
        resolution=resolution,
        buckets=buckets,
        step=step,
        subfolders=choices.subfolders,
        leave_out=choices.left_out,
        force="all" if choices.forced == "all" else forced_before.union(choices.forced),
        faces="all" if choices.masks == "faces" else _faces_for(modes),
        finder=finder,
        memory=memory,
        each=each,
    )
    if not found.complete:
        raise DatasetError("stopped while looking at the pictures; nothing was changed")
    asked = Manifest(
        source=str(source),
        name=name,
        resolution=resolution,
        buckets=buckets,
        step=step,
        repeats=choices.repeats,
        subfolders=choices.subfolders,
        choice=choices.crop_all,
        masks=choices.masks,
    )
    base = run or destination
    plan = plan_preparation(found, destination, base, asked, old, choices)
    return _Making(found, destination, base, run, asked, plan).done(progress)


def _resolved(path: Path) -> Path:
    """`path` in full, links followed. Raises BadPath or DatasetError."""
    try:
        return user_path(path).resolve()
    except (OSError, RuntimeError):
        raise DatasetError(f"{shown(str(path))} cannot be followed: it is a link that leads to itself") from None


def _faces_for(modes: Collection[CropMode]) -> Faces:
    """In which pictures faces have to be looked for, to crop them in these modes."""
    if "face" in modes:
        return "all"
    return "needed" if {"auto", "keep", "split"} & set(modes) else "none"


@dataclass(frozen=True)
class _Files:
    """What was made of a picture. without: files that nothing would be learned of; trouble: why there is no mask."""

    made: tuple[PreparedFile, ...]
    masks: tuple[PreparedFile, ...] = ()
    without: tuple[str, ...] = ()
    trouble: DatasetError | None = None


class _Making:
    """Carries a plan out. What was made is known the next time, whenever this one ends."""

    def __init__(
        self, found: Survey, destination: Path, base: Path, record: Path | None, asked: Manifest, plan: PreparePlan
    ) -> None:
        self._found = found
        self._problems = found.problems
        self._destination = destination
        self._base = base
        self._record = record
        self._asked = asked
        self._plan = plan
        self._room = Room()

    def done(self, progress: Callable[[int, int], None] | None) -> Prepared:
        """Make what has to be made, write the captions, take away what is not wanted any more."""
        tasks = [one for one in self._plan.planned if one.again or one.masks_again]
        self._raise_unless_room([crop for one in tasks if one.again for crop in one.crops])
        for folder in {self._path(made).parent for one in self._plan.planned for made in one.entry.made}:
            atomic.recover_folders(folder)
        self._write_record()
        count = 0
        try:
            # Pillow's warnings are held back here: in each thread they would get in each other's way.
            with (
                warnings.catch_warnings(action="ignore"),
                contextlib.closing(in_order(self._make, tasks)) as results,
            ):
                for count, (one, made) in enumerate(zip(tasks, results, strict=True), start=1):
                    if isinstance(made, DatasetError):
                        self._failed(one, made)
                    else:
                        self._made(one, made)
                    if progress:
                        progress(count, len(tasks))
            for one in self._plan.planned:
                self._write_captions(one)
            self._remove_obsolete()
        except atomic.CannotWrite as error:
            self._write_what_can_be()
            told = f"{error.message} (after {count} of {len(tasks)} pictures)"
            raise atomic.CannotWrite(told, remedy=error.remedy) from None
        except BaseException:
            self._write_what_can_be()
            raise
        self._write_record()
        return self._prepared()

    def _raise_unless_room(self, crops: list[Crop]) -> None:
        need = sum(crop.size[0] * crop.size[1] * 3 for crop in crops)
        place = next(part for part in (self._destination, *self._destination.parents) if is_there(part))
        free = shutil.disk_usage(place).free
        if need and free < DISK_TIMES * need + KEEP_FREE_BYTES:
            raise DatasetError(
                f"the pictures need about {need / 1e6:.0f} MB and {free / 1e6:.0f} MB are free in {place}",
                remedy="Free some space, or choose a folder on another disk.",
            )

    def _make(self, one: PlannedPicture) -> _Files | DatasetError:
        """Write the files of a picture; runs in a thread. Raises CannotWrite."""
        source = one.crops[0].source
        made = one.entry.made
        with self._room.taken(source[0] * source[1] * BYTES_A_PIXEL):
            if one.again:
                contents = _pixels(one)
                if isinstance(contents, DatasetError):
                    return contents
                made = tuple(self._write(*pair) for pair in zip(made, contents, strict=True))
            return self._make_masks(one, made)

    def _make_masks(self, one: PlannedPicture, made: tuple[PreparedFile, ...]) -> _Files:
        if not one.masks_again or one.entry.mask is None:
            return _Files(made, one.entry.masks)
        try:
            pieces = mask_pieces(one.look.path, one.crops, one.entry.mask.face)
        except DatasetError as error:
            return _Files(made, trouble=error)
        there = {mask.file: mask for mask in one.before.masks}
        pairs = zip(one.entry.masks, pieces, strict=True)
        masks = tuple(self._write(mask, _as_png(piece), there.get(mask.file)) for mask, piece in pairs if piece)
        without = tuple(picture.file for picture, piece in zip(made, pieces, strict=True) if piece is None)
        return _Files(made, masks, without)

    def _made(self, one: PlannedPicture, files: _Files) -> None:
        """Note what was made of a picture, and say which masks could not be."""
        path = one.look.path
        one.entry = replace(one.entry, made=files.made, masks=files.masks)
        kept = {mask.file for mask in files.masks}
        listed = {gone.made.file for gone in self._plan.obsolete}
        gone = (mask for mask in one.before.masks if mask.file not in kept | listed)
        self._plan.obsolete += [Obsolete(mask) for mask in gone]
        if files.trouble is not None:
            text, remedy = f"{files.trouble.message}; {shown(path)} is learned as a whole", files.trouble.remedy
            self._problems.warning(text, field=MASKS_FIELD, remedy=remedy, subject=path, kind="mask")
        for file in files.without:
            text = f"the mask of {shown(path)} leaves nothing to learn in {Path(file).name}; it is learned as a whole"
            self._problems.warning(text, field=MASKS_FIELD, subject=path, kind="mask")

    def _write(self, made: PreparedFile, content: bytes, there: PreparedFile | None = None) -> PreparedFile:
        """Write a file, unless the very same is there already."""
        target = self._path(made)
        digest = hashlib.sha256(content).hexdigest()
        if there is not None and there.sha256 == digest and there.same_crop(made) and there.is_ours(self._base):
            return there
        atomic.write_bytes(target, content)
        status = target.stat()
        return replace(made, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest)

    def _failed(self, one: PlannedPicture, error: DatasetError) -> None:
        """A picture that could be read a moment ago, and cannot be now: what was made of it before is kept."""
        remedy = error.remedy or "Mend it or take it out of the folder."
        self._problems.error(error.message, field=FIELD, remedy=remedy, subject=one.look.path, kind="unreadable")
        self._plan.planned.remove(one)
        self._plan.others[one.look.name] = replace(one.before, choice=one.entry.choice, forced=one.entry.forced)
        kept = {made.file for made in one.before.files}
        self._plan.obsolete = [gone for gone in self._plan.obsolete if gone.made.file not in kept]

    def _write_captions(self, one: PlannedPicture) -> None:
        for made in one.entry.made:
            if (caption_beside(self._path(made)) or "") != one.caption:
                write_caption(self._path(made), one.caption)

    def _remove_obsolete(self) -> None:
        """Take away files of ours that are not trained any more; what others have changed stays."""
        left = []
        for gone in self._plan.obsolete:
            path = self._path(gone.made)
            try:
                if gone.made.is_ours(self._base):
                    path.unlink()
                if gone.caption and caption_beside(path) == gone.caption:
                    path.with_suffix(".txt").unlink()
            except OSError as error:
                left.append(gone)
                self._problems.warning(f"{path} cannot be removed: {error.strerror}", field=FIELD, kind="obsolete")
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        self._plan.obsolete = left

    def _prepared(self) -> Prepared:
        if not self._plan.planned:
            lines = [f"{problem.message}. {problem.remedy}".strip() for problem in self._problems.errors]
            raise DatasetError(f"no picture in {self._found.folder} can be used", remedy="\n".join(lines[-2:]))
        entries = [*(one.entry for one in self._plan.planned), *self._plan.others.values()]
        files = [self._path(made) for entry in entries for made in entry.made]
        return Prepared(
            images=len(files),
            captions=sum(bool(caption_beside(file)) for file in files),
            folders=tuple(dict.fromkeys(file.parent for file in files)),
            problems=self._problems,
            pictures=tuple(map(self._prepared_picture, self._plan.planned)),
            left_out=tuple(name for name, entry in self._plan.others.items() if entry.left_out),
            masks=sum(mask_file(file) is not None for file in files),
            face_masks=sum(len(entry.masks) for entry in entries if entry.mask and entry.mask.origin == "face"),
        )

    def _prepared_picture(self, one: PlannedPicture) -> PreparedPicture:
        files = tuple(map(self._path, one.entry.made))
        again = one.again or one.entry.masks != one.before.masks
        mask = one.entry.mask.origin if one.entry.mask is not None and one.entry.masks else None
        return PreparedPicture(one.look.name, one.look.path, files, one.crops, again, mask)

    def _path(self, made: PreparedFile) -> Path:
        return self._base / made.file

    def _write_record(self) -> None:
        if self._record is not None:
            order = [look.name for look in self._found.looks]
            self._plan.manifest(self._asked, order).write(self._record)

    def _write_what_can_be(self) -> None:
        """After a failure; where even that cannot be written, what stands there says that files are being made."""
        with contextlib.suppress(atomic.CannotWrite):
            self._write_record()


def _pixels(one: PlannedPicture) -> list[bytes] | DatasetError:
    """The contents of a picture's files, or why they cannot be made."""
    path, size = one.look.path, one.crops[0].size
    try:
        if one.crops[0].rule == "keep" and _is_ready(path, size):
            return [path.read_bytes()]
        return [_as_png(image) for image in load_crops(path, one.crops)]
    except DatasetError as error:
        return error
    except OSError as error:
        return DatasetError(f"{shown(path)} cannot be read: {error.strerror or error}")


def _as_png(image: Image.Image) -> bytes:
    # What the source says about itself (places, profiles) is not true of these pixels.
    image.info = {}
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=COMPRESSION)
    return content.getvalue()


def _is_ready(source: Path, size: PixelSize) -> bool:
    """Whether a picture can be copied as it is: a plain PNG of the right size."""
    with open_picture(source) as image:
        plain = not image.info and not image.getexif()
        return image.format == "PNG" and image.mode == "RGB" and image.size == size and plain
