"""What commands have in common at their edges: the file that `--output` names, whether they talk to a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from ti_tui.errors import UserError
from ti_tui.paths import user_path


def output_file(given: str, default: Path, *endings: str) -> Path:
    """The file to write: `given`, or `default` if that is empty. Raises UserError for a folder or another ending."""
    path = user_path(given).absolute() if given else default
    if path.is_dir():
        raise UserError(f"{path} is a folder", where="--output", remedy=f"Name a file, such as {default.name}.")
    if path.suffix.lower() not in endings:
        raise UserError(f"{path.name} does not end in {endings[0]}", where="--output")
    return path


def on_terminal(*streams: TextIO | None) -> bool:
    """Whether all of `streams` are terminals. Python has None for a stream that was closed before it started."""
    return all(stream is not None and stream.isatty() for stream in streams)
