"""Looking over a folder of photographs: each picture measured, everything odd said. Nothing is changed.

`ti-tui check`, `prepare` and the dataset step use it; the trainer's own pictures need only `scan`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from ti_tui.dataset.crop_boxes import Face, PixelSize, same_shape
from ti_tui.dataset.faces import FaceFinder
from ti_tui.dataset.listing import (
    captions_without_picture,
    count_below,
    found_instead,
    masks_not_used,
    pictures_in,
    places,
    raise_unless_folder,
)
from ti_tui.dataset.masks import trouble_with_file
from ti_tui.dataset.parallel import Room, in_order
from ti_tui.dataset.photograph_checks import PhotographChecks, SurveyedFile
from ti_tui.dataset.picture_choices import Forced
from ti_tui.dataset.picture_file import DatasetError, OutOfReach, shown
from ti_tui.dataset.picture_quality import Measured, measure
from ti_tui.dataset.scan import Scan, name_in, tell_shared_stems
from ti_tui.run.problems import Problem, Problems

FEWEST, FEW, MANY, TOO_MANY = 3, 5, 30, 200
MOST_NAMED = 5

FileKey = tuple[str, int, int]
"""Path, size in bytes and time of change (ns): the same key is taken for the same content."""
SurveyCache = MutableMapping[FileKey, Measured | DatasetError]
"""What was measured of a file, or why it cannot be used."""
Faces = Literal["all", "needed", "none"]
"""In which pictures faces are looked for; `needed`: in those of which something has to be cut off."""


@dataclass(frozen=True)
class Survey:
    """What a folder of photographs holds.

    complete: whether it was looked through to the end. below: pictures in sub-folders that were not looked into.
    """

    folder: Path
    looks: tuple[SurveyedFile, ...]
    problems: Problems
    complete: bool = True
    below: int = 0

    @property
    def scan(self) -> Scan:
        """The pictures that can be used, in natural order, and everything that was found."""
        return Scan(self.folder, tuple(look.picture for look in self.looks if look.picture is not None), self.problems)

    def measured(self, name: str) -> Measured | None:
        """What was measured of a picture, by its name."""
        return next((look.measured for look in self.looks if look.name == name), None)

    @property
    def strays(self) -> tuple[SurveyedFile, ...]:
        """Files that are called like pictures and were not even opened, such as pipes and raw files."""
        known = {look.path for look in self.looks}
        return tuple(
            SurveyedFile(name_in(self.folder, problem.subject), problem.subject, None, None, (problem,))
            for problem in self.problems.errors
            if problem.subject is not None and problem.subject not in known
        )

    @property
    def general(self) -> list[Problem]:
        """What was found about the folder as a whole, or about files that are no pictures."""
        known = {look.path for look in (*self.looks, *self.strays)}
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
    """Look at every picture in `folder` and in its kohya sub-folders `<repeats>_<name>`.

    resolution: what the pictures are to be trained at, in pixels; with buckets and step as `prepare` has them.
    subfolders: also in every other folder below.
    person:     the subject is a person: say so where there is no face, or more than one.
    leave_out:  names of pictures that will not be used: what is odd about one stands in its own look only, and no
                other is a copy of it.
    faces:      in which pictures they are looked for; finder: one that is running already.
    memory:     what was found before, by file; filled as it goes.
    each:       told of every file as it has been looked at, in natural order; it goes on only while that is True.
    Raises DatasetError if the folder itself cannot be read.
    """
    raise_unless_folder(folder)
    problems = Problems()
    files = [
        (path, place.repeats)
        for place in places(folder, subfolders=subfolders)
        for path in pictures_in(place.folder, problems, field, strange=True)
    ]
    checks = PhotographChecks(folder, field, resolution, buckets, step, person, leave_out, force)
    looks: list[SurveyedFile] = []
    with contextlib.ExitStack() as stack:
        # Pillow prints warnings about odd metadata; what matters is whether the pixels can be read.
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        if finder is None and faces != "none":
            finder = stack.enter_context(FaceFinder())
        measuring = _Measuring(memory, _FaceLook(finder, faces, checks) if finder is not None else None)

        def look_at(path: Path) -> tuple[Measured | DatasetError, DatasetError | None]:
            one = measuring(path)
            return one, None if isinstance(one, DatasetError) else trouble_with_file(path)

        measured = stack.enter_context(contextlib.closing(in_order(look_at, [path for path, _ in files])))
        for (path, repeats), (one, mask) in zip(files, measured, strict=True):
            looks.append(checks.check(path, repeats, one, mask))
            if looks[-1].name not in leave_out:
                problems.add(looks[-1].problems)
            if each is not None and not each(looks[-1]):
                return Survey(folder, tuple(looks), problems, complete=False)
    used = [look for look in looks if look.name not in leave_out]
    _tell_of_grey(used, problems, field)
    below = 0 if subfolders else count_below(folder)
    _tell_of_folder(folder, used, problems, field, subfolders=subfolders, below=below)
    if finder is not None and finder.trouble:
        problems.info(finder.trouble, field=field, kind="faces")
    return Survey(folder, _with_all_told(looks, problems), problems, below=below)


def check_count(count: int, *, field: str = "dataset.images") -> Problems:
    """Whether so many pictures are few or many."""
    problems = Problems()
    if 0 < count < FEWEST:
        many = "1 picture" if count == 1 else f"{count} pictures"
        problems.warning(f"only {many}: {FEW} to {MANY} are useful, fewer than {FEWEST} are rarely enough", field=field)
    elif FEWEST <= count < FEW:
        problems.warning(f"{count} pictures: expect a narrow result", field=field, remedy=f"{FEW} or more are better.")
    elif count > TOO_MANY:
        problems.warning(f"{count} pictures: {FEW} to {MANY} good ones teach more than many", field=field)
    elif count > MANY:
        problems.info(f"{count} pictures: fine, an epoch takes more steps", field=field)
    return problems


class _FaceLook:
    """Looks for faces in the pictures in which they are wanted."""

    def __init__(self, finder: FaceFinder, faces: Faces, checks: PhotographChecks) -> None:
        self._finder = finder
        self._faces = faces
        self._checks = checks

    def wants(self, size: PixelSize) -> bool:
        """Whether to look in a picture of `size`."""
        if self._faces == "none" or not self._finder.available:
            return False
        return self._faces == "all" or not same_shape(size, self._checks.target(size))

    def __call__(self, image: Image.Image, size: PixelSize) -> tuple[Face, ...] | None:
        return self._finder.find(image) if self.wants(size) else None


class _Measuring:
    """Measures files in any thread; what was found before is taken from memory."""

    def __init__(self, memory: SurveyCache | None, find_faces: _FaceLook | None) -> None:
        self._memory = memory
        self._find_faces = find_faces
        self._room = Room()

    def __call__(self, path: Path) -> Measured | DatasetError:
        one: Measured | DatasetError
        try:
            status = path.stat()
            key = (str(path), status.st_size, status.st_mtime_ns)
            known = self._memory.get(key) if self._memory is not None else None
            if known is not None and self._is_enough(known):
                return known
            one = self._measured(path)
        except OutOfReach as error:
            return error
        except OSError as error:
            return OutOfReach(f"cannot be read: {error.strerror or error}")
        except Exception as error:
            # One strange file must not keep the others from being looked at.
            return DatasetError(f"cannot be used ({type(error).__name__}: {error})")
        if self._memory is not None:
            self._memory[key] = one
        return one

    def _is_enough(self, known: Measured | DatasetError) -> bool:
        look = self._find_faces
        if isinstance(known, DatasetError) or known.faces is not None or look is None:
            return True
        return not look.wants(known.size)

    def _measured(self, path: Path) -> Measured | DatasetError:
        """What is in the file, or why it cannot be used. Raises OutOfReach where that may be another the next time."""
        try:
            return measure(path, find_faces=self._find_faces, room=self._room)
        except OutOfReach:
            raise
        except DatasetError as error:
            return error


def _tell_of_grey(looks: list[SurveyedFile], problems: Problems, field: str) -> None:
    """The pictures that are grey, if most others are not."""
    usable = [look for look in looks if look.measured is not None and look.picture is not None]
    grey = [look for look in usable if look.measured is not None and look.measured.grey]
    if 2 * len(grey) >= len(usable):
        return
    remedy = "Say so in its caption, or leave it out."
    for look in grey:
        if not look.kinds & {"even", "dark", "bright"}:
            text = f"{shown(look.path)} is black and white"
            problems.warning(text, field=field, remedy=remedy, subject=look.path, kind="grey")


def _with_all_told(looks: list[SurveyedFile], problems: Problems) -> tuple[SurveyedFile, ...]:
    """The looks with what was found about them only when all had been looked at."""
    later: dict[Path, list[Problem]] = defaultdict(list)
    for problem in problems:
        if problem.subject is not None:
            later[problem.subject].append(problem)
    return tuple(replace(look, problems=tuple(dict.fromkeys((*look.problems, *later[look.path])))) for look in looks)


def _tell_of_folder(
    folder: Path, looks: list[SurveyedFile], problems: Problems, field: str, *, subfolders: bool, below: int
) -> None:
    """What concerns more than one picture, or none."""
    pictures = [look.picture for look in looks if look.picture is not None]
    # Without a caption there is nothing that could be the other's.
    tell_shared_stems([picture for picture in pictures if picture.caption], problems, field)
    if summary := ", ".join(_conversions([look.measured for look in looks if look.picture and look.measured])):
        problems.info(summary, field=field, kind="converted")
    for place in places(folder, subfolders=subfolders):
        orphans = captions_without_picture(place.folder)
        for path in orphans[:MOST_NAMED]:
            problems.info(f"{shown(path)} belongs to no picture", field=field, subject=path, kind="orphan")
        if (more := len(orphans) - MOST_NAMED) > 0:
            problems.info(f"{more} more caption files belong to no picture", field=field, kind="orphan")
        for path, why in masks_not_used(place.folder)[:MOST_NAMED]:
            problems.info(f"{shown(path)} {why}", field=field, subject=path, kind="orphan")
    if not looks and not problems.errors:
        problems.error(
            f"there are no pictures in {shown(str(folder))}",
            field=field,
            remedy=found_instead(folder, below),
            kind="empty",
        )
    elif below:
        problems.info(f"{below} more pictures in sub-folders are not looked at", field=field, kind="below")


def _conversions(measured: list[Measured]) -> Iterator[str]:
    """What is done to pictures before they are cut, as counts in words."""
    counts = (
        (sum(one.turned for one in measured), "turned upright"),
        (sum("transparent" in one.forms for one in measured), "transparent (put on white)"),
        (sum(one.profile == "converted" or "CMYK" in one.forms for one in measured), "converted to sRGB"),
        (sum("16-bit" in one.forms for one in measured), "brought from 16 to 8 bits"),
    )
    return (f"{count} {what}" for count, what in counts if count)
