"""`ti-tui train`: train a run, or go on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import click

from ti_tui.commands import show
from ti_tui.commands.follow import Display, PlainLines, ProgressBar, follow
from ti_tui.embeddings import files as embedding_files
from ti_tui.errors import TrainingError, UserError
from ti_tui.run import requests
from ti_tui.run.events import EventReader
from ti_tui.run.folder import RunFolder, RunLocked
from ti_tui.run.process import ProcessId, start_detached
from ti_tui.settings import remember_run
from ti_tui.setup.check import check_run
from ti_tui.setup.start import last_words, wait_for_start
from ti_tui.setup.telling import ended_how


@click.command(short_help="Train a run, or go on with it.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--detach", is_flag=True, help="Start the trainer and come back at once; see it with `ti-tui watch`.")
@click.option("--plain", is_flag=True, help="Plain lines, also on a terminal.")
def command(run: Path, detach: bool, plain: bool) -> None:
    """Train RUN (a run folder or its run.toml), or go on with it where it was.

    The trainer is a process of its own: closing the terminal does not end it. Ctrl+C (or SIGTERM) saves an exact
    checkpoint and ends it; the same command goes on from there.
    """
    folder = RunFolder.find(run)
    if held := folder.trainer():
        raise RunLocked(
            f"a trainer (process {held.pid}) already works in {folder.root}",
            remedy=f"See it with `ti-tui watch {run}`, or end it with `ti-tui stop {run}`.",
        )
    checked = check_run(folder)
    show.problems([problem for problem in checked.problems if problem.severity == "warning"], err=True)
    checked.raise_errors()
    total = checked.run.scheme.scheme().total_steps
    done = folder.checkpoints()
    final = folder.embedding(checked.run.embedding.token, None)
    if done and done[-1] >= total and _step_of(final) == done[-1]:
        click.echo(f"Done: the scheme ends at step {total} and the run is at step {done[-1]}: {final}")
        click.echo("Lengthen [scheme] in the run file to go on.")
        return
    remember_run(folder.root)
    folder.create()
    reader = EventReader(folder.events, from_end=True)
    process = start_detached(folder.root, folder.log)
    if detach:
        wait_for_start(process, folder)
        click.echo(
            f"The trainer is process {process.pid}. See it with `ti-tui watch {run}`, end it with `ti-tui stop {run}`."
        )
        return
    _stay(
        process,
        folder,
        reader,
        ProgressBar() if sys.stdout is not None and sys.stdout.isatty() and not plain else PlainLines(),
    )


def _stay(process: subprocess.Popen[bytes], folder: RunFolder, reader: EventReader, display: Display) -> None:
    """Show the run until it ends, hand signals on to the trainer, and end as it ends."""

    trainer = ProcessId.of(process.pid)

    asked: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if trainer is not None and process.poll() is None:
            click.echo("saving and ending ...", err=True)
            requests.ask_to_stop(folder, trainer)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, hand_on)
    end = follow(reader, display, lambda: process.poll() is None)
    status = process.wait()
    outcome, message = ended_how(end, folder, process.pid)
    if asked and status == -signal.SIGTERM:
        # It came before the trainer could listen: there was nothing to save yet.
        outcome = "stopped"
    if outcome == "done":
        click.echo(f"The embedding is in {folder.models}")
    elif outcome == "stopped":
        click.echo(f"Stopped; `ti-tui train {folder.root}` goes on.")
    elif status == 2:
        raise UserError(message if end else last_words(folder))
    else:
        raise TrainingError(message)


def _step_of(embedding: Path) -> int | None:
    """The step of the final file; None if there is none that can be read: the trainer writes it anew."""
    try:
        return embedding_files.read(embedding).step
    except UserError:
        return None
