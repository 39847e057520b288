"""`ti-tui report`: one page with everything about a run."""

from __future__ import annotations

from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.commands.output import output_file
from ti_tui.embeddings.run_files import reconcile_if_idle
from ti_tui.results.report.page import read_report, write_report
from ti_tui.results.report.text_form import short_form
from ti_tui.run.folder import RunFolder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", default="", metavar="FILE", help="The page to write; by default RUN/report.html.")
def command(run: Path, output: str) -> None:
    """Write RUN/report.html, and print a summary.

    The page is one self-contained file without scripts: curves, verdict, samples beside training images, checkpoints,
    vectors, settings with what `auto` decided, and how to use the embedding in each program. RUN may be training
    meanwhile. Run the command again to update the page.
    """
    folder = RunFolder.find(run)
    target = output_file(output, folder.root / "report.html", ".html", ".htm")
    reconcile_if_idle(folder)
    report = read_report(folder)
    page_bytes = write_report(report, target)
    for line in short_form(report, target, page_bytes):
        terminal.line(line)
