"""Paths as people type them: `~` expanded, impossible ones refused in words instead of deep inside."""

from __future__ import annotations

from pathlib import Path

from ti_tui.errors import UserError

LONGEST_NAME_BYTES = 255


class BadPath(UserError):
    """A text that cannot be a path here."""


def user_path(text: str | Path) -> Path:
    """The path that `text` means. Raises BadPath for an unknown `~user`, a null byte, a name that is too long."""
    shown = str(text) if str(text).isprintable() and len(str(text)) < 80 else f"{str(text)[:60]!r}..."
    try:
        path = Path(text).expanduser()
        names = [name.encode("utf-8") for name in path.parts]
    except RuntimeError:
        raise BadPath(f"{shown}: there is no such user, so no home folder") from None
    except UnicodeEncodeError:
        raise BadPath(f"{shown}: the name is not text (UTF-8)", remedy="Rename it, or choose another.") from None
    if b"\0" in b"".join(names):
        raise BadPath(f"{shown}: a path cannot hold a null byte")
    if any(len(name) > LONGEST_NAME_BYTES for name in names):
        raise BadPath(f"{shown}: a name of more than {LONGEST_NAME_BYTES} bytes cannot be a file")
    return path


def is_there(path: Path) -> bool:
    """Whether `path` is there and can be seen. Never raises: a place that cannot be looked at counts as empty."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def as_given(text: str, *, file: bool = False) -> str:
    """A path that exists here is kept in full: the run file's own paths count from the run folder."""
    if not text:
        return text
    try:
        path = user_path(text)
    except BadPath:
        # Long init words are no path; a bad path is told where it is used.
        return text
    if is_there(path) and (path.suffix or not file):
        return str(path.absolute())
    return text
