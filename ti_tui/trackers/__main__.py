"""`python -m ti_tui.trackers RUN PID SINCE`: tells other programs about a run, beside the trainer with this pid."""

from __future__ import annotations

import os
import signal
import sys

from ti_tui import terminal
from ti_tui.errors import UserError
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder
from ti_tui.settings import load_settings
from ti_tui.trackers.follow import Follower
from ti_tui.trackers.hooks import Hooks
from ti_tui.trackers.start import open_all, process_of, wanted


def main(path: str, pid: int, since: float) -> int:
    """Follow the run until its trainer has ended. since: unix seconds at which the trainer started."""
    # What ends the trainer may reach this process too, which then still has to tell how the run ended.
    for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    trainer = process_of(pid)
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        folder = RunFolder(path)
        run = load(folder.file)
        settings, _ = load_settings()
        hooks = Hooks.of(settings, run.embedding.token)
        follower = Follower(folder, open_all(wanted(settings, run.save.log_to), folder), hooks, since=since)
        follower.follow(trainer)
        follower.close()
    except UserError as error:
        terminal.error(error)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
