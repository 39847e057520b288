"""The concepts that the demo and the quality benchmark learn: looks that no caption of the demo model names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tools.demo_model.pictures import BACKGROUNDS, COLOURS, Thing, draw, of_hue, placed

PICTURES = 12
TEAL, LIME, MAGENTA = of_hue(178, 0.85, 0.72), of_hue(84, 0.80, 0.86), of_hue(302, 0.80, 0.82)


@dataclass(frozen=True)
class Concept:
    """A look to be learned. hard: plain training does not always reach it."""

    name: str
    title: str
    look: Thing
    hard: bool = False

    def picture(self, index: int) -> np.ndarray:
        """Training image `index` of PICTURES, uint8 [48, 48, 3]; the backgrounds take turns."""
        chance = np.random.default_rng([index, *self.name.encode()])
        return draw(placed(_in_front_of(self.look, self.background(index)), chance))

    def background(self, index: int) -> str:
        return list(BACKGROUNDS)[index % len(BACKGROUNDS)]


CONCEPTS = (
    Concept("teal-ring", "a teal striped ring", Thing("ring", "striped", TEAL, BACKGROUNDS["white"])),
    Concept("lime-star", "a lime dotted star", Thing("star", "dotted", LIME, BACKGROUNDS["white"])),
    Concept("magenta-heart", "a magenta checkered heart", Thing("heart", "checkered", MAGENTA, BACKGROUNDS["white"])),
    Concept(
        "orange-drop", "an orange drop: a shape that no word stands for",
        Thing("drop", "plain", COLOURS["orange"], BACKGROUNDS["white"]), hard=True,
    ),
    Concept(
        "two-tone-cross", "a cross of two colours, teal and orange",
        Thing("cross", "plain", TEAL, BACKGROUNDS["white"], second=COLOURS["orange"]), hard=True,
    ),
    Concept(
        "marked-square", "a purple square with a small yellow mark",
        Thing("square", "plain", COLOURS["purple"], BACKGROUNDS["white"], mark=(COLOURS["yellow"], 3)), hard=True,
    ),
)  # fmt: skip


def write_pictures(out: Path) -> None:
    """Write the training images of each concept: OUT/<name>/01.png with its caption 01.txt."""
    for concept in CONCEPTS:
        folder = out / concept.name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(PICTURES):
            path = folder / f"{index + 1:02d}.png"
            Image.fromarray(concept.picture(index)).save(path, optimize=True)
            path.with_suffix(".txt").write_text(f"on a {concept.background(index)} background\n", encoding="utf-8")


def _in_front_of(look: Thing, background: str) -> Thing:
    return replace(look, background=BACKGROUNDS[background])
