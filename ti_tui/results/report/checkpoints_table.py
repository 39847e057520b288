"""The checkpoints of a run as a table: losses, gains and files."""

from __future__ import annotations

from pathlib import Path

from ti_tui.formatting import percent, size
from ti_tui.results.comparison import gain_at, thinned
from ti_tui.results.outcome import decimal, file_bytes
from ti_tui.results.ranking import checkpoint_ranks, why_best
from ti_tui.results.report.markup import Html, join, table, tag
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import CheckpointRow, RunHistory
from ti_tui.run.verdicts import Rank

FEW, MOST = 12, 400
"""Rows in the open table, and rows in the full one."""


def checkpoints_section(folder: RunFolder, history: RunHistory) -> Html:
    """A few checkpoints, spread over the run and with the best, newest first; all of them in a folded table below."""
    if not history.checkpoints:
        return tag("p", "There is no checkpoint yet.")
    why = f", step {history.best_step}: {text}" if (text := why_best(history)) else ""
    legend = f"★ marks the best{why}. Files are in the run folder."
    parts: list[object] = [tag("p", legend, class_="says"), _table(folder, history, FEW)]
    count = len(history.checkpoints)
    if count > FEW:
        summary = f"All {count} checkpoints" if count <= MOST else f"{MOST} of the {count} checkpoints"
        parts.append(tag("details", tag("summary", summary), _table(folder, history, MOST)))
    return tag("div", parts)


def _table(folder: RunFolder, history: RunHistory, most: int) -> Html:
    rows = {row.step: row for row in history.checkpoints}
    shown = thinned(list(rows), most, keep=(history.best_step,))
    heads = ["step", "eval loss", "gain", "held out", "prompt-following", "rank", "train loss", "norm", "file"]
    found = checkpoint_ranks(history)
    listed = [_row(folder, history, rows[step], found.get(step)) for step in reversed(shown)]
    last = len(heads) - 1
    used = [place for place in range(len(heads)) if place in (0, last) or any(row[place] for row in listed)]
    return table(
        [heads[place] for place in used],
        [[row[place] for place in used] for row in listed],
        numbers=set(range(len(used) - 1)),
        class_="checkpoints",
    )


def _row(folder: RunFolder, history: RunHistory, row: CheckpointRow, rank: Rank | None) -> list[object]:
    best = row.step == history.best_step
    found = history.evaluation_at(row.step)
    return [
        [tag("b", "★ ", title="best", class_="star") if best else None, str(row.step)],
        decimal(row.eval_loss),
        percent(gain_at(history, row.step)),
        percent(found.held_gain) if found is not None else "",
        percent(rank.follows) if rank is not None else "",
        percent(rank.value, digits=1) if rank is not None else "",
        decimal(row.loss),
        decimal(row.norm, 2),
        _files(folder, row),
    ]


def _files(folder: RunFolder, row: CheckpointRow) -> Html:
    if not row.files:
        return tag("span", "no file", class_="quiet")
    first, *others = row.files
    path = folder.root / first
    taken = file_bytes(path)
    about: list[object] = [tag("code", first)]
    if taken is None:
        about.append(tag("span", " (deleted)", class_="quiet"))
    else:
        endings = ", ".join(Path(other).suffix for other in others if file_bytes(folder.root / other) is not None)
        about.append(tag("span", f" {size(taken)}{f', also {endings}' if endings else ''}", class_="quiet"))
    if row.installed:
        about.append(tag("span", f" installed in {row.installed}", class_="quiet"))
    return join(about)
