"""Captions that other programs keep in one file for a whole folder, or in a JSON file beside an image.

metadata.jsonl and metadata.csv: Hugging Face's "imagefolder", rows with `file_name` and a text column.
meta_lat.json and its like: sd-scripts' metadata, a caption and tags for the path of each image, often without ending.
NAME.json, NAME.jpg.json: what downloaders such as img2dataset and gallery-dl write beside NAME.jpg.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.paths import is_there, leads_out

TABLES = ("metadata.jsonl", "metadata.csv", "meta_lat.json", "meta_clean.json", "meta_cap_dd.json", "meta_cap.json",
          "meta_tag.json", "meta.json", "metadata.json")  # fmt: skip
"""Names of files for a whole folder, the first that has a caption is read."""
TEXTS = ("text", "caption", "prompt", "description")
"""Names of the column or key that holds the caption, the first that is there."""
MOST_ROWS = 100_000
_LIMIT = 16 * bounded.MIB


@dataclass(frozen=True)
class CaptionTable:
    """The captions in one file for a folder. path: the file; problem: why it cannot be read, or "".

    by_name: captions by an image's path within the folder, with `/`; by_stem: by its name without ending, for files
    that do not tell it, each with the folders that its path names.
    """

    path: Path
    by_name: Mapping[str, str] = field(default_factory=dict)
    by_stem: Mapping[str, Sequence[tuple[tuple[str, ...], str]]] = field(default_factory=dict)
    problem: str = ""

    def caption(self, picture: Path) -> str | None:
        """The caption of an image, or None."""
        try:
            name = picture.relative_to(self.path.parent).as_posix()
        except ValueError:
            name = picture.name
        if name in self.by_name:
            return self.by_name[name]
        folders = picture.parent.parts[::-1]
        # Of several images with this name, the one in the folders most like these.
        of_stem = self.by_stem.get(picture.stem, ())
        return max(of_stem, key=lambda each: _alike(each[0][::-1], folders))[1] if of_stem else None

    def without_picture(self, stems: set[str]) -> int:
        """Number of captions for images of which none of `stems` is the name without ending."""
        named = {Path(name).stem for name in self.by_name if "/" not in name} | set(self.by_stem)
        return len(named - stems)


def tables_for(folder: Path) -> list[CaptionTable]:
    """The files with captions in `folder` and in the folder above it, which may name its images. Never raises."""
    found = []
    for path in (place / name for place in (folder, folder.parent) for name in TABLES):
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        found.append(_read(path, status.st_size, status.st_mtime_ns))
    return found


def files_beside(picture: Path) -> list[Path]:
    """The JSON files beside an image that are about it."""
    names = (picture.with_suffix(".json"), picture.with_name(f"{picture.name}.json"))
    return [path for path in names if is_there(path)]


def caption_beside(path: Path) -> str:
    """The caption in a JSON file beside an image; "" if it holds none, or is none. Never raises."""
    if leads_out(path, path.parent) or path.name in TABLES:
        return ""
    try:
        values = bounded.read_json(path, bounded.MIB)
    except (OSError, ValueError):
        return ""
    return _text_of(values) if isinstance(values, dict) else values if isinstance(values, str) else ""


@lru_cache(maxsize=64)
def _read(path: Path, _size: int, _changed: int) -> CaptionTable:
    if leads_out(path, path.parent):
        return CaptionTable(path, problem="is a link to a file outside the folder; it is not read")
    try:
        if path.name.endswith(".json"):
            by_stem: dict[str, list[tuple[tuple[str, ...], str]]] = {}
            for stem, folders, caption in _sd_scripts(path):
                by_stem.setdefault(stem, []).append((folders, caption))
            return CaptionTable(path, by_stem=by_stem)
        return CaptionTable(path, by_name=dict(_rows(path)))
    except OSError as error:
        return CaptionTable(path, problem=f"cannot be read: {error.strerror or error}")
    except (ValueError, csv.Error) as error:
        return CaptionTable(path, problem=f"cannot be read: {error}")


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    text = bounded.read_text(path, _LIMIT)
    if path.suffix == ".csv":
        rows: Iterator[Any] = _csv_rows(text)
    else:
        rows = (_line(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    for number, row in enumerate(rows, start=1):
        if number > MOST_ROWS:
            raise ValueError(f"it has more than {MOST_ROWS} rows")
        name = row.get("file_name") if isinstance(row, dict) else None
        if isinstance(name, str) and (caption := _text_of(row)):
            yield name.replace("\\", "/").removeprefix("./"), caption


def _csv_rows(text: str) -> Iterator[dict[str, str]]:
    """The columns that matter of each row."""
    reader = csv.reader(io.StringIO(text))
    wanted = {at: name for at, name in enumerate(next(reader, [])) if name in {"file_name", "tags", *TEXTS}}
    for row in reader:
        yield {name: row[at] for at, name in wanted.items() if at < len(row)}


def _line(number: int, line: str) -> Any:
    try:
        return bounded.parse_json(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _alike(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of the first parts are the same."""
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _sd_scripts(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(name without ending, folders, caption) of each image."""
    values = bounded.read_json(path, _LIMIT)
    if not isinstance(values, dict):
        raise ValueError("it is not a table of images")
    for key, row in values.items():
        if not isinstance(row, dict):
            continue
        caption, tags = row.get("caption"), row.get("tags")
        parts = [part for part in (caption, tags) if isinstance(part, str) and part]
        if parts:
            *folders, name = key.replace("\\", "/").split("/")
            stem, dot, ending = name.rpartition(".")
            known = stem if dot and ending.isalnum() and len(ending) <= 5 else name
            yield known, tuple(folders), ", ".join(parts)


def _text_of(row: Mapping[str, Any]) -> str:
    for key in TEXTS:
        if isinstance(value := row.get(key), str) and value.strip():
            return value
    tags = row.get("tags")
    if isinstance(tags, list):
        return ", ".join(tag for tag in tags if isinstance(tag, str))
    return tags if isinstance(tags, str) else ""
