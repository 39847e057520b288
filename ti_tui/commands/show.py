"""How commands write for people: numbers with units, problems with their severity as a word."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import click

from ti_tui.formatting import location, number, printable, seconds, size
from ti_tui.run.problems import Problem

PATIENCE_SECONDS = 20.0

_MARKS = {"error": ("error", "red"), "warning": ("warning", "yellow"), "info": ("note", "cyan")}


def problems(found: Iterable[Problem], *, err: bool = False) -> None:
    """One line each, errors first; the severity stands as a word, colour only repeats it."""
    order = ("error", "warning", "info")
    for problem in sorted(found, key=lambda problem: order.index(problem.severity)):
        word, colour = _MARKS[problem.severity]
        click.echo(f"{click.style(f'{word}:', fg=colour)} {problem}", err=err)


@contextlib.contextmanager
def waiting_for(what: str, *, seconds: float = PATIENCE_SECONDS) -> Iterator[Callable[[], None]]:
    """Say on stderr when nothing was heard for so many seconds; what is yielded is to be called at each sign of life.

    A network drive that does not answer holds whoever asks it, and Python's own Ctrl+C too.
    """
    heard, ended = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if not heard.wait(seconds):
                told = f"nothing was heard of {printable(what)} for {seconds:.0f} s: does its drive not answer?"
                click.echo(f"{told} Still waiting; Ctrl+\\ ends the program.", err=True)
                heard.wait()
            heard.clear()

    threading.Thread(target=watch, name="patience", daemon=True).start()
    try:
        yield heard.set
    finally:
        ended.set()
        heard.set()


def table(rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
    """Names and values in two columns."""
    rows = [(printable(name), printable(value)) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{' ' * indent}{name:<{width}}  {value}")


__all__ = ["location", "number", "problems", "seconds", "size", "table", "waiting_for"]
