"""Plans what `prepare` does: which photographs become which images, which of these exist already, which are removed.

Everything is decided before anything is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ti_tui import bounded
from ti_tui.dataset.caption_files import decode, one_line
from ti_tui.dataset.crop import size_for
from ti_tui.dataset.crop_boxes import MOST, Crop, CropChoice, crops_for
from ti_tui.dataset.manifest import CaptionOrigin, Entry, Manifest, PreparedFile, are_there
from ti_tui.dataset.mask_planning import MaskPlan, mask_source, plan_masks
from ti_tui.dataset.masks import ENDINGS as MASK_ENDINGS
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_file import DatasetError, shown
from ti_tui.dataset.scan import TrainingImage, choose
from ti_tui.dataset.survey import Survey
from ti_tui.formatting import enlarged, listed
from ti_tui.run.hashes import file_hash
from ti_tui.run.problems import Problem, Problems, Severity

FIELD = "dataset.images"


@dataclass
class PlannedPicture:
    """A photograph that is used.

    caption: caption of its images. caption_origin: where it is from.
    again:   whether the images have to be made; otherwise they exist already.
    masks_again: the same for their masks.
    entry:   its entry in dataset.json, with the wanted images; it gets the caption when that is written.
    before:  its entry so far.
    """

    photograph: SurveyedFile
    crops: tuple[Crop, ...]
    caption: str
    caption_origin: CaptionOrigin
    entry: Entry
    before: Entry
    again: bool
    masks_again: bool = False


@dataclass(frozen=True)
class Obsolete:
    """One of our files that is no longer wanted. caption: its caption, if the caption file may be removed with it."""

    made: PreparedFile
    caption: str = ""


@dataclass
class PreparePlan:
    """The plan. others: entries of photographs that are not used, or that are gone while their images stay."""

    planned: list[PlannedPicture] = field(default_factory=list)
    others: dict[str, Entry] = field(default_factory=dict)
    obsolete: list[Obsolete] = field(default_factory=list)

    def manifest(self, asked: Manifest, order: Iterable[str]) -> Manifest:
        """The current dataset.json: files that have not been made yet are listed without a hash."""
        entries = {one.photograph.name: one.entry for one in self.planned} | self.others
        place = {name: at for at, name in enumerate(order)}
        names = sorted(entries, key=lambda name: place.get(name, len(place)))
        gone = tuple(one.made for one in self.obsolete)
        return replace(asked, entries={name: entries[name] for name in names}, obsolete=gone)


def plan_preparation(
    found: Survey, destination: Path, base: Path, manifest: Manifest, old: Manifest | None, choices: PictureChoices
) -> PreparePlan:
    """Decide which photographs are used, and how; adds what is wrong to the problems of `found`.

    base: the folder that paths in dataset.json are relative to. manifest: the present settings for all photographs,
    old: those of the last time. Raises DatasetError if no photograph is left.
    """
    usable = found.scan
    if not usable.pictures:
        raise none_usable(found.folder, found.problems.errors[:2])
    planner = _Planner(found, destination, base, manifest, old, choices)
    chosen = choose(usable, choices)
    if not chosen.pictures:
        raise DatasetError(f"all {len(usable.pictures)} photographs in {shown(str(found.folder))} are left out")
    pictures = {picture.path: picture for picture in chosen.pictures}
    for photograph in found.files:
        planner.add(photograph, pictures.get(photograph.path))
    planner.finish()
    return planner.plan


def none_usable(folder: Path, errors: Sequence[Problem]) -> DatasetError:
    """The error if no photograph in `folder` can be used, with some of the reasons."""
    reasons = "\n".join(problem.sentence for problem in errors)
    return DatasetError(f"no photograph in {shown(str(folder))} can be used", remedy=reasons)


@dataclass
class _Planner:
    """Makes the plan, one photograph after another; the fields are as in `plan_preparation`."""

    found: Survey
    destination: Path
    base: Path
    manifest: Manifest
    old: Manifest | None
    choices: PictureChoices
    plan: PreparePlan = field(default_factory=PreparePlan)

    def __post_init__(self) -> None:
        self.problems = self.found.problems
        self.before, self.gone = _by_name_now(self.old.entries if self.old is not None else {}, self.found)
        entries = (*self.before.values(), *self.gone.values())
        self.last_number = max((entry.number for entry in entries), default=0)
        self.left_out = set(self.choices.left_out)

    def add(self, photograph: SurveyedFile, picture: TrainingImage | None) -> None:
        """Plan for a file of the source. picture: None if it is not to be used."""
        before = self.before.get(photograph.name, Entry())
        forced = self.choices.forced == "all" or photograph.name in self.choices.forced or before.forced
        choice = self.choices.crops.get(photograph.name, before.choice)
        entry = replace(before, left_out=photograph.name in self.left_out, forced=forced, choice=choice)
        if picture is not None:
            crops = self._crops(photograph, entry)
            found = check_crops(photograph, entry.choice or self.manifest.choice, crops, forced=entry.forced)
            self.problems.add(found)
            if found.errors:
                self._drop(photograph.name, entry)
            else:
                self._train(photograph, picture, crops, entry, before)
        elif photograph.measured is not None or entry.left_out:
            if entry.left_out or photograph.name in self.before:
                self._drop(photograph.name, entry)
        elif before.made:
            # It can no longer be read: the images made of it earlier are kept.
            self.gone[photograph.name] = before

    def finish(self) -> None:
        """Plan for photographs that are gone, and for files that could not be removed the last time."""
        for name, entry in self.gone.items():
            if name in self.left_out:
                self._drop(name, replace(entry, left_out=True))
            else:
                self.plan.others[name] = entry
        kept = [shown(name) for name, entry in self.plan.others.items() if name in self.gone and entry.made]
        if kept:
            self.problems.warning(
                f"{listed(kept)}: gone or no longer readable; the images made earlier stay in the run", field=FIELD,
                remedy="Leave it out to remove them.", kind="gone",
            )  # fmt: skip
        wanted = {made.file for one in self.plan.planned for made in one.entry.files}
        left = self.old.obsolete if self.old is not None else ()
        self.plan.obsolete += [Obsolete(made) for made in left]
        self.plan.obsolete = [one for one in self.plan.obsolete if one.made.file not in wanted]

    def _drop(self, name: str, entry: Entry) -> None:
        """Plan for a photograph that is not used: its files are removed, its number and choices stay."""
        self.plan.obsolete += [Obsolete(made, entry.caption) for made in entry.made]
        self.plan.obsolete += [Obsolete(mask) for mask in entry.masks]
        self.plan.others[name] = replace(entry, made=(), mask=None, masks=())

    def _free_number(self, folder: Path) -> int:
        """The next number without a file in `folder`; no number is given twice."""
        while True:
            self.last_number += 1
            if not any((folder / f"{self.last_number:04d}{end}").exists() for end in _ENDINGS):
                return self.last_number

    def _crops(self, photograph: SurveyedFile, entry: Entry) -> tuple[Crop, ...]:
        assert photograph.measured is not None
        manifest = self.manifest
        choice = entry.choice or manifest.choice
        target = size_for(photograph.measured.size, manifest.resolution, buckets=manifest.buckets, step=manifest.step)
        return crops_for(photograph.measured.content, target, choice, split=not manifest.buckets)

    def _train(
        self, photograph: SurveyedFile, picture: TrainingImage, crops: tuple[Crop, ...], entry: Entry, before: Entry
    ) -> None:
        assert photograph.measured is not None
        folder = self.destination / f"{picture.repeats}_{self.manifest.name}"
        number = entry.number or self._free_number(folder)
        wanted = self._files(folder, number, crops)
        ours = {made.file for made in before.made}
        if any(made.exists(self.base) for made in wanted if made.file not in ours):
            # The number is taken: a file that we did not make has its name.
            number = self._free_number(folder)
            wanted = self._files(folder, number, crops)
        status = photograph.path.stat()
        same_file = (status.st_size, status.st_mtime_ns) == (before.size_bytes, before.mtime_ns) and before.sha256
        content = before.sha256 if same_file else file_hash(photograph.path)
        changed = [made for made in before.made if made.exists(self.base) and not made.is_ours(self.base)]
        again = not changed and not (content == before.sha256 and are_there(self.base, before.made, wanted))
        if changed:
            names = ", ".join(Path(made.file).name for made in changed)
            self.problems.warning(
                f"{names} (of {shown(photograph.path)}) was changed by another program; it is kept as it is",
                field=FIELD, remedy="Delete it to make it again.", subject=photograph.path, kind="changed",
            )  # fmt: skip
        caption, origin, there = self._caption(photograph.name, picture, before, wanted)
        if again:
            files = {made.file for made in wanted}
            self.plan.obsolete += [Obsolete(made, there) for made in before.made if made.file not in files]
        masks = MaskPlan(before.mask, before.masks)
        if not changed:
            choice = entry.choice or self.manifest.choice
            source = mask_source(photograph, self.manifest.masks, choice, content, before, self.problems)
            masks = plan_masks(self.base, shown(photograph.path), source, wanted, before, self.problems)
        self.plan.obsolete += [Obsolete(mask) for mask in masks.obsolete]
        moved = bool(before.made) and [made.box for made in before.made] != [made.box for made in wanted]
        entry = replace(
            entry,
            number=number,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=content,
            size=photograph.measured.size,
            hash=f"{photograph.measured.fingerprint.bits:032x}",
            look_again=before.look_again or (again and moved and bool(caption)),
            made=wanted if again else before.made,
            mask=masks.source,
            masks=masks.masks,
        )
        self.plan.planned.append(PlannedPicture(photograph, crops, caption, origin, entry, before, again, masks.again))

    def _files(self, folder: Path, number: int, crops: tuple[Crop, ...]) -> tuple[PreparedFile, ...]:
        """The files to make: 0001.png, or 0001-1.png, 0001-2.png, ... for several crops."""
        names = [f"{number:04d}.png"]
        if len(crops) > 1:
            names = [f"{number:04d}-{piece}.png" for piece in range(1, len(crops) + 1)]
        return tuple(
            PreparedFile(
                (folder / name).relative_to(self.base).as_posix(), crop.box, crop.rule, crop.size, crop.upscale
            )
            for name, crop in zip(names, crops, strict=True)
        )

    def _caption(
        self, name: str, picture: TrainingImage, before: Entry, wanted: tuple[PreparedFile, ...]
    ) -> tuple[str, CaptionOrigin, str]:
        """(caption, its origin, the caption in the run folder). A caption that was edited in the run folder is only
        replaced by one that was chosen since."""
        files = [self.base / made.file for made in (*before.made, *wanted)]
        there = next((text for file in files if (text := caption_beside(file)) is not None), None)
        if there is None and any(file.exists() for file in files):
            there = ""
        new = one_line(picture.caption)
        # The record may be of a preparation that was killed right after it wrote the new caption.
        edited = before.number > 0 and there is not None and there not in {before.caption, new}
        if edited and not (name in self.choices.captions and new != before.caption):
            return there or "", "edited", there or ""
        origin: CaptionOrigin = "typed" if name in self.choices.captions else "sidecar"
        return new, origin if new else "", there or ""


def check_crops(
    photograph: SurveyedFile, choice: CropChoice, crops: Sequence[Crop], *, forced: bool, field: str = FIELD
) -> Problems:
    """Problems with the crops of a photograph; with an error it is not used."""
    problems, path, crop = Problems(), photograph.path, crops[0]
    name, times = shown(path), max(crop.upscale for crop in crops)

    def tell(severity: Severity, message: str, kind: str, remedy: str = "") -> None:
        problems.add([Problem(severity, message, field, remedy, subject=path, kind=kind)])

    if crop.rule == "manual" and times > MOST and not forced:
        text = f"the crop of {name} is {crop.box.width:.0f} pixels wide: it would be {enlarged(times)}"
        tell("error", text, "too-small", "It is left out unless it is forced.")
        return problems
    if crop.rule == "manual" and times > 1 and "small" not in photograph.kinds:
        tell("warning", f"the crop of {name} is {enlarged(times)}", "small")
    if crop.padded:
        tell("warning", f"{name} is padded to fit", "padded", "Bands that are in every image are learned too.")
    if choice.mode == "keep" and crop.rule != "keep":
        (width, height), (wanted, high) = crop.source, crop.size
        tell("warning", f"{name} is {width}x{height}, not {wanted}x{high}: it is cropped, not kept", "not-kept")
    if choice.mode == "face" and crop.rule != "face":
        tell("info", f"{name} shows no face", "faces", "It is cropped by detail.")
    return problems


_ENDINGS = tuple(
    f"{piece}{end}" for piece in ("", "-1") for end in (".png", ".txt", *(f"{e}.png" for e in MASK_ENDINGS))
)
"""Endings of the files of a number."""


def caption_beside(picture: Path) -> str | None:
    """The content of the caption file of an image; None if there is none."""
    try:
        return decode(bounded.read_bytes(picture.with_suffix(".txt")))[0]
    except (OSError, bounded.TooLarge):
        return None


def _by_name_now(before: Mapping[str, Entry], found: Survey) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """(entries by the present names of their photographs, entries whose photograph is gone).

    A renamed photograph is recognised by its content.
    """
    names = {photograph.name: photograph.path for photograph in found.files}
    known = {name: entry for name, entry in before.items() if name in names}
    gone = {name: entry for name, entry in before.items() if name not in names}
    by_content = {entry.sha256: name for name, entry in gone.items() if entry.sha256}
    for name, path in names.items() if by_content else ():
        if name in known:
            continue
        with contextlib.suppress(OSError):
            if (old := by_content.pop(file_hash(path), None)) is not None:
                known[name] = gone.pop(old)
    return known, gone
