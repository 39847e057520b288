"""Writes the captions of images in the forms of other programs; `caption_tables` and `caption_files` read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from ti_tui import atomic
from ti_tui.dataset.scan import Scan, name_in
from ti_tui.errors import UserError

CaptionForm = Literal["txt", "caption", "jsonl", "csv", "sd-scripts"]
"""A .txt or .caption file for each image, metadata.jsonl or .csv (Hugging Face's imagefolder), meta_cap.json."""
CAPTION_FORMS: tuple[CaptionForm, ...] = get_args(CaptionForm)
_TABLES: Mapping[CaptionForm, str] = {
    "jsonl": "metadata.jsonl",
    "csv": "metadata.csv",
    "sd-scripts": "meta_cap.json",
}


def export_captions(images: Scan, form: CaptionForm, place: Path, *, force: bool = False) -> list[Path]:
    """Write the captions of `images` into the folder `place`; returns the files. Images without one are left out.

    Raises UserError if there are none, or if a file is there and `force` is not given; CannotWrite.
    """
    captions = {name_in(images.folder, one.path): one.caption for one in images.pictures if one.caption}
    if not captions:
        raise UserError(f"no image in {images.folder} has a caption")
    content = _content(images, form, captions)
    if form in {"txt", "caption"} and len(content) < len(captions):
        raise UserError("several images would share a caption file", remedy="Export jsonl, csv or sd-scripts instead.")
    files = {place / name: text for name, text in content.items()}
    for path in files:
        if not path.parent.resolve().is_relative_to(place.resolve()):
            raise UserError(f"{path.parent} is a link that leads out of {place}", remedy="Choose another folder.")
    if not force and (there := [path for path in files if path.exists()]):
        raise UserError(f"{there[0]} already exists", remedy="Give --force to replace it.")
    for path, text in files.items():
        atomic.write_text(path, text)
    return list(files)


def _content(images: Scan, form: CaptionForm, captions: Mapping[str, str]) -> dict[str, str]:
    """The text of each file, by its path within the folder."""
    match form:
        case "txt" | "caption":
            return {str(Path(name).with_suffix(f".{form}")): text for name, text in captions.items()}
        case "jsonl":
            rows = [
                json.dumps({"file_name": name, "text": text}, ensure_ascii=False) for name, text in captions.items()
            ]
            return {_TABLES[form]: "\n".join(rows) + "\n"}
        case "csv":
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator="\n").writerows([("file_name", "text"), *captions.items()])
            return {_TABLES[form]: buffer.getvalue()}
        case "sd-scripts":
            # It finds an image by its whole path.
            whole = {str((images.folder / name).absolute()): {"caption": text} for name, text in captions.items()}
            return {_TABLES[form]: json.dumps(whole, ensure_ascii=False, indent=2) + "\n"}
