"""The text of the dashboard's table of checkpoints, and the line that says why one of them is the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ti_tui.formatting import percent
from ti_tui.results.ranking import why_best
from ti_tui.run.evaluations import Evaluation
from ti_tui.run.history import CheckpointRow, RunHistory
from ti_tui.run.verdicts import Rank
from ti_tui.widgets.canvas import Line, Piece, marked


@dataclass(frozen=True)
class CheckpointLine:
    """One checkpoint as it is listed. found: its evaluation, or the last before it; rank: None if it has none."""

    row: CheckpointRow
    found: Evaluation | None = None
    rank: Rank | None = None
    best: bool = False
    installed: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, its width with the gap before it, and the text of a checkpoint."""

    name: str
    width: int
    text: Callable[[CheckpointLine], str]


def columns(width: int, lines: Sequence[CheckpointLine]) -> tuple[Column, ...]:
    """The columns that fit in `width` cells after the step; what the star goes by is the last to be left out."""
    held = any(line.found is not None and line.found.held_gain is not None for line in lines)
    used, left = set[str](), width - FIRST
    for name in (*("gain", "rank", "prompts"), *["held out"] * held, "norm", "installed", "eval"):
        column = next(one for one in COLUMNS if one.name == name)
        if column.width <= left:
            used.add(name)
            left -= column.width
    return tuple(column for column in COLUMNS if column.name in used)


def heading(shown: Sequence[Column]) -> Line:
    """The headings of the columns."""
    names = (f"{column.name:>{column.width}}" for column in shown)
    return [(f"{'step':>{FIRST}}{''.join(names)}", "muted")]


def checkpoint(line: CheckpointLine, shown: Sequence[Column], *, last: bool) -> list[Piece]:
    """One checkpoint as columns of fixed width. last: it is the newest."""
    pieces: list[Piece] = [("★" if line.best else " ", "accent b"), (f"{line.row.step:>{FIRST - 1}}", "b" * last)]
    for column in shown:
        style = "success" if column.name == "installed" else "accent" * line.best if column.name == "rank" else ""
        pieces.append((f"{column.text(line) or '-':>{column.width}}", f"{style} {'b' * last}".strip()))
    return pieces


def star_lines(history: RunHistory, steps: Sequence[int], width: int, most: int) -> list[Line]:
    """Why the best checkpoint is the best; none if it is not one of `steps`."""
    if history.best_step not in steps:
        return []
    why, brief = why_best(history), why_best(history, brief=True)
    for text in (why, brief, brief.partition(",")[0]):
        found = marked("★ ", f"{history.best_step}: {text}", "muted", max(1, width - 3))
        if text and len(found) <= most:
            return [[("★ ", "accent b"), line[1]] if at == 0 else line for at, line in enumerate(found)]
    return []


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form) if abs(value) < 1000 else f"{value:.0e}"


FIRST = 8
"""Cells of the star and the step."""
COLUMNS = (
    Column("eval", 8, lambda line: _number(line.row.eval_loss, ".4f")),
    Column("gain", 7, lambda line: percent(line.found.gain, sign=True) if line.found else ""),
    Column("held out", 9, lambda line: percent(line.found.held_gain, sign=True) if line.found else ""),
    Column("prompts", 8, lambda line: percent(line.rank.follows) if line.rank else ""),
    Column("rank", 8, lambda line: percent(line.rank.value, digits=1) if line.rank else ""),
    Column("norm", 6, lambda line: _number(line.row.norm, ".2f")),
    Column("installed", 11, lambda line: "✓" if line.installed else " "),
)
