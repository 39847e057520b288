"""Formats numbers, durations and texts for people: the same in commands and screens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

LARGEST_SHARE = 1_000
"""Shares beyond this are not written out: they come from a run that diverged, and a log may hold any number."""


def seconds(value: float) -> str:
    """A duration: `45 s`, `12 min`, `3.5 h`."""
    if value < 90:
        return f"{value:.0f} s"
    if value < 90 * 60:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes: `37.2 KB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def figure(value: float, digits: int = 3) -> str:
    """A positive number with a few significant digits, without an exponent: `0.125`, `2.5`, `13200`."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if rounded >= 10**digits else f"{rounded:.{digits}g}"


def enlarged(times: float) -> str:
    """`enlarged 2.4 times`, `enlarged by 4 %`."""
    more = (times - 1) * 100
    if more >= 5:
        return f"enlarged {times:.2g} times"
    return f"enlarged by {more:.0f} %" if more >= 1 else "enlarged by less than 1 %"


def number(count: int, noun: str) -> str:
    """`1 image`, `3 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if names[most:] else ""
    return ", ".join(names[:most]) + more


def percent(share: float | None, error: float | None = None, *, digits: int | None = 0, sign: bool = False) -> str:
    """`46 %`, `46 ± 8 %`, `+46 %`; "" for None.

    error: its standard error; digits: decimal places, None gives one to small shares.
    """
    if share is None:
        return ""
    plus = "+" if sign else ""
    if abs(share) > LARGEST_SHARE:
        return f"> {LARGEST_SHARE * 100:{plus}} %" if share > 0 else f"< -{LARGEST_SHARE * 100} %"
    if abs(share) > 100:
        # From a run that diverged: an error or decimal places would add nothing.
        error, digits = None, 0
    elif digits is None:
        digits = 1 if abs(share) < 0.1 else 0
    around = f" ± {min(error, 100) * 100:.0f}" if error else ""
    return f"{share * 100:{plus}.{digits}f}{around} %"


def start_in_words(init: str, start: str) -> str:
    """What the vectors start from, by the run file's `init` and `start`: `"woman"`, `the mean of "red cup"`."""
    if not init:
        return "random vectors"
    before = {"mean": "the mean of ", "cross": "the text encoder's output for "}.get(start, "")
    return f'{before}"{init}"'


def clock(t: float, form: str = "%H:%M") -> str:
    """A time of day from unix seconds; "--:--" for a number that is not a time."""
    try:
        return time.strftime(form, time.localtime(t))
    except (ValueError, OverflowError, OSError):
        return "--:--"


def printable(text: str) -> str:
    """Text from a file, with control characters escaped: they would move the cursor or change the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def location(path: Path) -> str:
    """A path with the home folder as ~."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path != home and path.is_relative_to(home) else str(path)


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken between words where possible; at least one line."""
    # Imported here: who only formats numbers need not load rich.
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for word in text.replace("\n", " ").split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width:
            lines[-1] = longer
            continue
        pieces = [word] if cell_len(word) <= width else chop_cells(word, width)
        lines = [*([] if lines == [""] else lines), *pieces]
    return lines
