"""Crash reports: the command line and the traceback in a file."""

from __future__ import annotations

import sys
from pathlib import Path

from ti_tui import atomic, settings


def write_crash(error: BaseException) -> Path | None:
    """Write the traceback of `error` to the state folder; returns the file, None if it cannot be written."""
    import traceback

    path = settings.state_folder() / "crash.log"
    text = "".join(traceback.format_exception(error))
    try:
        atomic.write_text(path, f"{sys.argv}\n{text}")
    except atomic.CannotWrite:
        return None
    return path
