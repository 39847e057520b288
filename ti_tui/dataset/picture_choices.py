"""What a person chose about a folder of photographs. Cheap to import; the wizard and the commands hand it to `prepare`.

Photographs are named by their path in the folder (`a.jpg`, `10_zkz/b.jpg`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ti_tui.dataset.caption_edits import framed
from ti_tui.dataset.crop_boxes import AUTO, CropChoice

Masks = Literal["none", "found", "faces"]
"""Which pictures get a mask: none, those that have one, those and all others in which a face is found."""
MASKS: tuple[Masks, ...] = get_args(Masks)
"""In the order in which they are offered."""
Forced = Collection[str] | Literal["all"]
"""Names of pictures that are used although they are too small or a copy of another; or all of them."""


@dataclass(frozen=True)
class PictureChoices:
    """Which photographs are trained, how they are cropped, their masks and their captions.

    repeats:    how often an epoch uses each; None takes those of the source's own folders.
    subfolders: whether photographs are taken from all sub-folders too.
    left_out:   those that are not trained.
    crop_all:   how those are cropped that are not in `crops`.
    masks:      which get a mask.
    forced, crops, captions: of single photographs; where a run is brought up to date, the others keep theirs.
                A caption takes the place of the caption file's; "" is none.
    caption_prefix, caption_suffix: put around each of `captions`.
    """

    repeats: int | None = None
    subfolders: bool = False
    left_out: Collection[str] = ()
    forced: Forced = ()
    crop_all: CropChoice = AUTO
    crops: Mapping[str, CropChoice] = field(default_factory=dict)
    masks: Masks = "found"
    captions: Mapping[str, str] = field(default_factory=dict)
    caption_prefix: str = ""
    caption_suffix: str = ""

    def whole_captions(self) -> Mapping[str, str]:
        """The captions with prefix and suffix."""
        if not self.caption_prefix and not self.caption_suffix:
            return self.captions
        return {name: framed(text, self.caption_prefix, self.caption_suffix) for name, text in self.captions.items()}
