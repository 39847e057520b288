"""`ti-tui runs`: list runs with their results, or compare some of them side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.columns import GAP, cut_front, lines_of, natural_widths, terminal_width
from ti_tui.formatting import percent, printable
from ti_tui.results.outcome import Outcome, outcome_of, pace_in_words
from ti_tui.results.run_settings import SettingDifference
from ti_tui.results.runs_table import (
    compared,
    differ_in_words,
    not_comparable,
    outcome_rows,
    setting_rows,
    steps_in_words,
)
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.settings import known_runs

HEADS = ("run", "state", "steps", "gain", "verdict", "best (rank)", "a step", "updated")
RIGHT = (3, 5, 6)
"""Columns of numbers."""
LEAST_PATH, LEAST_COLUMN, MOST_COLUMN = 14, 14, 40


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
def command(folders: tuple[Path, ...]) -> None:
    """List the runs made or trained on this machine, or those in FOLDER, with their results, latest first.

    With two or more run folders: compare their results, and show the settings in which they differ.
    """
    if len(folders) > 1:
        _compare([RunFolder.find(folder) for folder in folders])
        return
    roots = _runs_in(folders[0]) if folders else known_runs()
    if not roots:
        terminal.line("No runs yet. Make one with `ti-tui init`." if not folders else f"No runs in {folders[0]}.")
        return
    for line in _listed([outcome_of(RunFolder(root)) for root in roots], terminal_width()):
        terminal.line(line)


def _listed(outcomes: Sequence[Outcome], width: int) -> list[str]:
    """A line for each run; where not all columns fit, the rightmost are dropped."""
    rows = [HEADS, *(_row(outcome) for outcome in outcomes)]
    used = [column for column in range(len(HEADS)) if column == 0 or any(row[column] for row in rows[1:])]
    widths = natural_widths(rows)

    def rest() -> int:
        return width - sum(widths[column] + GAP for column in used[1:])

    while len(used) > 1 and rest() < min(LEAST_PATH, widths[0]):
        used.pop()
    path = max(rest(), LEAST_PATH)
    shown = [[cut_front(row[0], path), *(row[column] for column in used[1:])] for row in rows]
    right = [place for place, column in enumerate(used) if column in RIGHT]
    return lines_of(shown, [min(path, widths[0]), *(widths[column] for column in used[1:])], right=right)


def _row(outcome: Outcome) -> tuple[str, ...]:
    name = printable(show.location(outcome.folder.root))
    if not outcome.started:
        return (name, "not started", *[""] * (len(HEADS) - 2))
    status, verdict = outcome.status, outcome.verdict
    return (
        name,
        printable(outcome.phase)[:11],
        steps_in_words(outcome),
        percent(outcome.gain),
        verdict.name if verdict is not None else "",
        outcome.best_in_words,
        pace_in_words(outcome.seconds_per_step),
        f"{show.seconds(max(0.0, time.time() - status.updated))} ago" if status is not None else "",
    )


def _compare(folders: Sequence[RunFolder]) -> None:
    runs = compared([(folder, run_file.load(folder.file), outcome_of(folder)) for folder in folders])
    outcomes, settings = outcome_rows(runs), setting_rows(runs)
    width = terminal_width()
    names = SettingDifference("", tuple(run.name for run in runs))
    for rows, text in (([names, *outcomes], ""), (settings, differ_in_words(settings))):
        if text:
            show.paragraph(text, width)
        for place, block in enumerate(_blocks(len(runs), rows, width)):
            # Each block after the first repeats the names of its runs.
            again = [names] if place and rows is settings else []
            for line in _side_by_side([*again, *rows], block, width):
                terminal.line(line)
            terminal.line()
    for text in not_comparable(runs):
        show.paragraph(text, width)


def _blocks(count: int, rows: Sequence[SettingDifference], width: int) -> Iterator[range]:
    """Which runs stand beside each other; those that do not fit form further blocks below."""
    if rows:
        each = max(1, (width - _name_width(rows)) // (LEAST_COLUMN + GAP))
        for first in range(0, count, each):
            yield range(first, min(first + each, count))


def _side_by_side(rows: Sequence[SettingDifference], block: range, width: int) -> list[str]:
    name = _name_width(rows)
    column = min(MOST_COLUMN, (width - name) // len(block) - GAP)
    table = [[row.name, *(printable(row.texts[place]) or "-" for place in block)] for row in rows]
    return lines_of(table, [name, *[column] * len(block)])


def _name_width(rows: Sequence[SettingDifference]) -> int:
    return max(len(row.name) for row in rows)


def _runs_in(folder: Path) -> list[Path]:
    found = [file.parent for pattern in ("run.toml", "*/run.toml", "*/*/run.toml") for file in folder.glob(pattern)]
    return sorted(found, key=lambda root: (root / "run.toml").stat().st_mtime, reverse=True)
