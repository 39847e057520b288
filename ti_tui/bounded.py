"""Reads files that others may have written: regular files only, of a bounded size, without numbers that are none.

A named pipe would block for ever, a device may never end, and a text can nest deeper than a parser can follow. All
functions raise OSError for a file that cannot be opened or is no regular file, ValueError for content that is no good.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

MIB = 2**20
TEXT_LIMIT = 16 * MIB
"""More than any vocabulary, index or settings file holds."""


class TooLarge(ValueError):
    """A file is larger than anything of its kind."""


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading, without waiting for a pipe's other end. Symbolic links are followed."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path | str, limit: int = TEXT_LIMIT) -> bytes:
    """The whole content. limit: bytes; raises TooLarge before more than that are read."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Files of /proc say that they are empty; one that grows may hold more than it said.
        content = file.read(limit + 1) if size <= limit else b""
        if size > limit or len(content) > limit:
            raise TooLarge(f"it is larger than {limit / MIB:g} MiB")
        return content


def read_text(path: Path | str, limit: int = TEXT_LIMIT, *, encoding: str = "utf-8-sig", errors: str = "strict") -> str:
    """The whole text, with line ends as they stand in the file turned into \\n."""
    return read_bytes(path, limit).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """`json.loads` that raises ValueError and nothing else; infinities and NaN are refused."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path | str, limit: int = TEXT_LIMIT) -> Any:
    """The content of a JSON file."""
    return parse_json(read_bytes(path, limit).decode("utf-8-sig"))


def parse_toml(text: str) -> dict[str, Any]:
    """`tomllib.loads` that raises TOMLDecodeError, or another ValueError, and nothing else."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value
