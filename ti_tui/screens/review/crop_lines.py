"""The lines of the crop review: head, list, what the crop is, the modes. Pure; `crops` draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.cells import cell_len

from ti_tui.dataset.crop_boxes import NOTED, Crop, CropChoice, CropMode, CropRule, Framing, PixelSize
from ti_tui.formatting import printable
from ti_tui.screens.review.listing import CaptionRows
from ti_tui.setup.crop_desk import RULES
from ti_tui.widgets.canvas import Line, Piece, cut

HELP = """\
What is inside the box is trained; the rest of the picture is cut off. Without a word from you the box follows the \
largest face, else what there is most of to see, else the centre.

A box holds no fewer pixels than are trained, if the picture has them: below that it is enlarged, which adds nothing \
but blur. whole keeps all of the picture with bands beside it; what is the same in every picture is learned, bands too.

● chosen by you   · by the rules   ! worth a look   × left out

Your photographs stay as they are: what is cut is the copy in the run.
"""
SHORT: dict[CropRule, str] = {
    "face": "face",
    "detail": "detail",
    "centre": "centre",
    "manual": "by hand",
    "whole": "whole",
    "keep": "as it is",
    "split": "split",
}
PIXEL_FOR_PIXEL = 1.05
"""Up to so many times is not worth a number."""
FRAMINGS: dict[Framing, str] = {"close-up": "close-up", "head": "head and shoulders", "waist": "to the waist"}


class CropRows(CaptionRows):
    """The pictures with the rules that they are cropped by."""

    GLYPHS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "own": ("●", ""),
        "rule": ("·", "muted"),
        "odd": ("!", "warning"),
        "out": ("×", "muted"),
    }


def head(width: int, at: int, total: int, rules: Counter[CropRule], sizes: set[PixelSize]) -> Line:
    """Which picture of how many, how many are cropped by which rule, and what they become."""
    digits = len(str(total))
    left: list[Piece] = [(" Crops", "accent b"), (f"   {at:>{digits}} of {total}", "b")]
    left += [(f"   {count} {SHORT[rule]}", "muted") for rule, count in rules.most_common()]
    become = "{}x{}".format(*next(iter(sizes))) if len(sizes) == 1 else f"{len(sizes)} sizes"
    room = width - cell_len(become) - 1
    while sum(cell_len(text) for text, _ in left) >= room and len(left) > 2:
        left.pop()
    used = sum(cell_len(text) for text, _ in left)
    return [*left, (" " * max(1, room - used), ""), (f"{become} ", "muted")]


def facts(name: str, crops: Sequence[Crop], faces: int, width: int) -> Line:
    """What the crop of a picture is: what placed it, which pixels it has, how much they are made smaller."""
    crop = crops[0]
    rule = RULES[crop.rule]
    if crop.face is not None and faces > 1:
        rule += f" {crop.face + 1} of {faces}"
    if len(crops) > 1:
        rule = f"split into {len(crops)}"
    box, source = crop.box, f"{crop.source[0]}x{crop.source[1]}"
    size = source if crop.padded else f"{box.width:.0f}x{box.height:.0f} of {source}"
    where = f" at {box.left:.0f}, {box.top:.0f}" if not crop.padded else ""
    scale = _scale(max(piece.upscale for piece in crops))
    label = printable(name)
    room = width - cell_len(f"{rule}   {size}   {scale[0]}   ")
    if cell_len(label) + cell_len(where) > room:
        # The picture shows it better; these numbers are for terminals that draw none.
        where = ""
    label = cut(label, max(8, min(cell_len(label), room)))
    return [(f"{label}   ", "b"), (f"{rule}   ", ""), (f"{size}{where}   ", "muted"), scale]


def modes(choice: CropChoice, possible: Sequence[CropMode]) -> Line:
    """The modes that a picture can have, the chosen one in brackets."""
    line: list[Piece] = [("m  ", "accent")]
    for mode in possible if choice.mode in possible else (*possible, choice.mode):
        here = mode == choice.mode
        framing = f": {FRAMINGS[choice.framing]}" if here and mode == "face" else ""
        name = "by hand" if mode == "manual" else f"{mode}{framing}"
        line.append((f"({name})  " if here else f" {name}   ", "b" if here else "muted"))
    return line


def _scale(times: float) -> Piece:
    """How much a piece is enlarged or made smaller, in words."""
    if times > PIXEL_FOR_PIXEL:
        return f"enlarged {times:.2f} times", "warning b" if times > NOTED else "warning"
    if 1 / times > PIXEL_FOR_PIXEL:
        return f"{1 / times:.1f} times smaller", "muted"
    return "pixel for pixel", "muted"
