"""The settings of run files as text: what differs from the defaults, and what differs between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ti_tui.run.file import toml_text
from ti_tui.run.folder import RunFolder
from ti_tui.run.recipe import TABLES, RunFile, SchemeTable
from ti_tui.run.scheme import format_scheme

_REASON_NAMES = {"beside": "overhead", "holds": "memory use"}
"""Names of the plan's reasons where their keys, which logs hold, are no names for people."""


@dataclass(frozen=True)
class RunSetting:
    """A field of a run file. text, default: as people write them; default is "" if there is none."""

    name: str
    text: str
    default: str
    is_default: bool
    help: str


@dataclass(frozen=True)
class SettingDifference:
    """A field that differs between runs, with its value in each."""

    name: str
    texts: tuple[str, ...]


def settings_of(recipe: RunFile) -> list[RunSetting]:
    """Every field, in the order of the run file."""
    found = []
    for table, model in TABLES.items():
        for key, info in model.model_fields.items():
            value = getattr(getattr(recipe, table), key)
            required = info.is_required()
            default = None if required else info.get_default(call_default_factory=True)
            name, help_text = f"{table}.{key}", info.description or ""
            shown = "" if required else _text(name, default)
            found.append(RunSetting(name, _text(name, value), shown, not required and value == default, help_text))
    return found


def named_reasons(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """The plan's reasons with names for people."""
    return [(_REASON_NAMES.get(key, key), reason) for key, reason in reasons.items()]


def differences(runs: Sequence[tuple[RunFolder, RunFile]]) -> list[SettingDifference]:
    """The fields in which the run files differ, defaults filled in.

    Different paths to the same file or folder count as equal.
    """
    found = []
    for table, model in TABLES.items():
        for key, info in model.model_fields.items():
            values = [getattr(getattr(recipe, table), key) for _, recipe in runs]
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("path"):
                compared: list[Any] = [resolved(folder, text) for (folder, _), text in zip(runs, values, strict=True)]
                compared = compared if len(set(values)) > 1 else values
            else:
                compared = values
            if any(one != compared[0] for one in compared):
                name = f"{table}.{key}"
                found.append(SettingDifference(name, tuple(_text(name, value) for value in values)))
    return found


def resolved(folder: RunFolder, text: str) -> str:
    """The resolved path of a run file's path, "" for none; a hub id as it is."""
    return str(folder.path(text).resolve()) if text and folder.path(text).exists() else text


def _text(name: str, value: Any) -> str:
    if name == "scheme.segments":
        # In the usual notation, not as a list of tables.
        return format_scheme(SchemeTable(segments=value).scheme().segments)
    if isinstance(value, str):
        return value or "(empty)"
    if isinstance(value, list):
        # On one line, unlike in the file.
        return f"[{', '.join(toml_text(item) for item in value)}]"
    return toml_text(value)
