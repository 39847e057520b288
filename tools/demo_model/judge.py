"""The judge: says what a picture shows, independent of the model. Shape and pattern by a small network, colours in Lab.

It is trained on rendered pictures alone (`train_judge`); its weights lie beside this file.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.demo_model.pictures import (
    BACKGROUNDS,
    COLOURS,
    FRAME,
    FRAMES,
    HELD_OUT_SHAPES,
    MARK_PLACES,
    PATTERNS,
    SHAPES,
    SIZE,
    UNNAMED_SHAPES,
    Array,
    Colour,
    Thing,
    draw,
    of_hue,
    placed,
)
from tools.demo_model.team import Flat, Optimizer, Team, counted

WEIGHTS = Path(__file__).parent / "judge.safetensors"
ALL_SHAPES = SHAPES + UNNAMED_SHAPES + HELD_OUT_SHAPES
HUE_TOLERANCE = 20.0
"""Degrees in Lab between an object's colour and what it should be."""
SAME_COLOUR = 22.0
"""Delta E (CIE 1976) up to which an area has the colour that was asked for."""
APART = 18.0
"""Delta E from which on a pixel is no longer background."""


class Judge(nn.Module):
    """Shape and pattern of pictures [b, 3, 48, 48] in -1..1: logits [b, 13] and [b, 4]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 64, 96)
        layers: list[nn.Module] = []
        for index, (wide, next_wide) in enumerate(itertools.pairwise(widths)):
            layers += [nn.Conv2d(wide, next_wide, 3, padding=1), nn.GroupNorm(8, next_wide), nn.SiLU()]
            layers += [nn.Conv2d(next_wide, next_wide, 3, padding=1), nn.GroupNorm(8, next_wide), nn.SiLU()]
            layers += [nn.MaxPool2d(2)] if index < 3 else []
        self.body = nn.Sequential(*layers)
        self.shape = nn.Linear(96 * 9, len(ALL_SHAPES))
        self.pattern = nn.Linear(96 * 9, len(PATTERNS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = functional.adaptive_avg_pool2d(self.body(pixels), 3).flatten(1)
        return self.shape(features), self.pattern(features)


def to_pixels(images: Array) -> Tensor:
    """uint8 [b, 48, 48, 3] to float32 [b, 3, 48, 48] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_judge(team: Team, seed: int, steps: int) -> Judge:
    """Train the judge on all kinds of things, every colour and shape, somewhat blurred and noisy."""
    torch.manual_seed(seed)
    judge = Judge().to(team.device)
    optimizer = Optimizer([Flat(judge, torch.float32)], rate=2e-3, steps=steps, most_average=0.99)
    chance = np.random.default_rng([seed, 2, team.rank])
    for _, tell in counted("judge", steps, team):
        things = [_any_thing(chance) for _ in range(team.batch(64, 8))]
        pixels = to_pixels(np.stack([draw(placed(thing, chance)) for thing in things])).to(team.device)
        pixels = _worn(pixels, chance)
        shape, pattern = judge(pixels)
        loss = functional.cross_entropy(shape, _indices(things, "shape", ALL_SHAPES, pixels))
        loss = loss + functional.cross_entropy(pattern, _indices(things, "pattern", PATTERNS, pixels))
        loss.backward()
        optimizer.step(team)
        tell(float(loss.detach()))
    optimizer.finish()
    return judge.eval()


def load_judge(path: Path = WEIGHTS) -> Judge:
    """The trained judge."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return judge.eval()


def save_judge(judge: Judge, path: Path = WEIGHTS) -> None:
    """Write the judge's weights, in fp16."""
    from safetensors.torch import save_file

    save_file({name: tensor.half().contiguous() for name, tensor in judge.state_dict().items()}, path)


@dataclass(frozen=True)
class Asked:
    """What a picture should show: a look, and the background and frame that the prompt asks for ("" is none)."""

    look: Thing
    background: str
    frame: str = ""


@dataclass(frozen=True)
class Verdict:
    """What of it is there. distance: Delta E of the object's mean colour; hue_error in degrees."""

    shape: bool
    pattern: bool
    colour: bool
    extra: bool
    background: bool
    frame: bool
    distance: float
    hue_error: float

    @property
    def parts(self) -> float:
        """Share of the concept's attributes that are there."""
        return (self.shape + self.pattern + self.colour + self.extra) / 4

    @property
    def like(self) -> bool:
        """Whether it is the concept: shape, pattern, colour, and the second colour or mark where there is one."""
        return self.shape and self.pattern and self.colour and self.extra

    @property
    def follows(self) -> bool:
        """Whether it is where the prompt puts it."""
        return self.background and self.frame

    @property
    def all(self) -> bool:
        return self.like and self.follows


