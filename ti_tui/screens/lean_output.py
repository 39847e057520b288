"""Sends a terminal only the cells that differ from what it shows; the app writes through it.

Textual paints whole widgets again when a part of them has changed, and repeats every colour for every piece of text.
Over a slow connection that is what a person waits for: opening a step of the wizard took 27 KB, now 2 KB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

if TYPE_CHECKING:
    from textual.driver import Driver

TOKEN = re.compile(r"\x1b\[([0-9;]*)m|\x1b\[([0-9]+);([0-9]+)H|([^\x1b\x00-\x1f\x7f]+)|(\n)|(\x1b|[\x00-\x1f\x7f])")
HARMLESS = re.compile(r"(?:\x1b\[[?<>=][0-9;]*\$?[a-zA-Z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x07)*")
"""Modes, titles, the clipboard, the bell: they change no cell."""
SYNC_START, SYNC_END = "\x1b[?2026h", "\x1b[?2026l"
"""The terminal shows what is between them at once."""
OTHER_SCREEN = "1049"
"""The mode that shows the terminal's second screen, which is empty."""
SHOWN_ON_SPACES = frozenset({"4", "7", "9", "21", "53"})
"""Codes of what can be seen where there is no letter: lines, and colours that are exchanged."""
ENDS = {
    "1": "22",
    "2": "22",
    "3": "23",
    "4": "24",
    "5": "25",
    "6": "25",
    "7": "27",
    "8": "28",
    "9": "29",
    "21": "24",
    "51": "54",
    "52": "54",
    "53": "55",
}
"""The code that ends each of the others."""
LONGEST_GAP = 4
"""Unchanged cells between two changed ones that are sent again: a move of the cursor takes as much."""


class Ink(NamedTuple):
    """How a cell is drawn: codes of the terminal, "" for its own colours. colour None: it cannot be seen."""

    flags: frozenset[str] = frozenset()
    colour: str | None = ""
    ground: str = ""


PLAIN = Ink()
Cell = tuple[str, Ink]
Place = tuple[int, int]
"""Row and column, from 1."""
UNKNOWN: Cell = ("", PLAIN)


class NotCells(Exception):
    """A text that this module cannot follow cell by cell."""


class LeanOutput:
    """Knows what stands on the terminal, and makes what is written shorter.

    What it cannot follow is passed on as it is, and all cells count as unknown after it.
    """

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell]] = {}
        self._wide_rows: set[int] = set()
        self._cursor: Place | None = None
        self._held = ""

    def forget(self) -> None:
        """The terminal may show anything: after a change of its size, or a message from elsewhere."""
        self._rows.clear()
        self._wide_rows.clear()
        self._cursor = None

    def shorten(self, written: str) -> str:
        """What to send in place of `written`."""
        if written == SYNC_START:
            # It is sent only if something follows.
            self._held = written
            return ""
        if written == SYNC_END and self._held:
            self._held = ""
            return ""
        if HARMLESS.fullmatch(written):
            if OTHER_SCREEN in written:
                self.forget()
            return self._after_start(written)
        try:
            changed, cursor = self._take(written)
        except NotCells:
            self.forget()
            return self._after_start(written)
        sent = "".join(self._drawn(changed, cursor))
        return self._after_start(sent) if sent else ""

    def _after_start(self, text: str) -> str:
        start, self._held = self._held, ""
        return start + text

    def _take(self, written: str) -> tuple[set[Place], Place | None]:
        """Put what is written into the rows; returns the cells that have changed, and where the cursor is after it."""
        ink, place = PLAIN, self._cursor
        changed: set[Place] = set()
        for codes, row, column, text, line_end, other in TOKEN.findall(written):
            if text:
                if place is None:
                    raise NotCells
                y, x = place
                cells = _cells(text, ink)
                changed.update(self._put(y, x, cells))
                place = (y, x + len(cells))
            elif row:
                place = (int(row), int(column))
            elif other:
                raise NotCells
            elif line_end:
                # Textual moves the cursor after it.
                place = None
            else:
                ink = _after(ink, codes)
        return changed, place

    def _put(self, y: int, x: int, cells: Sequence[Cell]) -> Iterator[Place]:
        """Put cells into a row; returns the places of those that were different."""
        row = self._rows.setdefault(y, [])
        if len(row) < x + len(cells):
            row += [UNKNOWN] * (x + len(cells) - len(row))
        if any(not letter for letter, _ in cells):
            self._wide_rows.add(y)
        before, row[x : x + len(cells)] = row[x : x + len(cells)], cells
        # Where a terminal disagrees about a letter's width, the cells beside it would be wrong.
        if y in self._wide_rows or before != cells:
            for at, (old, new) in enumerate(zip(before, cells, strict=True), start=x):
                if old != new or y in self._wide_rows:
                    yield y, at

    def _drawn(self, changed: set[Place], cursor: Place | None) -> Iterator[str]:
        """The text that draws the changed cells and leaves the cursor at its place."""
        ink, at, drawn = PLAIN, self._cursor, PLAIN
        for y, x in sorted(changed):
            letter, wanted = self._rows[y][x]
            if not letter:
                # The second half of a wide letter.
                continue
            if at != (y, x):
                gap = self._gap(at, (y, x), ink)
                yield gap if gap is not None else f"\x1b[{y};{x}H"
            if wanted is not drawn and (codes := _between(ink, wanted)) is not None:
                yield f"\x1b[{codes}m"
                ink = _after(ink, codes)
            drawn = wanted
            yield letter
            at = (y, x + 1) if y not in self._wide_rows or _width(letter) == 1 else None
        if ink != PLAIN:
            yield "\x1b[m"
        if cursor is not None and cursor != at:
            yield f"\x1b[{cursor[0]};{cursor[1]}H"
        self._cursor = cursor

    def _gap(self, at: Place | None, to: Place, ink: Ink) -> str | None:
        """The unchanged letters from `at` to `to`, if they are few and need no other colours."""
        if at is None or at[0] != to[0] or not 0 < to[1] - at[1] <= LONGEST_GAP:
            return None
        cells = self._rows[to[0]][at[1] : to[1]]
        if all(letter.isascii() and letter and _between(ink, wanted) is None for letter, wanted in cells):
            return "".join(letter for letter, _ in cells)
        return None


