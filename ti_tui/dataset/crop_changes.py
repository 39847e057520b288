"""How a person changes a crop: each function takes the choice so far and gives the next. The crop desk calls them."""

from __future__ import annotations

from dataclasses import replace

from ti_tui.dataset.crop_boxes import (
    FRAMINGS,
    MOST,
    Box,
    CropChoice,
    CropMode,
    PictureContent,
    PixelSize,
    crop_for,
    largest_box,
    same_shape,
    split_boxes,
)

STEP, FINE = 1 / 32, 1 / 128
"""How far one key moves a box, in parts of the box."""
GROW = 17 / 16
"""How much one key makes a box larger."""


def least_box(source: PixelSize, size: PixelSize) -> tuple[float, float]:
    """Width and height of the smallest box that a person may draw: no more enlarging than MOST, if it can be helped."""
    largest = largest_box(source, size)
    width = min(size[0] / MOST, largest.width)
    return width, width * largest.height / largest.width


def moved(choice: CropChoice, content: PictureContent, size: PixelSize, across: float, down: float) -> CropChoice:
    """The box moved by parts of itself (STEP, FINE; negative is left and up), as far as the picture goes."""
    box = _drawn(choice, content, size)
    box = replace(box, left=box.left + across * box.width, top=box.top + down * box.height)
    return replace(choice, mode="manual", box=box.inside(content.size))


def resized(choice: CropChoice, content: PictureContent, size: PixelSize, times: float) -> CropChoice:
    """The box made `times` as large around its middle, between `least_box` and the largest that fits."""
    box = _drawn(choice, content, size)
    largest, least = largest_box(content.size, size), least_box(content.size, size)
    width = min(max(box.width * times, min(least[0], box.width)), largest.width)
    height = min(width * largest.height / largest.width, largest.height)
    across, down = box.middle
    grown = Box(across - width / 2, down - height / 2, width, height)
    return replace(choice, mode="manual", box=grown.inside(content.size))


def next_face(choice: CropChoice, content: PictureContent) -> CropChoice:
    """Follow the next face; without faces nothing changes."""
    count = len(content.useful_faces)
    if not count:
        return choice
    if choice.mode not in ("auto", "face"):
        return CropChoice("auto", face=choice.face % count, framing=choice.framing)
    return replace(choice, box=None, face=(choice.face + 1) % count)


def next_framing(choice: CropChoice) -> CropChoice:
    """More or less around the face: close-up, head and shoulders, to the waist."""
    names = list(FRAMINGS)
    following = names[(names.index(choice.framing) + 1) % len(names)] if choice.mode == "face" else choice.framing
    return replace(choice, mode="face", box=None, framing=following)


def next_mode(choice: CropChoice, content: PictureContent, size: PixelSize, *, split: bool = True) -> CropChoice:
    """The next mode that this picture can have. split: whether cutting it into several is one of them."""
    modes = [mode for mode in modes_for(content, size) if split or mode != "split"]
    at = modes.index(choice.mode) if choice.mode in modes else -1
    return CropChoice(modes[(at + 1) % len(modes)], face=choice.face, framing=choice.framing)


def modes_for(content: PictureContent, size: PixelSize) -> tuple[CropMode, ...]:
    """The modes that make a difference for this picture; `auto` comes first."""
    modes: list[CropMode] = ["auto"]
    if content.useful_faces:
        modes.append("face")
    if not same_shape(content.size, size):
        modes += ["centre", "whole"]
    if len(split_boxes(content.size, size)) > 1:
        modes.append("split")
    return tuple(modes)


def _drawn(choice: CropChoice, content: PictureContent, size: PixelSize) -> Box:
    """The box that a person sees and changes; of a padded picture the largest that could be cut."""
    crop = crop_for(content, size, choice)
    return largest_box(content.size, size) if crop.padded else crop.box
