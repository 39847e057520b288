"""Decides which masks the images of a run get, and which exist already; `prepare_plan` calls it for each photograph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ti_tui.dataset.crop_boxes import CropChoice
from ti_tui.dataset.manifest import Entry, MaskOrigin, MaskSource, PreparedFile, are_there
from ti_tui.dataset.masks import ENDINGS, mask_file
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.picture_choices import Masks
from ti_tui.dataset.picture_file import DatasetError, shown
from ti_tui.run.hashes import file_hash
from ti_tui.run.problems import Problems

FIELD = "dataset.masks"


@dataclass(frozen=True)
class MaskPlan:
    """What to do for the masks of a photograph.

    source, masks: their entries in dataset.json. again: whether they have to be made. obsolete: our files that are no
    longer wanted.
    """

    source: MaskSource | None = None
    masks: tuple[PreparedFile, ...] = ()
    again: bool = False
    obsolete: tuple[PreparedFile, ...] = ()


def no_finder() -> DatasetError:
    """The error if masks from faces are wanted and the face finder is not installed."""
    return DatasetError("masks from faces need the face finder", remedy="Install it: pip install 'ti_tui[faces]'.")


def mask_origin(photograph: SurveyedFile, masks: Masks) -> MaskOrigin | None:
    """The kind of mask that a photograph gets; None if it gets none."""
    if masks == "none":
        return None
    if photograph.mask:
        return photograph.mask
    if masks == "found" or photograph.measured is None or "mask" in photograph.kinds:
        return None
    return "face" if photograph.measured.content.useful_faces else None


def mask_source(
    photograph: SurveyedFile, masks: Masks, choice: CropChoice, content: str, before: Entry, problems: Problems
) -> MaskSource | None:
    """What the masks of a photograph are made from; None if it gets none. content: SHA-256 of the photograph."""
    origin = mask_origin(photograph, masks)
    if origin == "file" and (own := mask_file(photograph.path)) is not None:
        return MaskSource("file", file_hash(own))
    if origin == "transparency":
        return MaskSource("transparency", content)
    if masks != "faces" or photograph.measured is None or "mask" in photograph.kinds:
        return None
    if faces := photograph.measured.content.useful_faces:
        return MaskSource("face", face=faces[min(choice.face, len(faces) - 1)])
    known = before.mask if before.mask is not None and before.mask.face is not None else None
    if photograph.measured.faces is None and known is not None and content == before.sha256:
        return known
    text = "shows no face" if photograph.measured.faces is not None else "was not searched for faces"
    problems.info(
        f"{shown(photograph.path)} {text}", field=FIELD, remedy="It gets no mask and is learned as a whole.",
        subject=photograph.path, kind="faces",
    )  # fmt: skip
    return None


def plan_masks(
    base: Path,
    name: str,
    source: MaskSource | None,
    pictures: tuple[PreparedFile, ...],
    before: Entry,
    problems: Problems,
) -> MaskPlan:
    """Decide what to do for the masks of `pictures`, the images made of the photograph `name`, in the folder `base`.

    A mask that was made or changed by someone else is never touched.
    """
    theirs = _foreign_mask(base, pictures, before)
    if theirs is not None:
        moved = before.made and [made.box for made in before.made] != [made.box for made in pictures]
        if source is not None or moved:
            text = f"{theirs.name} (of {name}) was changed, or was not made by ti_tui; it is kept as it is"
            text += ", although the crop has changed" if moved else ""
            problems.warning(text, field=FIELD, remedy="Delete it to make it again.", kind="changed")
        return MaskPlan(before.mask, before.masks)
    wanted = tuple(_mask_of(picture) for picture in pictures) if source is not None else ()
    if source == before.mask and are_there(base, before.masks, wanted):
        return MaskPlan(source, before.masks)
    files = {mask.file for mask in wanted}
    obsolete = tuple(mask for mask in before.masks if mask.file not in files)
    return MaskPlan(source, wanted, again=bool(wanted), obsolete=obsolete)


def _foreign_mask(base: Path, pictures: tuple[PreparedFile, ...], before: Entry) -> Path | None:
    """A mask of one of these images that is not as we made it, or that we did not make."""
    ours = {base / mask.file for mask in before.masks if mask.is_ours(base)}
    there = (mask_file(base / picture.file) for picture in (*before.made, *pictures))
    return next((path for path in there if path is not None and path not in ours), None)


def _mask_of(picture: PreparedFile) -> PreparedFile:
    """The mask to make for an image."""
    file = f"{picture.file.removesuffix('.png')}{ENDINGS[0]}.png"
    return replace(picture, file=file, size_bytes=0, mtime_ns=0, sha256="")
