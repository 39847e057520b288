"""dataset.json in a run folder: which photograph became which images, and how, so that only changes are made again.

`prepare` writes it, the crop review reads it. File names may contain any bytes.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from ti_tui import atomic, bounded
from ti_tui.dataset.crop_boxes import AUTO, Box, CropChoice, CropRule, Face, PixelSize, box_from
from ti_tui.dataset.picture_choices import MASKS, Masks, PictureChoices
from ti_tui.errors import UserError
from ti_tui.run.hashes import file_hash

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NAME = "dataset.json"
FORMAT = 1
NAMES = re.compile(r"\d{4,}(-\d+)?(-\w+)?\.png")
"""The names that `prepare` gives: 0001.png, 0001-2.png, 0001-mask.png."""
PIXELS = 1
"""Increased when the same crop gives other pixels than before, so that all images are made again."""

CaptionOrigin = Literal["", "sidecar", "typed", "edited"]
"""Where a caption came from: nowhere, the caption file of the photograph, the wizard, an edit in the run folder."""
MaskOrigin = Literal["file", "transparency", "face"]
Record = TypeVar("Record", bound="DataclassInstance")
Kind = TypeVar("Kind")

ENTRY_HAS = frozenset({"number", "size_bytes", "mtime_ns", "sha256", "size", "hash", "made"})
"""What every entry has in dataset.json; other fields are left out while they are empty."""


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
        return (run / self.file).exists()

    def is_ours(self, run: Path) -> bool:
        """Whether the file is unchanged since it was made, so that it may be replaced or removed.

        A record may come with a run folder from elsewhere: what it lists is ours only in the folder of images, which
        itself may be a link to another disk, and not by way of further links.
        """
        path = run / self.file
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or not NAMES.fullmatch(path.name) or self._by_links(run):
                return False
            if not self.sha256:
                # Making it was interrupted; there was no other file of its name before. Behind a link there may be one:
                # then it is ours if it is younger than the record, by the time that nobody can set.
                linked = (run / Path(self.file).parts[0]).is_symlink()
                return not linked or status.st_ctime_ns >= (run / NAME).stat().st_ctime_ns
            if (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns):
                return True
            return status.st_size == self.size_bytes and file_hash(path) == self.sha256
        except OSError:
            return False

    def _by_links(self, run: Path) -> bool:
        """Whether the way to the file, after the folder of images, goes over links."""
        top, *inner = Path(self.file).parts[:-1] or (".",)
        start = (run / top).resolve() if top == "img" else run.resolve() / top
        return (run / top).joinpath(*inner).resolve() != start.joinpath(*inner)


def are_there(run: Path, made: Sequence[PreparedFile], wanted: Sequence[PreparedFile]) -> bool:
    """Whether `made` are exactly the wanted files, and nobody has changed them."""
    return len(made) == len(wanted) and all(
        old.same_crop(new) and old.sha256 and old.is_ours(run) for old, new in zip(made, wanted, strict=True)
    )


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
    look_again: bool = False
    choice: CropChoice | None = None
    caption: str = ""
    caption_origin: CaptionOrigin = ""
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
        values = {"format": FORMAT, "pixels": PIXELS, **_plain(self)}
        text = json.dumps(values, indent=1, ensure_ascii=True, allow_nan=False)
        atomic.write_text(run / NAME, text + "\n")


def read_manifest(run: Path) -> Manifest | None:
    """dataset.json of the folder `run`; None if there is none. Raises ManifestError."""
    path = run / NAME
    remedy = "Use another run folder, or delete it together with the images that it lists."
    try:
        values = bounded.read_json(path)
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
    required = ("source", "name", "resolution", "buckets", "step", "repeats", "choice", "entries")
    manifest = _read(Manifest, {**values, "entries": values["pictures"]}, required)
    if values.get("pixels") != PIXELS:
        # The files are still ours, but all have to be made again.
        for name, entry in manifest.entries.items():
            manifest.entries[name] = replace(entry, size_bytes=0, sha256="", mask=None)
    return manifest


def _plain(value: Any) -> Any:
    """`value` as it stands in dataset.json."""
    match value:
        case CropChoice():
            return value.to_values()
        case Box():
            return list(astuple(value))
        case tuple():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case Manifest():
            return {"pictures" if name == "entries" else name: _plain(item) for name, item in vars(value).items()}
        case PreparedFile():
            return {name: _plain(item) for name, item in vars(replace(value, upscale=round(value.upscale, 4))).items()}
        case MaskSource():
            return {name: _plain(item) for name, item in vars(value).items() if item}
        case Entry():
            known = value if value.caption else replace(value, caption_origin="")
            return {name: _plain(item) for name, item in vars(known).items() if item or name in ENTRY_HAS}
    return value


def _read(kind: type[Record], values: Mapping[str, Any], required: Collection[str]) -> Record:
    """The inverse of `_plain`. Raises KeyError if a required field is missing, ValueError for an invalid value."""
    forms = {field.name: str(field.type) for field in fields(kind) if field.name in values or field.name in required}
    return kind(**{name: _READERS[form](values[name]) for name, form in forms.items()})


def _size(values: Any) -> PixelSize:
    width, height = values
    return int(width), int(height)


def _valid(value: Kind | None) -> Kind:
    if value is None:
        raise ValueError("not valid")
    return value


def _face(values: Any) -> Face:
    *corners, score = values
    box = _valid(box_from(corners))
    return Face(box.left, box.top, box.width, box.height, int(score))


def _made(values: Any) -> tuple[PreparedFile, ...]:
    files = tuple(_read(PreparedFile, one, {field.name for field in fields(PreparedFile)}) for one in values)
    # Listed files may be replaced and removed, so they must be inside the run folder.
    if any(Path(made.file).is_absolute() or ".." in Path(made.file).parts for made in files):
        raise ValueError("no file of a run")
    return files


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "int | None": lambda value: None if value is None else int(value),
    "float": float,
    "str": str,
    "bool": bool,
    "PixelSize": _size,
    "Box": lambda values: _valid(box_from(values)),
    "CropRule": str,
    "CropChoice": lambda values: _valid(CropChoice.from_values(values)),
    "CropChoice | None": CropChoice.from_values,
    "CaptionOrigin": lambda value: value if value in get_args(CaptionOrigin) else "",
    "Masks": lambda value: _valid(value if value in MASKS else None),
    "MaskOrigin": lambda value: _valid(value if value in get_args(MaskOrigin) else None),
    "Face | None": _face,
    "MaskSource | None": lambda values: _read(MaskSource, values, ("origin",)),
    "tuple[PreparedFile, ...]": _made,
    "dict[str, Entry]": lambda entries: {name: _read(Entry, entry, ENTRY_HAS) for name, entry in entries.items()},
}
"""By the annotation of a field."""
