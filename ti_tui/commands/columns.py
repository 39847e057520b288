"""Tables that fit the terminal: columns of texts, cut or broken into lines so that no line is too wide."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from ti_tui.formatting import wrapped

GAP = 2
PLAIN_WIDTH = 80
WIDEST = 160


def terminal_width() -> int:
    """Columns there are: of the terminal, 80 where the text goes into a file or another program."""
    if sys.stdout is None or not sys.stdout.isatty():
        return PLAIN_WIDTH
    return min(WIDEST, max(40, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns))


def lines_of(rows: Sequence[Sequence[str]], widths: Sequence[int], *, right: Sequence[int] = ()) -> list[str]:
    """The rows as lines; a text that is wider than its column goes on below. right: columns that end flush."""
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
    """`text`, of a longer one its end: `.../runs/zkz`."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 3:
        text = text[1:]
    return f"...{text}"


def _set(text: str, width: int, *, right: bool) -> str:
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def natural_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Of each column the cells that its widest text takes."""
    return [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
