"""How commands write for people: numbers with units, problems with their severity as a word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from ti_tui.run.problems import Problem
from ti_tui.setup.words import location, number, printable, seconds, size

_MARKS = {"error": ("error", "red"), "warning": ("warning", "yellow"), "info": ("note", "cyan")}


def problems(found: Iterable[Problem], *, err: bool = False) -> None:
    """One line each, errors first; the severity stands as a word, colour only repeats it."""
    order = ("error", "warning", "info")
    for problem in sorted(found, key=lambda problem: order.index(problem.severity)):
        word, colour = _MARKS[problem.severity]
        click.echo(f"{click.style(f'{word}:', fg=colour)} {problem}", err=err)


def table(rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
    """Names and values in two columns."""
    rows = [(printable(name), printable(value)) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{' ' * indent}{name:<{width}}  {value}")


__all__ = ["location", "number", "problems", "seconds", "size", "table"]
