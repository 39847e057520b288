"""Finds the embeddings folders of A1111, Forge, ComfyUI and InvokeAI on this machine, to offer them for install."""

from __future__ import annotations

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


def embeddings_folders(home: Path | None = None) -> list[Path]:
    """Embeddings folders of programs in the usual places below the home folder (and /workspace, /opt)."""
    home = home or Path.home()
    roots = [home / root for root in ROOTS] + [Path("/workspace"), Path("/opt")]
    found: dict[Path, None] = {}
    for root in roots:
        for program in PROGRAMS:
            for inside in INSIDE:
                folder = root / program / inside
                try:
                    if folder.is_dir():
                        found.setdefault(folder.resolve())
                except OSError:
                    continue
    return list(found)
