"""Looking over a folder of photographs: each picture measured, everything odd said. Nothing is changed.

`ti-tui check`, `prepare` and the dataset step use it; the trainer's own pictures need only `scan`.
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

from ti_tui.dataset.caption_files import read_sidecar
from ti_tui.dataset.crop import size_for
from ti_tui.dataset.crop_boxes import MOST, NOTED, Face, PixelSize, largest_box, same_shape
from ti_tui.dataset.duplicates import SAME, LookalikeFinder
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
from ti_tui.dataset.masks import mask_file, trouble_with_file
from ti_tui.dataset.parallel import Room, in_order
from ti_tui.dataset.picture_choices import Forced
from ti_tui.dataset.picture_file import DatasetError, OutOfReach, shown
from ti_tui.dataset.picture_quality import Measured, measure
from ti_tui.dataset.scan import Picture, Scan, name_in, tell_of_caption, tell_shared_stems, tell_unreadable
from ti_tui.run.hashes import file_hash
from ti_tui.run.problems import Problem, Problems

BLURRED, BLURRED_DETAIL = 50.0, 200.0
SOFT, SOFT_DETAIL = 100.0, 300.0
"""Sharpness of the whole picture and of its sharpest parts; a picture is blurred or soft if it is below both."""
TELLING = 128
"""Pixels of the shorter side from which sharpness and likeness say something: below, simple drawings are all alike."""
DARK, BRIGHT, EVEN = 15.0, 240.0, 2.0
LONG = 3.0
SMALL_FACE = 0.05
FEWEST, FEW, MANY, TOO_MANY = 3, 5, 30, 200
MOST_NAMED = 5

ENDINGS: dict[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
    "MPO": frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}),
    "PNG": frozenset({".png", ".apng"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "HEIF": frozenset({".heic", ".heif", ".hif"}),
    "JPEG2000": frozenset({".jp2"}),
}
"""Endings of Pillow's formats; of the others the ending is the name."""

FileKey = tuple[str, int, int]
"""Path, size in bytes and time of change (ns): the same key is taken for the same content."""
LookCache = MutableMapping[FileKey, Measured | DatasetError]
"""What was measured of a file, or why it cannot be used."""
Faces = Literal["all", "needed", "none"]
"""In which pictures faces are looked for; `needed`: in those of which something has to be cut off."""
MaskPlace = Literal["", "file", "transparency"]