@torch.no_grad()
def judge_pictures(judge: Judge, images: Array, asked: list[Asked]) -> list[Verdict]:
    """Judge uint8 images [b, 48, 48, 3], each for what was asked."""
    shapes, patterns = (logits.argmax(1).tolist() for logits in judge(to_pixels(images)))
    return [
        _verdict(image, one, ALL_SHAPES[shape], PATTERNS[pattern])
        for image, one, shape, pattern in zip(images, asked, shapes, patterns, strict=True)
    ]


def named_colour(image: Array, pattern: str) -> str:
    """The name of the colour that brings an object of this pattern nearest to the one in the picture."""
    lab = to_lab(image)
    mean = _mean(lab, _object(lab, _background(lab)))
    return min(COLOURS, key=lambda name: float(np.linalg.norm(mean - reference(COLOURS[name], pattern))))


@cache
def reference(colour: Colour, pattern: str) -> Array:
    """Mean Lab of an object of a colour and a pattern, measured on drawn ones of several shapes and backgrounds."""
    chance, means = np.random.default_rng(0), []
    for shape in ("square", "circle", "star", "heart"):
        for background in BACKGROUNDS.values():
            if np.linalg.norm(_lab_of(background) - _lab_of(colour)) > 2 * APART:
                lab = to_lab(draw(placed(Thing(shape, pattern, colour, background), chance)))
                means.append(_mean(lab, _object(lab, _background(lab))))
    mean: Array = np.mean(means, axis=0)
    return mean


def to_lab(image: Array) -> Array:
    """uint8 sRGB [..., 3] to CIE Lab (D65)."""
    part = image.astype(np.float64) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab: Array = np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], axis=-1
    )
    return lab


_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def _verdict(image: Array, asked: Asked, shape: str, pattern: str) -> Verdict:
    look, lab = asked.look, to_lab(image)
    background = _background(lab)
    inside = _object(lab, background)
    extra, ok = True, True
    distance = hue_error = 0.0
    if look.second is not None:
        columns = np.where(inside)[1]
        middle = columns.mean() if len(columns) else SIZE / 2
        left = np.arange(SIZE)[None, :] < middle
        ok, distance, hue_error = _right_colour(_median(lab, inside & left & _off(middle)), _lab_of(look.colour))
        extra, *_ = _right_colour(_median(lab, inside & ~left & _off(middle)), _lab_of(look.second))
    elif look.mark is not None:
        extra, marked = _mark(lab, inside, look.mark)
        ok, distance, hue_error = _right_colour(_median(lab, inside & ~marked), _lab_of(look.colour))
    else:
        ok, distance, hue_error = _right_colour(_mean(lab, inside), reference(look.colour, look.pattern))
    edge = _median(lab, _EDGE)
    if asked.frame:
        framed = float(np.linalg.norm(edge - _lab_of(FRAMES[asked.frame]))) < SAME_COLOUR
    else:
        framed = float(np.linalg.norm(edge - background)) < APART
    named = min(BACKGROUNDS, key=lambda name: float(np.linalg.norm(background - _lab_of(BACKGROUNDS[name]))))
    right_background = (
        named == asked.background
        and float(np.linalg.norm(background - _lab_of(BACKGROUNDS[asked.background]))) < SAME_COLOUR
    )
    return Verdict(
        shape=shape == look.shape,
        pattern=pattern == look.pattern,
        colour=ok,
        extra=extra,
        background=right_background,
        frame=framed,
        distance=distance,
        hue_error=hue_error,
    )


def _right_colour(mean: Array, wanted: Array) -> tuple[bool, float, float]:
    """Whether a mean Lab colour is the wanted one; their Delta E and angle of hue."""
    distance = float(np.linalg.norm(mean - wanted))
    angles = [np.degrees(np.arctan2(lab[2], lab[1])) for lab in (mean, wanted)]
    hue_error = float(abs((angles[0] - angles[1] + 180) % 360 - 180))
    # Dark and grey colours have no hue worth the name.
    coloured = np.hypot(*wanted[1:]) > 15
    right = (hue_error <= HUE_TOLERANCE and distance < 2 * SAME_COLOUR) if coloured else distance < SAME_COLOUR
    return bool(right), distance, hue_error


