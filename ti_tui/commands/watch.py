"""`ti-tui watch`: follow a run, running or finished."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.commands.follow import PlainLines, follow
from ti_tui.commands.output import on_terminal
from ti_tui.run.events import EventReader
from ti_tui.run.folder import RunFolder, RunFolderError
from ti_tui.settings import known_runs


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--plain", is_flag=True, help="Print plain lines, also on a terminal.")
@click.option("--no-mouse", is_flag=True, help="Do not capture the mouse.")
def command(run: Path | None, plain: bool, no_mouse: bool) -> None:
    """Show RUN from its beginning and follow it. Default: the run that is training, else the latest.

    Leaving (q, or Ctrl+C with --plain) does not stop the run.
    """
    folder = RunFolder.find(run) if run else _latest()
    if not plain and on_terminal(sys.stdin, sys.stdout):
        from ti_tui.screens.app import run_app

        sys.exit(run_app(run=folder, mouse=not no_mouse))
    status = folder.current_status()
    if status is not None:
        terminal.line(f"{folder.root}: {status.phase} at step {status.step} of {status.total_steps}")
    elif not folder.events.exists():
        raise RunFolderError(f"{folder.root} was never trained", remedy=f"Start it with `ti-tui train {folder.root}`.")
    try:
        follow(EventReader(folder.events), PlainLines(), lambda: folder.trainer() is not None)
    except KeyboardInterrupt:
        terminal.line("The run continues; `ti-tui stop` stops it.")
        return
    ended = folder.current_status()
    if ended is not None and ended.phase == "failed":
        terminal.line(f"failed: {ended.message}")


def _latest() -> RunFolder:
    runs = [RunFolder(root) for root in known_runs()]
    running = next((run for run in runs if run.trainer() is not None), None)
    if running or runs:
        return running or runs[0]
    raise RunFolderError("no run is known", remedy="Start one with `ti-tui`, or give its folder: ti-tui watch RUN.")
