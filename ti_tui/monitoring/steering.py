"""Steers a run from outside, for the dashboard: changes the rates ahead, installs and deletes checkpoints."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ti_tui import bounded
from ti_tui.embeddings import files as embedding_files
from ti_tui.embeddings.install import embeddings_folder, install
from ti_tui.embeddings.run_files import drop
from ti_tui.embeddings.subprocess_reader import read_in_subprocess
from ti_tui.errors import UserError
from ti_tui.run import file as run_file
from ti_tui.run import requests
from ti_tui.run.folder import RunFolder
from ti_tui.run.scheme import Scheme, parse


def change_scheme(folder: RunFolder, step: int, text: str, *, now: int, ahead_steps: int = 0) -> Scheme:
    """Change the rates from `step` on; returns the whole scheme as it will be. Raises UserError.

    A trainer takes the change after its current step and writes it into the run file; without one it is written here.
    now:         the current step of the run; steps since `step` count as part of the new rates.
    ahead_steps: steps that the trainer may take before it reads the request: a scheme that ends earlier is refused.
    """
    run = run_file.load(folder.file)
    ahead = parse(text, "for").segments
    old = run.scheme.scheme()
    old.steered(step, ahead, now + ahead_steps)
    scheme = old.steered(step, ahead, now)
    if folder.trainer() is not None:
        request = requests.submit(folder, "scheme", step=step, segments=ahead)
        # A trainer that ended just now has left the request.
        if folder.trainer() is not None or not request.exists():
            return scheme
        request.unlink(missing_ok=True)
    run_file.save(run.with_scheme(scheme), folder.file)
    return scheme


def delete_checkpoint(folder: RunFolder, step: int) -> None:
    """Delete the state and the embedding files of one checkpoint. Raises UserError for the newest while it trains."""
    steps = folder.checkpoints()
    if folder.trainer() is not None and steps and step == steps[-1]:
        raise UserError("the trainer may go back to the newest checkpoint", remedy="Wait for the next one.")
    drop(folder, step, run_file.load(folder.file).embedding.token)


def install_checkpoint(folder: RunFolder, step: int | None, into: Path, name: str, *, force: bool = False) -> Path:
    """Copy the embedding of the checkpoint at `step` (None: the final one) into an embeddings folder.

    Returns its path there. Raises UserError, AlreadyThere for a different file of that name unless `force`.
    """
    source = embedding_at(folder, step)
    if source is None:
        raise UserError(f"the embedding of step {step} no longer exists")
    read_in_subprocess(source)
    return install(source, into, name=name, force=force)


def installed_steps(folder: RunFolder, steps: Collection[int], into: Path, name: str) -> set[int]:
    """Those of `steps` whose embedding is the same as `name` in an embeddings folder."""
    found: set[int] = set()
    try:
        place = embeddings_folder(into)
        for suffix in (".safetensors", ".pt"):
            if (place / f"{name}{suffix}").is_file():
                there = bounded.read_bytes(place / f"{name}{suffix}", embedding_files.LARGEST_BYTES)
                found |= {step for step in steps if same_content(folder.embedding(name, step, suffix), there)}
                if same_content(folder.embedding(name, None, suffix), there):
                    found |= {max(steps, default=0)}
    except (UserError, OSError, bounded.TooLarge):
        return found
    return found


def same_content(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and bounded.read_bytes(path, len(content)) == content
    except (OSError, bounded.TooLarge):
        return False


def embedding_at(folder: RunFolder, step: int | None) -> Path | None:
    """The embedding file of a checkpoint, or the final one for None; the most widely read format first."""
    token = run_file.load(folder.file).embedding.token
    for suffix in embedding_files.SUFFIXES.values():
        path = folder.embedding(token, step, suffix)
        if path.is_file():
            return path
    return None
