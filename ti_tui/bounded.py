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
from pathlib import Path
from typing import Any, BinaryIO

MIB = 2**20
TEXT_LIMIT = 64 * MIB
"""More than any vocabulary, index or settings file holds."""
TOML_LIMIT = 4 * MIB
"""More than any run file, theme or settings file holds; tomllib takes a second for each MiB."""

YAML_LIMIT = 2**16
"""Characters; the parser takes seconds for each MiB."""
DEEPEST_YAML = 60
MOST_ALIASES = 64
MOST_MERGED = 20_000


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


def read_end(path: Path | str, size: int = 1 << 16) -> str:
    """The last `size` bytes of a text file, such as a log."""
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size).decode("utf-8", "replace")


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """`json.loads` that raises ValueError and nothing else. finite: refuse infinities and NaN."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite) if finite else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path | str, limit: int = TEXT_LIMIT, *, finite: bool = True) -> Any:
    """The content of a JSON file."""
    return parse_json(read_bytes(path, limit).decode("utf-8-sig"), finite=finite)


def check_pickle(content: bytes, limit: int) -> None:
    """Look through a pickle before anything reads it: its size, and what would make an unpickler ask for memory.

    Python's unpickler makes a table as long as the largest memo number, which a few bytes can set to 4 billion.
    """
    if len(content) > limit:
        raise TooLarge(f"its pickle is larger than {limit / MIB:g} MiB")
    # Imported here, as below: who only reads settings pays for no more than that.
    import pickletools

    try:
        for opcode, argument, _place in pickletools.genops(content):
            if opcode.name in {"PUT", "BINPUT", "LONG_BINPUT"} and int(argument or 0) > len(content):
                raise ValueError("its pickle has a memo number that it cannot need")
    except ValueError:
        raise
    except Exception as error:
        # The library raises several classes for what is no pickle.
        raise ValueError(f"its pickle is damaged: {error}") from None


def check_stored_zip(path: Path | str, limit: int) -> None:
    """Look through a zip file's list before anything unpacks it: PyTorch stores without compressing."""
    import zipfile

    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > limit:
            raise TooLarge(f"its content is larger than {limit / MIB:g} MiB")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its content is compressed, which PyTorch never does")


def parse_toml(text: str) -> dict[str, Any]:
    """`tomllib.loads` that raises TOMLDecodeError, a ValueError, and nothing else."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    except (ValueError, OverflowError) as error:
        # An integer of thousands of digits, a date that does not exist.
        raise tomllib.TOMLDecodeError(str(error)) from None


def parse_yaml(text: str, limit: int = YAML_LIMIT) -> Any:
    """`yaml.safe_load` of a short text, that raises ValueError and nothing else. limit: characters."""
    import yaml

    if len(text) > limit:
        raise TooLarge(f"it is longer than {limit / 2**10:g} KiB")

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A few bytes of aliases and merges can ask for gigabytes."""

        aliases = merged = depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.aliases += self.check_event(yaml.AliasEvent)
            if self.aliases > MOST_ALIASES:
                raise ValueError(f"it has more than {MOST_ALIASES} aliases")
            self.depth += 1
            if self.depth > DEEPEST_YAML:
                raise ValueError("it is nested too deeply")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            self.merged += len(node.value) if self.aliases else 0
            if self.merged > MOST_MERGED:
                raise ValueError("its aliases are merged too often")

    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        place = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from None
    except (yaml.YAMLError, TypeError, OverflowError, AttributeError) as error:
        # Dates that do not exist, keys that are lists.
        raise ValueError(" ".join(str(error).split())) from None


def read_toml(path: Path | str, limit: int = TOML_LIMIT) -> dict[str, Any]:
    """The content of a TOML file."""
    return parse_toml(read_bytes(path, limit).decode("utf-8-sig"))


def read_yaml(path: Path | str) -> Any:
    """The content of a YAML file."""
    return parse_yaml(read_bytes(path, YAML_LIMIT).decode("utf-8-sig"))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value
