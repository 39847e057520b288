"""Makes a run from a draft and starts its trainer: for the screens, what `ti-tui init` and `ti-tui train` do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ti_tui import bounded
from ti_tui.dataset.survey import SurveyCache
from ti_tui.errors import UserError
from ti_tui.run import lease
from ti_tui.run.folder import RunFolder
from ti_tui.run.process import start_detached
from ti_tui.settings import remember_run
from ti_tui.setup import last_run
from ti_tui.setup.check import check_run
from ti_tui.setup.create import Created, create_run
from ti_tui.setup.draft import Draft

START_SECONDS = 30.0


def make_run(
    draft: Draft, root: Path, *, memory: SurveyCache | None = None, progress: Callable[[int, int], None] | None = None
) -> Created:
    """Make the run that `draft` describes at `root`: folder, prepared images, captions, run file.

    memory: the results of earlier surveys. Raises UserError.
    """
    source = draft.source()
    if source is None:
        raise UserError("no folder of photographs is chosen", remedy="Choose it in the first step.")
    values = draft.values()
    created = create_run(
        root,
        source,
        values,
        draft.choices,
        class_word=draft.class_word or None,
        memory=memory,
        progress=progress,
    )
    if draft.kept:
        last_run.remember(created.folder.root, values, chosen=bool(draft.run_folder or draft.runs))
    return created


def start_trainer(folder: RunFolder) -> int:
    """Check the run and start its trainer, detached; returns its pid once it has written its status.

    Raises UserError: RunLocked if a trainer already works there, CheckFailed for problems of the run, or the last
    lines of the log if the trainer ended immediately.
    """
    lease.refuse_if_running(folder.lock_file)
    check_run(folder, decode=False).raise_errors()
    remember_run(folder.root)
    folder.create()
    process = start_detached(folder.root, folder.log)
    wait_for_start(process, folder)
    return process.pid


def wait_for_start(process: subprocess.Popen[bytes], folder: RunFolder) -> None:
    """Wait until the trainer has written its status. Raises UserError if it has ended."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = folder.read_status()
        if status is not None and status.pid == process.pid:
            return
        if process.poll() is not None:
            raise UserError(last_log_lines(folder))
        time.sleep(0.05)


def last_log_lines(folder: RunFolder) -> str:
    """The last lines of the trainer's log, for one that ended without an event."""
    try:
        lines = bounded.read_end(folder.log).strip().splitlines()
    except OSError:
        lines = []
    return "\n".join(lines[-2:]) or f"the trainer ended immediately; see {folder.log}"
