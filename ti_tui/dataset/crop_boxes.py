"""Places the crop box: which part of a photograph becomes the image.

Pure geometry on sizes, faces and edge profiles, in pixels of the upright photograph; no file is opened. `prepare` and
the crop review use it. Changes by hand are in `crop_changes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import accumulate
from typing import Any, Literal, cast, get_args

PixelSize = tuple[int, int]
Profile = tuple[float, ...]
"""Mean edge strength of equally wide strips along one side of a photograph."""

CropMode = Literal["auto", "face", "centre", "whole", "keep", "split", "manual"]
CropRule = Literal["face", "detail", "centre", "manual", "whole", "keep", "split"]
Framing = Literal["close-up", "head", "waist"]

MODES: tuple[CropMode, ...] = get_args(CropMode)
FRAMINGS: dict[Framing, float] = {"close-up": 2.2, "head": 3.2, "waist": 5.0}
"""Height of the box as a multiple of the face's height."""

NOTED, MOST = 1.25, 2.0
"""Enlarging up to NOTED gives a note, up to MOST a warning; above, the photograph is refused unless forced."""

LEAST_SCORE = 80
LEAST_FACE = 0.04
"""Smaller faces (height as a share of the photograph's shorter side) are ignored for the crop."""
FACE_POINT, FACE_AT = 0.40, (0.50, 0.42)
"""The point of a face (from its top) that is placed at this point (across, down) of the box."""
HEAD_UP, HEAD_SIDE, HEAD_DOWN = 0.60, 0.35, 0.25
"""A face's box is extended by these shares of its height (and width) to contain the whole head."""

HIGHER = 0.10
"""In a tall photograph the subject is usually above the middle, by this share of the height."""
CENTRE_PULL = 0.08
"""A window at the far end must contain this share of the edges more than the middle one to be chosen."""
FLAT = 0.6
"""Below this mean edge strength (levels of 255) a photograph is considered empty."""
SPLIT_FROM, SPLIT_OVERLAP = 1.5, 0.2


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright photograph; fractions of pixels are allowed."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.top + self.height / 2

    def inside(self, size: PixelSize) -> Box:
        """The box moved into a photograph of `size`, and made smaller if it does not fit."""
        width, height = min(self.width, size[0]), min(self.height, size[1])
        left = min(max(self.left, 0.0), size[0] - width)
        top = min(max(self.top, 0.0), size[1] - height)
        return Box(left, top, width, height)


@dataclass(frozen=True)
class Face(Box):
    """A face: its box from brow to chin, and the confidence (0..100)."""

    score: int = 100

    @property
    def whole_head(self) -> Box:
        """The whole head around the face; it may extend beyond the photograph."""
        left, top = self.left - HEAD_SIDE * self.width, self.top - HEAD_UP * self.height
        return Box(left, top, (1 + 2 * HEAD_SIDE) * self.width, (1 + HEAD_UP + HEAD_DOWN) * self.height)

    def head(self, size: PixelSize) -> Box:
        """The head around the face, cut to a photograph of `size`."""
        whole = self.whole_head
        left, top = max(whole.left, 0.0), max(whole.top, 0.0)
        right, bottom = min(whole.right, size[0]), min(whole.bottom, size[1])
        return Box(left, top, max(right - left, 0.0), max(bottom - top, 0.0))


@dataclass(frozen=True)
class PictureContent:
    """What is known about a photograph for cropping it.

    size:    upright, in pixels.
    faces:   the faces in it; None if it was not searched.
    profile: edges across and down.
    """

    size: PixelSize
    faces: tuple[Face, ...] | None = None
    profile: tuple[Profile, Profile] = ((), ())

    @property
    def useful_faces(self) -> tuple[Face, ...]:
        """Faces that a crop may follow: the largest first; of about equally large ones, the one nearest the middle."""
        least = LEAST_FACE * min(self.size)

        def rank(face: Face) -> tuple[int, float]:
            across, down = face.middle[0] - self.size[0] / 2, face.middle[1] - self.size[1] / 2
            return -round(4 * math.log2(max(face.width * face.height, 1.0))), math.hypot(across, down)

        found = [face for face in self.faces or () if face.score >= LEAST_SCORE and face.height >= least]
        return tuple(sorted(found, key=rank))


