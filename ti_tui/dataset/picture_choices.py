"""What a person chose for a folder of photographs. Cheap to import; the wizard and the commands pass it to `prepare`.

Photographs are named by their path in the folder (`a.jpg`, `10_zkz/b.jpg`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ti_tui.dataset.caption_edits import framed
from ti_tui.dataset.crop_boxes import AUTO, CropChoice

Masks = Literal["none", "found", "faces"]
"""Which photographs get a mask: none; those that have one; those, and all others with a face."""
MASKS: tuple[Masks, ...] = get_args(Masks)
"""In the order in which they are offered."""
Forced = Collection[str] | Literal["all"]
"""Names of photographs that are used although they are too small or a copy of another; or "all"."""


@dataclass(frozen=True)
class PictureChoices:
    """Which photographs are used, how they are cropped, their masks and their captions.

    repeats:    how often an epoch uses each; None takes the repeats from the names of the folders.
    subfolders: whether photographs in all sub-folders are used too.
    left_out:   photographs that are not used.
    crop_all:   how photographs are cropped that are not in `crops`.
    masks:      which photographs get a mask.
    forced, crops, captions: for single photographs; when a run is updated, the others keep theirs. A caption replaces
                that of the caption file; "" is none.
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
