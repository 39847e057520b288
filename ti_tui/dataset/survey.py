"""Checks a folder of photographs: measures each of them and reports problems. Nothing is changed.

`ti-tui check`, `prepare` and the dataset step use it; for a run's own images `scan` is enough.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from ti_tui.dataset.caption_tables import tables_for
from ti_tui.dataset.crop_boxes import Face, PixelSize, same_shape
from ti_tui.dataset.faces import FaceFinder
from ti_tui.dataset.listing import (
    captions_without_picture,
    count_below,
    folder_contents,
    masks_not_used,
    pictures_in,
    places,
    raise_unless_folder,
)
from ti_tui.dataset.masks import mask_error
from ti_tui.dataset.parallel import Room, in_order
from ti_tui.dataset.photograph_checks import PhotographChecks, SurveyedFile
from ti_tui.dataset.picture_choices import Forced
from ti_tui.dataset.picture_file import DatasetError, OutOfReach, shown
from ti_tui.dataset.picture_quality import Measured, measure
from ti_tui.dataset.scan import Scan, name_in, report_shared_stems
from ti_tui.run.problems import Problem, Problems

FEWEST, FEW, MANY, TOO_MANY = 3, 5, 30, 200
MOST_NAMED = 5

FileKey = tuple[str, int, int]
"""Path, size in bytes and time of change (ns): the same key means the same content."""
SurveyCache = MutableMapping[FileKey, Measured | DatasetError]
"""The measurements of each file, or why it cannot be used."""
Faces = Literal["all", "needed", "none"]
"""Which photographs are searched for faces; `needed`: those that have to be cropped."""


@dataclass(frozen=True)
class Survey:
    """The contents of a folder of photographs.

    complete: False if the survey was stopped early. below: number of photographs in sub-folders that were not searched.
    """

    folder: Path
    files: tuple[SurveyedFile, ...]
    problems: Problems
    complete: bool = True
    below: int = 0

    @property
    def scan(self) -> Scan:
        """The photographs that can be used, in natural order, and all problems."""
        return Scan(
            self.folder,
            tuple(photograph.picture for photograph in self.files if photograph.picture is not None),
            self.problems,
        )

    @property
    def strays(self) -> tuple[SurveyedFile, ...]:
        """Files that are named like photographs but were not opened, such as pipes and raw files."""
        known = {photograph.path for photograph in self.files}
        return tuple(
            SurveyedFile(name_in(self.folder, problem.subject), problem.subject, None, None, (problem,))
            for problem in self.problems.errors
            if problem.subject is not None and problem.subject not in known
        )

    @property
    def general(self) -> list[Problem]:
        """Problems with the folder as a whole, or with files that are not photographs."""
        known = {photograph.path for photograph in (*self.files, *self.strays)}
        return [problem for problem in self.problems if problem.subject not in known]


def survey(
    folder: Path,
    *,
    resolution: int = 512,
    buckets: bool = False,
    step: int = 64,
    field: str = "dataset.images",
    subfolders: bool = False,
    person: bool = False,
    leave_out: Collection[str] = (),
    force: Forced = (),
    faces: Faces = "all",
    finder: FaceFinder | None = None,
    memory: SurveyCache | None = None,
    each: Callable[[SurveyedFile], bool] | None = None,
) -> Survey:
    """Check every photograph in `folder` and in its kohya sub-folders `<repeats>_<name>`.

    resolution: of the training images, in pixels; buckets and step as for `prepare`.
    subfolders: also check every other folder below.
    person:     the subject is a person: report photographs without a face, or with several.
    leave_out:  names of photographs that will not be used: their problems are only listed with their file, and no other
                photograph counts as a copy of them.
    faces:      which photographs are searched for faces; finder: a face finder that is running already.
    memory:     earlier measurements, by file; new ones are added.
    each:       called for every file that has been checked, in natural order; the survey ends when it returns False.
    Raises DatasetError if the folder itself cannot be read.
    """
    raise_unless_folder(folder)
    problems = Problems()
    listed = [
        (path, place.repeats)
        for place in places(folder, subfolders=subfolders)
        for path in pictures_in(place.folder, problems, field, unreadable=True)
    ]
    checks = PhotographChecks(folder, field, resolution, buckets, step, person, leave_out, force)
    files: list[SurveyedFile] = []
    with contextlib.ExitStack() as stack:
        # Pillow prints warnings about odd metadata; what matters is whether the pixels can be read.
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        if finder is None and faces != "none":
            finder = stack.enter_context(FaceFinder())
        search = _FaceSearch(finder, faces, checks) if finder is not None else None
        measuring = _Measuring({} if memory is None else memory, search)

        def check_file(path: Path) -> tuple[Measured | DatasetError, DatasetError | None]:
            one = measuring(path)
            return one, None if isinstance(one, DatasetError) else mask_error(path)

        measured = stack.enter_context(contextlib.closing(in_order(check_file, [path for path, _ in listed])))
        for (path, repeats), (one, mask) in zip(listed, measured, strict=True):
            files.append(checks.check(path, repeats, one, mask))
            if files[-1].name not in leave_out:
                problems.add(files[-1].problems)
            if each is not None and not each(files[-1]):
                return Survey(folder, tuple(files), problems, complete=False)
    used = [photograph for photograph in files if photograph.name not in leave_out]
    _report_grey(used, problems, field)
    below = 0 if subfolders else count_below(folder)
    _report_folder(folder, used, problems, field, subfolders=subfolders, below=below)
    if finder is not None and finder.trouble:
        problems.info(finder.trouble, field=field, kind="faces")
    return Survey(folder, _with_later_problems(files, problems), problems, below=below)


def check_count(count: int, *, field: str = "dataset.images") -> Problems:
    """Report if there are too few or too many images."""
    problems = Problems()
    if 0 < count < FEWEST:
        many = "1 image" if count == 1 else f"{count} images"
        problems.warning(f"only {many}: {FEW} to {MANY} are useful, fewer than {FEWEST} are rarely enough", field=field)
    elif FEWEST <= count < FEW:
        problems.warning(f"{count} images: expect a narrow result", field=field, remedy=f"{FEW} or more are better.")
    elif count > TOO_MANY:
        problems.warning(f"{count} images: {FEW} to {MANY} good ones teach more than many", field=field)
    elif count > MANY:
        problems.info(f"{count} images: fine, but an epoch takes more steps", field=field)
    return problems


@dataclass(frozen=True)
class _FaceSearch:
    """Searches photographs for faces, if needed."""

    finder: FaceFinder
    faces: Faces
    checks: PhotographChecks

    def wants(self, size: PixelSize) -> bool:
        """Whether to search a photograph of `size`."""
        if self.faces == "none" or not self.finder.available:
            return False
        return self.faces == "all" or not same_shape(size, self.checks.target(size))

    def __call__(self, image: Image.Image, size: PixelSize) -> tuple[Face, ...] | None:
        return self.finder.find(image) if self.wants(size) else None


@dataclass(frozen=True)
class _Measuring:
    """Measures files, in any thread; known measurements are taken from `memory`."""

    memory: SurveyCache
    find_faces: _FaceSearch | None
    room: Room = field(default_factory=Room)

    def __call__(self, path: Path) -> Measured | DatasetError:
        one: Measured | DatasetError
        try:
            status = path.stat()
            key = (str(path), status.st_size, status.st_mtime_ns)
            known = self.memory.get(key)
            if known is not None and self._is_enough(known):
                return known
            one = measure(path, find_faces=self.find_faces, room=self.room)
        except OutOfReach as error:
            # Not remembered: the next time it may be readable.
            return error
        except DatasetError as error:
            one = error
        except OSError as error:
            return OutOfReach(f"cannot be read: {error.strerror or error}")
        except Exception as error:
            # One strange file must not keep the others from being checked.
            return DatasetError(f"cannot be used ({type(error).__name__}: {error})")
        self.memory[key] = one
        return one

    def _is_enough(self, known: Measured | DatasetError) -> bool:
        search = self.find_faces
        if isinstance(known, DatasetError) or known.faces is not None or search is None:
            return True
        return not search.wants(known.size)


def _report_grey(files: list[SurveyedFile], problems: Problems, field: str) -> None:
    """Report photographs that are black and white, if most others are not."""
    usable = [photograph for photograph in files if photograph.measured is not None and photograph.picture is not None]
    grey = [photograph for photograph in usable if photograph.measured is not None and photograph.measured.grey]
    if 2 * len(grey) >= len(usable):
        return
    remedy = "Say so in its caption, or leave it out."
    for photograph in grey:
        if not photograph.kinds & {"even", "dark", "bright"}:
            text = f"{shown(photograph.path)} is black and white"
            problems.warning(text, field=field, remedy=remedy, subject=photograph.path, kind="grey")


def _with_later_problems(files: list[SurveyedFile], problems: Problems) -> tuple[SurveyedFile, ...]:
    """`files` with the problems that were only found after all of them had been checked."""
    later: dict[Path, list[Problem]] = defaultdict(list)
    for problem in problems:
        if problem.subject is not None:
            later[problem.subject].append(problem)
    return tuple(
        replace(photograph, problems=tuple(dict.fromkeys((*photograph.problems, *later[photograph.path]))))
        for photograph in files
    )


def _report_folder(
    folder: Path, files: list[SurveyedFile], problems: Problems, field: str, *, subfolders: bool, below: int
) -> None:
    """Report problems that concern several photographs, or none."""
    pictures = [photograph.picture for photograph in files if photograph.picture is not None]
    # Photographs without a caption cannot share one.
    report_shared_stems([picture for picture in pictures if picture.caption], problems, field)
    if summary := ", ".join(
        _conversions([photograph.measured for photograph in files if photograph.picture and photograph.measured])
    ):
        problems.info(summary, field=field, kind="converted")
    for place in places(folder, subfolders=subfolders):
        orphans = captions_without_picture(place.folder)
        for path in orphans[:MOST_NAMED]:
            problems.info(
                f"{shown(path)} is a caption file without a photograph", field=field, subject=path, kind="orphan"
            )
        if (more := len(orphans) - MOST_NAMED) > 0:
            problems.info(f"{more} more caption files without a photograph", field=field, kind="orphan")
        _report_tables(place.folder, files, problems, field)
        for path, why in masks_not_used(place.folder)[:MOST_NAMED]:
            problems.info(f"{shown(path)} {why}", field=field, subject=path, kind="orphan")
    if not files and not problems.errors:
        problems.error(
            f"there are no photographs in {shown(str(folder))}",
            field=field,
            remedy=folder_contents(folder, below),
            kind="empty",
        )
    elif below:
        problems.info(f"{below} more photographs in sub-folders are not used", field=field, kind="below")


def _report_tables(folder: Path, files: list[SurveyedFile], problems: Problems, field: str) -> None:
    """Report files with captions for the whole folder that cannot be read, or that name other images."""
    stems = {photograph.path.stem for photograph in files}
    for table in tables_for(folder):
        if table.path.parent != folder:
            continue
        if table.problem:
            problems.warning(f"{shown(table.path)} {table.problem}", field=field, subject=table.path, kind="caption")
        elif count := table.without_picture(stems):
            text = f"{shown(table.path)} has {count} captions of images that are not here"
            problems.info(text, field=field, subject=table.path, kind="orphan")


def _conversions(measured: list[Measured]) -> Iterator[str]:
    """How many photographs are converted before they are cropped, and how, in words."""
    counts = (
        (sum(one.turned for one in measured), "turned upright"),
        (sum("transparent" in one.forms for one in measured), "transparent (put on white)"),
        (sum(one.profile == "converted" or "CMYK" in one.forms for one in measured), "converted to sRGB"),
        (sum("16-bit" in one.forms for one in measured), "reduced from 16 to 8 bits"),
    )
    return (f"{count} {what}" for count, what in counts if count)
