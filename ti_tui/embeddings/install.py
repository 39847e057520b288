"""Copying an embedding into the folder where A1111, Forge or ComfyUI looks for it."""

from __future__ import annotations

from pathlib import Path

from ti_tui import atomic
from ti_tui.embeddings.files import EmbeddingError


def embeddings_folder(given: Path) -> Path:
    """The embeddings folder that `given` means: itself, or the one in A1111's, Forge's or ComfyUI's folder.

    Raises EmbeddingError if there is none; it is never made, because a wrong path would go unnoticed.
    """
    if not given.is_dir():
        raise EmbeddingError(
            f"there is no folder {given}", remedy="Give the embeddings folder of A1111, Forge or ComfyUI."
        )
    if given.name == "embeddings":
        return given
    for inner in (given / "embeddings", given / "models" / "embeddings"):
        if inner.is_dir():
            return inner
    return given


def install(source: Path, folder: Path, *, name: str = "", force: bool = False) -> Path:
    """Copy `source` into `folder` as `name` (its own name by default); returns the path there.

    A file with the same content is left alone. Raises EmbeddingError if a different one is there and `force`
    is not given, CannotWrite if it cannot be written.
    """
    target = embeddings_folder(folder) / (f"{name}{source.suffix}" if name else source.name)
    try:
        content = source.read_bytes()
        if target.exists():
            if target.read_bytes() == content:
                return target
            if not force:
                raise EmbeddingError(f"{target} exists and is different", remedy="Give --force to replace it.")
    except OSError as error:
        raise EmbeddingError(f"{error.filename} cannot be read: {error.strerror}") from None
    atomic.write_bytes(target, content)
    return target