@dataclass(frozen=True)
class CropChoice:
    """How a photograph is to be cropped: the default, or what was chosen.

    box:  for manual. face: which face (0 is the largest), framing: how much around it.
    """

    mode: CropMode = "auto"
    box: Box | None = None
    face: int = 0
    framing: Framing = "head"

    def to_values(self) -> dict[str, Any]:
        """As plain values, for JSON and TOML, without defaults."""
        values: dict[str, Any] = {"mode": self.mode}
        if self.box is not None:
            values["box"] = list(astuple(self.box))
        if self.face:
            values["face"] = self.face
        if self.mode == "face":
            values["framing"] = self.framing
        return values

    @classmethod
    def from_values(cls, values: Any) -> CropChoice | None:
        """The inverse of `to_values`; None if the values are invalid. Never raises."""
        if not isinstance(values, Mapping) or values.get("mode") not in MODES:
            return None
        face, framing = values.get("face", 0), values.get("framing", "head")
        if type(face) is not int or face < 0 or framing not in FRAMINGS:
            return None
        box = box_from(values.get("box"))
        if box is None and (values["mode"] == "manual" or "box" in values):
            return None
        return cls(cast(CropMode, values["mode"]), box, face, framing)


AUTO = CropChoice()
"""The default: the crop is chosen automatically."""


@dataclass(frozen=True)
class Crop:
    """A crop of a photograph.

    box:    in pixels of the upright photograph.
    size:   of the resulting image, in pixels.
    source: size of the upright photograph, to detect a file that has changed since.
    rule:   what placed the box.
    face:   which of the useful faces it follows; None if it follows none.
    """

    box: Box
    size: PixelSize
    source: PixelSize
    rule: CropRule
    face: int | None = None

    @property
    def padded(self) -> bool:
        """Whether the whole photograph has a different shape than the image, so that bands fill the rest."""
        return self.rule == "whole" and not same_shape(self.source, self.size)

    @property
    def upscale(self) -> float:
        """How many times the crop is enlarged; below 1 it is reduced."""
        scales = (self.size[0] / self.box.width, self.size[1] / self.box.height)
        return min(scales) if self.padded else max(scales)

    @property
    def trivial(self) -> bool:
        """Whether nothing is cut off, filled in or enlarged."""
        return self.rule in ("keep", "whole") and not self.padded and self.upscale <= 1


def crops_for(
    content: PictureContent, size: PixelSize, choice: CropChoice = AUTO, *, split: bool = True
) -> tuple[Crop, ...]:
    """The crops of a photograph to images of `size`: one, or several with the mode `split`, if `split` allows it."""
    if split and choice.mode == "split" and len(boxes := split_boxes(content.size, size)) > 1:
        return tuple(Crop(box, size, content.size, "split") for box in boxes)
    return (crop_for(content, size, choice),)


def crop_for(content: PictureContent, size: PixelSize, choice: CropChoice = AUTO) -> Crop:
    """The crop of a photograph to an image of `size` (width, height).

    A mode that is not possible (`face` without a face, `keep` at another size, `split` of a nearly square photograph)
    becomes `auto`; the rule of the crop tells what was done. Every box is inside the photograph and has the shape of
    `size`. Only a `manual` box may have fewer pixels than `size` if the photograph has enough.
    """
    source = content.size
    faces = content.useful_faces
    number = min(choice.face, len(faces) - 1)

    def crop(box: Box, rule: CropRule, face: int | None = None) -> Crop:
        return Crop(box.inside(source), size, source, rule, face)

    if choice.mode == "manual" and choice.box is not None:
        return crop(conform(choice.box, source, size), "manual")
    if choice.mode == "whole":
        return crop(Box(0.0, 0.0, *source), "whole")
    if choice.mode == "face" and faces:
        return crop(_framed(content, size, faces[number], choice.framing), "face", number)
    if source == size:
        return crop(Box(0.0, 0.0, *source), "keep")
    largest = largest_box(source, size)
    if same_shape(source, size):
        return crop(largest, "whole")
    if choice.mode == "centre":
        return crop(largest, "centre")
    if faces:
        return crop(_around(source, largest, faces[number]), "face", number)
    return crop(*_by_detail(content, largest))


def largest_box(source: PixelSize, size: PixelSize) -> Box:
    """The largest box in the shape of `size`, in the middle of the photograph."""
    scale = min(source[0] / size[0], source[1] / size[1])
    # Rounding must not move it across the edge: Pillow would refuse such a box.
    width, height = min(size[0] * scale, source[0]), min(size[1] * scale, source[1])
    return Box((source[0] - width) / 2, (source[1] - height) / 2, width, height)


