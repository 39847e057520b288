"""The report of a run as one self-contained HTML page: no network, no scripts, no other files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ti_tui import __version__, atomic
from ti_tui.errors import UserError
from ti_tui.formatting import clock
from ti_tui.results.comparison import read_history
from ti_tui.results.outcome import DAY, Outcome, ResultFiles, outcome_of, result_files
from ti_tui.results.report.chart import figure
from ti_tui.results.report.checkpoints_table import checkpoints_section
from ti_tui.results.report.curves import charts_of
from ti_tui.results.report.markup import Html, tag
from ti_tui.results.report.pictures import grid_of, pictures_section
from ti_tui.results.report.settings_tables import settings_section
from ti_tui.results.report.summary import head
from ti_tui.results.report.timeline import evaluations_section, facts_section, notices_section
from ti_tui.results.report.usage import usage_section
from ti_tui.results.report.vectors import vectors_section
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.run.recipe import RunFile

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser may load nothing for the page: whatever a caption or a log contains, it sends no request."""


class NothingToReport(UserError):
    """A run that was never started."""


@dataclass(frozen=True)
class Report:
    """What a report is made from."""

    folder: RunFolder
    recipe: RunFile
    history: RunHistory
    outcome: Outcome
    files: ResultFiles


def read_report(folder: RunFolder) -> Report:
    """Read everything for the report, even while the run is being trained. Raises NothingToReport, RunFileError."""
    recipe, outcome = run_file.load(folder.file), outcome_of(folder)
    if not outcome.started:
        raise NothingToReport(
            f"{folder.root} was never trained: there is nothing to report",
            remedy=f"Start it with `ti-tui train {folder.root}`.",
        )
    return Report(folder, recipe, read_history(folder), outcome, result_files(outcome, recipe.embedding.token))


def write_report(report: Report, target: Path) -> int:
    """Write the page to `target` atomically; returns its size in bytes. Raises CannotWrite."""
    content = page(report).encode("utf-8")
    atomic.write_bytes(target, content)
    return len(content)


def page(report: Report) -> Html:
    """The whole page."""
    recipe, history, outcome = report.recipe, report.history, report.outcome
    sections = [
        ("curves", "Curves", _curves(history, recipe)),
        ("pictures", "Images", pictures_section(grid_of(report.folder, history, recipe), history, recipe)),
        ("use", "How to use it", usage_section(report.files, report.folder, recipe, history)),
        ("checkpoints", "Checkpoints", checkpoints_section(report.folder, history)),
        ("vectors", "Vectors", vectors_section(history)),
        ("time", "Time and memory", facts_section(outcome, history)),
        ("happened", "Warnings and errors", notices_section(history)),
        ("settings", "Settings", settings_section(recipe, history)),
    ]
    shown = [(key, title, content) for key, title, content in sections if content is not None]
    links = [tag("a", title, href=f"#{key}") for key, title, _ in shown]
    made = [tag("section", tag("h2", title), content, id=key) for key, title, content in shown]
    title = f"{recipe.embedding.token}, {outcome.folder.name}: training report"
    return Html(
        "<!DOCTYPE html>\n"
        + tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", name="color-scheme", content="light dark"),
                tag("meta", name="robots", content="noindex"),
                tag("title", title),
                # Our own text, without user content, must not be escaped.
                tag("style", Html(STYLE.read_text(encoding="utf-8"))),
            ),
            tag(
                "body",
                head(outcome, recipe, report.files),
                tag("nav", links, aria_label="sections"),
                tag("main", made),
                tag("footer", _colophon(report)),
            ),
            lang="en",
        )
        + "\n"
    )


def _curves(history: RunHistory, recipe: RunFile) -> Html:
    charts = charts_of(history, recipe)
    if not charts:
        return tag("p", "There is nothing to draw yet.")
    return tag(
        "div",
        tag("p", _LEGEND, class_="says"),
        tag("div", [figure(chart, marks) for chart, marks in charts], class_="charts"),
        evaluations_section(history),
    )


_LEGEND = "In all charts ★ marks the best checkpoint, ticks on the axis the others, dashed lines a new verdict."


def _colophon(report: Report) -> Html:
    written = clock(time.time(), DAY)
    return tag("p", f"Written by ti_tui {__version__} on {written}, from ", tag("code", report.folder.root), ".")
