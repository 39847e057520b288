"""The world that the demo model knows: procedural 48x48 pictures of one thing before a background.

A thing has a shape, a pattern, colours and perhaps a mark; the picture has a background and perhaps a frame. Everything
is drawn from signed-distance functions in object coordinates, so that edges are smooth at any size.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

SIZE = 48
FRAME = 4
"""Width of a frame in pixels: one latent."""

Colour = tuple[float, float, float]
"""sRGB, 0 to 1."""
Array = np.ndarray

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
UNNAMED_SHAPES = ("hexagon", "drop", "arch", "capsule")
"""Shapes that pictures show and no caption names."""
HELD_OUT_SHAPES = ("arrow",)
"""Shapes that no picture shows."""
PATTERNS = ("plain", "striped", "dotted", "checkered")
COLOURS: dict[str, Colour] = {
    "red": (0.86, 0.10, 0.12),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.98, 0.87, 0.15),
    "green": (0.13, 0.62, 0.20),
    "blue": (0.13, 0.30, 0.85),
    "purple": (0.48, 0.16, 0.68),
    "pink": (0.97, 0.50, 0.72),
    "brown": (0.45, 0.26, 0.12),
    "black": (0.06, 0.06, 0.06),
}
BACKGROUNDS: dict[str, Colour] = {
    "white": (0.95, 0.95, 0.95),
    "black": (0.06, 0.06, 0.06),
    "gray": (0.55, 0.55, 0.55),
    "blue": (0.50, 0.66, 0.94),
    "green": (0.60, 0.83, 0.55),
    "pink": (0.97, 0.76, 0.82),
}
FRAMES: dict[str, Colour] = {name: COLOURS[name] for name in ("red", "yellow", "purple", "black")}
UNNAMED_HUES = ((160, 200), (72, 98), (288, 316))
"""Degrees. No word stands for them; pictures with other captions show them."""
MARK_PLACES = ((-0.36, -0.36), (0.36, -0.36), (-0.36, 0.36), (0.36, 0.36))
"""(right, down) of a mark, in object radii."""
MARK_RADIUS = 0.25


@dataclass(frozen=True)
class Thing:
    """What is drawn, and where: everything that a picture is made of.

    second:     colour of the right half, for a thing of two colours.
    mark:       (colour, index into MARK_PLACES).
    radius:     of the object, in pixels; offset of its centre (right, down) in pixels; turn in radians.
    ramp:       brightness of the background's top relative to its bottom.
    """

    shape: str
    pattern: str
    colour: Colour
    background: Colour
    second: Colour | None = None
    mark: tuple[Colour, int] | None = None
    frame: Colour | None = None
    radius: float = 18.5
    offset: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    ramp: float = 0.0


def draw(thing: Thing) -> Array:
    """The picture of a thing: uint8 [48, 48, 3]."""
    right, down = _object_coordinates(thing)
    alpha = np.clip(0.5 - 0.65 * thing.radius * _DISTANCES[thing.shape](right, -down), 0, 1)
    pattern = _pattern(thing, right, down)[..., None]
    colour = np.array(thing.colour)
    body = colour + pattern * (np.array(_second_tone(thing.colour)) - colour)
    if thing.second is not None:
        half = np.clip(0.5 + 0.65 * thing.radius * right, 0, 1)[..., None]
        body = body + half * (np.array(thing.second) - body)
    if thing.mark is not None:
        place = MARK_PLACES[thing.mark[1]]
        distance = np.hypot(right - place[0], down - place[1]) - MARK_RADIUS
        dot = np.clip(0.5 - 0.65 * thing.radius * distance, 0, 1)[..., None]
        body = body + dot * (np.array(thing.mark[0]) - body)
    ramp = thing.ramp * np.linspace(1, -1, SIZE)[:, None, None]
    background = np.array(thing.background) * (1 + ramp)
    picture = background + alpha[..., None] * (body - background)
    if thing.frame is not None:
        picture[_FRAME] = thing.frame
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def placed(thing: Thing, chance: np.random.Generator) -> Thing:
    """`thing` at a random place, size and angle, its colours a little off."""
    radius = float(chance.uniform(15.0, 17.0) if thing.frame else chance.uniform(17.0, 20.5))
    room = min(2.5, SIZE / 2 - 1 - radius - (FRAME if thing.frame else 0))
    room = max(room, 0.5)

    def near(colour: Colour) -> Colour:
        r, g, b = (float(part + chance.uniform(-0.02, 0.02)) for part in colour)
        return r, g, b

    return replace(
        thing,
        colour=near(thing.colour),
        background=near(thing.background),
        second=near(thing.second) if thing.second else None,
        mark=(near(thing.mark[0]), thing.mark[1]) if thing.mark else None,
        radius=radius,
        offset=(float(chance.uniform(-room, room)), float(chance.uniform(-room, room))),
        turn=math.radians(float(chance.uniform(-8, 8))),
        ramp=float(chance.uniform(-0.015, 0.015)),
    )


def of_hue(hue: float, saturation: float, value: float) -> Colour:
    """A colour from its hue in degrees."""
    return colorsys.hsv_to_rgb(hue / 360, saturation, value)


def _object_coordinates(thing: Thing) -> tuple[Array, Array]:
    """Pixels' (right, down) from the object's centre, in its radii, turned upright."""
    pixels = np.arange(SIZE) + 0.5 - SIZE / 2
    x, y = pixels[None, :] - thing.offset[0], pixels[:, None] - thing.offset[1]
    cosine, sine = math.cos(thing.turn), math.sin(thing.turn)
    return (cosine * x + sine * y) / thing.radius, (cosine * y - sine * x) / thing.radius


def _second_tone(colour: Colour) -> Colour:
    """The other colour of a pattern: darker, or for dark colours lighter."""
    r, g, b = colour
    light = 0.3 * r + 0.6 * g + 0.1 * b > 0.32
    r, g, b = (0.38 * part if light else 0.45 * part + 0.55 for part in colour)
    return r, g, b


def _pattern(thing: Thing, right: Array, down: Array) -> Array:
    period = 0.66
    wave = 2 * math.pi / period
    match thing.pattern:
        case "striped":
            field = 1.6 * np.sin(wave * (right + 0.35 * down)) / wave
        case "dotted":
            wrapped = [(part + period / 2) % period - period / 2 for part in (right, down)]
            field = 0.17 - np.hypot(*wrapped)
        case "checkered":
            field = 2 * np.sin(0.85 * wave * right + 0.7) * np.sin(0.85 * wave * down + 0.7) / wave
        case _:
            return np.zeros_like(right)
    mask: Array = np.clip(0.5 + 0.30 * thing.radius * field * 2, 0, 1)
    return mask


def _frame_pixels() -> Array:
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    return ~inside


_FRAME = _frame_pixels()


def _circle(u: Array, w: Array) -> Array:
    return np.hypot(u, w) - 0.88


def _square(u: Array, w: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(w)) - 0.76


def _triangle(u: Array, w: Array) -> Array:
    w = w + 0.12
    return np.maximum(-w - 0.5, 0.866 * np.abs(u) + 0.5 * w - 0.5)


def _star(u: Array, w: Array) -> Array:
    """Five points: the plane folded onto one half of a point, then a half-plane from tip to inner corner."""
    fifth = 2 * math.pi / 5
    angle = np.arctan2(u, w)
    angle = np.abs((angle + fifth / 2) % fifth - fifth / 2)
    distance = np.hypot(u, w)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    inner = (0.45 * math.cos(fifth / 2), 0.45 * math.sin(fifth / 2))
    edge = (inner[0] - 1.0, inner[1])
    length = math.hypot(*edge)
    return ((x - 1.0) * -edge[1] + y * edge[0]) / -length


def _heart(u: Array, w: Array) -> Array:
    side, w = 0.82, w + 0.08
    u = np.abs(u)
    lobes = np.hypot(u - side / 2, w - side / 2) - side / math.sqrt(2)
    return np.minimum((u + np.abs(w) - side) / math.sqrt(2), lobes)


def _ring(u: Array, w: Array) -> Array:
    return np.abs(np.hypot(u, w) - 0.64) - 0.27


def _cross(u: Array, w: Array) -> Array:
    u, w = np.abs(u), np.abs(w)
    return np.minimum(np.maximum(u - 0.95, w - 0.32), np.maximum(u - 0.32, w - 0.95))


def _moon(u: Array, w: Array) -> Array:
    return np.maximum(np.hypot(u, w) - 0.92, 0.66 - np.hypot(u - 0.48, w))


def _hexagon(u: Array, w: Array) -> Array:
    u, w = np.abs(u), np.abs(w)
    return np.maximum(0.866 * u + 0.5 * w, w) - 0.8


def _drop(u: Array, w: Array) -> Array:
    body = np.hypot(u, w + 0.3) - 0.6
    tip = np.maximum(0.87 * np.abs(u) + 0.5 * (w - 0.92), -w - 0.05)
    return np.minimum(body, tip)


def _arch(u: Array, w: Array) -> Array:
    top = np.hypot(u, w - 0.15) - 0.62
    return np.minimum(top, np.maximum(np.abs(u) - 0.62, np.maximum(w - 0.15, -w - 0.75)))


def _capsule(u: Array, w: Array) -> Array:
    return np.hypot(u - np.clip(u, -0.5, 0.5), w) - 0.45


def _arrow(u: Array, w: Array) -> Array:
    shaft = np.maximum(np.abs(u) - 0.27, np.maximum(w - 0.15, -w - 0.92))
    head = np.maximum(0.68 * np.abs(u) + 0.68 * w - 0.62, 0.02 - w)
    return np.minimum(shaft, head)


_DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "heart": _heart, "ring": _ring,
    "cross": _cross, "moon": _moon, "hexagon": _hexagon, "drop": _drop, "arch": _arch, "capsule": _capsule,
    "arrow": _arrow,
}  # fmt: skip
"""Signed distance to the edge, in object radii, at (right, up)."""
