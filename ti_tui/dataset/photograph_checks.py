"""Checks a photograph: too small, blurred, a copy of an earlier one. `survey` calls it for each file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ti_tui.dataset.caption_files import read_caption
from ti_tui.dataset.crop import size_for
from ti_tui.dataset.crop_boxes import MOST, NOTED, PixelSize, largest_box
from ti_tui.dataset.duplicates import SAME, LookalikeFinder
from ti_tui.dataset.masks import mask_file
from ti_tui.dataset.picture_choices import Forced
from ti_tui.dataset.picture_file import DatasetError, shown
from ti_tui.dataset.picture_quality import Measured
from ti_tui.dataset.scan import TrainingImage, name_in, report_caption_notes, report_unreadable
from ti_tui.formatting import enlarged
from ti_tui.run.hashes import file_hash
from ti_tui.run.problems import Problem, Problems, Severity

BLURRED, BLURRED_DETAIL = 50.0, 200.0
SOFT, SOFT_DETAIL = 100.0, 300.0
"""Limits for the sharpness of the whole and of the sharpest parts; a blurred or soft photograph is below both."""
LEAST_COMPARABLE = 128
"""Sharpness and similarity mean something from this size (shorter side, pixels): small drawings all look alike."""
DARK, BRIGHT, EVEN = 15.0, 240.0, 2.0
LONG = 3.0
SMALL_FACE = 0.05

ENDINGS: dict[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
    "MPO": frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}),
    "PNG": frozenset({".png", ".apng"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "HEIF": frozenset({".heic", ".heif", ".hif"}),
    "JPEG2000": frozenset({".jp2"}),
}
"""File name endings of Pillow's formats; for the others the ending is the format's name."""

MaskPlace = Literal["", "file", "transparency"]


class _Tell(Protocol):
    """Reports a problem with the photograph being checked. message: without its name."""

    def __call__(self, severity: Severity, message: str, kind: str, remedy: str = "") -> None: ...


@dataclass(frozen=True)
class SurveyedFile:
    """A file that was checked.

    name:     its path in the folder, with `/`; its name everywhere else.
    picture:  None if it cannot be used, or is left out for a reason that `force` can override.
    measured: None if it could not be read.
    problems: everything that was found.
    mask:     where its mask is, if it has a usable one.
    """

    name: str
    path: Path
    picture: TrainingImage | None
    measured: Measured | None = None
    problems: tuple[Problem, ...] = ()
    mask: MaskPlace = ""

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of its problems.

        Not used: unreadable, too-small, same-file. Used: small, long, same-picture, alike, blurred, soft, even, dark,
        bright, grey, frames, ending, profile, name, caption, shared-stem, mask, faces.
        """
        return frozenset(problem.kind for problem in self.problems)


