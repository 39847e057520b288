"""The crops of a draft while they are reviewed: how each photograph is cropped, changes, undo. No textual.

The choices are kept in the draft; the run is made from them by the same functions (see `dataset.prepare_plan`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ti_tui.dataset import crop_changes
from ti_tui.dataset.crop import size_for
from ti_tui.dataset.crop_boxes import AUTO, Crop, CropChoice, CropMode, CropRule, PictureContent, PixelSize, crops_for
from ti_tui.dataset.manifest import MaskOrigin
from ti_tui.dataset.mask_planning import mask_origin
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.prepare_plan import check_crops
from ti_tui.run.problems import Problems
from ti_tui.setup.draft import Draft
from ti_tui.setup.photographs import SurveySettings

RULES: dict[CropRule, str] = {
    "face": "around the face",
    "detail": "where most detail is",
    "centre": "around the centre",
    "manual": "drawn by hand",
    "whole": "the whole photograph",
    "keep": "kept as it is",
    "split": "split into several",
}
"""What placed a box, in words."""
MADE_FROM: dict[MaskOrigin, str] = {
    "file": "the file beside it",
    "transparency": "its transparency",
    "face": "around its face",
}
"""What a mask is made from, in words."""


@dataclass(frozen=True)
class _State:
    """What a change can affect. nudged: the photograph whose box was moved last; "" after any other change."""

    crop_all: CropChoice
    crops: dict[str, CropChoice]
    left_out: frozenset[str]
    current: str
    nudged: str = ""


class CropDesk:
    """Reads and changes how the photographs of `draft` are cropped.

    files: the surveyed photographs; the usable ones are on the desk, in their order, left-out ones too.
    """

    def __init__(self, draft: Draft, files: Iterable[SurveyedFile]) -> None:
        self.draft = draft
        self._files = {file.name: file for file in files if file.picture is not None}
        self.names = tuple(self._files)
        self._settings = SurveySettings.of(draft)
        self._undo: list[_State] = []

    # Reading

    def path(self, name: str) -> Path:
        return self._files[name].path

    def content(self, name: str) -> PictureContent:
        """What the crop of a photograph depends on."""
        measured = self._files[name].measured
        assert measured is not None, "a usable photograph has been measured"
        return measured.content

    def target(self, name: str) -> PixelSize:
        """The size of the training image, in pixels."""
        return size_for(self.content(name).size, self._settings.resolution, buckets=self._settings.buckets)

    def choice(self, name: str) -> CropChoice:
        choices = self.draft.choices
        return choices.crops.get(name, choices.crop_all)

    def is_own(self, name: str) -> bool:
        """Whether the crop of this photograph was chosen by hand."""
        return name in self.draft.choices.crops

    def is_out(self, name: str) -> bool:
        return name in self.draft.choices.left_out

    def crops(self, name: str) -> tuple[Crop, ...]:
        """The boxes that become training images: one, or several if the photograph is split."""
        return crops_for(self.content(name), self.target(name), self.choice(name), split=not self._settings.buckets)

    def problems(self, name: str) -> Problems:
        """Problems with its crop; a photograph with an error is not trained."""
        forced = name in self.draft.choices.forced
        return check_crops(self._files[name], self.choice(name), self.crops(name), forced=forced, field="photographs")

    def mask(self, name: str) -> MaskOrigin | None:
        """What the image's mask is made from; None if it is learned as a whole."""
        return mask_origin(self._files[name], self.draft.choices.masks)

    def rules(self) -> Counter[CropRule]:
        """How many of the trained photographs are cropped by each rule."""
        return Counter(self.crops(name)[0].rule for name in self.names if not self.is_out(name))

    def modes(self, name: str) -> tuple[CropMode, ...]:
        """The crop modes that differ for this photograph."""
        return crop_changes.modes_for(self.content(name), self.target(name), split=not self._settings.buckets)

    # Changes

    def move(self, name: str, across: float, down: float) -> bool:
        """Move the box by a share of its size, within the photograph; returns whether it moved."""
        return self._nudge(name, crop_changes.moved(*self._crop(name), across, down))

    def resize(self, name: str, times: float) -> bool:
        """Scale the box by `times`; returns whether its size changed."""
        return self._nudge(name, crop_changes.resized(*self._crop(name), times))

    def next_mode(self, name: str) -> None:
        """Switch to the next crop mode that differs for this photograph."""
        self._choose(name, crop_changes.next_mode(*self._crop(name), split=not self._settings.buckets))

    def next_face(self, name: str) -> None:
        self._choose(name, crop_changes.next_face(self.choice(name), self.content(name)))

    def next_framing(self, name: str) -> None:
        """Switch to the next framing: more or less around the face."""
        self._choose(name, crop_changes.next_framing(self.choice(name)))

    def reset(self, name: str) -> None:
        """Back to automatic cropping."""
        self._choose(name, AUTO)

    def apply_to_all(self, name: str) -> int:
        """Crop all photographs in the mode of this one, except boxes drawn by hand; returns the number of those."""
        choice = self.choice(name)
        self._remember(name)
        self.draft.crop_all = CropChoice(choice.mode, framing=choice.framing)
        self.draft.crops = {one: own for one, own in self.draft.crops.items() if own.mode == "manual"}
        return len(self.draft.crops)

    def leave_out(self, name: str) -> None:
        """Leave a photograph out, or use it again."""
        self._remember(name)
        self.draft.leave_out(name)

    def undo(self) -> str | None:
        """Undo the last change; returns the photograph it was made on, or None if there is nothing to undo.

        Consecutive moves of one box are one change.
        """
        if not self._undo:
            return None
        state = self._undo.pop()
        self.draft.crop_all, self.draft.crops = state.crop_all, dict(state.crops)
        self.draft.left_out = set(state.left_out)
        return state.current

    def _crop(self, name: str) -> tuple[CropChoice, PictureContent, PixelSize]:
        return self.choice(name), self.content(name), self.target(name)

    def _nudge(self, name: str, choice: CropChoice) -> bool:
        before = self.crops(name)[0]
        if choice.box == before.box and not before.padded and len(self.crops(name)) == 1:
            return False
        if not (self._undo and self._undo[-1].nudged == name):
            self._remember(name, nudged=name)
        self.draft.crops[name] = choice
        return True

    def _choose(self, name: str, choice: CropChoice) -> None:
        if choice == self.choice(name):
            return
        self._remember(name)
        if choice == self.draft.crop_all:
            self.draft.crops.pop(name, None)
        else:
            self.draft.crops[name] = choice

    def _remember(self, name: str, *, nudged: str = "") -> None:
        self.draft.own_choices()
        draft = self.draft
        self._undo.append(_State(draft.crop_all, dict(draft.crops), frozenset(draft.left_out), name, nudged))