def conform(box: Box, source: PixelSize, size: PixelSize) -> Box:
    """`box` in the shape of `size`, inside the photograph, with the same middle and about the same area."""
    largest = largest_box(source, size)
    area = max(box.width, 1.0) * max(box.height, 1.0)
    shape = largest.width / largest.height
    width = min(math.sqrt(area * shape), largest.width)
    height = width / shape
    across, down = box.middle
    return Box(across - width / 2, down - height / 2, width, min(height, largest.height)).inside(source)


def box_from(values: Any) -> Box | None:
    """A box from [left, top, width, height], or None if these are not valid numbers."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 4:
        return None
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or numbers[2] <= 0 or numbers[3] <= 0:
        return None
    return Box(*numbers)


def same_shape(source: PixelSize, size: PixelSize) -> bool:
    """Whether the largest box cuts off less than a pixel."""
    box = largest_box(source, size)
    return source[0] - box.width < 1 and source[1] - box.height < 1


def _around(source: PixelSize, box: Box, face: Face) -> Box:
    """A box as large as `box` around a face; the head is not cut off if the box is large enough for it."""
    left = face.middle[0] - FACE_AT[0] * box.width
    top = face.top + FACE_POINT * face.height - FACE_AT[1] * box.height
    head = face.head(source)
    if head.width <= box.width:
        left = min(max(left, head.right - box.width), head.left)
    if head.height <= box.height:
        top = min(max(top, head.bottom - box.height), head.top)
    return Box(left, top, box.width, box.height).inside(source)


def _framed(content: PictureContent, size: PixelSize, face: Face, framing: Framing) -> Box:
    """A box around the face in the framing's size, with no fewer pixels than `size` if the photograph has them."""
    largest = largest_box(content.size, size)
    height = min(max(FRAMINGS[framing] * face.height, size[1]), largest.height)
    width = min(height * largest.width / largest.height, largest.width)
    return _around(content.size, Box(0.0, 0.0, width, height), face)


def _by_detail(content: PictureContent, box: Box) -> tuple[Box, CropRule]:
    """`box` moved along the longer side to where the edges are, with a slight preference for the middle."""
    tall = content.size[1] - box.height > content.size[0] - box.width
    profile = content.profile[tall]
    window = box.height / content.size[1] if tall else box.width / content.size[0]
    anchor = 0.5 - (HIGHER if tall else 0.0)
    flat = not profile or sum(profile) / len(profile) < FLAT
    middle = anchor if flat else _window(profile, window, anchor)
    start = min(max(middle - window / 2, 0.0), 1.0 - window)
    moved = replace(box, top=start * content.size[1]) if tall else replace(box, left=start * content.size[0])
    return moved, "centre" if flat else "detail"


def _window(profile: Profile, window: float, anchor: float) -> float:
    """Middle of the window (in shares of the side) with the most edges, with a slight preference for `anchor`."""
    sums = [0.0, *accumulate(profile)]
    free = 1.0 - window
    places = [free * step / 128 for step in range(129)]

    def until(place: float) -> float:
        """Sum of the profile up to `place`."""
        at = min(max(place, 0.0), 1.0) * len(profile)
        whole = min(int(at), len(profile) - 1)
        return sums[whole] + (at - whole) * profile[whole]

    def score(start: float) -> float:
        away = abs(start + window / 2 - anchor) / max(free / 2, 1e-9)
        return (until(start + window) - until(start)) / sums[-1] - CENTRE_PULL * away

    best = max(places, key=score)
    return best + window / 2


def split_boxes(source: PixelSize, size: PixelSize) -> list[Box]:
    """Boxes along the longer side that overlap by at least SPLIT_OVERLAP; only one if it is not long enough."""
    box = largest_box(source, size)
    tall = source[1] - box.height > source[0] - box.width
    long, side = (source[1], box.height) if tall else (source[0], box.width)
    if long < SPLIT_FROM * side:
        return [box]
    count = math.ceil(round((long / side - SPLIT_OVERLAP) / (1 - SPLIT_OVERLAP), 6))
    starts = [(long - side) * number / (count - 1) for number in range(count)]
    return [replace(box, top=start) if tall else replace(box, left=start) for start in starts]
