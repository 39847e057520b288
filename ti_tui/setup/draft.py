"""The draft: what has been chosen so far in the wizard, kept on disk from the first key press on."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ti_tui import atomic, bounded
from ti_tui.dataset.crop_boxes import AUTO, CropChoice
from ti_tui.dataset.picture_choices import MASKS, Masks, PictureChoices
from ti_tui.paths import BadPath, as_given, unquoted, user_path
from ti_tui.run.scheme import DEFAULT_SCHEME, Segment, segment_values, segments_from_values
from ti_tui.settings import state_folder
from ti_tui.setup.fields import OWN, FieldError, recipe_fields
from ti_tui.setup.fields import field as spec_of

DEFAULT_RUNS = "~/runs"
MOST_FOLDERS = 200
"""How many names are tried for a run folder; if none of them is free, the place most likely cannot be read."""


@dataclass
class FolderChoices:
    """What was chosen about the photographs of one folder; in another folder the same names are different photographs.

    subfolders ... caption_suffix: see PictureChoices.
    reviewed: by photograph, a hash of the caption that was reviewed, and a stamp of the file; see `captions.desk`.
    made:     by photograph, a hash of the caption that a program made.
    typing:   previous texts of captions that are being typed.
    journal:  the time of the last change in the caption history that this draft contains.
    """

    subfolders: bool = False
    left_out: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    crop_all: CropChoice = AUTO
    crops: dict[str, CropChoice] = field(default_factory=dict)
    masks: Masks = "found"
    captions: dict[str, str] = field(default_factory=dict)
    caption_prefix: str = ""
    caption_suffix: str = ""
    reviewed: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    typing: dict[str, str] = field(default_factory=dict)
    journal: float = 0.0


@dataclass
class Draft(FolderChoices):
    """The choices so far; everything else has its default.

    choices_of: the folder whose FolderChoices these are; they do not apply to another.
    mistyped: texts that are not valid values yet, by field name.
    fields:   values of run file fields that were set, by dotted name.
    captioned: whether any image to train has a caption; then the template that uses captions is proposed.
    proposed: the fields that it began with, those of the last run; see `setup/last_run.py`.
    like:     the name of that run.
    runs:     the folder in which the run folder is made if none is given; "" is that of the settings.
    occasion: what the program filled it in for, such as the demo; "" for the user's own draft. Only the user's own
              draft is kept on disk.
    """

    photographs: str = ""
    run_folder: str = ""
    class_word: str = ""
    repeats: int | None = None
    choices_of: str = ""
    mistyped: dict[str, str] = field(default_factory=dict)
    step: str = "dataset"
    saved: float = 0.0
    fields: dict[str, Any] = field(default_factory=dict)
    captioned: bool = False
    proposed: dict[str, Any] = field(default_factory=dict)
    like: str = ""
    runs: str = ""
    occasion: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is kept on disk, in place of the draft before."""
        return not self.occasion

    @property
    def empty(self) -> bool:
        """Whether nothing was chosen that is worth keeping."""
        chosen = self.photographs or self.run_folder or self.class_word or self.mistyped
        return not chosen and self.repeats is None and self.fields == self.proposed

    def text(self, name: str) -> str:
        """What the field `name` shows: the mistyped text, else its value, else ""."""
        if name in self.mistyped:
            return self.mistyped[name]
        if name == "repeats":
            return "" if self.repeats is None else str(self.repeats)
        if name in OWN:
            return str(getattr(self, name))
        if name == "scheme.segments":
            return ""
        if name not in self.fields:
            return ""
        # Texts need no table of fields, which the first screen must not load.
        value = self.fields[name]
        return value if isinstance(value, str) else spec_of(name).text_of(value)

    def value(self, name: str) -> Any:
        """The value of a run file field: the one set, else its default."""
        return self.fields[name] if name in self.fields else self.default(name)

    def default(self, name: str) -> Any:
        """The value of a run file field that is not set: what follows from other choices, else the field's default."""
        if name == "embedding.init":
            return self.class_word
        if name == "dataset.masks":
            # Face masks were asked for, so they are used.
            return self.choices.masks == "faces"
        if name == "dataset.template" and self.captioned and self.photographs:
            return "captions"
        return spec_of(name).default

    def set(self, name: str, text: str) -> None:
        """Set a field to what was typed; "" resets it. Raises FieldError, and keeps the text."""
        self.mistyped.pop(name, None)
        if not text.strip():
            self.reset(name)
            return
        try:
            if name == "repeats":
                self.repeats = _repeats(text)
            elif name in OWN:
                setattr(self, name, unquoted(text) if OWN[name].kind == "path" else text.strip())
            else:
                self.fields[name] = spec_of(name).value_of(text)
        except FieldError:
            self.mistyped[name] = text
            self.fields.pop(name, None)
            raise

    def put(self, name: str, value: Any) -> None:
        """Set a run file field to a value that is known to be valid."""
        self.mistyped.pop(name, None)
        self.fields[name] = value

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of the LR scheme: those set, else the default."""
        values = self.fields.get("scheme.segments")
        return DEFAULT_SCHEME.segments if values is None else segments_from_values(values)

    def put_segments(self, segments: tuple[Segment, ...]) -> None:
        if segments == DEFAULT_SCHEME.segments:
            self.reset("scheme.segments")
        else:
            self.put("scheme.segments", segment_values(segments))

    def reset(self, name: str) -> None:
        self.mistyped.pop(name, None)
        if name == "repeats":
            self.repeats = None
        elif name in OWN:
            setattr(self, name, "")
        else:
            self.fields.pop(name, None)

    def changed(self, name: str) -> bool:
        """Whether a field was set to something else than its default."""
        if name in OWN:
            return self.text(name) not in {"", OWN[name].text_of(OWN[name].default)}
        return name in self.mistyped or (name in self.fields and self.fields[name] != self.default(name))

    def values(self) -> dict[str, dict[str, Any]]:
        """The run file's tables, with the fields that are set; existing paths are made absolute."""
        values = dict(self.fields)
        for name, value in self.fields.items():
            if isinstance(value, str) and (name == "embedding.init" or spec_of(name).kind == "path"):
                values[name] = as_given(value, file=name == "embedding.init")
            if name == "scheme.segments":
                values[name] = [dict(item) for item in value]
        for name in ("embedding.init", "dataset.masks", "dataset.template"):
            if self.default(name) != spec_of(name).default:
                values.setdefault(name, self.default(name))
        return in_tables(values)

    def leave_out(self, name: str) -> None:
        """Leave a photograph out, or use it again."""
        self.own_choices()
        self.left_out ^= {name}

    def force(self, name: str) -> None:
        """Use a photograph that would be refused, or undo that."""
        self.own_choices()
        self.forced ^= {name}

    @property
    def choices(self) -> PictureChoices:
        """What was chosen about the current folder of photographs."""
        if not self.owns_choices:
            return PictureChoices(repeats=self.repeats)
        return PictureChoices(
            **{choice.name: getattr(self, choice.name) for choice in dataclasses.fields(PictureChoices)}
        )

    def take_subfolders(self, taken: bool) -> None:
        """Use photographs from all sub-folders too, or not."""
        self.own_choices()
        self.subfolders = taken

    def choose_masks(self, masks: Masks) -> None:
        """Choose where masks come from."""
        self.own_choices()
        self.masks = masks

    def own_choices(self) -> None:
        """Make these the choices of the current folder of photographs; those of another folder are dropped."""
        if not self.owns_choices:
            for name, value in vars(FolderChoices()).items():
                setattr(self, name, value)
        self.choices_of = str(self.source() or "")

    @property
    def owns_choices(self) -> bool:
        """Whether the choices are those of the current folder of photographs."""
        return self.choices_of == str(self.source() or "")

    def source(self) -> Path | None:
        """The folder of photographs; None if there is none or the text is not a valid path."""
        try:
            return user_path(self.photographs).absolute() if self.photographs else None
        except BadPath:
            return None

    def folder(self, runs_folder: str = DEFAULT_RUNS) -> Path:
        """The run folder: as typed, else a free name after the token. Raises BadPath."""
        if self.run_folder:
            return user_path(self.run_folder).absolute()
        from ti_tui.setup.create import is_taken

        token = str(self.fields.get("embedding.token") or "new-run")
        first = user_path(self.runs or runs_folder).absolute() / token
        for number in range(1, MOST_FOLDERS):
            folder = first if number == 1 else first.with_name(f"{token}-{number}")
            if not is_taken(folder):
                return folder
        raise BadPath(f"no folder can be made in {first.parent}", remedy="Choose another run folder.")

    def to_toml(self) -> str:
        """The draft as text: the run file's tables, and [draft] for everything else."""
        import tomli_w

        new = Draft()
        own = {
            name: form.write(value)
            for name, form in _forms().items()
            if (value := getattr(self, name)) != getattr(new, name)
        }
        return tomli_w.dumps({"draft": own, **in_tables(self.fields)})

    @classmethod
    def from_toml(cls, text: str) -> Draft:
        """Read a draft; invalid values are left out, so that one bad field does not lose the others.

        Raises ValueError if the text is not TOML.
        """
        data = bounded.parse_toml(text)
        own = data.pop("draft", {})
        draft = cls(fields=dict(_usable(data)))
        for name, form in _forms().items():
            if isinstance(own, dict) and name in own and (value := form.read(own[name])) is not None:
                setattr(draft, name, value)
        draft.mistyped = {name: text for name, text in draft.mistyped.items() if name in OWN or name in recipe_fields()}
        return draft


