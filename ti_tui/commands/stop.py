"""`ti-tui stop`: save a running training and stop it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.errors import UserError
from ti_tui.run import requests
from ti_tui.run.folder import RunFolder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--wait",
    "seconds",
    default=120.0,
    show_default=True,
    help="Seconds to wait until it has stopped; 0 does not wait.",
)
def command(run: Path, seconds: float) -> None:
    """Make the trainer of RUN save an exact checkpoint and stop. `ti-tui train` continues from there."""
    folder = RunFolder.find(run)
    trainer = folder.trainer()
    if trainer is None:
        terminal.line(f"No trainer is running in {folder.root}.")
        return
    requests.ask_to_stop(folder, trainer)
    if seconds <= 0:
        terminal.line("Stop requested.")
        return
    terminal.line(f"Stop requested; waiting for process {trainer.pid} to save and end ...", err=True)
    end = time.monotonic() + seconds

    def gone() -> bool:
        # A process on another machine cannot be seen; its lock shows when it has ended.
        return not trainer.alive() and folder.trainer() is None

    while not gone() and time.monotonic() < end:
        time.sleep(0.05)
    if not gone():
        raise UserError(
            f"the trainer (process {trainer.pid}) has not stopped within {seconds:g} s of the request",
            remedy=f"See {folder.log}.",
        )
    status = folder.read_status()
    terminal.line(f"Stopped at step {status.step} of {status.total_steps}." if status else "Stopped.")