@dataclass
class PhotographChecks:
    """Checks one photograph after another; remembers the earlier ones, to find copies."""

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

    def check(
        self, path: Path, repeats: int, measured: Measured | DatasetError, mask: DatasetError | None = None
    ) -> SurveyedFile:
        """Check the file at `path`. mask: what is wrong with its mask file."""
        name = name_in(self.folder, path)
        problems = Problems()
        if isinstance(measured, DatasetError):
            report_unreadable(path, measured, problems, self.about)
            return SurveyedFile(name, path, None, None, tuple(problems))

        def tell(severity: Severity, message: str, kind: str, remedy: str = "") -> None:
            text = f"{shown(path)} {message}"
            problems.add([Problem(severity, text, self.about, remedy, subject=path, kind=kind)])

        forced = self.force == "all" or name in self.force
        _check_file(path, measured, tell)
        usable = self._check_size(measured, tell, forced=forced)
        if name not in self.leave_out:
            usable &= self._check_copies(path, measured, tell, forced=forced)
        self._check_pixels(measured, tell)
        if not path.name.isprintable():
            tell("warning", "has a name that cannot be printed", "name", "It is used; rename it, for other programs.")
        caption_file = read_caption(path)
        report_caption_notes(path, caption_file, problems, self.about)
        if mask is not None:
            text = f"{mask.message}; {shown(path)} is learned as a whole"
            problems.warning(text, field=self.about, remedy=mask.remedy, subject=path, kind="mask")
        picture = TrainingImage(path, *measured.size, caption_file.caption, repeats) if usable else None
        own: MaskPlace = ""
        if mask is None:
            own = "file" if mask_file(path) is not None else "transparency" if "transparent" in measured.forms else ""
        return SurveyedFile(name, path, picture, measured, tuple(problems), own)

    def target(self, size: PixelSize) -> PixelSize:
        """The size of the image that a photograph of `size` becomes."""
        return size_for(size, self.resolution, buckets=self.buckets, step=self.step)

    def _check_copies(self, path: Path, one: Measured, tell: _Tell, *, forced: bool) -> bool:
        """Report copies of earlier photographs. Returns whether the photograph is used."""
        if (other := self._same_file(path)) is not None:
            text = f"is the same file as {shown(other)}"
            if forced:
                tell("warning", text, "same-file")
            else:
                tell("error", text, "same-file", "It is left out unless it is forced.")
            return forced
        if min(one.size) < LEAST_COMPARABLE:
            return True
        match = self.gallery.nearest(one.fingerprint)
        self.gallery.add(path, one.fingerprint)
        if match is not None and match.bits <= SAME:
            how = ", mirrored" if match.mirrored else ""
            text = f"looks the same as {shown(match.path)}{how}"
            tell("warning", text, "same-picture", "Leave one of them out.")
        elif match is not None:
            tell("info", f"is very similar to {shown(match.path)}", "alike", "Variety helps.")
        return True

    def _same_file(self, path: Path) -> Path | None:
        """An earlier file with the same content."""
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

    def _check_size(self, one: Measured, tell: _Tell, *, forced: bool) -> bool:
        """Report a small or long photograph. Returns whether it is used."""
        width, height = one.size
        target = self.target(one.size)
        times = target[0] / largest_box(one.size, target).width
        too_small = times > MOST and not forced
        if too_small:
            text = f"is {width}x{height}: it would be {enlarged(times)} to {_size_text(target)}"
            tell("error", text, "too-small", "It is left out unless it is forced.")
        elif times > 1:
            tell("warning" if times > NOTED else "info", f"is {width}x{height}: {enlarged(times)}", "small")
        shape = max(width, height) / min(width, height)
        if shape > LONG and not self.buckets:
            text = f"is {shape:.2g}:1; a square keeps only {100 / shape:.0f} % of it"
            tell("warning", text, "long", "The crop mode split makes several images of it.")
        return not too_small

    def _check_pixels(self, one: Measured, tell: _Tell) -> None:
        """Even, dark, bright, blurred; faces."""
        sharpness = f"(sharpness {one.sharpness:.0f}; sharp photographs have over 300)"
        if one.contrast < EVEN:
            tell("warning", "is all one colour", "even")
        elif one.brightness < DARK:
            tell("warning", "is almost black", "dark")
        elif one.brightness > BRIGHT:
            tell("warning", "is almost white", "bright")
        elif min(one.size) >= LEAST_COMPARABLE:
            if one.sharpness < BLURRED and one.detail < BLURRED_DETAIL:
                tell("warning", f"looks blurred {sharpness}", "blurred")
            elif one.sharpness < SOFT and one.detail < SOFT_DETAIL:
                tell("info", f"may be soft {sharpness}", "soft")
        if not self.person or one.faces is None:
            return
        found = one.content.useful_faces
        tallest = max((face.height for face in one.faces), default=0.0)
        if not one.faces:
            tell("info", "shows no face", "faces", "Check its crop.")
        elif tallest < SMALL_FACE * min(one.size):
            tell("info", "shows a very small face", "faces", "A face is learned better from close-ups.")
        elif len(found) > 1:
            tell("info", f"shows {len(found)} faces; the crop follows the largest", "faces")


def _check_file(path: Path, one: Measured, tell: _Tell) -> None:
    """Ending, frames, profile."""
    if path.suffix.lower() not in ENDINGS.get(one.format, {f".{one.format.lower()}"}):
        article = "an" if one.format[:1] in "AEIO" else "a"
        tell("info", f"is really {article} {one.format}; it is read as such", "ending")
    if one.frames > 1:
        what = "pages" if one.format == "TIFF" else "frames"
        tell("warning", f"has {one.frames} {what}; only the first is used", "frames")
    if one.profile == "broken":
        tell("warning", "has a colour profile that cannot be used; its colours are read as sRGB", "profile")


def _size_text(size: PixelSize) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
