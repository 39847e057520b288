"""Paths as people type them: expands `~` and refuses impossible ones early, with a message."""

from __future__ import annotations

from pathlib import Path

from ti_tui.errors import UserError

LONGEST_NAME_BYTES = 255


class BadPath(UserError):
    """A text that cannot be a path on this machine."""


def user_path(text: str | Path) -> Path:
    """The path that `text` means. Raises BadPath for an unknown `~user`, a null byte or a name that is too long."""
    shown = str(text) if str(text).isprintable() and len(str(text)) < 80 else f"{str(text)[:60]!r}..."
    try:
        path = Path(text).expanduser()
        names = [name.encode("utf-8") for name in path.parts]
    except RuntimeError:
        raise BadPath(f"{shown}: there is no such user, so no home folder") from None
    except UnicodeEncodeError:
        raise BadPath(f"{shown}: the name is not text (UTF-8)", remedy="Rename it, or choose another.") from None
    if b"\0" in b"".join(names):
        raise BadPath(f"{shown}: a path cannot contain a null byte")
    if any(len(name) > LONGEST_NAME_BYTES for name in names):
        raise BadPath(f"{shown}: a file name cannot be longer than {LONGEST_NAME_BYTES} bytes")
    return path


def unquoted(text: str) -> str:
    """A path as typed, without quotes around it, as a shell would read it."""
    line = text.strip()
    return line[1:-1] if len(line) > 1 and line[0] == line[-1] and line[0] in "'\"" else line


def pasted_path(text: str) -> str:
    """A pasted path without the quotes and escapes that terminals put around it."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    plain = unquoted(line)
    return plain if plain != line else line.removeprefix("file://").replace("\\ ", " ")


def is_there(path: Path) -> bool:
    """Whether `path` exists and is visible. Never raises: a place that cannot be read counts as empty."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def existing_part(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    return next((part for part in (path, *path.parents) if is_there(part)), Path(path.anchor))


def as_given(text: str, *, file: bool = False) -> str:
    """A path that exists here as an absolute path: relative paths in a run file count from the run folder."""
    if not text:
        return text
    try:
        path = user_path(text)
    except BadPath:
        # Long initial words are not a path; a bad path is reported where it is used.
        return text
    if is_there(path) and (path.suffix or not file):
        return str(path.absolute())
    return text


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path` is a symbolic link to something outside `folder`. Never raises."""
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return True