@dataclass(frozen=True)
class Look:
    """A file that was looked at.

    name:     its path in the folder, with `/`; what other parts call the picture.
    picture:  None if it cannot be used, or is left out for a reason that `force` can override.
    measured: None if it could not be read.
    problems: what was found about it.
    mask:     where its mask is, if it has one that can be used.
    """

    name: str
    path: Path
    picture: Picture | None
    measured: Measured | None = None
    problems: tuple[Problem, ...] = ()
    mask: MaskPlace = ""

    @property
    def wrong(self) -> str:
        """Errors and warnings about it in a line, without its name; "" if there are none."""
        worst = sorted((p for p in self.problems if p.severity != "info"), key=lambda p: p.severity != "error")
        return "; ".join(problem.message.removeprefix(shown(self.path)).lstrip(": ") for problem in worst)

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of what was found.

        unreadable, too-small, same-file: it is not used. small, long, same-picture, alike, blurred, soft, even, dark,
        bright, grey, frames, ending, profile, name, caption, shared-stem, mask, faces: it is.
        """
        return frozenset(problem.kind for problem in self.problems)


@dataclass(frozen=True)
class Survey:
    """What a folder of photographs holds.

    complete: whether it was looked through to the end. below: pictures in sub-folders that were not looked into.
    """

    folder: Path
    looks: tuple[Look, ...]
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
    def strays(self) -> tuple[Look, ...]:
        """Files that are called like pictures and were not even opened, such as pipes and raw files."""
        known = {look.path for look in self.looks}
        return tuple(
            Look(name_in(self.folder, problem.subject), problem.subject, None, None, (problem,))
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
    memory: LookCache | None = None,
    each: Callable[[Look], bool] | None = None,
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
    judge = _Judge(folder, field, resolution, buckets, step, person, leave_out, force)
    looks: list[Look] = []
    with contextlib.ExitStack() as stack:
        # Pillow prints warnings about odd metadata; what matters is whether the pixels can be read.
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        if finder is None and faces != "none":
            finder = stack.enter_context(FaceFinder())
        measuring = _Measuring(memory, _FaceLook(finder, faces, judge) if finder is not None else None)

        def look_at(path: Path) -> tuple[Measured | DatasetError, DatasetError | None]:
            one = measuring(path)
            return one, None if isinstance(one, DatasetError) else trouble_with_file(path)

        measured = stack.enter_context(contextlib.closing(in_order(look_at, [path for path, _ in files])))
        for (path, repeats), (one, mask) in zip(files, measured, strict=True):
            looks.append(judge.look(path, repeats, one, mask))
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

    def __init__(self, finder: FaceFinder, faces: Faces, judge: _Judge) -> None:
        self._finder = finder
        self._faces = faces
        self._judge = judge

    def wants(self, size: PixelSize) -> bool:
        """Whether to look in a picture of `size`."""
        if self._faces == "none" or not self._finder.available:
            return False
        return self._faces == "all" or not same_shape(size, self._judge.target(size))

    def __call__(self, image: Image.Image, size: PixelSize) -> tuple[Face, ...] | None:
        return self._finder.find(image) if self.wants(size) else None


class _Measuring:
    """Measures files in any thread; what was found before is taken from memory."""

    def __init__(self, memory: LookCache | None, find_faces: _FaceLook | None) -> None:
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


@dataclass
class _Judge:
    """Says what is odd about one picture after the other; knows those that came before."""

    folder: Path
    about: str
    resolution: int
    buckets: bool
    step: int
    person: bool
    leave_out: Collection[str]
    force: Forced
    gallery: LookalikeFinder = field(default_factory=LookalikeFinder)
    by_size: dict[int, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def look(
        self, path: Path, repeats: int, measured: Measured | DatasetError, mask: DatasetError | None = None
    ) -> Look:
        """What there is to say about the file at `path`. mask: what is wrong with the one beside it."""
        name = name_in(self.folder, path)
        problems = Problems()
        if isinstance(measured, DatasetError):
            tell_unreadable(path, measured, problems, self.about)
            return Look(name, path, None, None, tuple(problems))
        forced = self.force == "all" or name in self.force
        self._file(path, measured, problems)
        usable = self._size(path, measured, problems, forced=forced)
        if name not in self.leave_out:
            usable &= self._copies(path, measured, problems, forced=forced)
        self._pixels(path, measured, problems)
        if not path.name.isprintable():
            remedy = "It is used; rename it for the sake of other programs."
            self._tell(problems, "warning", path, "has a name that cannot be printed", "name", remedy)
        sidecar = read_sidecar(path)
        tell_of_caption(path, sidecar, problems, self.about)
        if mask is not None:
            text = f"{mask.message}; {shown(path)} is learned as a whole"
            problems.warning(text, field=self.about, remedy=mask.remedy, subject=path, kind="mask")
        picture = Picture(path, *measured.size, sidecar.caption, repeats) if usable else None
        own: MaskPlace = ""
        if mask is None:
            own = "file" if mask_file(path) is not None else "transparency" if "transparent" in measured.forms else ""
        return Look(name, path, picture, measured, tuple(problems), own)

    def target(self, size: PixelSize) -> PixelSize:
        """What a picture of `size` is trained at."""
        return size_for(size, self.resolution, buckets=self.buckets, step=self.step)

    def _tell(
        self,
        problems: Problems,
        severity: Literal["error", "warning", "info"],
        path: Path,
        message: str,
        kind: str,
        remedy: str = "",
    ) -> None:
        found = Problem(severity, f"{shown(path)} {message}", self.about, remedy, subject=path, kind=kind)
        problems.add([found])

    def _file(self, path: Path, one: Measured, problems: Problems) -> None:
        """Ending, frames, profile."""
        endings = ENDINGS.get(one.format, frozenset({f".{one.format.lower()}"}))
        if path.suffix.lower() not in endings:
            text = f"is really {_article(one.format)} {one.format}; it is read as such"
            self._tell(problems, "info", path, text, "ending")
        if one.frames > 1:
            what = "pages" if one.format == "TIFF" else "frames"
            self._tell(problems, "warning", path, f"has {one.frames} {what}; only the first is used", "frames")
        if one.profile == "broken":
            text = "has a colour profile that cannot be used; its colours are taken as sRGB"
            self._tell(problems, "warning", path, text, "profile")

    def _copies(self, path: Path, one: Measured, problems: Problems, *, forced: bool) -> bool:
        """Pictures like one that came before. Whether the picture is used."""
        if (other := self._same_file(path)) is not None:
            text = f"is the same file as {shown(other)}"
            if forced:
                self._tell(problems, "warning", path, text, "same-file")
                return True
            self._tell(problems, "error", path, text, "same-file", "It is left out unless it is forced.")
            return False
        if min(one.size) < TELLING:
            return True
        match = self.gallery.nearest(one.fingerprint)
        self.gallery.add(path, one.fingerprint)
        if match is not None and match.bits <= SAME:
            how = ", mirrored" if match.mirrored else ""
            text = f"looks the same as {shown(match.path)}{how}"
            self._tell(problems, "warning", path, text, "same-picture", "Leave one of them out.")
        elif match is not None:
            text = f"is very like {shown(match.path)}"
            self._tell(problems, "info", path, text, "alike", "Variety helps.")
        return True

    def _same_file(self, path: Path) -> Path | None:
        """An earlier picture with the very same content."""
        try:
            size = path.stat().st_size
            others = self.by_size[size]
            others.append(path)
            if len(others) == 1:
                return None
            content = file_hash(path)
            return next((other for other in others[:-1] if file_hash(other) == content), None)
        except OSError:
            return None

    def _size(self, path: Path, one: Measured, problems: Problems, *, forced: bool) -> bool:
        """Too small, small, long. Whether the picture is used."""
        width, height = one.size
        target = self.target(one.size)
        times = target[0] / largest_box(one.size, target).width
        usable = True
        if times > MOST and not forced:
            text = f"is {width}x{height}: enlarging it to {_size_text(target)} would be {times:.2g} times"
            self._tell(problems, "error", path, text, "too-small", "It is left out unless it is forced.")
            usable = False
        elif times > 1:
            severity: Literal["warning", "info"] = "warning" if times > NOTED else "info"
            self._tell(problems, severity, path, f"is {width}x{height}: enlarged {times:.2g} times", "small")
        shape = max(width, height) / min(width, height)
        if shape > LONG and not self.buckets:
            text = f"is {shape:.2g}:1; a square keeps only {100 / shape:.0f} % of it"
            self._tell(problems, "warning", path, text, "long", "The mode split makes several of it.")
        return usable

    def _pixels(self, path: Path, one: Measured, problems: Problems) -> None:
        """Even, dark, bright, blurred; faces."""
        if one.contrast < EVEN:
            self._tell(problems, "warning", path, "is all one colour", "even")
        elif one.brightness < DARK:
            self._tell(problems, "warning", path, "is almost black", "dark")
        elif one.brightness > BRIGHT:
            self._tell(problems, "warning", path, "is almost white", "bright")
        elif min(one.size) >= TELLING:
            self._sharpness(path, one, problems)
        if not self.person or one.faces is None:
            return
        found = one.sight.useful_faces
        tallest = max((face.height for face in one.faces), default=0.0)
        if not one.faces:
            self._tell(problems, "info", path, "shows no face that could be found", "faces", "Look at its crop.")
        elif tallest < SMALL_FACE * min(one.size):
            self._tell(problems, "info", path, "shows a very small face", "faces", "Close-ups teach a face better.")
        elif len(found) > 1:
            text = f"shows {len(found)} faces; the crop follows the largest"
            self._tell(problems, "info", path, text, "faces")

    def _sharpness(self, path: Path, one: Measured, problems: Problems) -> None:
        if one.sharpness < BLURRED and one.detail < BLURRED_DETAIL:
            text = f"looks blurred (sharpness {one.sharpness:.0f}; sharp photographs have over 300)"
            self._tell(problems, "warning", path, text, "blurred")
        elif one.sharpness < SOFT and one.detail < SOFT_DETAIL:
            text = f"may be soft (sharpness {one.sharpness:.0f}; sharp photographs have over 300)"
            self._tell(problems, "info", path, text, "soft")


def _tell_of_grey(looks: list[Look], problems: Problems, field: str) -> None:
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


def _with_all_told(looks: list[Look], problems: Problems) -> tuple[Look, ...]:
    """The looks with what was found about them only when all had been looked at."""
    later: dict[Path, list[Problem]] = defaultdict(list)
    for problem in problems:
        if problem.subject is not None:
            later[problem.subject].append(problem)
    return tuple(replace(look, problems=tuple(dict.fromkeys((*look.problems, *later[look.path])))) for look in looks)


def _tell_of_folder(
    folder: Path, looks: list[Look], problems: Problems, field: str, *, subfolders: bool, below: int
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


def _article(word: str) -> str:
    return "an" if word[:1] in "AEIO" else "a"


def _size_text(size: PixelSize) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
