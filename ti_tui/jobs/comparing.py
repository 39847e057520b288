"""Has the pictures of a comparison drawn and judged, in a process of its own. No torch.

The process (`python -m ti_tui.training.compare`) is given its work as a line of JSON on its stdin and answers by lines
on its stdout; closing its stdin ends it. `ti-tui compare` calls this.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from ti_tui.errors import UserError
from ti_tui.jobs.clip_model import Scores
from ti_tui.jobs.runner import Job, ProcessNote, answers_to
from ti_tui.run.folder import RunFolder
from ti_tui.settings import state_folder
from ti_tui.setup.check import Checked, CheckFailed, check_run

OF_THE_PICTURES = ("model.", "embedding.")
"""Fields of the run file that decide what is drawn; the rest may be wrong."""


class ComparingError(UserError):
    """Pictures could not be drawn or judged."""


@dataclass(frozen=True)
class ToDraw:
    """A picture to draw into `file`: a prompt's line in kohya's notation, with the vectors of `step`."""

    prompt: str
    step: int
    file: Path


@dataclass(frozen=True)
class ToScore:
    """A picture to judge, with its prompt as CLIP is to read it."""

    file: Path
    words: str


@dataclass(frozen=True)
class CompareWork:
    """What the process is asked for: draw, then judge. judge: the folder of a CLIP model, None for no judging."""

    run: Path
    device: str
    draw: tuple[ToDraw, ...] = ()
    judge: Path | None = None
    pictures: tuple[ToScore, ...] = ()
    references: tuple[Path, ...] = ()

    def line(self) -> bytes:
        """For the process's stdin."""
        values = {
            "run": str(self.run),
            "device": self.device,
            "draw": [[one.prompt, one.step, str(one.file)] for one in self.draw],
            "judge": None if self.judge is None else str(self.judge),
            "pictures": [[str(one.file), one.words] for one in self.pictures],
            "references": [str(path) for path in self.references],
        }
        return json.dumps(values).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> CompareWork:
        """What `line` was made from."""
        values = json.loads(line)
        return cls(
            Path(values["run"]),
            values["device"],
            tuple(ToDraw(prompt, step, Path(file)) for prompt, step, file in values["draw"]),
            None if values["judge"] is None else Path(values["judge"]),
            tuple(ToScore(Path(file), words) for file, words in values["pictures"]),
            tuple(Path(path) for path in values["references"]),
        )


@dataclass(frozen=True)
class PictureDrawn:
    """A picture is drawn. number: its place in `Work.draw`."""

    number: int
    seconds: float


@dataclass(frozen=True)
class PictureScored:
    """A picture was judged. number: its place in `Work.pictures`."""

    number: int
    scores: Scores


@dataclass(frozen=True)
class ReferenceLikeness:
    """Likeness of the training pictures among themselves."""

    likeness: float


CompareMessage = ProcessNote | PictureDrawn | PictureScored | ReferenceLikeness


def checked_for_drawing(folder: RunFolder) -> Checked:
    """The run with its model found. Raises CheckFailed for what keeps it from being drawn with."""
    checked = check_run(folder, decode=False)
    errors = [problem for problem in checked.problems.errors if problem.field.startswith(OF_THE_PICTURES)]
    if checked.facts is None and not errors:
        # Else the trainer would download it.
        errors = [problem for problem in checked.problems if problem.field == "model.base"]
    if errors:
        raise CheckFailed(errors)
    return checked


def carry_out(work: CompareWork, *, log: Path | None = None) -> Generator[CompareMessage, None, None]:
    """Have `work` done; the messages come as it goes. Raises ComparingError, or what the process refuses with.

    Closing the generator, or an exception where it is read, ends the process; what is drawn stays.
    log: what the libraries print goes there; by default to compare.log among the program's own files.
    """
    job = Job(
        module="ti_tui.training.compare",
        arguments=(),
        name="drawing process",
        kept="what is drawn is kept",
        if_killed="Close other programs, or draw smaller pictures (--w, --h); the same command goes on.",
        error=ComparingError,
        log=log or state_folder() / "compare.log",
    )
    with contextlib.closing(answers_to(job, work.line())) as answers:
        for answer in answers:
            match answer["kind"]:
                case "said":
                    yield ProcessNote(answer["text"])
                case "drawn":
                    yield PictureDrawn(answer["number"], answer["seconds"])
                case "judged":
                    yield PictureScored(answer["number"], Scores(answer["likeness"], answer["following"]))
                case "among":
                    yield ReferenceLikeness(answer["likeness"])
