"""What the wizard proposes for the next run: the model, the directories and the scheme of the last one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ti_tui import settings
from ti_tui.formatting import location
from ti_tui.run.scheme import SchemeError, segments_from_values
from ti_tui.setup.draft import Draft

KEPT: dict[str, type] = {
    "model.base": str,
    "dataset.resolution": int,
    "save.install_to": str,
    "scheme.segments": list,
    "scheme.warmup_steps": int,
    "scheme.shape": str,
}
"""Fields of the run file, each with its type: those that belong to the model, the machine and the way of training."""


def remember(root: Path, values: Mapping[str, Mapping[str, Any]], *, chosen: bool = False) -> None:
    """Remember a run that was made at `root` with the run file's `values`, for the next one.

    chosen: whether its folder was chosen, and is not just that of the settings.
    """
    given = {name: values.get(name.partition(".")[0], {}).get(name.partition(".")[2]) for name in KEPT}
    kept = {name: value for name, value in given.items() if value is not None}
    settings.remember_last_run({**kept, "name": root.name, "runs": str(root.parent) if chosen else ""})
    if base := kept.get("model.base"):
        settings.remember_model(str(base))


def proposed_draft() -> Draft:
    """A new draft that begins with the settings of the last run; it counts as empty until something else is chosen."""
    last = settings.last_run()
    fields: dict[str, Any] = {
        name: value for name, kind in KEPT.items() if type(value := last.get(name)) is kind and value
    }
    try:
        segments_from_values(fields.get("scheme.segments", []))
    except (TypeError, ValueError, KeyError, SchemeError):
        del fields["scheme.segments"]
    for name in ("model.base", "save.install_to"):
        if Path(fields.get(name, "")).is_absolute():
            fields[name] = location(Path(fields[name]))
    if not fields:
        return Draft()
    name, runs = (text if isinstance(text := last.get(key), str) else "" for key in ("name", "runs"))
    return Draft(fields=fields, proposed=dict(fields), like=name, runs=runs)