def in_tables(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by dotted name as the run file's tables."""
    tables: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        table, _, key = name.partition(".")
        tables.setdefault(table, {})[key] = value
    return tables


def draft_path() -> Path:
    return state_folder() / "draft.toml"


def save_draft(draft: Draft) -> None:
    """Write the draft. Raises CannotWrite."""
    draft.saved = time.time()
    # File names may be any bytes; they come back as they were.
    atomic.write_bytes(draft_path(), draft.to_toml().encode("utf-8", "surrogateescape"))


def load_draft() -> Draft | None:
    """The draft on disk, or None if there is none worth continuing.

    One that cannot be read is renamed to draft.bad.toml, so that the next save does not overwrite it.
    """
    try:
        content = bounded.read_bytes(draft_path(), bounded.TOML_LIMIT)
        draft = Draft.from_toml(content.decode("utf-8", "surrogateescape"))
    except OSError:
        return None
    except (ValueError, OverflowError):
        with contextlib.suppress(OSError):
            draft_path().replace(bad_draft_path())
        return None
    return None if draft.empty else draft


def bad_draft_path() -> Path:
    """The new name of a draft that cannot be read."""
    return state_folder() / "draft.bad.toml"


def drop_draft() -> None:
    """Delete the draft: its run has been made, or a new draft begins."""
    with contextlib.suppress(OSError):
        draft_path().unlink(missing_ok=True)


def _repeats(text: str) -> int:
    if len(text.strip()) > 3 or not (text.strip().isascii() and text.strip().isdigit() and 1 <= int(text) <= 999):
        raise FieldError(f"{text.strip()!r} is not {OWN['repeats'].accepted}")
    return int(text)


@dataclass(frozen=True)
class _Form:
    """How values of one type are written to the file. read: the value, or None if it is invalid."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda choice: choice


def _of(kind: type) -> _Form:
    return _Form(lambda value: value if type(value) is kind else None)


def _texts(value: Any) -> dict[str, str] | None:
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else None


def _names(value: Any) -> set[str] | None:
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else None


def _crops(value: Any) -> dict[str, CropChoice]:
    read = {name: CropChoice.from_values(values) for name, values in value.items()} if isinstance(value, dict) else {}
    return {name: choice for name, choice in read.items() if choice is not None}


_FORM_OF = {
    "str": _Form(lambda value: value if isinstance(value, str) and value else None),
    "bool": _of(bool),
    "int | None": _of(int),
    "float": _of(float),
    "set[str]": _Form(_names, sorted),
    "dict[str, str]": _Form(_texts),
    "CropChoice": _Form(CropChoice.from_values, CropChoice.to_values),
    "dict[str, CropChoice]": _Form(_crops, lambda crops: {name: choice.to_values() for name, choice in crops.items()}),
    "Masks": _Form(lambda value: value if value in MASKS else None),
}
"""By the annotation of a draft's field."""
_NOT_IN_DRAFT_TABLE = ("fields", "proposed", "occasion")


@cache
def _forms() -> dict[str, _Form]:
    """Form of each field in [draft]."""
    items = dataclasses.fields(Draft)
    return {item.name: _FORM_OF[str(item.type)] for item in items if item.name not in _NOT_IN_DRAFT_TABLE}


def _usable(data: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    from ti_tui.run.file import problem_with

    for table, values in data.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            name = f"{table}.{key}"
            if name in recipe_fields() and problem_with(name, value) is None:
                yield name, value
