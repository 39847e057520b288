"""The text of the dataset step: the row of a photograph, its problems and its folder's. `dataset` draws it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from ti_tui.dataset.picture_choices import Masks
from ti_tui.formatting import printable
from ti_tui.run.problems import Problem, Problems, worst_first
from ti_tui.setup.draft import Draft
from ti_tui.setup.photographs import remark, without_name
from ti_tui.widgets.canvas import Line, cut
from ti_tui.widgets.field_row import MARKS, problem_lines

if TYPE_CHECKING:
    from ti_tui.dataset.photograph_checks import SurveyedFile
    from ti_tui.setup.crop_desk import CropDesk

LABEL = 15
MOST_SHOWN, MOST_SHOWN_SHORT = 4, 2
"""How many problems of the folder are shown, on a tall and on a short screen."""


@dataclass(frozen=True)
class PhotographLines:
    """The text about single photographs. desk: their crops and masks, once all photographs were checked."""

    draft: Draft
    desk: CropDesk | None

    def is_refused(self, photograph: SurveyedFile) -> bool:
        """Whether it cannot be used as it is."""
        return photograph.picture is None or bool(self._crop_problems(photograph).errors)

    def is_left_out(self, photograph: SurveyedFile) -> bool:
        """Whether the user left it out."""
        return photograph.name in self.draft.choices.left_out

    def has_mask(self, photograph: SurveyedFile) -> bool:
        """Whether it is trained with a mask."""
        desk = self._desk_of(photograph)
        return desk is not None and not self.is_refused(photograph) and desk.mask(photograph.name) is not None

    def row(self, photograph: SurveyedFile) -> Content:
        """Its row in the list: mark, name, size, the most important remark."""
        name, measured = _label(photograph.name, LABEL), photograph.measured
        # A file that cannot be read has no size; the reason uses that room.
        size = f" {f'{measured.size[0]}x{measured.size[1]}':>9}" if measured is not None else ""
        masked = "◐" if self.has_mask(photograph) else " "
        if photograph.picture is not None and self.is_left_out(photograph):
            return Content.assemble(("× ", "$warning"), (f"{name}{masked}{size} left out", "$muted"))
        text = printable(remark(self._problems(photograph)))
        mark, style = (
            ("✗", "$error") if self.is_refused(photograph) else ("!", "$warning") if text else ("✓", "$success")
        )
        shown = Content(f"{name}{masked}")
        return Content.assemble((f"{mark} ", style), shown, (f"{size} ", "$muted"), (text, style))

    def about(self, photograph: SurveyedFile, width: int) -> list[Line]:
        """All that was found about it, and how it is used."""
        lines: list[Line] = [[(_label(photograph.name, width), "b")]]
        for problem in worst_first(self._problems(photograph)):
            lines += problem_lines(without_name(problem), width)
        return [*lines, *([("· ", "muted"), (cut(text, width - 2), "muted")] for text in self._usage(photograph))]

    def _usage(self, photograph: SurveyedFile) -> Iterator[str]:
        if photograph.name in self.draft.choices.forced:
            yield "used all the same; k undoes that"
        desk = self._desk_of(photograph)
        if desk is not None and not self.is_refused(photograph):
            from ti_tui.setup.crop_desk import MADE_FROM, RULES

            yield f"crop: {RULES[desk.crops(photograph.name)[0].rule]}"
            if mask := desk.mask(photograph.name):
                yield f"mask: {MADE_FROM[mask]}"

    def _problems(self, photograph: SurveyedFile) -> list[Problem]:
        return [*photograph.problems, *self._crop_problems(photograph)]

    def _crop_problems(self, photograph: SurveyedFile) -> Problems:
        desk = self._desk_of(photograph)
        return desk.problems(photograph.name) if desk is not None else Problems()

    def _desk_of(self, photograph: SurveyedFile) -> CropDesk | None:
        """The crop desk, if the photograph is on it."""
        return self.desk if self.desk is not None and photograph.name in self.desk.names else None


def folder_lines(found: Sequence[Problem], width: int, *, tall: bool) -> list[Line]:
    """The problems of the folder as a whole; where there is little room, one line for each."""
    most = MOST_SHOWN if tall else MOST_SHOWN_SHORT
    more = len(found) - most
    lines: list[Line] = []
    for at, problem in enumerate(found[:most], start=1):
        end = f"  and {more} more, in the last step" if more > 0 and at == most else ""
        if tall and not end:
            lines += problem_lines(problem, width)
        else:
            (mark, style), text = MARKS[problem.severity], printable(problem.sentence)
            lines.append([(f"{mark} ", f"{style} b"), (cut(text, width - 2 - len(end)), style), (end, "muted")])
    return lines


def choice_line(key: str, title: str, values: Sequence[str], chosen: str, outcome: str) -> Line:
    """A key, what it changes, the values with the chosen one in brackets, and the outcome."""
    shown = [
        (f"({value}) " if value == chosen else f" {value}  ", "b" if value == chosen else "muted") for value in values
    ]
    return [(f"{key} ", "accent"), (f"{title} ", ""), *shown, (f" {outcome}", "muted")]


def _label(name: str, width: int) -> str:
    """The name of a photograph in `width` cells; without its sub-folders if it would be longer."""
    text = printable(name)
    return cut(text if cell_len(text) <= width else text.rpartition("/")[2], width)


def why_no_mask(masks: Masks) -> str:
    """Why no image gets a mask, although masks are chosen."""
    from ti_tui.dataset.faces import installed

    if masks == "found":
        return "no photograph has one"
    return "no face was found" if installed() else "needs pip install 'ti_tui[faces]'"
