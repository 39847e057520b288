"""Tries learning rates on a run in a helper process and writes the proposed scheme to the run file. No torch.

The process is `python -m ti_tui.training.probe RUN STEPS`, for `ti-tui probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from ti_tui.errors import UserError
from ti_tui.jobs.runner import Job, ProcessNote, messages_of
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.run.optimizers import OPTIMIZERS, find_optimizer
from ti_tui.run.rate_search import Trial, TrialReading
from ti_tui.run.scheme import Scheme
from ti_tui.settings import state_folder
from ti_tui.setup.check import Checked, CheckFailed, check_run


class ProbingError(UserError):
    """Rates could not be tried, or the result cannot be used."""


@dataclass(frozen=True)
class ProbeOpened:
    """The run is loaded at `step`, and its vectors measured `before` the trials; each trial will have `steps` steps.

    spread: the scale that rates are compared with, see run.rate_search.next_rate.
    """

    step: int
    spread: float
    before: TrialReading
    steps: int


@dataclass(frozen=True)
class TrialProgress:
    """Within a trial: `done` of its steps are done, and `steps` in all trials so far, of `seconds_each`."""

    rate: float
    warmup: int
    done: int
    of: int
    steps: int
    seconds_each: float


@dataclass(frozen=True)
class TrialDone:
    """A trial is over."""

    trial: Trial


ProbeMessage = ProcessNote | ProbeOpened | TrialProgress | TrialDone
_MESSAGES: dict[str, Callable[..., ProbeMessage]] = {
    "said": ProcessNote,
    "opened": lambda before, **values: ProbeOpened(before=TrialReading(**before), **values),
    "going": TrialProgress,
    "tried": lambda trial: TrialDone(Trial.from_values(trial)),
}
"""What the process's answers become, by kind."""


def checked_for_probing(folder: RunFolder) -> Checked:
    """The run, ready to start. Raises CheckFailed if it cannot start, ProbingError for its optimizer."""
    checked = check_run(folder)
    checked.raise_errors()
    if checked.facts is None:
        # The trainer would download the model; a probe downloads nothing.
        raise CheckFailed([problem for problem in checked.problems if problem.field == "model.base"])
    name = checked.run.training.optimizer
    optimizer = find_optimizer(name)
    if optimizer is None or not optimizer.steps_by_rate:
        fit = sorted(other for other, row in OPTIMIZERS.items() if row.steps_by_rate)
        raise ProbingError(
            f"a probe needs an optimizer whose steps are about the size of the rate, and {name}'s are not",
            where="training.optimizer",
            remedy=f"It works with {', '.join(fit)}.",
        )
    return checked


def refuse_beside_trainer(folder: RunFolder) -> None:
    """Raises ProbingError if a trainer is working on the run."""
    if held := folder.trainer():
        raise ProbingError(
            f"a trainer (process {held.pid}) works in {folder.root}, and would move on during the probe",
            remedy=f"Stop it first: `ti-tui stop {folder.root}`. It can be resumed afterwards.",
        )


def try_rates(folder: RunFolder, steps: int, *, log: Path | None = None) -> Generator[ProbeMessage, None, None]:
    """Try rates for about `steps` steps in all; yields messages as they arrive. Raises ProbingError.

    Closing the generator, or an exception where it is read, ends the process. Nothing in the run folder is changed.
    log: the file for what the libraries print; by default probe.log among the program's own files.
    """
    job = Job(
        module="ti_tui.training.probe",
        arguments=(str(folder.root), str(steps)),
        name="probing process",
        kept="the run is unchanged",
        if_killed="Close other programs, or use a smaller number for --steps.",
        error=ProbingError,
        log=log or state_folder() / "probe.log",
    )
    return messages_of(job, _MESSAGES)


def steps_ahead(folder: RunFolder, step: int) -> int:
    """Number of steps in the run's scheme after `step`. Raises ProbingError if there are none."""
    total = run_file.load(folder.file).scheme.scheme().total_steps
    if total <= step:
        raise ProbingError(
            f"the run is at step {step} and its scheme ends at {total}: no steps are left",
            remedy="Lengthen [scheme] in run.toml first.",
        )
    return total - step


def apply(folder: RunFolder, scheme: Scheme, step: int) -> Scheme:
    """Write `scheme` into the run file for the steps after `step`; returns the whole scheme. Raises UserError.

    Raises ProbingError if the run is no longer at `step`, or is being trained.
    """
    refuse_beside_trainer(folder)
    now = (folder.checkpoints() or [0])[-1]
    if now != step:
        raise ProbingError(f"the run was probed at step {step}, and is at step {now} now", remedy="Probe it again.")
    run = run_file.load(folder.file)
    whole = run.scheme.scheme().continued(step, scheme.segments) if step else scheme
    run_file.save(run.with_scheme(whole), folder.file)
    return whole
