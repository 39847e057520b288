"""Finds A1111, Forge, ComfyUI and InvokeAI on this machine, and their embeddings folders to offer for install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROGRAMS = (
    "stable-diffusion-webui",
    "stable-diffusion-webui-forge",
    "stable-diffusion-webui-reForge",
    "webui",
    "forge",
    "automatic1111",
    "ComfyUI",
    "comfyui",
    "SwarmUI",
    "invokeai",
)
INSIDE = ("embeddings", "models/embeddings", "Models/Embeddings", "autoimport/embedding")
ROOTS = ("", "Desktop", "Documents", "Downloads", "AI", "ai", "apps", "src", "git", "workspace")


def program_folders(home: Path | None = None) -> Iterator[Path]:
    """Where the programs usually lie: below the home folder, /workspace and /opt. They need not be there."""
    home = home or Path.home()
    for root in (*(home / root for root in ROOTS), Path("/workspace"), Path("/opt")):
        for program in PROGRAMS:
            yield root / program


def embeddings_folders(home: Path | None = None) -> list[Path]:
    """Embeddings folders of the programs on this machine."""
    found: dict[Path, None] = {}
    for program in program_folders(home):
        for inside in INSIDE:
            folder = program / inside
            try:
                if folder.is_dir():
                    found.setdefault(folder.resolve())
            except OSError:
                continue
    return list(found)