def lean(driver: type[Driver]) -> type[Driver]:
    """A kind of `driver` that sends only what changes."""

    class LeanDriver(driver):  # type: ignore[misc, valid-type]
        """Writes through `LeanOutput`."""

        lean_output: LeanOutput | None = None

        def write(self, data: str) -> None:
            if self.lean_output is None:
                self.lean_output = LeanOutput()
            if sent := self.lean_output.shorten(data):
                super().write(sent)

        def forget(self) -> None:
            """All cells are sent again with the next paint."""
            if self.lean_output is not None:
                self.lean_output.forget()

    return LeanDriver


def _cells(text: str, ink: Ink) -> list[Cell]:
    """The cells of a text; the second one of a wide letter is empty. Raises NotCells."""
    blank = _on_space(ink)
    if text.isascii() or max(map(_width, set(text))) == 1:
        return [(letter, blank if letter == " " else ink) for letter in text]
    return [
        cell for letter in text for cell in [(letter, blank if letter == " " else ink), ("", ink)][: _width(letter)]
    ]


@lru_cache(maxsize=4096)
def _width(letter: str) -> int:
    """Cells of a letter. Raises NotCells for one that joins the letter before it."""
    if (width := cell_len(letter)) < 1:
        raise NotCells
    return width


@lru_cache(maxsize=4096)
def _after(ink: Ink, codes: str) -> Ink:
    """The ink after an SGR sequence. Raises NotCells for codes that Rich does not write."""
    flags, colour, ground = set(ink.flags), ink.colour, ink.ground
    parts = iter(codes.split(";"))
    for code in parts:
        if code in {"", "0"}:
            flags, colour, ground = set(), "", ""
        elif code in ENDS.values():
            flags = {flag for flag in flags if ENDS[flag] != code}
        elif code in {"38", "48"}:
            kind = next(parts, "")
            count = {"2": 3, "5": 1}.get(kind)
            if count is None:
                raise NotCells
            value = ";".join([code, kind, *(next(parts, "0") for _ in range(count))])
            colour, ground = (value, ground) if code == "38" else (colour, value)
        elif code in {"39", "49"}:
            colour, ground = ("", ground) if code == "39" else (colour, "")
        elif re.fullmatch("3[0-7]|9[0-7]", code):
            colour = code
        elif re.fullmatch("4[0-7]|10[0-7]", code):
            ground = code
        elif code in ENDS:
            flags.add(code)
        else:
            raise NotCells
    return Ink(frozenset(flags), colour, ground)


@lru_cache(maxsize=4096)
def _on_space(ink: Ink) -> Ink:
    """The ink of a space: without what cannot be seen there."""
    return ink if ink.flags & SHOWN_ON_SPACES else Ink(frozenset(), None, ink.ground)


@lru_cache(maxsize=4096)
def _between(ink: Ink, wanted: Ink) -> str | None:
    """The codes that lead from one ink to another, the shortest; None if there is nothing to change."""
    unseen = wanted.colour is None
    surplus = ink.flags - wanted.flags
    if unseen:
        surplus &= SHOWN_ON_SPACES
    ends = {ENDS[flag] for flag in surplus}
    kept = {flag for flag in ink.flags if ENDS[flag] not in ends}
    changes = [*sorted(ends), *sorted(wanted.flags - kept)]
    if not unseen and wanted.colour != ink.colour:
        changes.append(wanted.colour or "39")
    if wanted.ground != ink.ground:
        changes.append(wanted.ground or "49")
    if not changes:
        return None
    anew = ["", *sorted(wanted.flags), *filter(None, (wanted.colour, wanted.ground))]
    return min(";".join(changes), ";".join(anew), key=len)
