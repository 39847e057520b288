"""Where Stable Diffusion models usually lie: in folders of other programs, in the hub's cache, in folders of one's own.

The model search looks through them; see `setup/model_search.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.embeddings.program_folders import program_folders
from ti_tui.errors import UserError
from ti_tui.paths import user_path

DEEPEST = 3
INSIDE = (
    "models/Stable-diffusion",
    "Models/Stable-Diffusion",
    "models/checkpoints",
    "models/diffusers",
    "autoimport/main",
)
"""In the folder of A1111 or Forge, SwarmUI, ComfyUI, and InvokeAI of before version 4."""
MODEL_PATHS = "extra_model_paths.yaml"
"""ComfyUI's list of further folders."""


@dataclass(frozen=True)
class ModelPlace:
    """A folder in which models may lie; it need not be there.

    depth: levels of folders below it that are searched.
    hub:   whether it is a cache in the hub's layout.
    """

    path: Path
    depth: int = DEEPEST
    hub: bool = False


def model_places(
    named: Iterable[str] = (),
    recent: Iterable[str] = (),
    *,
    home: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[ModelPlace]:
    """The places to search, the likeliest first. It looks for programs on the way, so it may wait for a slow disk.

    named: folders from the settings. recent: models that were used, the last one first.
    """
    home = home or Path.home()
    for text in named:
        yield from _given(text)
    for text in recent:
        # Others may lie beside it.
        yield from (ModelPlace(place.path.parent, 1) for place in _given(text))
    yield ModelPlace(_hub_cache(home, environment), hub=True)
    yield ModelPlace(home / "models")
    if root := environment.get("INVOKEAI_ROOT"):
        yield from _given(f"{root}/models")
    for program in program_folders(home):
        if not _is_folder(program):
            continue
        yield from (ModelPlace(program / inside) for inside in INSIDE)
        if program.name == "invokeai":
            yield ModelPlace(program / "models")
        yield from _listed_by_comfyui(program / MODEL_PATHS)


def _given(text: str) -> Iterator[ModelPlace]:
    """The place that a text means; nothing for a hub id, or for a text that is no path."""
    try:
        path = user_path(text)
    except UserError:
        return
    if path.is_absolute():
        yield ModelPlace(path)


def _hub_cache(home: Path, environment: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps what it downloads."""
    if cache := environment.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if hub_home := environment.get("HF_HOME"):
        return Path(hub_home).expanduser() / "hub"
    return Path(environment.get("XDG_CACHE_HOME") or home / ".cache").expanduser() / "huggingface" / "hub"


def _listed_by_comfyui(file: Path) -> Iterator[ModelPlace]:
    """The folders of checkpoints in ComfyUI's list; nothing if there is none, or it cannot be read."""
    for table in _tables(file):
        try:
            base = file.parent / user_path(str(table.get("base_path") or ""))
        except UserError:
            continue
        for key in ("checkpoints", "diffusers"):
            folders = table.get(key)
            for line in folders.splitlines() if isinstance(folders, str) else ():
                if line.strip():
                    yield from _given(str(base / line.strip()))


def _tables(file: Path) -> list[dict[str, Any]]:
    try:
        content = bounded.parse_yaml(bounded.read_text(file, bounded.YAML_LIMIT))
    except (OSError, ValueError):
        return []
    return [table for table in content.values() if isinstance(table, dict)] if isinstance(content, dict) else []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
