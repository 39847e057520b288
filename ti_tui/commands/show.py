"""How commands write for people: numbers with units, problems with their severity as a word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from ti_tui.run.problems import Problem

_MARKS = {"error": ("error", "red"), "warning": ("warning", "yellow"), "info": ("note", "cyan")}


def problems(found: Iterable[Problem], *, err: bool = False) -> None:
    """One line each, errors first; the severity stands as a word, colour only repeats it."""
    order = ("error", "warning", "info")
    for problem in sorted(found, key=lambda problem: order.index(problem.severity)):
        word, colour = _MARKS[problem.severity]
        click.echo(f"{click.style(f'{word}:', fg=colour)} {problem}", err=err)


def table(rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
    """Names and values in two columns."""
    rows = [(_printable(name), _printable(value)) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{' ' * indent}{name:<{width}}  {value}")


def _printable(text: str) -> str:
    """Text from a file without what would move the cursor or change the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 90:
        return f"{value:.0f} s"
    if value < 90 * 60:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def number(count: int, noun: str) -> str:
    """`1 image`, `3 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def location(path: Path) -> str:
    """A path as people write it: the home folder as ~."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
