"""Copies an embedding into the folder where A1111, Forge or ComfyUI looks for it."""

from __future__ import annotations

from pathlib import Path

from ti_tui import atomic
from ti_tui.embeddings.files import EmbeddingError
from ti_tui.embeddings.subprocess_reader import read_in_subprocess
from ti_tui.errors import UserError
from ti_tui.paths import user_path


class AlreadyThere(EmbeddingError):
    """A different file of that name exists; `force` replaces it."""


def embeddings_folder(given: Path) -> Path:
    """The embeddings folder that `given` means: itself, or the one in the folder of A1111, Forge or ComfyUI.

    Raises EmbeddingError if the folder does not exist; it is never made, to catch mistyped paths.
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


def same_run(first: Path, second: Path) -> bool:
    """Whether two files are from the same run of ti_tui, so that the later may replace the earlier."""
    try:
        a, b = read_in_subprocess(first), read_in_subprocess(second)
    except UserError:
        return False
    keys = ("modelspec.implementation", "dataset_sha256", "base_model_sha256", "seed")
    known = a.metadata.get("modelspec.implementation") == "ti_tui"
    return known and a.token == b.token and all(a.metadata.get(key) == b.metadata.get(key) for key in keys)


def install(source: Path, folder: Path, *, name: str = "", force: bool = False) -> Path:
    """Copy `source` into `folder` as `name` (its own name by default); returns the path there.

    A file with the same content is left alone; an earlier one of the same run is replaced. Raises AlreadyThere if a
    different file exists and `force` is not given, EmbeddingError, CannotWrite.
    """
    if name and Path(name).name != name:
        raise EmbeddingError(f"{name!r} is not a file name", remedy="Give a name without folders.")
    target = embeddings_folder(user_path(folder)) / (f"{name}{source.suffix}" if name else source.name)
    try:
        content = source.read_bytes()
        if target.exists():
            if target.read_bytes() == content:
                return target
            if not force and not same_run(target, source):
                raise AlreadyThere(f"{target} exists and is different", remedy="Give --force to replace it.")
    except OSError as error:
        raise EmbeddingError(f"{error.filename} cannot be read: {error.strerror}") from None
    atomic.write_bytes(target, content)
    return target
