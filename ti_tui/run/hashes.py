"""SHA-256 of files and folders; hashes of large files are cached by path, size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from ti_tui import atomic, bounded
from ti_tui.settings import cache_folder

REMEMBER_FROM_BYTES = 50_000_000


def file_hash(path: Path) -> str:
    """Hex SHA-256 of the file's content."""
    status = path.stat()
    if status.st_size < REMEMBER_FROM_BYTES:
        return _digest(path)
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    memory = cache_folder() / "hashes.json"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = bounded.read_json(memory)
    if key not in known:
        known[key] = _digest(path)
        # Without the cache it is only slower, so a cache that cannot be written is not an error.
        with contextlib.suppress(atomic.CannotWrite):
            atomic.write_json(memory, dict(list(known.items())[-500:]))
    return known[key]


def weights_hash(path: Path, *, part: str = "") -> str:
    """Hash of a model: of its file, or of all weights in a diffusers folder (or in one `part` of it, such as "vae")."""
    if path.is_file():
        return file_hash(path)
    total = hashlib.sha256()
    root = path / part if part else path
    for file in sorted(p for p in root.rglob("*") if p.suffix in {".safetensors", ".bin"}):
        total.update(f"{file.relative_to(root).as_posix()}:{file_hash(file)}\n".encode())
    return total.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
