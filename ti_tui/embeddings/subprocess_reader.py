"""Reads embeddings without loading torch: files that only torch can open are converted by a helper process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding, EmbeddingError

PICKLES = frozenset({".pt", ".bin", ".ckpt"})
LIMIT_SECONDS = 120


def read_in_subprocess(path: Path) -> Embedding:
    """`files.read`, without loading torch into this process. Raises EmbeddingError."""
    if files.ending(path) not in PICKLES or "torch" in sys.modules or not path.is_file():
        return files.read(path)
    status = path.stat()
    return _converted(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _converted(path: Path, _changed: int, _size: int) -> Embedding:
    """The embedding at `path`, converted by a helper process; again only if the file has changed."""
    with tempfile.TemporaryDirectory(prefix="ti_tui-") as folder:
        converted = Path(folder) / "embedding.safetensors"
        # -P: nothing in the current folder may be imported.
        command = [sys.executable, "-P", "-m", "ti_tui", "embeddings", "convert", str(path), str(converted)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=LIMIT_SECONDS,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddingError(f"{path} could not be opened: {error}") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"{path} could not be opened"]
            raise EmbeddingError(lines[0], remedy=" ".join(lines[1:]))
        return files.read(converted)
