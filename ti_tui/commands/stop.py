"""`ti-tui stop`: save a running training and end it."""

from __future__ import annotations

import time
from pathlib import Path

import click

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
    help="Seconds to wait for its end; 0 does not wait.",
)
def command(run: Path, seconds: float) -> None:
    """Ask the trainer of RUN to save an exact checkpoint and to end. `ti-tui train` goes on from there."""
    folder = RunFolder.find(run)
    trainer = folder.trainer()
    if trainer is None:
        click.echo(f"No trainer works in {folder.root}.")
        return
    requests.ask_to_stop(folder, trainer)
    if seconds <= 0:
        click.echo("Asked to stop.")
        return
    end = time.monotonic() + seconds

    def gone() -> bool:
        # A process of another machine cannot be seen; there the lock that it gives up tells.
        return not trainer.alive() and folder.trainer() is None

    while not gone() and time.monotonic() < end:
        time.sleep(0.05)
    if not gone():
        raise UserError(
            f"the trainer (process {trainer.pid}) has not ended within {seconds:g} s; it was asked to",
            remedy=f"See {folder.log}.",
        )
    status = folder.read_status()
    click.echo(f"Stopped at step {status.step} of {status.total_steps}." if status else "Stopped.")
