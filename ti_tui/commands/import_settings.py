"""`ti-tui import`: the settings of another trainer as those of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.columns import GAP, WIDEST, lines_of, natural_widths, terminal_width
from ti_tui.commands.init import make_run
from ti_tui.commands.output import on_terminal
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.errors import UserError
from ti_tui.exchange.gathering import Given, ImportedField
from ti_tui.exchange.importing import ImportedSettings, import_settings
from ti_tui.formatting import printable, wrapped
from ti_tui.paths import as_given
from ti_tui.run.file import RunFileError, value_of
from ti_tui.run.problems import Problem

HEAD = ("field", "value", "here", "what became of it")
LEAST = 30
"""Width of the last column, below which it reads badly."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--images", default="", help="Folder with the photographs, instead of the one in FILE.")
@click.option("--model", default="", help="The model, instead of the one in FILE.")
@click.option("--token", default="", help="The token, instead of the one in FILE.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="TABLE.FIELD=VALUE",
    help="Any field of the run file, instead of what FILE says; repeat as needed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table and the settings as JSON.")
def command(
    file: Path, run: Path | None, images: str, model: str, token: str, settings: tuple[str, ...], as_json: bool
) -> None:
    """Read FILE, the settings of another trainer, and show what becomes of each field here.

    FILE may be from kohya (the GUI's JSON, a config or dataset TOML, a .sh or .bat with the command), OneTrainer,
    diffusers' scripts, invoke-training, ai-toolkit, A1111 or the original textual inversion; nothing in it is run. With
    RUN, the run is made as by `ti-tui init`.
    """
    given = Given(as_given(images), as_given(model), token)
    found = import_settings(file, given)
    for setting in settings:
        name, value = _setting(setting)
        found.fields[name] = value
        found.needs.pop(name, None)
    if as_json:
        terminal.line(json.dumps(_values(found), indent=2))
    else:
        _show(found)
    if run is not None:
        _make(found, run)
    elif not as_json:
        _what_next(found, file)


def _make(found: ImportedSettings, run: Path) -> None:
    if found.needs:
        missing = ", ".join(dict.fromkeys(found.needs.values()))
        raise UserError("the file does not say everything that a run needs", where=str(found.file),
                        remedy=f"Give: {missing}")  # fmt: skip
    repeats = found.own.get("repeats")
    choices = PictureChoices(repeats=int(repeats) if repeats else None)
    make_run(run, Path(found.own["photographs"]), found.values(), choices, class_word=found.own.get("class_word"))


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RunFileError([Problem("error", f"{text!r} has no value", "--set", "Write --set training.seed=7.")])
    return name.strip(), value_of(name.strip(), value.strip())


def _show(found: ImportedSettings) -> None:
    terminal.line(f"{printable(found.file.name)}: {found.title}")
    set_rows = [row for row in found.rows if row.fate != "not set" and not row.default]
    _table(set_rows)
    defaults = [row for row in found.rows if row.default]
    if defaults:
        terminal.line()
        terminal.line("Not in the file, but taken by that program unless it is:")
        _table(defaults)
    unset = [row.name for row in found.rows if row.fate == "not set"]
    terminal.line()
    counts = found.counts()
    terminal.line(", ".join(f"{counts[fate]} {fate}" for fate in ("same", "changed", "left out") if counts[fate]) + ".")
    if unset:
        show.paragraph(f"Empty in the file ({len(unset)}): {', '.join(unset)}.", terminal_width())
    for note in found.notes:
        terminal.line(note, label="note", colour="cyan")


def _table(rows: list[ImportedField]) -> None:
    """Four columns where they fit, else what became of a field below it. Into a pipe, lines may be long."""
    cells = [HEAD, *((*map(printable, (row.name, row.value, row.ours)), printable(_fate(row))) for row in rows)]
    natural = natural_widths(cells)
    widths = [min(natural[0], 60), min(natural[1], 34), min(natural[2], 40)]
    width = terminal_width() if on_terminal(sys.stdout) else WIDEST
    room = width - 3 * GAP - sum(widths)
    if on_terminal(sys.stdout) and room < min(natural[3], LEAST):
        for row, (name, value, _, fate) in zip(rows, cells[1:], strict=True):
            terminal.line(f"{name}  {value}"[: 2 * width])
            told = f"{row.fate}: {row.ours}{f' ({row.note})' if row.note else ''}" if row.ours else fate
            for line in wrapped(told, width - 4):
                terminal.line(f"    {printable(line)}")
        return
    for line in lines_of(cells, [*widths, max(LEAST, room)]):
        terminal.line(line)


def _fate(row: ImportedField) -> str:
    return f"{row.fate}: {row.note}" if row.note else row.fate


def _what_next(found: ImportedSettings, file: Path) -> None:
    options = "".join(f" {option}" for option in dict.fromkeys(found.needs.values()))
    terminal.line(f"To make the run: ti-tui import {printable(str(file))} RUN{options}")


def _values(found: ImportedSettings) -> dict[str, Any]:
    return {
        "program": found.program,
        "form": found.form,
        "fields": [
            {"name": row.name, "value": row.value, "here": row.ours, "fate": row.fate, "note": row.note,
             "default": row.default}
            for row in found.rows
        ],
        "run": found.values(),
        "photographs": found.own.get("photographs", ""),
        "class_word": found.own.get("class_word", ""),
        "repeats": int(found.own["repeats"]) if "repeats" in found.own else None,
        "needs": found.needs,
        "notes": list(found.notes),
    }  # fmt: skip
