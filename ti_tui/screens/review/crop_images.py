"""The images of the crop review: the photograph with its crop box, and the crop as it will be trained.

Both are made in a thread from a small copy in memory, so that a box can move as fast as a key repeats.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ti_tui.dataset.crop import box_in, cut_copy
from ti_tui.dataset.crop_boxes import Crop
from ti_tui.dataset.picture_quality import small_copy
from ti_tui.widgets.graphics import HALF_CELL, CellSize, fit
from ti_tui.widgets.picture import PictureCache

Colour = tuple[int, int, int]
COPIES_BYTES = 64 * 2**20
DIM = 0.72
"""How much of the background colour is blended into the part that is cut off."""


class Copies:
    """A cache of small copies of photographs."""

    def __init__(self) -> None:
        self._cache = PictureCache(COPIES_BYTES, load_new=lambda path, _cells, _cell: small_copy(path))
        self._one_at_a_time = threading.Lock()

    def load(self, path: Path) -> Image.Image:
        """The copy from memory; it is made if it is not there. Raises UserError or OSError."""
        with self._one_at_a_time:
            return self._cache.load(path, HALF_CELL)


def with_boxes(
    copy: Image.Image, crops: Sequence[Crop], cells: CellSize, cell: CellSize, *, line: Colour, ground: Colour
) -> Image.Image:
    """The whole photograph, dimmed outside the boxes, with a line around each.

    cells, cell: the room in cells, and the pixels of a cell; line, ground: colours of the line and the background.
    """
    columns, rows = fit(copy.size, cells, cell)
    photograph = copy.resize((columns * cell[0], rows * cell[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)
    drawn = Image.blend(photograph, Image.new("RGB", photograph.size, ground), DIM)
    pen = ImageDraw.Draw(drawn)
    width = max(1, cell[0] // 4)
    for crop in crops:
        box = box_in(photograph.size, crop)
        left, top = round(box.left), round(box.top)
        right, bottom = max(round(box.right), left + 1), max(round(box.bottom), top + 1)
        drawn.paste(photograph.crop((left, top, right, bottom)), (left, top))
        pen.rectangle((left, top, right - 1, bottom - 1), outline=line, width=width)
    return drawn


def as_trained(copy: Image.Image, crop: Crop, cells: CellSize, cell: CellSize) -> Image.Image:
    """The cropped part, as large as fits into `cells`."""
    columns, rows = fit(crop.size, cells, cell)
    return cut_copy(copy, crop, (columns * cell[0], rows * cell[1]))
