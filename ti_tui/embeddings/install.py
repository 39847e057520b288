"""Copies an embedding into the folder where A1111, Forge or ComfyUI looks for it."""

from __future__ import annotations

from pathlib import Path

from ti_tui import atomic
from ti_tui.bounded import TooLarge, read_bytes
from ti_tui.embeddings.files import LARGEST_BYTES, RUN_ID, Embedding, EmbeddingError
from ti_tui.embeddings.subprocess_reader import read_in_subprocess
from ti_tui.errors import UserError
from ti_tui.paths import user_path
from ti_tui.run.scheme import SchemeError, parse


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


def install(source: Path, folder: Path, *, name: str = "", force: bool = False) -> Path:
    """Copy `source` into `folder` as `name` (its own name by default); returns the path there.

    A file with the same content is left alone, and one of the same run is replaced. What is replaced is kept beside
    it with the ending `.bak`. Raises AlreadyThere if there is any other file and `force` is not given, EmbeddingError,
    CannotWrite.
    """
    if name and Path(name).name != name:
        raise EmbeddingError(f"{name!r} is not a file name", remedy="Give a name without folders.")
    target = embeddings_folder(user_path(folder)) / (f"{name}{source.suffix}" if name else source.name)
    try:
        content = read_bytes(source, LARGEST_BYTES)
        if target.exists():
            old = read_bytes(target)
            if old == content:
                return target
            if not force and not same_run(target, source):
                raise AlreadyThere(
                    f"{target} exists and is not from this run",
                    remedy=f"Give --force to replace it; it is then kept as {_backup(target).name}.",
                )
            atomic.write_bytes(_backup(target), old)
    except OSError as error:
        raise EmbeddingError(f"{error.filename} cannot be read: {error.strerror}") from None
    except TooLarge as error:
        raise EmbeddingError(f"{target} is not replaced: {error}") from None
    atomic.write_bytes(target, content)
    return target


def same_run(first: Path, second: Path) -> bool:
    """Whether two files are from the same run of ti_tui, so that the later may replace the earlier.

    A copied run folder has the id of its original; from where it went on with other rates it is another run.
    """
    try:
        one, other = read_in_subprocess(first), read_in_subprocess(second)
    except UserError:
        return False
    run = one.metadata.get(RUN_ID, "")
    steps = min(one.step or 0, other.step or 0)
    return run != "" and run == other.metadata.get(RUN_ID) and _rates(one, steps) == _rates(other, steps)


def _rates(embedding: Embedding, steps: int) -> list[tuple[float, int]]:
    """What the first `steps` steps were trained with: (rate, steps). Empty if the file does not say."""
    try:
        segments = parse(embedding.metadata.get("scheme", ""), "for").segments
    except SchemeError:
        return []
    found: list[tuple[float, int]] = []
    for segment in segments:
        taken = min(segment.steps, steps)
        steps -= taken
        if found and found[-1][0] == segment.learning_rate:
            taken += found.pop()[1]
        if taken:
            found.append((segment.learning_rate, taken))
    return found


def _backup(target: Path) -> Path:
    """Where `target` is kept when it is replaced: NAME.bak, unless that keeps another run's file."""
    number = 1
    while True:
        backup = target.with_name(f"{target.name}.bak{number if number > 1 else ''}")
        if not backup.exists() or same_run(backup, target):
            return backup
        number += 1
