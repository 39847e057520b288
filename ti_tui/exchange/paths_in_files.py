"""Finds what a path in a foreign file names on this machine: it may be relative to the file, or written for Windows."""

from __future__ import annotations

import re
from pathlib import Path

from ti_tui.paths import BadPath, is_there, user_path

_HUB = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def found_path(given: str, folder: Path) -> Path | None:
    """The file or folder that `given` names, from here or from `folder` (the file's own); None if it is not here."""
    if not given or "://" in given or "\0" in given or len(given) > 4000:
        return None
    for text in dict.fromkeys((given, given.replace("\\", "/"))):
        try:
            path = user_path(text)
        except BadPath:
            continue
        for place in (path.absolute(), folder / path):
            if is_there(place):
                return place
    return None


def is_hub_id(given: str) -> bool:
    """Whether `given` can be a model's id on the Hugging Face hub."""
    return bool(_HUB.fullmatch(given)) and not given.startswith(".") and not given.endswith((".safetensors", ".ckpt"))
