"""Starts the process that tells other programs about a run, if the user or the run file wants any."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable

from ti_tui import terminal
from ti_tui.errors import UserError
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import ProcessId
from ti_tui.settings import Settings, load_settings
from ti_tui.trackers.follow import Tracker
from ti_tui.trackers.hooks import Hooks, neutral


def wanted(settings: Settings, of_run: Iterable[str]) -> list[str]:
    """The names of the trackers in the settings and in the run file, each once."""
    return list(dict.fromkeys([*settings.log_to, *of_run]))


def open_tracker(name: str, folder: RunFolder) -> Tracker:
    """The tracker called `name`. Raises UserError if its package is missing, or its place is elsewhere."""
    place = folder.events.parent
    for part in (place, place / name):
        if part.is_symlink():
            # What is there would be replaced.
            raise UserError(f"{part} is a link; nothing is written through it")
    if name == "tensorboard":
        from ti_tui.trackers.tensorboard import TensorBoard

        return TensorBoard(folder)
    from ti_tui.trackers.wandb import WeightsAndBiases

    return WeightsAndBiases(folder)


def start_beside(folder: RunFolder, of_run: Iterable[str], token: str) -> subprocess.Popen[bytes] | None:
    """Start the process beside this trainer, if there is anything for it to do. It ends after the trainer."""
    settings, _ = load_settings()
    if not wanted(settings, of_run) and not Hooks.of(settings, token).commands:
        return None
    root = str(folder.root.absolute())
    command = [sys.executable, "-P", "-m", "ti_tui.trackers", root, str(os.getpid()), str(time.time())]
    try:
        # A signal to the trainer's group does not end it: it still has to tell how the run ended.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=os.name != "nt", cwd=neutral())
    except OSError as error:
        terminal.error(f"nothing is told to other programs: {error.strerror or error}")
        return None


def open_all(names: Iterable[str], folder: RunFolder) -> list[Tracker]:
    """The trackers that can be opened; the others are told on stderr."""
    found = []
    for name in names:
        try:
            found.append(open_tracker(name, folder))
        except (UserError, OSError) as error:
            terminal.error(f"nothing is written for {name}: {error}")
    return found


def process_of(pid: int) -> ProcessId:
    """The trainer; a process that is gone already counts as one that was killed."""
    return ProcessId.of(pid) or ProcessId(pid, "", "")
