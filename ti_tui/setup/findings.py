"""What is known about a draft: the pictures that were looked at, and everything found. Cheap to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ti_tui.run.problems import Problem

if TYPE_CHECKING:
    from ti_tui.dataset.scan import Picture, Scan
    from ti_tui.run.folder import RunFolder
    from ti_tui.run.hardware import Hardware
    from ti_tui.run.plan import Plan
    from ti_tui.run.recipe import RunFile
    from ti_tui.setup.check import Checked

BLURRED = 50.0
SOFT = 100.0
"""Sharpness below which a picture is out of focus, or may be; sharp photographs have 300 and more."""


@dataclass(frozen=True)
class Seen:
    """A file that was looked at. wrong: why it cannot be used, or what is odd about it; sharpness: None if unknown."""

    name: str
    path: Path
    picture: Picture | None
    wrong: str = ""
    sharpness: float | None = None

    @property
    def remark(self) -> str:
        """The one thing to say about it, or ""."""
        if self.wrong or self.sharpness is None:
            return self.wrong
        if self.sharpness < BLURRED:
            return "looks blurred"
        return "may be blurred" if self.sharpness < SOFT else ""


@dataclass(frozen=True)
class Findings:
    """What is known about a draft.

    run:      its run file; None while something in it is wrong.
    folder:   the run folder that it means; None if the text is no path.
    pictures: those that will be trained, with their captions and repeats; None before they were looked at.
    problems: everything found, each with the field that it belongs to.
    judged:   whether the draft was looked at at all: before, no problem means nothing.
    """

    run: RunFile | None = None
    folder: RunFolder | None = None
    pictures: Scan | None = None
    checked: Checked | None = None
    plan: Plan | None = None
    hardware: Hardware | None = None
    disk_bytes: int = 0
    judged: bool = False
    problems: tuple[Problem, ...] = field(default_factory=tuple)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    def about(self, name: str) -> list[Problem]:
        """Problems of one field, the worst first."""
        order = ("error", "warning", "info")
        return sorted((p for p in self.problems if p.field == name), key=lambda p: order.index(p.severity))
