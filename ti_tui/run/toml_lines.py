"""Finds the line of each key in a TOML text: problems must name their line, and tomllib does not tell it."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Line number (from 1) of every table and key, by dotted name. `text` must be valid TOML.

    Keys inside arrays and inline tables belong to the key that holds them.
    """
    lines: dict[str, int] = {}
    table = ""
    depth = 0
    quote: str | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if depth == 0 and quote is None:
            if header := _HEADER.match(line):
                table = _plain(header[1])
                lines.setdefault(table, number)
                continue
            if key := _KEY.match(line):
                name = _plain(key[1])
                lines[f"{table}.{name}" if table else name] = number
        depth, quote = _after(line, depth, quote)
    return lines


def _after(line: str, depth: int, quote: str | None) -> tuple[int, str | None]:
    """Bracket depth and open multi-line quote after `line`."""
    at = 0
    while at < len(line):
        if quote is not None:
            if line[at] == "\\" and quote[0] == '"':
                at += 2
                continue
            if line.startswith(quote, at):
                at += len(quote)
                quote = None
                continue
            at += 1
            continue
        character = line[at]
        if character == "#":
            break
        if character in "\"'":
            triple = character * 3
            quote = triple if line.startswith(triple, at) else character
            at += len(quote)
            continue
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        at += 1
    if quote is not None and len(quote) == 1:
        quote = None
    return depth, quote


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
