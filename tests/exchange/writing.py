"""Writes small settings files as other trainers do, and reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ti_tui.exchange.gathering import Given, ImportedField
from ti_tui.exchange.importing import ImportedSettings, import_settings


def imported(folder: Path, content: str | dict[str, Any], name: str = "settings", **given: str) -> ImportedSettings:
    """The settings in a file with this content; a dict is written as JSON."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return import_settings(path, Given(**given))


def row(found: ImportedSettings, name: str) -> ImportedField:
    """The only row of a field."""
    (one,) = [row for row in found.rows if row.name == name]
    return one
