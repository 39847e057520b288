"""dataset.json in a run folder: which photograph became which images, and how, so that only changes are made again.

`prepare` writes it, the crop review reads it. File names may contain any bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ti_tui import atomic
from ti_tui.dataset.crop_boxes import AUTO, Box, CropChoice, CropRule, Face, PixelSize, box_from
from ti_tui.dataset.picture_choices import MASKS, Masks, PictureChoices
from ti_tui.errors import UserError
from ti_tui.run.hashes import file_hash

NAME = "dataset.json"
FORMAT = 1
PIXELS = 1
"""Increased when the same crop gives other pixels than before, so that all images are made again."""

CaptionOrigin = Literal["", "sidecar", "typed", "edited"]
"""Where a caption came from: nowhere, the caption file of the photograph, the wizard, an edit in the run folder."""
MaskOrigin = Literal["file", "transparency", "face"]
_ORIGINS: tuple[CaptionOrigin, ...] = ("", "sidecar", "typed", "edited")


class ManifestError(UserError):
    """A dataset.json that cannot be read."""


@dataclass(frozen=True)
class MaskSource:
    """What the masks of a photograph are made from; they are made again if it changes.

    sha256: of the mask file, or of the photograph with transparency. face: in pixels of the upright photograph.
    """

    origin: MaskOrigin
    sha256: str = ""
    face: Face | None = None


@dataclass(frozen=True)
class PreparedFile:
    """An image or a mask that was made.

    file: path in the run folder, with `/`. box, rule, size, upscale: see Crop. size_bytes, mtime_ns, sha256: of the
    file; 0 and "" while it is being made.
    """

    file: str
    box: Box
    rule: CropRule
    size: PixelSize
    upscale: float
    size_bytes: int = 0
    mtime_ns: int = 0
    sha256: str = ""

    def same_crop(self, other: PreparedFile) -> bool:
        """Whether both are the same crop at the same size, in the same file."""
        key = (self.file, self.box, self.rule == "whole", self.size)
        return key == (other.file, other.box, other.rule == "whole", other.size)

    def exists(self, run: Path) -> bool:
        """Whether there is a file of its name."""
        return (run / self.file).exists()

    def is_ours(self, run: Path) -> bool:
        """Whether the file is unchanged since it was made, so that it may be replaced or removed."""
        path = run / self.file
        try:
            status = path.stat()
            if not self.sha256:
                # Making it was interrupted; there was no other file of its name before.
                return True
            if (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns):
                return True
            return status.st_size == self.size_bytes and file_hash(path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class Entry:
    """A photograph and what was made of it.

    number:     of its images, permanently: 1 is 0001.png.
    size_bytes, mtime_ns, sha256: of the photograph when it was last read. size: upright, in pixels.
    hash:       its Fingerprint, 32 hexadecimal digits.
    choice:     how it is cropped; None means like all others.
    caption:    as written for its images. look_again: the crop has changed since.
    masks:      made from mask; an image whose mask would be empty has none.
    """

    number: int = 0
    size_bytes: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    size: PixelSize = (0, 0)
    hash: str = ""
    left_out: bool = False
    forced: bool = False
    choice: CropChoice | None = None
    caption: str = ""
    caption_origin: CaptionOrigin = ""
    look_again: bool = False
    made: tuple[PreparedFile, ...] = ()
    mask: MaskSource | None = None
    masks: tuple[PreparedFile, ...] = ()

    @property
    def files(self) -> tuple[PreparedFile, ...]:
        """Its images and masks."""
        return (*self.made, *self.masks)


@dataclass(frozen=True)
class Manifest:
    """The settings of the last `prepare`, and an entry for every photograph, by its name in the source folder.

    choice:   how photographs without a choice of their own are cropped.
    obsolete: files that are no longer wanted but not removed yet.
    """

    source: str
    name: str
    resolution: int
    buckets: bool = False
    step: int = 64
    repeats: int | None = None
    subfolders: bool = False
    choice: CropChoice = AUTO
    masks: Masks = "found"
    entries: dict[str, Entry] = field(default_factory=dict)
    obsolete: tuple[PreparedFile, ...] = ()

    @property
    def choices(self) -> PictureChoices:
        """The last choices for all photographs, and those that were left out; other choices are in the entries."""
        return PictureChoices(
            repeats=self.repeats,
            subfolders=self.subfolders,
            left_out=[name for name, entry in self.entries.items() if entry.left_out],
            crop_all=self.choice,
            masks=self.masks,
        )

    def write(self, run: Path) -> None:
        """Write dataset.json into the folder `run`. Raises CannotWrite."""
        # File names that are not valid text are escaped, and read back as the same names.
        text = json.dumps(self._values(), indent=1, ensure_ascii=True, allow_nan=False)
        atomic.write_text(run / NAME, text + "\n")

    def _values(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "pixels": PIXELS,
            "source": self.source,
            "name": self.name,
            "resolution": self.resolution,
            "buckets": self.buckets,
            "step": self.step,
            "repeats": self.repeats,
            "subfolders": self.subfolders,
            "choice": self.choice.to_values(),
            "masks": self.masks,
            "pictures": {name: _entry_values(entry) for name, entry in self.entries.items()},
            "obsolete": [_made_values(made) for made in self.obsolete],
        }


def read_manifest(run: Path) -> Manifest | None:
    """dataset.json of the folder `run`; None if there is none. Raises ManifestError."""
    path = run / NAME
    remedy = "Use another run folder, or delete it together with the images that it lists."
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise ManifestError(f"{path} was written by a newer ti_tui", remedy="Update ti_tui.")
        return _manifest(values)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ManifestError(f"{path} is damaged", remedy=remedy) from None


def _manifest(values: dict[str, Any]) -> Manifest:
    if (choice := CropChoice.from_values(values["choice"])) is None:
        raise ValueError("no choice")
    repeats = values["repeats"]
    # With another value the files are still ours, but all have to be made again.
    keep = values.get("pixels") == PIXELS
    return Manifest(
        source=str(values["source"]),
        name=str(values["name"]),
        resolution=int(values["resolution"]),
        buckets=bool(values["buckets"]),
        step=int(values["step"]),
        repeats=None if repeats is None else int(repeats),
        subfolders=bool(values.get("subfolders", False)),
        choice=choice,
        masks=_one_of(values.get("masks", "found"), MASKS),
        entries={name: _entry(entry, keep=keep) for name, entry in values["pictures"].items()},
        obsolete=tuple(_made(one) for one in values.get("obsolete", ())),
    )


def _entry_values(entry: Entry) -> dict[str, Any]:
    values: dict[str, Any] = {
        "number": entry.number,
        "size_bytes": entry.size_bytes,
        "mtime_ns": entry.mtime_ns,
        "sha256": entry.sha256,
        "size": list(entry.size),
        "hash": entry.hash,
    }
    for name in ("left_out", "forced", "look_again"):
        if getattr(entry, name):
            values[name] = True
    if entry.choice is not None:
        values["choice"] = entry.choice.to_values()
    if entry.caption:
        values |= {"caption": entry.caption, "caption_origin": entry.caption_origin}
    values["made"] = [_made_values(made) for made in entry.made]
    if entry.mask is not None:
        values["mask"] = _mask_values(entry.mask)
    if entry.masks:
        values["masks"] = [_made_values(made) for made in entry.masks]
    return values


def _mask_values(mask: MaskSource) -> dict[str, Any]:
    if mask.face is not None:
        face = mask.face
        return {"origin": mask.origin, "face": [face.left, face.top, face.width, face.height, face.score]}
    return {"origin": mask.origin, "sha256": mask.sha256}


def _made_values(made: PreparedFile) -> dict[str, Any]:
    return {
        "file": made.file,
        "box": [made.box.left, made.box.top, made.box.width, made.box.height],
        "rule": made.rule,
        "size": list(made.size),
        "upscale": round(made.upscale, 4),
        "size_bytes": made.size_bytes,
        "mtime_ns": made.mtime_ns,
        "sha256": made.sha256,
    }


def _entry(values: dict[str, Any], *, keep: bool) -> Entry:
    return Entry(
        number=int(values["number"]),
        size_bytes=int(values["size_bytes"]) if keep else 0,
        mtime_ns=int(values["mtime_ns"]),
        sha256=str(values["sha256"]) if keep else "",
        size=_size(values["size"]),
        hash=str(values["hash"]),
        left_out=bool(values.get("left_out", False)),
        forced=bool(values.get("forced", False)),
        choice=CropChoice.from_values(values.get("choice")),
        caption=str(values.get("caption", "")),
        caption_origin=values["caption_origin"] if values.get("caption_origin") in _ORIGINS else "",
        look_again=bool(values.get("look_again", False)),
        made=tuple(_made(one) for one in values["made"]),
        mask=_mask(values["mask"]) if keep and "mask" in values else None,
        masks=tuple(_made(one) for one in values.get("masks", ())),
    )


def _mask(values: dict[str, Any]) -> MaskSource:
    origin = _one_of(values["origin"], get_args(MaskOrigin))
    if origin != "face":
        return MaskSource(origin, str(values["sha256"]))
    *corners, score = values["face"]
    if (box := box_from(corners)) is None:
        raise ValueError("no face")
    return MaskSource(origin, face=Face(box.left, box.top, box.width, box.height, int(score)))


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    """`value`, if it is one of `known`. Raises ValueError otherwise."""
    if value not in known:
        raise ValueError(f"{value!r} is not one of {known}")
    return value


def _made(values: dict[str, Any]) -> PreparedFile:
    box = box_from(values["box"])
    file = str(values["file"])
    # Listed files may be replaced and removed, so they must be inside the run folder.
    if box is None or Path(file).is_absolute() or ".." in Path(file).parts:
        raise ValueError("no file of a run")
    return PreparedFile(
        file,
        box,
        values["rule"],
        _size(values["size"]),
        float(values["upscale"]),
        int(values["size_bytes"]),
        int(values["mtime_ns"]),
        str(values["sha256"]),
    )


def _size(values: Any) -> PixelSize:
    width, height = values
    return int(width), int(height)
