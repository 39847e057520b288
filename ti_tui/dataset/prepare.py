"""Prepares the images of a run from a folder of photographs: upright, cropped, resized, numbered, with captions.

Later calls make only what has changed; dataset.json in the run folder (see `manifest`) records what was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
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
from ti_tui.dataset.parallel import BYTES_A_PIXEL, Room, in_order
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError, open_picture, shown
from ti_tui.dataset.prepare_plan import (
    FIELD,
    Obsolete,
    PlannedPicture,
    PreparePlan,
    caption_beside,
    none_usable,
    plan_preparation,
)
from ti_tui.dataset.survey import Faces, Survey, SurveyCache, survey
from ti_tui.paths import existing_part, user_path
from ti_tui.run.problems import Problems

DISK_TIMES, KEEP_FREE_BYTES = 3, 10_000_000
COMPRESSION = 4


@dataclass(frozen=True)
class PreparedPicture:
    """A photograph and the images made of it.

    name: its path in the source folder. files and crops: one each, or several if it was split.
    again: whether an image or a mask was made by this call; otherwise all of them existed.
    mask: what its masks were made from; None if no masks were made.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    crops: tuple[Crop, ...]
    again: bool
    mask: MaskOrigin | None = None


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`: number of images and captions, the folders, and problems.

    pictures: the photographs that are used. left_out: names of those that were left out on purpose.
    masks: number of images with a mask; face_masks: number of masks around a face.
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
    """Make training images 0001.png, 0002.png, ... of the photographs in `source`.

    They go to `destination`/<repeats>_<name>, kohya's layout.

    choices: what was chosen; None takes the choices of the last time. A mask is a file 0001-mask.png, white where the
             image is learned, cropped like the image. If a mask cannot be used, the image is made without it.
    record:  the run folder with dataset.json. With it, `destination` may contain earlier images: photographs keep their
             numbers, only what has changed is made again, and files of others are never touched.
    finder, memory, each: as for `survey`. progress: called with the number of images made so far and in all.

    The source is only read. A PNG that already has the right size is copied byte for byte. Photographs that cannot be
    read are left out and named in the problems, even if that is only found while they are cropped. Raises DatasetError
    if none can be used, if the destination is inside the source, or if masks from faces are wanted and the face finder
    is not installed; CannotWrite if a file cannot be written: what was made until then stays, and the next call makes
    the rest.
    """
    source, destination = _resolved(source), _resolved(destination.parent) / destination.name
    run = _resolved(record) if record is not None else None
    if (real := _resolved(destination)) == source or source in real.parents:
        raise DatasetError(f"{destination} lies inside the folder of photographs", remedy="Choose another run folder.")
    if real in source.parents:
        raise DatasetError(f"{source} contains the run's images", remedy="Give the folder of photographs.")
    old = read_manifest(run) if run is not None else None
    if old is None and destination.is_dir() and any(destination.iterdir()):
        raise DatasetError(f"{destination} already contains files", remedy="Choose another run folder, or empty it.")
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
        raise DatasetError("stopped while checking the photographs; nothing was changed")
    settings = Manifest(
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
    plan = plan_preparation(found, destination, base, settings, old, choices)
    return _Preparation(found, destination, base, run, settings, plan).run(progress)


def _resolved(path: Path) -> Path:
    """`path` in full, links followed. Raises BadPath or DatasetError."""
    try:
        return user_path(path).resolve()
    except (OSError, RuntimeError):
        raise DatasetError(f"{shown(str(path))} cannot be opened: it is a link that leads to itself") from None


def _faces_for(modes: Collection[CropMode]) -> Faces:
    """Which photographs have to be searched for faces, to crop them in these modes."""
    if "face" in modes:
        return "all"
    return "needed" if {"auto", "keep", "split"} & set(modes) else "none"


@dataclass(frozen=True)
class _Files:
    """The files made of a photograph. without: images whose mask would be empty; mask_error: why there are no masks."""

    made: tuple[PreparedFile, ...]
    masks: tuple[PreparedFile, ...] = ()
    without: tuple[str, ...] = ()
    mask_error: DatasetError | None = None


@dataclass
class _Preparation:
    """Carries out a plan. What was made is recorded, even if it ends early."""

    found: Survey
    destination: Path
    base: Path
    record: Path | None
    settings: Manifest
    plan: PreparePlan
    room: Room = field(default_factory=Room)
    written: dict[str, PreparedFile] = field(default_factory=dict)

    def run(self, progress: Callable[[int, int], None] | None) -> Prepared:
        """Make the files, write the captions, remove what is no longer wanted."""
        tasks = [one for one in self.plan.planned if one.again or one.masks_again]
        self._raise_unless_room([crop for one in tasks if one.again for crop in one.crops])
        for folder in {self._path(made).parent for one in self.plan.planned for made in one.entry.made}:
            atomic.recover_folders(folder)
        self._write_record()
        count = 0
        try:
            # Pillow's warnings are suppressed here: doing so in each thread is not thread-safe.
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
            for one in self.plan.planned:
                self._write_captions(one)
            self._remove_obsolete()
        except atomic.CannotWrite as error:
            self._write_what_can_be()
            message = f"{error.message} (after {count} of {len(tasks)} photographs)"
            raise atomic.CannotWrite(message, remedy=error.remedy) from None
        except BaseException:
            self._write_what_can_be()
            raise
        self._write_record()
        return self._prepared()

    def _raise_unless_room(self, crops: list[Crop]) -> None:
        need = sum(crop.size[0] * crop.size[1] * 3 for crop in crops)
        place = existing_part(self.destination)
        free = shutil.disk_usage(place).free
        if need and free < DISK_TIMES * need + KEEP_FREE_BYTES:
            raise DatasetError(
                f"the images need about {need / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free in {place}",
                remedy="Free some space, or choose a folder on another disk.",
            )

    def _make(self, one: PlannedPicture) -> _Files | DatasetError:
        """Make the files of a photograph; runs in a thread. Raises CannotWrite."""
        source = one.crops[0].source
        made = one.entry.made
        with self.room.taken(source[0] * source[1] * BYTES_A_PIXEL):
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
            pieces = mask_pieces(one.photograph.path, one.crops, one.entry.mask.face)
        except DatasetError as error:
            return _Files(made, mask_error=error)
        there = {mask.file: mask for mask in one.before.masks}
        pairs = zip(one.entry.masks, pieces, strict=True)
        masks = tuple(self._write(mask, _as_png(piece), there.get(mask.file)) for mask, piece in pairs if piece)
        without = tuple(picture.file for picture, piece in zip(made, pieces, strict=True) if piece is None)
        return _Files(made, masks, without)

    def _made(self, one: PlannedPicture, files: _Files) -> None:
        """Record the files made of a photograph, and report masks that could not be made."""
        path = one.photograph.path
        one.entry = replace(one.entry, made=files.made, masks=files.masks)
        kept = {mask.file for mask in files.masks}
        listed = {gone.made.file for gone in self.plan.obsolete}
        gone = (mask for mask in one.before.masks if mask.file not in kept | listed)
        self.plan.obsolete += [Obsolete(mask) for mask in gone]
        if files.mask_error is not None:
            text, remedy = f"{files.mask_error.message}; {shown(path)} is learned as a whole", files.mask_error.remedy
            self.found.problems.warning(text, field=MASKS_FIELD, remedy=remedy, subject=path, kind="mask")
        for file in files.without:
            text = f"the mask of {shown(path)} leaves nothing to learn in {Path(file).name}; it is learned as a whole"
            self.found.problems.warning(text, field=MASKS_FIELD, subject=path, kind="mask")

    def _write(self, made: PreparedFile, content: bytes, there: PreparedFile | None = None) -> PreparedFile:
        """Write a file, unless it exists with the same content."""
        target = self._path(made)
        digest = hashlib.sha256(content).hexdigest()
        if there is not None and there.sha256 == digest and there.same_crop(made) and there.is_ours(self.base):
            return there
        atomic.write_bytes(target, content)
        status = target.stat()
        written = replace(made, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest)
        self.written[made.file] = written
        return written

    def _failed(self, one: PlannedPicture, error: DatasetError) -> None:
        """Handle a photograph that can no longer be read: the images made of it earlier are kept."""
        path, remedy = one.photograph.path, error.remedy or "Repair it or remove it from the folder."
        self.found.problems.error(error.message, field=FIELD, remedy=remedy, subject=path, kind="unreadable")
        self.plan.planned.remove(one)
        self.plan.others[one.photograph.name] = replace(one.before, choice=one.entry.choice, forced=one.entry.forced)
        kept = {made.file for made in one.before.files}
        self.plan.obsolete = [gone for gone in self.plan.obsolete if gone.made.file not in kept]

    def _write_captions(self, one: PlannedPicture) -> None:
        """Write the captions of a photograph's images, then record them: one that is not recorded counts as edited."""
        for file in map(self._path, one.entry.made):
            if (caption_beside(file) or "") != one.caption:
                write_caption(file, one.caption)
        caption = one.before.caption if one.caption_origin == "edited" else one.caption
        one.entry = replace(one.entry, caption=caption, caption_origin=one.caption_origin)

    def _remove_obsolete(self) -> None:
        """Remove our files that are no longer wanted; files that others have changed stay."""
        left = []
        for gone in self.plan.obsolete:
            path = self._path(gone.made)
            try:
                if gone.made.is_ours(self.base):
                    path.unlink()
                if gone.caption and caption_beside(path) == gone.caption:
                    path.with_suffix(".txt").unlink()
            except OSError as error:
                left.append(gone)
                self.found.problems.warning(f"{path} cannot be removed: {error.strerror}", field=FIELD, kind="obsolete")
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        self.plan.obsolete = left

    def _prepared(self) -> Prepared:
        if not self.plan.planned:
            raise none_usable(self.found.folder, self.found.problems.errors[-2:])
        entries = [*(one.entry for one in self.plan.planned), *self.plan.others.values()]
        files = [self._path(made) for entry in entries for made in entry.made]
        return Prepared(
            images=len(files),
            captions=sum(bool(caption_beside(file)) for file in files),
            folders=tuple(dict.fromkeys(file.parent for file in files)),
            problems=self.found.problems,
            pictures=tuple(map(self._prepared_picture, self.plan.planned)),
            left_out=tuple(name for name, entry in self.plan.others.items() if entry.left_out),
            masks=sum(mask_file(file) is not None for file in files),
            face_masks=sum(len(entry.masks) for entry in entries if entry.mask and entry.mask.origin == "face"),
        )

    def _prepared_picture(self, one: PlannedPicture) -> PreparedPicture:
        files = tuple(map(self._path, one.entry.made))
        again = one.again or one.entry.masks != one.before.masks
        mask = one.entry.mask.origin if one.entry.mask is not None and one.entry.masks else None
        return PreparedPicture(one.photograph.name, one.photograph.path, files, one.crops, again, mask)

    def _path(self, made: PreparedFile) -> Path:
        return self.base / made.file

    def _write_record(self) -> None:
        if self.record is not None:
            order = [photograph.name for photograph in self.found.files]
            self.plan.manifest(self.settings, order).write(self.record)

    def _write_what_can_be(self) -> None:
        """Write the record after a failure. If that fails too, the earlier record says that files are being made."""
        for one in self.plan.planned:
            # Other threads may have written files whose photographs were not reported yet.
            made, masks = (
                tuple(self.written.get(file.file, file) for file in files)
                for files in (one.entry.made, one.entry.masks)
            )
            one.entry = replace(one.entry, made=made, masks=masks)
        with contextlib.suppress(atomic.CannotWrite):
            self._write_record()


def _pixels(one: PlannedPicture) -> list[bytes] | DatasetError:
    """The contents of a photograph's images, or why they cannot be made."""
    path, size = one.photograph.path, one.crops[0].size
    try:
        if one.crops[0].rule == "keep" and _is_ready(path, size):
            return [path.read_bytes()]
        return [_as_png(image) for image in load_crops(path, one.crops)]
    except DatasetError as error:
        return error
    except OSError as error:
        return DatasetError(f"{shown(path)} cannot be read: {error.strerror or error}")


def _as_png(image: Image.Image) -> bytes:
    # The metadata of the source (location, profile) does not belong to these pixels.
    image.info = {}
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=COMPRESSION)
    return content.getvalue()


def _is_ready(source: Path, size: PixelSize) -> bool:
    """Whether a photograph can be copied as it is: a plain PNG of the right size."""
    with open_picture(source) as image:
        plain = not image.info and not image.getexif()
        return image.format == "PNG" and image.mode == "RGB" and image.size == size and plain
