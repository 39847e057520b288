"""How commands print: numbers with units, tables, problems with their severity as a word."""

from __future__ import annotations

import contextlib
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from ti_tui import terminal
from ti_tui.formatting import location, number, printable, seconds, size
from ti_tui.run.problems import Problem

PATIENCE_SECONDS = 20.0

_MARKS: dict[str, tuple[str, terminal.LabelColour]] = {
    "error": ("error", "red"),
    "warning": ("warning", "yellow"),
    "info": ("note", "cyan"),
}


def problems(found: Iterable[Problem], *, err: bool = False) -> None:
    """Print one line for each problem, errors first. The severity is a word; colour only repeats it."""
    order = ("error", "warning", "info")
    for problem in sorted(found, key=lambda problem: order.index(problem.severity)):
        word, colour = _MARKS[problem.severity]
        terminal.line(problem, label=word, colour=colour, err=err)


@contextlib.contextmanager
def waiting_for(what: str, *, seconds: float = PATIENCE_SECONDS) -> Iterator[Callable[[], None]]:
    """Print a note on stderr if there is no progress for `seconds`. Yields a function to call at each sign of progress.

    A network drive that does not respond blocks the calling thread, and with it Python's handling of Ctrl+C.
    """
    progressed, ended = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if not progressed.wait(seconds):
                note = f"no answer from {printable(what)} for {seconds:.0f} s: is its drive not responding?"
                terminal.line(f"{note} Still waiting; Ctrl+\\ ends the program.", err=True)
                progressed.wait()
            progressed.clear()

    threading.Thread(target=watch, name="patience", daemon=True).start()
    try:
        yield progressed.set
    finally:
        ended.set()
        progressed.set()


def table(rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
    """Names and values in two columns."""
    rows = [(printable(name), printable(value)) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        terminal.line(f"{' ' * indent}{name:<{width}}  {value}")


def paragraph(text: str, width: int = 80, *, err: bool = False) -> None:
    """Print `text` in lines of at most `width` columns; long words, such as paths, stay whole."""
    filled = textwrap.fill(printable(text), width, break_long_words=False, break_on_hyphens=False)
    terminal.line(filled, err=err)


__all__ = ["location", "number", "paragraph", "problems", "seconds", "size", "table", "waiting_for"]
