"""Draws and scores the images of a comparison in a helper process, for `ti-tui compare`. No torch.

The process (`python -m ti_tui.training.compare`) gets its work as a line of JSON on stdin and answers with lines on
stdout; closing its stdin ends it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path

from ti_tui.errors import UserError
from ti_tui.jobs.clip_model import Scores
from ti_tui.jobs.runner import Job, ProcessNote, messages_of
from ti_tui.run.folder import RunFolder
from ti_tui.settings import state_folder
from ti_tui.setup.check import Checked, CheckFailed, check_run

OF_THE_IMAGES = ("model.", "embedding.")
"""Fields of the run file that decide what is drawn; the others may be wrong."""


class ComparingError(UserError):
    """Images could not be drawn or scored."""


@dataclass(frozen=True)
class ToDraw:
    """An image to draw into `file`: a prompt in kohya's notation, with the vectors of `step`."""

    prompt: str
    step: int
    file: Path


@dataclass(frozen=True)
class ToScore:
    """An image to score, with its prompt as CLIP reads it."""

    file: Path
    words: str


@dataclass(frozen=True)
class CompareWork:
    """The work of the process: draw, then score. judge: the folder of a CLIP model, None for no scores."""

    run: Path
    device: str
    draw: tuple[ToDraw, ...] = ()
    judge: Path | None = None
    score: tuple[ToScore, ...] = ()
    references: tuple[Path, ...] = ()

    def line(self) -> bytes:
        """For the process's stdin."""
        return json.dumps(asdict(self), default=str).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> CompareWork:
        """The work that `line` was made from."""
        values = json.loads(line)
        return cls(
            Path(values["run"]),
            values["device"],
            tuple(ToDraw(one["prompt"], one["step"], Path(one["file"])) for one in values["draw"]),
            None if values["judge"] is None else Path(values["judge"]),
            tuple(ToScore(Path(one["file"]), one["words"]) for one in values["score"]),
            tuple(map(Path, values["references"])),
        )


@dataclass(frozen=True)
class ImageDrawn:
    """An image was drawn. number: its index in `CompareWork.draw`."""

    number: int
    seconds: float


@dataclass(frozen=True)
class ImageScored:
    """An image was scored. number: its index in `CompareWork.score`."""

    number: int
    scores: Scores


@dataclass(frozen=True)
class ReferenceLikeness:
    """Likeness of the training images among themselves."""

    likeness: float


CompareMessage = ProcessNote | ImageDrawn | ImageScored | ReferenceLikeness
_MESSAGES: dict[str, Callable[..., CompareMessage]] = {
    "said": ProcessNote,
    "drawn": ImageDrawn,
    "judged": lambda number, **scores: ImageScored(number, Scores(**scores)),
    "among": ReferenceLikeness,
}
"""What the process's answers become, by kind."""


def checked_for_drawing(folder: RunFolder) -> Checked:
    """The run with its model found. Raises CheckFailed if it cannot be used to draw."""
    checked = check_run(folder, decode=False)
    errors = [problem for problem in checked.problems.errors if problem.field.startswith(OF_THE_IMAGES)]
    if checked.facts is None and not errors:
        # The trainer would download the model; drawing does not.
        errors = [problem for problem in checked.problems if problem.field == "model.base"]
    if errors:
        raise CheckFailed(errors)
    return checked


def carry_out(work: CompareWork, *, log: Path | None = None) -> Generator[CompareMessage, None, None]:
    """Run `work` in a helper process; yields its messages as they arrive. Raises ComparingError.

    Closing the generator, or an exception where it is read, ends the process; finished images are kept.
    log: the file for what the libraries print; by default compare.log among the program's own files.
    """
    job = Job(
        module="ti_tui.training.compare",
        arguments=(),
        name="drawing process",
        kept="what is drawn is kept",
        if_killed="Close other programs, or draw smaller images (--w, --h); the same command continues.",
        error=ComparingError,
        log=log or state_folder() / "compare.log",
    )
    return messages_of(job, _MESSAGES, work.line())