def _mark(lab: Array, inside: Array, mark: tuple[Colour, int]) -> tuple[bool, Array]:
    """Whether the mark is there, in its quarter of the object and nowhere else; and its pixels."""
    near = np.linalg.norm(lab - _lab_of(mark[0]), axis=-1) < 1.5 * SAME_COLOUR
    near &= ~_EDGE_ZONE
    rows, columns = np.where(inside)
    if not len(rows):
        return False, near
    right, down = MARK_PLACES[mark[1]]
    down_half = (np.arange(SIZE) > rows.mean()) == (down > 0)
    right_half = (np.arange(SIZE) > columns.mean()) == (right > 0)
    quarter = down_half[:, None] & right_half[None, :]
    # A drawn mark is 40 to 75 pixels large.
    return bool(22 <= (near & quarter).sum() <= 110 and (near & ~quarter).sum() <= 14), near


def _background(lab: Array) -> Array:
    return _median(lab, _BACKGROUND)


def _object(lab: Array, background: Array) -> Array:
    """The pixels of the object: unlike the background, and not of the frame."""
    inside: Array = (np.linalg.norm(lab - background, axis=-1) > APART) & ~_EDGE_ZONE
    return inside


def _mean(lab: Array, where: Array) -> Array:
    mean: Array = lab[where].mean(axis=0) if where.any() else np.full(3, 1e3)
    return mean


def _median(lab: Array, where: Array) -> Array:
    median: Array = np.median(lab[where], axis=0) if where.any() else np.full(3, 1e3)
    return median


def _off(middle: float) -> Array:
    """Pixels that are not on the seam of two halves."""
    return np.abs(np.arange(SIZE)[None, :] - middle) > 2


@cache
def _lab_of(colour: Colour) -> Array:
    return to_lab(np.array([colour]) * 255)[0]


def _ring(start: int, end: int) -> Array:
    """Pixels from `start` to `end` (exclusive) away from the picture's edge."""
    away = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1])
    distance = np.minimum(away[:, None], away[None, :])
    ring: Array = (distance >= start) & (distance < end)
    return ring


_EDGE = _ring(0, FRAME - 1)
_EDGE_ZONE = _ring(0, FRAME + 1)
_BACKGROUND = _ring(FRAME + 1, FRAME + 3)


def _any_thing(chance: np.random.Generator) -> Thing:
    def colour() -> Colour:
        return of_hue(float(chance.uniform(0, 360)), float(chance.uniform(0.3, 1)), float(chance.uniform(0.3, 1)))

    names, extra = list(BACKGROUNDS.values()), chance.random()
    while True:
        own = colour() if chance.random() < 0.7 else COLOURS[str(chance.choice(list(COLOURS)))]
        background = names[chance.integers(len(names))]
        if np.linalg.norm(_lab_of(own) - _lab_of(background)) > APART:
            break
    return Thing(
        str(chance.choice(ALL_SHAPES)),
        str(chance.choice(PATTERNS)) if extra > 0.3 else "plain",
        own,
        background,
        second=colour() if extra < 0.15 else None,
        mark=(colour(), int(chance.integers(4))) if 0.15 <= extra < 0.3 else None,
        frame=FRAMES[str(chance.choice(list(FRAMES)))] if chance.random() < 0.3 else None,
    )


def _worn(pixels: Tensor, chance: np.random.Generator) -> Tensor:
    """Some pictures blurred, some noisy: a model's samples are not as crisp as drawings."""
    blurred = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.from_numpy(chance.uniform(0, 1, (len(pixels), 1, 1, 1)).astype(np.float32)).to(pixels.device)
    noise = torch.from_numpy(chance.normal(0, 1, pixels.shape).astype(np.float32)).to(pixels.device)
    return pixels.lerp(blurred, share) + 0.08 * share.flip(0) * noise


def _indices(things: list[Thing], name: str, known: tuple[str, ...], like: Tensor) -> Tensor:
    return torch.tensor([known.index(getattr(thing, name)) for thing in things], device=like.device)


def check_on_renders(judge: Judge, seed: int, count: int = 400) -> dict[str, float]:
    """How often the judge is right about drawn pictures: shape and pattern."""
    chance: Any = np.random.default_rng([seed, 3])
    things = [_any_thing(chance) for _ in range(count)]
    images = np.stack([draw(placed(thing, chance)) for thing in things])
    with torch.no_grad():
        shape, pattern = judge(to_pixels(images))
    right = {
        "shape": shape.argmax(1) == _indices(things, "shape", ALL_SHAPES, shape),
        "pattern": pattern.argmax(1) == _indices(things, "pattern", PATTERNS, pattern),
    }
    return {name: float(value.float().mean()) for name, value in right.items()}
