"""The report in a dozen lines for the terminal."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from ti_tui.formatting import location, number, percent, printable, size, start_in_words
from ti_tui.results.outcome import decimal, pace_in_words, reason_in_words
from ti_tui.results.ranking import why_best
from ti_tui.results.report.page import Report
from ti_tui.results.report.summary import state_in_words

WIDTH = 80
INDENT = 9
"""Columns of the names at the left."""
HOLD = "\N{NO-BREAK SPACE}"
"""Replaces spaces in paths until the lines are wrapped. `printable` removes any in the user's texts."""


def short_form(report: Report, page: Path, page_bytes: int) -> list[str]:
    """Names and values in WIDTH columns. Paths are not wrapped, so that they can be copied: a long one is wider."""
    outcome, embedding, files = report.outcome, report.recipe.embedding, report.files
    start = printable(start_in_words(embedding.init, embedding.start))
    rows = [
        ("token", f"{printable(embedding.token)}: {number(embedding.vectors, 'vector')} from {start}"),
        ("model", _model(report)),
        ("run", _run(report)),
    ]
    if outcome.phase in {"failed", "stopped"} and outcome.message:
        rows.append(("why", printable(outcome.message.splitlines()[0])))
    verdict = outcome.verdict
    if verdict is not None:
        reason = printable(reason_in_words(outcome, start))
        rows.append(("verdict", f"{verdict.name} at step {verdict.step}: {reason}"))
    if gains := _gains(report):
        rows.append(("gain", gains))
    if outcome.best_step is not None:
        where = f", {_shown(files.best)}" if files.best else ", whose file is gone"
        why = why_best(report.history)
        rows.append(("best", f"step {outcome.best_step}{where}{f': {why}' if why else ''}"))
    if files.final is not None:
        rows.append(("final", _shown(files.final)))
    elif files.last is not None and files.last != files.best:
        rows.append(("last", _shown(files.last)))
    rows.append(("page", f"{_shown(page)} ({size(page_bytes)})"))
    return [line for name, text in rows for line in _wrapped(name, text)]


def _wrapped(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{name:<{INDENT}}",
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(HOLD, " ") for line in lines[:4]]


def _model(report: Report) -> str:
    base = report.recipe.model.base
    name = base if len(base) <= WIDTH - INDENT - 10 else f".../{Path(base).name}"
    family = {"sd1": "SD 1", "sd2": "SD 2", "sdxl": "SDXL"}.get(report.history.family, "")
    return f"{printable(name)}{f' ({family})' if family else ''}"


def _run(report: Report) -> str:
    pace = pace_in_words(report.outcome.seconds_per_step)
    return f"{state_in_words(report.outcome)}{f', {pace} a step' if pace else ''}"


def _gains(report: Report) -> str:
    outcome = report.outcome
    found = outcome.evaluation
    if found is None or outcome.gain is None:
        return f"not known; eval loss {decimal(found.loss)}" if found is not None else ""
    held = (
        f", {percent(found.held_gain, found.held_gain_error)} on held-out images" if found.held_gain is not None else ""
    )
    return f"{percent(outcome.gain, found.gain_error)} on training images{held} (step {found.step})"


def _shown(path: Path) -> str:
    """The shortest form of a path: absolute, from the home folder, or from the current folder."""
    near = os.path.relpath(path)
    forms = [str(path), location(path), *([near] if not near.startswith("..") else [])]
    return printable(min(forms, key=len)).replace(" ", HOLD)
