"""Everything that was found and decided about a draft. Cheap to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ti_tui.run.problems import Problem, worst_first

if TYPE_CHECKING:
    from ti_tui.dataset.manifest import MaskOrigin
    from ti_tui.dataset.scan import Scan, TrainingImage
    from ti_tui.run.folder import RunFolder
    from ti_tui.run.hardware import Hardware
    from ti_tui.run.plan import Plan
    from ti_tui.run.recipe import RunFile
    from ti_tui.setup.check import Checked


@dataclass(frozen=True)
class Findings:
    """What is known about a draft.

    run:      its run file; None while something is wrong.
    folder:   its run folder; None if the text is not a valid path.
    pictures: the images that will be trained, with captions and repeats; a photograph that is split appears once
              for each piece. None before the survey.
    masks:    what the masks of these are made from, one entry for each image that gets a mask.
    problems: all problems, each with the field that it belongs to.
    judged:   whether the draft was checked at all; before, `problems` is empty and says nothing.
    """

    run: RunFile | None = None
    folder: RunFolder | None = None
    pictures: Scan | None = None
    masks: tuple[MaskOrigin, ...] = ()
    checked: Checked | None = None
    plan: Plan | None = None
    hardware: Hardware | None = None
    disk_bytes: int = 0
    judged: bool = False
    problems: tuple[Problem, ...] = field(default_factory=tuple)

    @property
    def images(self) -> tuple[TrainingImage, ...]:
        """The images that will be trained; none before the survey."""
        return self.pictures.pictures if self.pictures else ()

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    def about(self, name: str) -> list[Problem]:
        """Problems of one field, the worst first."""
        return worst_first(problem for problem in self.problems if problem.field == name)
