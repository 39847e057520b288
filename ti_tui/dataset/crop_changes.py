"""Changes to a crop by hand: each function takes the current choice and returns the next. The crop desk calls them."""

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
"""How far a key moves the box, as a share of the box."""
GROW = 17 / 16
"""How much larger a key makes the box."""


def least_box(source: PixelSize, size: PixelSize) -> tuple[float, float]:
    """Width and height of the smallest box: enlarged at most MOST times, if the photograph is large enough."""
    largest = largest_box(source, size)
    width = min(size[0] / MOST, largest.width)
    return width, width * largest.height / largest.width


def moved(choice: CropChoice, content: PictureContent, size: PixelSize, across: float, down: float) -> CropChoice:
    """Move the box by shares of its size (STEP, FINE; negative is left and up), within the photograph."""
    box = _drawn(choice, content, size)
    box = replace(box, left=box.left + across * box.width, top=box.top + down * box.height)
    return replace(choice, mode="manual", box=box.inside(content.size))


def resized(choice: CropChoice, content: PictureContent, size: PixelSize, times: float) -> CropChoice:
    """Make the box `times` as large around its middle, between `least_box` and the largest that fits."""
    box = _drawn(choice, content, size)
    largest, least = largest_box(content.size, size), least_box(content.size, size)
    width = min(max(box.width * times, min(least[0], box.width)), largest.width)
    height = min(width * largest.height / largest.width, largest.height)
    across, down = box.middle
    grown = Box(across - width / 2, down - height / 2, width, height)
    return replace(choice, mode="manual", box=grown.inside(content.size))


def next_face(choice: CropChoice, content: PictureContent) -> CropChoice:
    """Follow the next face. Without faces nothing changes."""
    count = len(content.useful_faces)
    if not count:
        return choice
    if choice.mode not in ("auto", "face"):
        return CropChoice("auto", face=choice.face % count, framing=choice.framing)
    return replace(choice, box=None, face=(choice.face + 1) % count)


def next_framing(choice: CropChoice) -> CropChoice:
    """The next framing of the face: close-up, head and shoulders, to the waist."""
    names = list(FRAMINGS)
    following = names[(names.index(choice.framing) + 1) % len(names)] if choice.mode == "face" else choice.framing
    return replace(choice, mode="face", box=None, framing=following)


def next_mode(choice: CropChoice, content: PictureContent, size: PixelSize, *, split: bool = True) -> CropChoice:
    """The next mode for this photograph. split: whether it may be cut into several images."""
    modes = modes_for(content, size, split=split)
    at = modes.index(choice.mode) if choice.mode in modes else -1
    return CropChoice(modes[(at + 1) % len(modes)], face=choice.face, framing=choice.framing)


def modes_for(content: PictureContent, size: PixelSize, *, split: bool = True) -> tuple[CropMode, ...]:
    """The modes that make a difference for this photograph; `auto` comes first."""
    modes: list[CropMode] = ["auto"]
    if content.useful_faces:
        modes.append("face")
    if not same_shape(content.size, size):
        modes += ["centre", "whole"]
    if split and len(split_boxes(content.size, size)) > 1:
        modes.append("split")
    return tuple(modes)


def _drawn(choice: CropChoice, content: PictureContent, size: PixelSize) -> Box:
    """The box that is shown and changed; for a padded photograph the largest box that fits."""
    crop = crop_for(content, size, choice)
    return largest_box(content.size, size) if crop.padded else crop.box
