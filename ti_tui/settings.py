"""Where the user's own things lie (settings, caches, known runs); the platform's folders, made when needed."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from ti_tui import atomic

APP = "ti_tui"
KNOWN_RUNS = 200


def config_folder() -> Path:
    """Settings and user themes."""
    return _folder("TI_TUI_CONFIG", "config")


def cache_folder() -> Path:
    """What can be made again: hashes of models."""
    return _folder("TI_TUI_CACHE", "cache")


def state_folder() -> Path:
    """The list of known runs and drafts."""
    return _folder("TI_TUI_STATE", "state")


def shipped_themes_folder() -> Path:
    """The themes that come with the program: in the wheel, or in the checkout beside the package."""
    package = Path(__file__).parent
    shipped = package / "data" / "themes"
    return shipped if shipped.is_dir() else package.parent / "themes"


def remember_run(root: Path) -> None:
    """Put a run on the list that `ti-tui runs` shows. A list that cannot be written is no error."""

    runs = [str(root), *(run for run in _known() if run != str(root))]
    with contextlib.suppress(atomic.CannotWrite):
        atomic.write_json(state_folder() / "runs.json", runs[:KNOWN_RUNS])


def known_runs() -> list[Path]:
    """Folders of runs made or trained here, latest first; those that are gone are left out."""
    return [Path(run) for run in _known() if (Path(run) / "run.toml").is_file()]


def _known() -> list[str]:
    try:
        runs = json.loads((state_folder() / "runs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [run for run in runs if isinstance(run, str)] if isinstance(runs, list) else []


def _folder(variable: str, kind: str) -> Path:
    if override := os.environ.get(variable):
        return Path(override)
    import platformdirs

    match kind:
        case "config":
            return platformdirs.user_config_path(APP, appauthor=False)
        case "cache":
            return platformdirs.user_cache_path(APP, appauthor=False)
        case _:
            return platformdirs.user_state_path(APP, appauthor=False)
