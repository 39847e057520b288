"""All programs whose settings are read: their names, their tables of fields, and the search through them."""

from __future__ import annotations

import re
from functools import cache

from ti_tui.exchange import a1111, ai_toolkit, diffusers_scripts, everydream, invoke_training, kohya, ldm, onetrainer
from ti_tui.exchange.mapping import Counterpart, Program

PROGRAMS: dict[Program, str] = {
    "kohya": "kohya (sd-scripts and its GUI)",
    "onetrainer": "OneTrainer",
    "invoke-training": "invoke-training",
    "ai-toolkit": "ai-toolkit",
    "diffusers": "diffusers (textual_inversion.py)",
    "a1111": "A1111",
    "ldm": "the original textual inversion",
    "everydream": "EveryDream2trainer",
}
FIELDS: dict[Program, tuple[Counterpart, ...]] = {
    "kohya": kohya.FIELDS,
    "onetrainer": onetrainer.FIELDS,
    "invoke-training": invoke_training.FIELDS,
    "ai-toolkit": ai_toolkit.FIELDS,
    "diffusers": diffusers_scripts.FIELDS,
    "a1111": a1111.FIELDS,
    "ldm": ldm.FIELDS,
    "everydream": everydream.FIELDS,
}
BY_LAST_PART: frozenset[Program] = frozenset({"kohya"})
"""Programs that do not look at the tables in which their fields stand."""


def counterpart(program: Program, key: str) -> Counterpart | None:
    """The row of a field in a program's table; `key` is its dotted name, with `*` for places in lists."""
    table = _table(program)
    last = key.rpartition(".")[2]
    if found := table.get(key) or (table.get(last) if program in BY_LAST_PART else None):
        return found
    parts = key.split(".")
    wider = (".".join([*parts[:length], "**"]) for length in range(len(parts) - 1, 0, -1))
    return next((table[name] for name in wider if name in table), None)


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
