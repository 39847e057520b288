"""Draws a comparison as one image: a row per prompt, a column per step, training images at the right. No torch."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ti_tui import __version__, atomic
from ti_tui.formatting import percent
from ti_tui.jobs.clip_model import Scores
from ti_tui.results.comparison import Comparison
from ti_tui.results.small_picture import small_picture

if TYPE_CHECKING:
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WIDE_PIXELS = 2600
"""About how wide a grid becomes; a cell is never smaller than LEAST nor larger than MOST."""
LEAST, MOST = 144, 512
GAP = 8
MARGIN = 24
BACKGROUND, TEXT, MUTED, ACCENT = "#16181d", "#e6e6e6", "#9aa0aa", "#e8b34b"
EMPTY = "#22262d"
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")
"""Tried if a text has letters that Pillow's own font lacks."""


@dataclass(frozen=True)
class Heading:
    """The heading of a column.

    rank:    what ★ goes by; None for a step without a checkpoint.
    scores:  means over the column.
    against: the scores that they are compared with; None for the column itself.
    """

    step: int
    best: bool = False
    gain: float | None = None
    rank: float | None = None
    scores: Scores | None = None
    against: Scores | None = None

    @property
    def likeness(self) -> str:
        """`0.712 +0.121`; "" if unknown."""
        return _difference(*(None if one is None else one.likeness for one in (self.scores, self.against)))

    @property
    def following(self) -> str:
        """The same for prompt-following."""
        return _difference(*(None if one is None else one.following for one in (self.scores, self.against)))

    @property
    def gained(self) -> str:
        """`+12 %`; "" if unknown."""
        return percent(self.gain, sign=True)

    @property
    def ranked(self) -> str:
        """`11.8 %`; "" if unknown."""
        return percent(self.rank, digits=1)

    def lines(self, start: str) -> list[str]:
        """The lines under the step. start: what step 0 shows, in words."""
        named = (("gain", self.gained), ("rank", self.ranked), ("likeness", self.likeness), ("prompt", self.following))
        shown = [f"{name} {text}" for name, text in named if text]
        return [f'"{start}"' if start else "the start", *shown] if self.step == 0 else shown


@dataclass(frozen=True)
class Words:
    """The texts around the grid: a title, what step 0 shows, and notes below that explain the numbers."""

    title: str
    start: str = ""
    notes: tuple[str, ...] = ()


