"""The fields of the wizard's form: those of the run file, and four of the wizard's own."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal

from ti_tui.errors import UserError
from ti_tui.paths import unquoted

FieldKind = Literal["text", "path", "number", "choice", "flags", "lines", "table"]


class FieldError(UserError):
    """A text that is not a valid value of its field."""


@dataclass(frozen=True)
class FieldSpec:
    """One field.

    kind:    text, path, number; choice: one of `choices`; flags: some of `choices`; lines: a list of texts, one per
             line; table: TOML in braces.
    choices: the accepted words of a choice or flags; for a number the words accepted besides numbers, such as `auto`.
    default: its value if none is set; None if it is required.
    """

    name: str
    label: str
    help: str
    kind: FieldKind
    unit: str = ""
    basic: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None
    accepted: str = ""

    @property
    def table(self) -> str:
        return self.name.partition(".")[0]

    def text_of(self, value: Any) -> str:
        """`value` as a person would type it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "on" if value else "off"
        match self.kind:
            case "flags":
                return ", ".join(value)
            case "lines":
                return "\n".join(value)
            case "table":
                from ti_tui.run.file import toml_text

                return toml_text(value) if value else ""
            case _:
                # A float with all its digits: the text is read back when the field is edited.
                return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)

    def value_of(self, text: str) -> Any:
        """The value that `text` means. Raises FieldError if it is not valid."""
        from ti_tui.run.file import problem_with, value_of

        text = text.strip() if self.kind != "lines" else text
        value: Any
        match self.kind:
            case "flags":
                value = [part.strip() for part in text.split(",") if part.strip()]
            case "lines":
                value = [line.strip() for line in text.splitlines() if line.strip()]
            case "choice" if self.choices == ("off", "on"):
                value = {"on": True, "off": False}.get(text, text)
            case "choice" | "text":
                value = text
            case "path":
                value = unquoted(text)
            case "table" if not text:
                value = {}
            case _:
                value = value_of(self.name, text)
                # TOML requires a digit before the point; people leave it out.
                if isinstance(value, str) and text.startswith("."):
                    value = value_of(self.name, f"0{text}")
        if problem := problem_with(self.name, value):
            raise FieldError(problem.message.rstrip("."), remedy=problem.remedy)
        return value


PHOTOGRAPHS = FieldSpec(
    "photographs", "Photographs", "The folder with 5 to 30 photographs of the subject. It is only read.", "path",
    basic=True, required=True,
)  # fmt: skip
MODEL = FieldSpec(
    "model.base", "Model", "The model: a .safetensors or .ckpt file, a diffusers folder, or a hub id.", "path",
    basic=True, required=True,
)  # fmt: skip
"""As in the run file's table, which the first screen must not load."""
RUN_FOLDER = FieldSpec(
    "run_folder", "Run folder", "Where the run is kept: images, run file, checkpoints, samples, embedding.", "path",
    basic=True,
)  # fmt: skip
CLASS_WORD = FieldSpec(
    "class_word", "Class word", "What the subject is, in a word that the model knows: woman, dog, mug. "
    "The vectors start from it.", "text", basic=True,
)  # fmt: skip
REPEATS = FieldSpec(
    "repeats", "Repeats", "How often each image is used in an epoch. 1, unless you mix sets of unequal size.",
    "number", basic=True, default=1, accepted="a whole number from 1 to 999",
)  # fmt: skip
FOLDERS = frozenset({"photographs", "run_folder", "save.install_to", "dataset.regularisation", "model.tokenizer"})
"""Fields that accept only folders."""
OWN: dict[str, FieldSpec] = {spec.name: spec for spec in (PHOTOGRAPHS, RUN_FOLDER, CLASS_WORD, REPEATS)}
"""Fields of the wizard that are not in the run file."""


@cache
def recipe_fields() -> dict[str, FieldSpec]:
    """Every field of the run file that people set, by its dotted name, in the file's order."""
    from ti_tui.run.field_values import accepted_values
    from ti_tui.run.recipe import TABLES, is_recorded

    fields = {}
    for table, model in TABLES.items():
        for key, info in model.model_fields.items():
            if is_recorded(info):
                continue
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            kind, choices = _kind(info.annotation, is_path=bool(extra.get("path")))
            name = f"{table}.{key}"
            fields[name] = FieldSpec(
                name,
                str(extra.get("label") or key.replace("_", " ").capitalize()),
                info.description or "",
                kind,
                unit=str(extra.get("unit", "")),
                basic=bool(extra.get("basic")),
                required=info.is_required(),
                choices=choices,
                default=None if info.is_required() else info.get_default(call_default_factory=True),
                accepted=accepted_values(info),
            )
    return fields


def field(name: str) -> FieldSpec:
    """The field called `name`. Raises KeyError."""
    return OWN[name] if name in OWN else recipe_fields()[name]


def _kind(annotation: Any, *, is_path: bool) -> tuple[FieldKind, tuple[str, ...]]:
    origin = typing.get_origin(annotation)
    if annotation is bool:
        return "choice", ("off", "on")
    if origin is Literal:
        return "choice", tuple(
            ("on" if value else "off") if isinstance(value, bool) else str(value)
            for value in typing.get_args(annotation)
        )
    if origin in (UnionType, typing.Union):
        words = [value for part in typing.get_args(annotation) for value in _words(part)]
        return "number", tuple(words)
    if origin is list:
        inner = typing.get_args(annotation)[0]
        return ("flags", _words(inner)) if _words(inner) else ("lines", ())
    if origin is dict:
        return "table", ()
    if annotation in (int, float):
        return "number", ()
    return ("path" if is_path else "text"), ()


def _words(annotation: Any) -> tuple[str, ...]:
    return tuple(map(str, typing.get_args(annotation))) if typing.get_origin(annotation) is Literal else ()
