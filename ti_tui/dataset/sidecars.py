"""Caption files beside pictures, in the form that every trainer reads: one line, UTF-8, no mark, never empty."""

from __future__ import annotations

import codecs
from pathlib import Path

from ti_tui import atomic

SUFFIXES = (".txt", ".caption")


def read_caption(picture: Path) -> tuple[str, str]:
    """(caption, note) of a picture. No sidecar gives "". The note says what was odd about the file, or is ""."""
    for suffix in SUFFIXES:
        path = picture.with_suffix(suffix)
        if not path.is_file():
            continue
        try:
            text, note = decode(path.read_bytes())
        except OSError as error:
            return "", f"its caption {path.name} cannot be read: {error.strerror}"
        lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
        if not lines:
            return "", f"its caption {path.name} is empty: counts as none"
        if len(lines) > 1:
            note = f"its caption {path.name} has {len(lines)} lines; the first is used"
        return lines[0], note
    return "", ""


def write_caption(picture: Path, caption: str) -> None:
    """Write the sidecar of `picture`: one line, UTF-8, without a newline; an empty caption removes it."""
    path = picture.with_suffix(SUFFIXES[0])
    line = " ".join(caption.split())
    if line:
        atomic.write_text(path, line)
    else:
        path.unlink(missing_ok=True)


def decode(content: bytes) -> tuple[str, str]:
    """(text, note) of a caption file in UTF-8, UTF-16 with its mark, or Windows-1252."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace"), "its caption is UTF-16; read as such"
    try:
        return content.decode("utf-8-sig").replace("\x00", ""), ""
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "its caption is not UTF-8; read as Windows-1252"
