"""Caption files, in the form that every trainer reads: one line of UTF-8, no byte-order mark, never empty."""

from __future__ import annotations

import codecs
import re
import stat
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ti_tui import atomic, bounded
from ti_tui.dataset import caption_tables
from ti_tui.paths import leads_out
from ti_tui.run.problems import Problem

SUFFIXES = (".txt", ".caption")
"""If both exist, the first is read; only the first is written."""

LONG = 2_000
"""A longer caption (in characters) gets a warning; a prompt has 75 tokens, about 300 characters."""
MOST_BYTES = 1_000_000
"""Only this much of a caption file is read; no caption is as large."""

_INVISIBLE = re.compile(
    # Marks, soft hyphens and direction marks; joiners only next to ASCII, where they have no function.
    "[\u00ad\u200b\u200e\u200f\u2060\u2066-\u2069\u202a-\u202e\ufeff\ufff9-\ufffb]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class CaptionFile:
    """A caption, the file that it was read from (None: there is none), and notes about the file.

    A note is a warning if some of the text may be lost or wrong.
    """

    caption: str = ""
    path: Path | None = None
    notes: tuple[Problem, ...] = ()


def read_caption(picture: Path) -> CaptionFile:
    """The caption of a picture: the first line of its caption file that is not empty, cleaned. Never raises."""
    # photo.txt, then photo.jpg.txt, then what `caption_tables` knows.
    names = [picture.with_suffix(suffix) for suffix in SUFFIXES]
    names += [picture.with_name(picture.name + suffix) for suffix in SUFFIXES]
    present = [path for path in names if _is_regular(path)]
    if not present:
        return _from_other_programs(picture)
    path, name = present[0], _shown(present[0].name)
    if leads_out(path, path.parent):
        # Another's folder could otherwise bring any file of this machine into the prompts.
        return CaptionFile(
            "",
            path,
            (Problem("warning", f"its caption {name} is a link to a file outside the folder; it is not read"),),
        )
    notes: list[Problem] = []
    if len(present) > 1:
        notes.append(Problem("info", f"it has {name} and {_shown(present[1].name)}; {name} is used"))
    elif path != picture.with_suffix(SUFFIXES[0]):
        notes.append(Problem("info", f"its caption is read from {name}, and saved as {SUFFIXES[0]}"))
    try:
        with bounded.open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        return CaptionFile("", path, (Problem("warning", f"its caption {name} cannot be read: {error.strerror}"),))
    if len(content) > MOST_BYTES:
        content = content[:MOST_BYTES]
        notes.append(Problem("warning", f"its caption {name} is larger than {MOST_BYTES // 1_000_000} MB"))
    text, odd = decode(content)
    if odd:
        notes.append(Problem("info" if "UTF-16" in odd else "warning", odd))
    elif content.startswith(codecs.BOM_UTF8):
        notes.append(Problem("info", f"its caption {name} starts with a byte-order mark; it is removed"))
    elif b"\0" in content:
        notes.append(Problem("info", f"its caption {name} looks like UTF-16 without a byte-order mark; read as such"))
    return _cleaned(text, path, notes)


def _from_other_programs(picture: Path) -> CaptionFile:
    """The caption of a picture without a caption file, from what other programs write beside it or for its folder."""
    beside = ((path, caption_tables.caption_beside(path)) for path in caption_tables.files_beside(picture))
    tables = ((table.path, table.caption(picture)) for table in caption_tables.tables_for(picture.parent))
    for path, caption in chain(beside, tables):
        if caption:
            note = Problem("info", f"its caption is read from {_shown(path.name)}, and saved as {SUFFIXES[0]}")
            return _cleaned(caption, path, [note])
    return CaptionFile()


def _cleaned(text: str, path: Path, notes: list[Problem]) -> CaptionFile:
    name = _shown(path.name)
    text, left_out = without_invisible(text)
    if left_out:
        notes.append(Problem("info", f"{left_out} in its caption {name}; removed"))
    lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
    if not lines:
        return CaptionFile("", path, (*notes, Problem("warning", f"its caption {name} is empty and counts as none")))
    if len(lines) > 1:
        notes.append(Problem("warning", f"its caption {name} has {len(lines)} lines; the first is used"))
    if len(lines[0]) > LONG:
        length = f"{len(lines[0]):,}".replace(",", " ")
        notes.append(Problem("warning", f"its caption {name} has {length} characters; a prompt has room for about 300"))
    return CaptionFile(lines[0], path, tuple(notes))


def write_caption(picture: Path, caption: str) -> None:
    """Write the caption file of `picture`: one line, UTF-8, no newline at the end. An empty caption deletes it.

    Raises CannotWrite.
    """
    path = picture.with_suffix(SUFFIXES[0])
    line = one_line(caption)
    if line:
        atomic.write_text(path, line)
    else:
        path.unlink(missing_ok=True)


def one_line(text: str) -> str:
    """`text` in the form of a saved caption: one line, single spaces, no invisible characters."""
    # Some invisible characters are only recognised after others have been removed.
    while (line := " ".join(without_invisible(text)[0].split())) != text:
        text = line
    return line


def without_invisible(text: str) -> tuple[str, str]:
    """(text without control and invisible characters, what was removed in words or "")."""
    text, controls = _CONTROL.subn("", text)
    text, invisible = _INVISIBLE.subn("", text)
    parts = [f"{controls} control character{'s' * (controls > 1)}"] if controls else []
    parts += [f"{invisible} invisible character{'s' * (invisible > 1)}"] if invisible else []
    return text, " and ".join(parts)


def decode(content: bytes) -> tuple[str, str]:
    """(text, note) of a caption file in UTF-8, UTF-16 with a byte-order mark, or Windows-1252."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace"), "its caption is UTF-16; read as such"
    try:
        return content.decode("utf-8-sig").replace("\x00", ""), ""
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3 and len(content) == MOST_BYTES:
            # The limit on what is read cut a character in two.
            return content[: error.start].decode("utf-8-sig"), ""
        return content.decode("cp1252", errors="replace"), "its caption is not UTF-8; read as Windows-1252"


def _is_regular(path: Path) -> bool:
    """Whether `path` is a regular file: reading a pipe could block forever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
