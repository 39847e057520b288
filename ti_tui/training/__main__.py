"""`python -m ti_tui.training RUN`: trains one run in its own process; `accelerate launch` starts several of them."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from ti_tui import terminal
from ti_tui.errors import UserError
from ti_tui.run import requests
from ti_tui.run.file import lines_of
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.plan import choose_precision
from ti_tui.run.problems import Problems, ProblemsError
from ti_tui.setup.check import Checked, check_run
from ti_tui.trackers.start import start_beside
from ti_tui.training.reporter import Reporter


def main(path: str) -> int:
    """Train the run at `path` until it is done or stopped; returns the exit status (2: bad input, 3: failed)."""
    stop = threading.Event()

    def request_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, request_stop)
    # A closed terminal stops a run that was started in it, unless `nohup` protects it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, request_stop)
    is_main = os.environ.get("RANK", "0") == "0"
    try:
        folder = RunFolder.find(path)
        if not is_main:
            if hasattr(signal, "SIGUSR1"):
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            return train(folder, Reporter(folder, main=False), stop)
        with folder.lock(say=terminal.error) as held:
            folder.create()
            _save_on_signal(folder)
            return train(folder, Reporter(folder, held=held), stop)
    except UserError as error:
        terminal.error(error)
        return error.exit_status


def train(folder: RunFolder, report: Reporter, stop: threading.Event) -> int:
    try:
        checked = check_run(folder)
        checked.raise_errors()
        report.position((folder.checkpoints() or [0])[-1], checked.run.scheme.scheme().total_steps)
        _quiet()
        if report.main:
            start_beside(folder, checked.run.save.log_to, checked.run.embedding.token)
        # The heavy imports come after the checks, so that bad input is reported within a second.
        with _garbage_collection_off():
            from ti_tui.training.models import read_unet_ahead

            ahead = None if checked.facts is None else read_unet_ahead(checked.facts, _expected_dtype(checked))
            from ti_tui.training.device import make_accelerator
            from ti_tui.training.opening import StoppedWhileLoading
            from ti_tui.training.trainer import Trainer

        for problem in checked.problems:
            if problem.severity == "warning":
                report.warn(str(problem))
        message = ""
        try:
            trainer = Trainer(checked, make_accelerator(checked.run.training.device), report, stop.is_set, ahead)
            outcome = trainer.run()
            message = trainer.message
            trainer.close()
        except StoppedWhileLoading:
            outcome = "stopped"
        report.end("done" if outcome == "done" else "stopped", message)
        return 0
    except ProblemsError as error:
        placed = ProblemsError(Problems(error.problems).placed(folder.file, lines_of(folder.file)))
        report.end("failed", str(placed))
        terminal.error(placed)
        return error.exit_status
    except UserError as error:
        report.end("failed", str(error))
        terminal.error(error)
        return 3 if report.trained else error.exit_status
    except Exception as error:
        traceback.print_exc()
        report.end("failed", f"{type(error).__name__}: {error}. The details are in {folder.log}")
        return 3


def _save_on_signal(folder: RunFolder) -> None:
    """SIGUSR1 asks for a checkpoint, as `s` in the dashboard does."""

    def request_save(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(UserError):
            requests.submit(folder, "save")

    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, request_save)


def _expected_dtype(checked: Checked) -> Any:
    """The dtype that the plan will most likely choose for the U-Net. A wrong guess only costs time."""
    from ti_tui.training.device import DTYPES

    training = checked.run.training
    return DTYPES[choose_precision(training.precision, find_hardware(training.device), {})]


@contextlib.contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """No garbage collection during imports: they create very many objects, and nearly all of them stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _quiet() -> None:
    """Keep the libraries' warnings and progress bars out of the log; errors are still logged."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("diffusers", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _leave(status: int) -> NoReturn:
    """End with this exit status. Python changes it if it cannot write its last lines to a log on a full disk."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        terminal.error("usage: python -m ti_tui.training RUN")
        sys.exit(2)
    _leave(main(sys.argv[1]))
