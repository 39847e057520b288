"""Tables that fit the terminal: columns of text, cut or wrapped so that no line is too wide."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from ti_tui.commands.output import on_terminal
from ti_tui.formatting import wrapped

GAP = 2
PLAIN_WIDTH = 80
WIDEST = 160


def terminal_width() -> int:
    """Width of the terminal in columns; 80 if the output goes to a file or another program."""
    if not on_terminal(sys.stdout):
        return PLAIN_WIDTH
    return min(WIDEST, max(40, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns))


def lines_of(rows: Sequence[Sequence[str]], widths: Sequence[int], *, right: Sequence[int] = ()) -> list[str]:
    """The rows as lines; text wider than its column is wrapped. right: columns that are aligned right."""
    lines = []
    for row in rows:
        cells = [wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        for place in range(max(len(cell) for cell in cells)):
            pieces = [
                _set(cell[place] if place < len(cell) else "", width, right=column in right)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append((" " * GAP).join(pieces).rstrip())
    return lines


def cut_front(text: str, width: int) -> str:
    """`text` in at most `width` cells: only the end of a longer one, as `.../runs/zkz`."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 3:
        text = text[1:]
    return f"...{text}"


def _set(text: str, width: int, *, right: bool) -> str:
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def natural_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of the widest text in each column, in cells."""
    return [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
