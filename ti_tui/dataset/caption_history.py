"""The history of caption changes, for undo: an append-only file with one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ti_tui import atomic, bounded
from ti_tui.dataset.caption_files import SUFFIXES, decode, read_caption, write_caption

FILE = "captions.jsonl"
MOST_BATCHES = 500
READ_BYTES = 16_000_000
"""Of a longer file only the end is read; 500 batches of 100 captions are smaller."""


@dataclass(frozen=True)
class Change:
    """A change of a caption.

    t:       when, in unix seconds.
    batch:   shared by changes that were made together and are undone together; see `new_batch`.
    picture: its path relative to the folder with the history, with `/`.
    old, new: the captions; "" for none.
    how:     what made the new one: "BLIP", "file name", "typed".
    was:     content of the caption file, if that was more than `old`: trainers read only the first line.
    """

    t: float
    batch: str
    picture: str
    old: str
    new: str
    how: str
    was: str = ""


def history_file(folder: Path) -> Path:
    """The history file of the captions in `folder`: a run folder, or a folder of photographs."""
    return folder / FILE


def new_batch() -> str:
    """A new id for changes that belong together."""
    return uuid.uuid4().hex[:12]


def append(file: Path, changes: Iterable[Change]) -> None:
    """Append changes and sync the file. If a killed program left half a line, it is ended first.

    Raises CannotWrite.
    """
    # ASCII: file names may contain bytes that are not text.
    lines = b"".join(json.dumps(_values(change)).encode("ascii") + b"\n" for change in changes)
    if not lines:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            if size:
                os.lseek(descriptor, size - 1, os.SEEK_SET)
                if os.read(descriptor, 1) != b"\n":
                    lines = b"\n" + lines
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise atomic.cannot_write(file, error) from error


def change_caption(file: Path, picture: Path, new: str, *, batch: str, how: str) -> None:
    """Change the caption of `picture`, after recording the change in the history `file`.

    Does nothing if it has this caption already. Raises CannotWrite.
    """
    old = read_caption(picture).caption
    new = " ".join(new.split())
    if new == old:
        return
    folder = file.parent
    name = picture.relative_to(folder).as_posix() if picture.is_relative_to(folder) else str(picture)
    was = _whole(picture)
    append(file, [Change(time.time(), batch, name, old, new, how, was if was != old else "")])
    write_caption(picture, new)


def read(file: Path) -> list[tuple[Change, ...]]:
    """The last 500 batches, oldest first, each with its changes in order; empty without a file.

    Invalid lines, such as a half-written last one, are skipped. Raises OSError if the file exists and cannot be read.
    """
    batches: dict[str, list[Change]] = {}
    for line in _last_lines(file):
        if (change := _change(line)) is not None:
            batches.setdefault(change.batch, []).append(change)
    return [tuple(changes) for changes in batches.values()][-MOST_BATCHES:]


def _whole(picture: Path) -> str:
    """The whole content of the image's caption file, stripped of white space."""
    for path in (picture.with_suffix(suffix) for suffix in SUFFIXES):
        with contextlib.suppress(OSError, bounded.TooLarge):
            if path.is_file():
                return decode(bounded.read_bytes(path))[0].strip()
    return ""


def _last_lines(file: Path) -> list[bytes]:
    if not file.is_file():
        return []
    with file.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        start = max(0, size - READ_BYTES)
        content.seek(start)
        lines = content.read().split(b"\n")
    return lines[1:] if start else lines


def _values(change: Change) -> dict[str, Any]:
    values = asdict(change)
    if not change.was:
        del values["was"]
    return values


def _change(line: bytes) -> Change | None:
    try:
        values = bounded.parse_json(line)
        change = Change(**{name: values[name] for name in Change.__dataclass_fields__ if name in values})
    except (ValueError, TypeError):
        return None
    texts = (change.batch, change.picture, change.old, change.new, change.how, change.was)
    whole = all(isinstance(text, str) for text in texts) and type(change.t) in (int, float)
    return change if whole else None
