"""The text of the crop review: head, list, facts about the crop, modes. Pure functions; `crops` draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

from ti_tui.dataset.crop_boxes import NOTED, Crop, CropChoice, CropMode, CropRule, Framing, PixelSize
from ti_tui.formatting import printable
from ti_tui.setup.crop_desk import RULES
from ti_tui.widgets.canvas import Line, Piece, cut, spread

HELP = """\
The part inside the box is trained; the rest is cut off. Unless you change it, the box follows the largest face, else \
the most detailed part, else the centre.

If the photograph is large enough, a box has at least as many pixels as the training resolution: a smaller box \
would be enlarged, which only adds blur. The mode whole keeps the whole photograph and adds bands beside it; whatever \
is the same in every image is learned, bands too.

● chosen by you   · automatic   ! worth a look   × left out

Your photographs are not changed: only the copies in the run are cropped.
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
"""Scales up to this factor are shown as pixel for pixel."""
FRAMINGS: dict[Framing, str] = {"close-up": "close-up", "head": "head and shoulders", "waist": "to the waist"}


def head(width: int, at: int, total: int, rules: Counter[CropRule], sizes: set[PixelSize]) -> Line:
    """The position in the list, how many are cropped by which rule, and the image size."""
    digits = len(str(total))
    left: list[Piece] = [(" Crops", "accent b"), (f"   {at:>{digits}} of {total}", "b")]
    left += [(f"   {count} {SHORT[rule]}", "muted") for rule, count in rules.most_common()]
    result = "{}x{}".format(*next(iter(sizes))) if len(sizes) == 1 else f"{len(sizes)} sizes"
    return spread(left, (f"{result} ", "muted"), width, least=2)


def facts(name: str, crops: Sequence[Crop], faces: int, width: int) -> Line:
    """Facts about the crop of a photograph: the rule, its pixels, and how much they are scaled."""
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
        # The image shows the position better; these numbers are for terminals without images.
        where = ""
    label = cut(label, max(8, min(cell_len(label), room)))
    return [(f"{label}   ", "b"), (f"{rule}   ", ""), (f"{size}{where}   ", "muted"), scale]


def modes(choice: CropChoice, possible: Sequence[CropMode]) -> Line:
    """The modes that a photograph can have, the chosen one in brackets."""
    line: list[Piece] = [("m  ", "accent")]
    for mode in possible if choice.mode in possible else (*possible, choice.mode):
        here = mode == choice.mode
        framing = f": {FRAMINGS[choice.framing]}" if here and mode == "face" else ""
        name = "by hand" if mode == "manual" else f"{mode}{framing}"
        line.append((f"({name})  " if here else f" {name}   ", "b" if here else "muted"))
    return line


def _scale(times: float) -> Piece:
    """How much a crop is scaled up or down, in words."""
    if times > PIXEL_FOR_PIXEL:
        return f"enlarged {times:.2f} times", "warning b" if times > NOTED else "warning"
    if 1 / times > PIXEL_FOR_PIXEL:
        return f"{1 / times:.1f} times smaller", "muted"
    return "pixel for pixel", "muted"
