"""All programs whose settings are read: their names, their tables of fields, and the search through them."""

from __future__ import annotations

import re
from functools import cache

from ti_tui.exchange import kohya
from ti_tui.exchange.mapping import Counterpart, Program

PROGRAMS: dict[Program, str] = {"kohya": "kohya (sd-scripts and its GUI)"}
FIELDS: dict[Program, tuple[Counterpart, ...]] = {"kohya": kohya.FIELDS}
BY_LAST_PART: frozenset[Program] = frozenset({"kohya"})
"""Programs that do not look at the tables in which their fields stand."""


def counterpart(program: Program, key: str) -> Counterpart | None:
    """The row of a field in a program's table; `key` is its dotted name, with `*` for places in lists."""
    table = _table(program)
    last = key.rpartition(".")[2]
    return table.get(key) or (table.get(last) if program in BY_LAST_PART else None)


def named_elsewhere(word: str) -> dict[str, list[tuple[Program, str]]]:
    """Our fields whose name in another program holds `word`, with that program and name: for searches."""
    wanted = re.sub(r"[-_\s]+", "_", word.strip().lower())
    found: dict[str, list[tuple[Program, str]]] = {}
    for program, rows in FIELDS.items():
        for row in rows:
            if wanted and row.ours and wanted in row.name.lower():
                found.setdefault(row.ours, []).append((program, row.name))
    return found


@cache
def _table(program: Program) -> dict[str, Counterpart]:
    return {row.name: row for row in FIELDS[program]}