def draw_grid(
    comparison: Comparison, headings: Sequence[Heading], training: Sequence[Path], words: Words
) -> Image.Image:
    """The whole image. headings: one per step. training: images shown at the right, one per row, in turn."""
    columns = len(comparison.steps) + bool(training)
    rows = [_Row(comparison, index, training) for index in range(len(comparison.prompts))]
    cell = max(LEAST, min(MOST, (WIDE_PIXELS - 2 * MARGIN) // max(columns, 1) - GAP))
    widest = max((image.width for row in rows for image in row.images), default=cell)
    if widest <= cell:
        # Only whole multiples, so that small images keep sharp pixels.
        cell = max(LEAST, widest * (cell // widest))
    size = max(13, cell // 15)
    texts = [words.title, words.start, *words.notes, *comparison.prompts]
    brush = _Brush(size, texts)
    below = max((len(heading.lines(words.start)) for heading in headings), default=0)
    heights = [row.height(cell) for row in rows]
    extra = GAP * 2 if training else 0
    width = 2 * MARGIN + columns * (cell + GAP) - GAP + extra
    notes = [line for note in words.notes for line in brush.wrapped(note, width - 2 * MARGIN)]
    line = brush.line
    top = MARGIN + 2 * line + line * (1 + below) + 2 * GAP
    height = top + sum(heights) + len(rows) * (line + 2 * GAP) + len(notes) * line + MARGIN
    brush.begin(width, height)
    brush.text(MARGIN, MARGIN, words.title, TEXT, width - 2 * MARGIN)
    lefts = [MARGIN + index * (cell + GAP) for index in range(len(comparison.steps))]
    last = MARGIN + len(lefts) * (cell + GAP) + extra
    y = MARGIN + 2 * line
    for left, heading in zip(lefts, headings, strict=True):
        brush.heading(left, y, heading, words.start, cell)
    if training:
        brush.text(last, y, "training images", TEXT, cell)
    y = top
    for row, tall in zip(rows, heights, strict=True):
        brush.text(MARGIN, y, row.prompt, MUTED, width - 2 * MARGIN)
        y += line + GAP // 2
        for left, step in zip(lefts, comparison.steps, strict=True):
            brush.picture(left, y, row.drawn.get(step), cell, tall, missing="not drawn")
        if training:
            brush.picture(last, y, row.training, cell, tall, missing="")
        y += tall + GAP + GAP // 2
    for note in notes:
        brush.text(MARGIN, y, note, MUTED, width - 2 * MARGIN)
        y += line
    return brush.image


def save_grid(image: Image.Image, path: Path, about: dict[str, object]) -> None:
    """Write a PNG atomically, with `about` as JSON in its metadata. Raises CannotWrite."""
    info = PngInfo()
    info.add_itxt("Software", f"ti_tui {__version__}")
    info.add_itxt("ti_tui", json.dumps(about, ensure_ascii=False))
    content = io.BytesIO()
    image.save(content, "PNG", pnginfo=info)
    atomic.write_bytes(path, content.getvalue())


class _Row:
    """The images of one prompt, decoded."""

    def __init__(self, comparison: Comparison, index: int, training: Sequence[Path]) -> None:
        self.prompt = comparison.prompts[index]
        found = {step: comparison.pictures.get((self.prompt, step)) for step in comparison.steps}
        self.drawn = {
            step: image for step, path in found.items() if path and (image := small_picture(path, MOST)) is not None
        }
        self.training = small_picture(training[index % len(training)], MOST) if training else None

    @property
    def images(self) -> list[Image.Image]:
        return list(self.drawn.values())

    def height(self, cell: int) -> int:
        """Height of the row in pixels: the tallest image fits."""
        return max((math.ceil(image.height * cell / image.width) for image in self.images), default=cell)


class _Brush:
    """Draws with one font size."""

    def __init__(self, size: int, texts: Sequence[str]) -> None:
        self._font = _font(size, texts)
        self._size = size
        self.line = round(size * 1.45)
        self.image = Image.new("RGB", (1, 1))

    def begin(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: int, y: int, text: str, colour: str, room: int) -> None:
        """`text` in one line, cut to `room` pixels."""
        self._draw.text((x, y), self._cut(text, room), fill=colour, font=self._font)

    def heading(self, x: int, y: int, heading: Heading, start: str, room: int) -> None:
        self.text(x, y, f"step {heading.step}", ACCENT if heading.best else TEXT, room)
        if heading.best:
            # Drawn, because few fonts have a star.
            after = x + self._width(f"step {heading.step}") + self._size
            self._star(after, y + self._size * 0.6, self._size * 0.5)
            self.text(round(after + self._size * 0.8), y, "best", ACCENT, room)
        for number, line in enumerate(heading.lines(start), start=1):
            self.text(x, y + number * self.line, line, MUTED, room)

    def picture(self, x: int, y: int, image: Image.Image | None, cell: int, tall: int, *, missing: str) -> None:
        if image is None:
            if missing:
                self._draw.rectangle((x, y, x + cell - 1, y + tall - 1), fill=EMPTY)
                self.text(x + GAP, y + GAP, missing, MUTED, cell - 2 * GAP)
            return
        scale = min(cell / image.width, tall / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        whole = scale >= 1 and scale == int(scale)
        self.image.paste(image.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS), (x, y))

    def wrapped(self, text: str, room: int) -> list[str]:
        """`text` in lines that fit."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._width(longer) > room:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def _cut(self, text: str, room: int) -> str:
        if self._width(text) <= room:
            return text
        while text and self._width(f"{text}...") > room:
            text = text[:-1]
        return f"{text.rstrip()}..."

    def _width(self, text: str) -> float:
        return self._font.getlength(text)

    def _star(self, x: float, y: float, radius: float) -> None:
        corners = [
            (x + math.sin(turn) * far, y - math.cos(turn) * far)
            for turn, far in ((point * math.pi / 5, radius if point % 2 == 0 else radius * 0.42) for point in range(10))
        ]
        self._draw.polygon(corners, fill=ACCENT)


def _difference(value: float | None, against: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if against is None else f"{value:.3f} {value - against:+.3f}"


def _font(size: int, texts: Sequence[str]) -> Font:
    """Pillow's own font, the same everywhere; a system font for letters that it lacks."""
    if not all(text.isascii() for text in texts):
        for name in FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)
