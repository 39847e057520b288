"""`ti-tui train`: start or resume a run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Literal

import click

from ti_tui import terminal
from ti_tui.commands import show
from ti_tui.commands.follow import Display, PlainLines, ProgressBar, follow
from ti_tui.commands.output import on_terminal
from ti_tui.embeddings import files as embedding_files
from ti_tui.errors import TrainingError, UserError
from ti_tui.monitoring.event_text import ended_how
from ti_tui.run import lease, requests
from ti_tui.run.events import EventReader
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId, start_detached
from ti_tui.settings import remember_run
from ti_tui.setup.check import Checked, check_run
from ti_tui.setup.start import last_log_lines, wait_for_start


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--detach", is_flag=True, help="Start the trainer and return at once; follow it with `ti-tui watch`.")
@click.option("--plain", is_flag=True, help="Print plain lines, also on a terminal.")
@click.option(
    "--take-over",
    is_flag=True,
    help="Take the run from a trainer on another machine or in another container, which then ends.",
)
def command(run: Path, detach: bool, plain: bool, take_over: bool) -> None:
    """Train RUN (a run folder or its run.toml), or resume it from its newest checkpoint.

    The trainer is a separate process: closing the terminal does not end it. Ctrl+C (or SIGTERM) saves an exact
    checkpoint and stops it; the same command resumes from there.
    """
    folder = RunFolder.find(run)
    if take_over and (held := lease.take_from(folder.lock_file)):
        terminal.line(f"Taken over from {held}.", err=True)
    checked = check_for_start(folder)
    if line := lease.waiting_for(folder.lock_file):
        terminal.line(line, err=True)
    total = checked.run.scheme.scheme().total_steps
    done = folder.checkpoints()
    final = folder.embedding(checked.run.embedding.token, None)
    if done and done[-1] >= total and _step_of(final) == done[-1]:
        terminal.line(f"Done: the scheme ends at step {total} and the run is at step {done[-1]}: {final}")
        terminal.line("To train further, add steps to [scheme] in the run file.")
        return
    if detach:
        process = _start(folder)
        wait_for_start(process, folder)
        terminal.line(
            f"The trainer is process {process.pid}. `ti-tui watch {run}` follows it, `ti-tui stop {run}` stops it."
        )
        return
    bar = on_terminal(sys.stdout) and not plain
    if train_here(folder, ProgressBar if bar else PlainLines) == "done":
        terminal.line(f"The embedding is in {folder.models}")
    else:
        terminal.line(f"Stopped; `ti-tui train {folder.root}` resumes it.")


def check_for_start(folder: RunFolder) -> Checked:
    """Check a run before training, and print its warnings. Raises RunLocked, CheckFailed or RunFileError."""
    lease.refuse_if_running(folder.lock_file)
    checked = check_run(folder)
    show.problems([problem for problem in checked.problems if problem.severity == "warning"], err=True)
    checked.raise_errors()
    return checked


def train_here(folder: RunFolder, display: Callable[[], Display]) -> Literal["done", "stopped"]:
    """Start the trainer of a checked run and show its progress until it ends; Ctrl+C and SIGTERM save and stop it.

    Raises UserError if it could not start, TrainingError if it failed.
    """
    received: list[int] = []
    trainer: ProcessId | None = None

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if trainer is not None and trainer.alive():
            terminal.line("saving and stopping ...", err=True)
            requests.ask_to_stop(folder, trainer)

    before = {name: signal.signal(name, on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        reader = EventReader(folder.events, from_end=True)
        process = _start(folder)
        trainer = ProcessId.of(process.pid)
        if received and trainer is not None:
            # The signal came while the process was being started.
            requests.ask_to_stop(folder, trainer)
        end = follow(reader, display(), lambda: process.poll() is None)
        status = process.wait()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    outcome, message = ended_how(end, folder, process.pid)
    if outcome == "done":
        return "done"
    # A signal before the trainer had its handlers ended it: there was nothing to save yet.
    if outcome == "stopped" or (received and status == -signal.SIGTERM):
        return "stopped"
    if status == 2:
        raise UserError(message if end else last_log_lines(folder))
    raise TrainingError(message)


def _start(folder: RunFolder) -> subprocess.Popen[bytes]:
    remember_run(folder.root)
    folder.create()
    return start_detached(folder.root, folder.log)


def _step_of(embedding: Path) -> int | None:
    """The step of the final embedding file; None if it cannot be read: the trainer then writes it again."""
    try:
        return embedding_files.read(embedding).step
    except UserError:
        return None
