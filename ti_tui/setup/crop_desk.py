"""The crops of a draft while they are reviewed: what each picture is cut to, changes, undo. No textual.

Choices live in the draft; the run is made from them by the same functions (see `dataset.planning`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ti_tui.dataset import crop_changes
from ti_tui.dataset.crop import size_for
from ti_tui.dataset.crop_boxes import AUTO, Crop, CropChoice, CropMode, CropRule, PictureContent, PixelSize
from ti_tui.dataset.manifest import MaskOrigin
from ti_tui.dataset.mask_planning import mask_origin
from ti_tui.dataset.photograph_checks import SurveyedFile
from ti_tui.dataset.prepare_plan import check_crops, pieces
from ti_tui.run.problems import Problems
from ti_tui.setup.draft import Draft
from ti_tui.setup.photographs import SurveySettings

RULES: dict[CropRule, str] = {
    "face": "around the face",
    "detail": "where most detail is",
    "centre": "around the centre",
    "manual": "drawn by hand",
    "whole": "the whole picture",
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
    """All that a change may change. nudged: the picture whose box was moved last; "" after anything else."""

    crop_all: CropChoice
    crops: dict[str, CropChoice]
    left_out: frozenset[str]
    current: str
    nudged: str = ""


class CropDesk:
    """Tells and changes how the photographs of `draft` are cropped.

    looks: at the photographs; those that can be used are on the desk, in their order, left-out ones too.
    """

    def __init__(self, draft: Draft, looks: Iterable[SurveyedFile]) -> None:
        self.draft = draft
        self._looks = {look.name: look for look in looks if look.picture is not None}
        self.names = tuple(self._looks)
        self._settings = SurveySettings.of(draft)
        self._undo: list[_State] = []

    # What there is

    def path(self, name: str) -> Path:
        """The picture's file."""
        return self._looks[name].path

    def content(self, name: str) -> PictureContent:
        """What the crop of a picture goes by."""
        measured = self._looks[name].measured
        assert measured is not None, "a picture that can be used has been measured"
        return measured.content

    def target(self, name: str) -> PixelSize:
        """The size that it is trained at, in pixels."""
        return size_for(self.content(name).size, self._settings.resolution, buckets=self._settings.buckets)

    def choice(self, name: str) -> CropChoice:
        """How it is to be cropped."""
        choices = self.draft.choices
        return choices.crops.get(name, choices.crop_all)

    def is_own(self, name: str) -> bool:
        """Whether a person chose a way for this very picture."""
        return name in self.draft.choices.crops

    def is_out(self, name: str) -> bool:
        """Whether the picture is left out."""
        return name in self.draft.choices.left_out

    def crops(self, name: str) -> tuple[Crop, ...]:
        """The pieces that are trained; one, but for a picture that is split."""
        return pieces(self.content(name), self.target(name), self.choice(name), split=not self._settings.buckets)

    def problems(self, name: str) -> Problems:
        """What there is to say about its crop; with an error it is not trained."""
        forced = name in self.draft.choices.forced
        return check_crops(self._looks[name], self.choice(name), self.crops(name), forced=forced, field="photographs")

    def mask(self, name: str) -> MaskOrigin | None:
        """What kind of mask the picture gets; None if it is learned as a whole."""
        return mask_origin(self._looks[name], self.draft.choices.masks)

    def rules(self) -> Counter[CropRule]:
        """How many of the pictures that are trained are cropped by which rule."""
        return Counter(self.crops(name)[0].rule for name in self.names if not self.is_out(name))

    def modes(self, name: str) -> tuple[CropMode, ...]:
        """The modes that make a difference for it."""
        split = not self._settings.buckets
        return tuple(
            one for one in crop_changes.modes_for(self.content(name), self.target(name)) if split or one != "split"
        )

    # Changes

    def move(self, name: str, across: float, down: float) -> bool:
        """Move the box by parts of itself, as far as the picture goes; whether it is elsewhere now."""
        return self._nudge(
            name, crop_changes.moved(self.choice(name), self.content(name), self.target(name), across, down)
        )

    def resize(self, name: str, times: float) -> bool:
        """Make the box so many times as large; whether it has another size now."""
        return self._nudge(name, crop_changes.resized(self.choice(name), self.content(name), self.target(name), times))

    def next_mode(self, name: str) -> None:
        """Crop it in the next of the modes that make a difference for it."""
        split = not self._settings.buckets
        self._choose(
            name, crop_changes.next_mode(self.choice(name), self.content(name), self.target(name), split=split)
        )

    def next_face(self, name: str) -> None:
        """Follow the next face."""
        self._choose(name, crop_changes.next_face(self.choice(name), self.content(name)))

    def next_framing(self, name: str) -> None:
        """Take less or more around the face."""
        self._choose(name, crop_changes.next_framing(self.choice(name)))

    def reset(self, name: str) -> None:
        """Leave it to the rules."""
        self._choose(name, AUTO)

    def apply_to_all(self, name: str) -> int:
        """Crop all pictures in the mode of this one; boxes drawn by hand stay. Returns how many of those there are."""
        choice = self.choice(name)
        self._remember(name)
        self.draft.crop_all = CropChoice(choice.mode, framing=choice.framing)
        self.draft.crops = {one: own for one, own in self.draft.crops.items() if own.mode == "manual"}
        return len(self.draft.crops)

    def leave_out(self, name: str) -> None:
        """Leave a picture out, or take it back."""
        self._remember(name)
        self.draft.leave_out(name)

    def undo(self) -> str | None:
        """Take the last change back; the picture that it was made at, or None if there is none left.

        All the moves of one box that came one after the other are one change.
        """
        if not self._undo:
            return None
        state = self._undo.pop()
        self.draft.crop_all, self.draft.crops = state.crop_all, dict(state.crops)
        self.draft.left_out = set(state.left_out)
        return state.current

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
