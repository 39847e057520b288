"""The outcome of a run in numbers and words, for the report, its short form and `ti-tui runs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ti_tui.embeddings.files import FORMS, SUFFIXES
from ti_tui.formatting import number, percent
from ti_tui.results.comparison import gain_at
from ti_tui.results.ranking import checkpoint_ranks
from ti_tui.run.evaluations import Evaluation
from ti_tui.run.folder import RunFolder, Status
from ti_tui.run.outline import Outline, read_outline
from ti_tui.run.verdicts import Verdict

DAY = "%Y-%m-%d %H:%M"
MOST_SECONDS = 1e8
"""Three years: a log may hold any number."""


@dataclass(frozen=True)
class Outcome:
    """The present state of a run.

    phase: from the status, else from the log; "not started" without either.
    """

    folder: RunFolder
    outline: Outline
    status: Status | None
    phase: str

    @property
    def step(self) -> int:
        return max(self.outline.history.step, self.status.step if self.status and not self.outline.history.step else 0)

    @property
    def total_steps(self) -> int:
        return max(self.outline.history.total_steps or (self.status.total_steps if self.status else 0), self.step)

    @property
    def going(self) -> bool:
        return self.status is not None and self.status.going

    @property
    def started(self) -> bool:
        """Whether the run was ever started."""
        return self.outline.history.last_t is not None or self.status is not None

    @property
    def message(self) -> str:
        """Why it stopped or failed, if known."""
        message = self.status.message if self.status is not None and not self.going else ""
        return message or self.outline.history.message

    @property
    def seconds(self) -> float | None:
        """How long it was trained in all sessions; None if unknown."""
        seconds = self.outline.seconds
        return seconds if 0 < seconds < MOST_SECONDS else None

    @property
    def seconds_per_step(self) -> float | None:
        return self.outline.seconds_per_step

    @property
    def evaluation(self) -> Evaluation | None:
        """The last evaluation."""
        return self.outline.history.evaluations[-1] if self.outline.history.evaluations else None

    @property
    def verdict(self) -> Verdict | None:
        return self.outline.history.verdict

    @property
    def best_step(self) -> int | None:
        return self.outline.history.best_step

    @property
    def best_in_words(self) -> str:
        """The best step and its rank, `80 (34.1 %)`; "" if no checkpoint was evaluated."""
        if self.best_step is None:
            return ""
        rank = checkpoint_ranks(self.outline.history).get(self.best_step)
        return f"{self.best_step} ({percent(rank.value, digits=1)})" if rank is not None else str(self.best_step)

    @property
    def gain(self) -> float | None:
        """The gain on training images at the last evaluation."""
        found = self.evaluation
        return None if found is None else gain_at(self.outline.history, found.step)

    @property
    def peak_bytes(self) -> int:
        return self.outline.peak_bytes

    @property
    def length(self) -> str:
        """The norm of the vectors, relative to the median word or absolute; "" if it was never measured."""
        found = self.evaluation
        if found is not None and found.length is not None:
            return f"{found.length:.2g} x median word"
        norms = [row.norm for row in self.outline.history.checkpoints if row.norm is not None]
        return f"norm {norms[-1]:.3g}" if norms else ""


def outcome_of(folder: RunFolder) -> Outcome:
    """The present outcome; may be called while the run is being trained."""
    outline, status = read_outline(folder.events), folder.current_status()
    history = outline.history
    phase = status.phase if status is not None else history.phase or "not started"
    return Outcome(folder, outline, status, phase)


def decimal(value: float | None, digits: int = 4) -> str:
    """`0.0289`, `12345`; "" for None. A value from a run that diverged has fewer digits."""
    if value is None:
        return ""
    if abs(value) < 1000:
        return f"{value:.{digits}f}"
    return f"{value:.0f}" if abs(value) < 1e7 else f"{value:.1e}"


def reason_in_words(outcome: Outcome, start: str) -> str:
    """The reason for the verdict; while learning, with the present gain.

    start: the initial words, as text.
    """
    verdict, gain = outcome.verdict, outcome.gain
    assert verdict is not None
    if verdict.name != "learning" or gain is None or outcome.evaluation is None:
        return verdict.reason
    change = f"{percent(gain)} less" if gain >= 0 else f"{percent(-gain)} more"
    return f"{change} error than {start} after {number(outcome.evaluation.step, 'step')}"


def pace_in_words(seconds: float | None) -> str:
    """`0.12 s`, `14 s`; "" for None."""
    if seconds is None:
        return ""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


@dataclass(frozen=True)
class ResultFiles:
    """The embedding files of a run; None for one that does not exist.

    use: the file to take: the best checkpoint, else the final one, else the last.
    """

    final: Path | None = None
    best: Path | None = None
    last: Path | None = None

    @property
    def use(self) -> Path | None:
        return self.best or self.final or self.last


def result_files(outcome: Outcome, token: str) -> ResultFiles:
    """The embedding files in the most widely read format that was written."""
    for form in FORMS:
        found = _files_of(outcome, token, SUFFIXES[form])
        if found.use is not None:
            return found
    return ResultFiles()


def _files_of(outcome: Outcome, token: str, ending: str) -> ResultFiles:
    folder, best_step = outcome.folder, outcome.best_step
    steps = [row.step for row in reversed(outcome.outline.history.checkpoints)]
    named = [] if best_step is None else [folder.best(token, ending), folder.embedding(token, best_step, ending)]
    return ResultFiles(
        final=_first_there([folder.embedding(token, None, ending)]),
        best=_first_there(named),
        last=_first_there(folder.embedding(token, step, ending) for step in steps),
    )


def _first_there(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if file_bytes(path) is not None), None)


def file_bytes(path: Path) -> int | None:
    """Size of the file at `path`; None if there is none. Never raises: a log may name anything."""
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None
