"""`ti-tui log`: write a run's log for TensorBoard or Weights & Biases."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click

from ti_tui import terminal
from ti_tui.run.folder import RunFolder
from ti_tui.settings import TRACKERS
from ti_tui.trackers.follow import POLL_SECONDS, Follower
from ti_tui.trackers.hooks import Hooks
from ti_tui.trackers.start import open_tracker


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to", "name", type=click.Choice(TRACKERS), default=TRACKERS[0], show_default=True, help="For which program."
)
@click.option("--follow", is_flag=True, help="Go on while the run trains; Ctrl+C ends it.")
def command(run: Path, name: str, follow: bool) -> None:
    """Write the log of RUN for another program, below RUN/log: losses, rates, memory, verdicts, samples.

    What was written for it before is replaced. `save.log_to` in the run file, or `log_to` in config.toml, does the same
    while a run trains. Nothing is uploaded.
    """
    folder = RunFolder.find(run)
    follower = Follower(folder, [open_tracker(name, folder)], Hooks({}, ""))
    with contextlib.suppress(KeyboardInterrupt):
        follower.read()
        while follow and folder.trainer() is not None:
            time.sleep(POLL_SECONDS)
            follower.read()
    follower.close()
    place = folder.events.parent
    how = (
        f"tensorboard --logdir {place / name}" if name == "tensorboard" else f"wandb sync {place / name / 'latest-run'}"
    )
    terminal.line(f"Written. Open it with: {how}")
