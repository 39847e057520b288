"""An image in the terminal, drawn with half cells or, if the terminal supports it, with real pixels."""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from ti_tui.errors import UserError
from ti_tui.widgets.graphics import HALF_CELL, CellSize, GraphicsKind, Protocol, fit, halfcell, load_widget, shades

if TYPE_CHECKING:
    from PIL import Image

Colours = Literal["true", "256", "dark", "light"]
"""24-bit colours; the 240 standard terminal colours; no colours, on a dark or on a light background."""

Make = Callable[[CellSize, CellSize], "Image.Image"]
"""Makes an RGB image that fits into (columns, rows) cells of (width, height) pixels, with sides of whole cells. It is
called in a thread, and raises UserError or OSError."""

DEBOUNCE_SECONDS = 0.08
MOST_CELLS = 256
"""Largest side of an image in real pixels. Kitty has 297 placeholders, and textual-image raises beyond that."""


class PictureCache:
    """A cache of scaled-down images, up to a number of bytes; widgets and threads may share it.

    load_new: makes the small copy of an image that is not cached; `decode` if None.
    """

    def __init__(
        self,
        limit_bytes: int = 16 * 2**20,
        *,
        load_new: Callable[[Path, CellSize, CellSize], Image.Image] | None = None,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._load_new = load_new or decode
        self._images: OrderedDict[tuple[Path, int, int, CellSize, CellSize], Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def load(self, path: Path, cells: CellSize, cell: CellSize = HALF_CELL) -> Image.Image:
        """The small copy of an image, from memory if the file has not changed. Raises UserError or OSError."""
        status = path.stat()
        # A pipe or a device would block the worker forever.
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is not a regular file")
        key = (path, status.st_mtime_ns, status.st_size, cells, cell)
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = self._load_new(path, cells, cell)
        with self._lock:
            self._images[key] = image
            held = sum(_bytes(kept) for kept in self._images.values())
            while held > self._limit_bytes and len(self._images) > 1:
                held -= _bytes(self._images.popitem(last=False)[1])
        return image


def decode(path: Path, cells: CellSize, cell: CellSize = HALF_CELL) -> Image.Image:
    """The image upright in RGB, as large as fits into `cells` (columns, rows) of `cell` (width, height) pixels.

    Colour profiles are ignored: it is only for display. Raises UserError with the reason.
    """
    from PIL import Image

    from ti_tui.dataset.picture_file import load_pixels, open_picture, orientation

    with open_picture(path) as opened:
        longest = max(cells[0] * cell[0], cells[1] * cell[1])
        opened.draft(None, (longest, longest))
        load_pixels(opened)
        turn, image = orientation(opened), opened
        if turn != 1 or opened.mode.startswith(("I", "F")):
            # Loads numpy, which upright images with 8 bits do not need.
            from ti_tui.dataset.crop import to_8_bits, turned

            image = turned(to_8_bits(opened), turn)
        columns, rows = fit(image.size, cells, cell)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        # Resizing an image with a palette would pick single pixels instead of averaging them.
        image = image if image.mode == mode else image.convert(mode)
        image = image.resize((columns * cell[0], rows * cell[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


@dataclass(frozen=True)
class _Task:
    """Everything that the worker needs; it must not access the widget."""

    number: int
    name: str
    make: Make | None
    caption: str
    cells: CellSize
    colours: Colours


@dataclass(frozen=True)
class _Drawing:
    """The result of the worker: strips, or an image and a widget that shows it, or a message."""

    strips: Sequence[Strip] = ()
    image: Image.Image | None = None
    widget: type[Widget] | None = None
    message: str = ""


class PictureView(Widget):
    """Shows an image file as large as fits, with a caption below. The old image stays until the new one is drawn.

    images: how to draw (a kind, or the result of `choose_protocol`); cache: decoded images, shared by all that an app
    shows. By default both are the app's own, its `images` and `pictures`.
    """

    DEFAULT_CSS = """
    PictureView { width: 1fr; height: 1fr; align-horizontal: center; }
    PictureView > .picture--caption { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"picture--caption"}
    ALLOW_SELECT = False

    class Drawn(Message, bubble=False):
        """A worker has drawn an image."""

        def __init__(self, task: _Task, drawing: _Drawing) -> None:
            super().__init__()
            self.task = task
            self.drawing = drawing

    def __init__(
        self,
        *,
        id: str | None = None,
        classes: str | None = None,
        images: str | Protocol | None = None,
        cache: PictureCache | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        images = images or getattr(self.app, "images", "half")
        self._protocol = images if isinstance(images, Protocol) else Protocol(cast(GraphicsKind, images))
        self._cache = cache if cache is not None else getattr(self.app, "pictures", PictureCache())
        self._make: Make | None = None
        self._called = ""
        self._caption = ""
        self._number = 0
        self._wait: Timer | None = None
        self._lines: list[Strip] = []

    def show(self, path: Path | None, caption: str = "") -> None:
        """Show the image at `path`; None shows nothing. Returns at once; only the last of several calls is drawn."""
        self._make = partial(self._cache.load, path) if path is not None else None
        self._called = path.name if path is not None else ""
        self._caption = _printable(caption)
        self._redraw()

    def draw(self, make: Make, name: str) -> None:
        """Show the image from `make` without delay, for images that change with every key. name: used in messages."""
        self._make, self._called, self._caption = make, name, ""
        self._redraw(wait=False)

    def render_line(self, y: int) -> Strip:
        """One line of the image, the caption or the message."""
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.size.width, self.rich_style)

    def on_mount(self) -> None:
        """Draw again when the theme changes, as colours may differ."""
        self.app.theme_changed_signal.subscribe(self, lambda _theme: self._redraw())

    def on_resize(self, _event: Resize) -> None:
        self._redraw()

    def on_picture_view_drawn(self, message: Drawn) -> None:
        """Show the drawing, unless a newer one was requested meanwhile."""
        message.stop()
        if message.task.number == self._number:
            self._display(message.task, message.drawing)

    def _redraw(self, *, wait: bool = True) -> None:
        self._number += 1
        if self._wait is not None:
            self._wait.stop()
            self._wait = None
        if not self.is_mounted or not self.size:
            return  # The first resize calls this again.
        task = self._next_task()
        if task.make is None:
            self._display(task, _Drawing())
        elif wait:
            self._wait = self.set_timer(DEBOUNCE_SECONDS, partial(self._start, task))
        else:
            self._start(task)

    def _next_task(self) -> _Task:
        width, height = self.size
        rows = height - 1 if self._caption and height > 1 else height
        make = self._make if self._protocol.kind != "off" else None
        return _Task(self._number, self._called, make, self._caption, (width, rows), self._colours())

    def _colours(self) -> Colours:
        if self.app.no_color:
            return "dark" if self.app.current_theme.dark else "light"
        return "256" if self.app.native_ansi_color else "true"

    def _start(self, task: _Task) -> None:
        work = partial(self._work, task, self._protocol)
        self.run_worker(work, thread=True, exclusive=True, group="picture", exit_on_error=False)

    def _work(self, task: _Task, protocol: Protocol) -> None:
        if get_current_worker().is_cancelled:
            return
        try:
            drawing = _draw(task, protocol)
        except UserError as error:
            drawing = _Drawing(message=f"{task.name} {error.message}")
        except OSError as error:
            drawing = _Drawing(message=f"{task.name} cannot be read: {error.strerror or error}")
        except Exception as error:
            drawing = _Drawing(message=f"{task.name} cannot be drawn: {error}")
        self.post_message(self.Drawn(task, drawing))

    def _display(self, task: _Task, drawing: _Drawing) -> None:
        width = self.size.width
        lines = list(drawing.strips)
        try:
            self._place_widget(drawing)
        except Exception:
            self._protocol = Protocol("half", "the image widget failed")
            self._redraw()
            return
        if drawing.image is not None:
            lines = [Strip.blank(width, self.rich_style)] * (drawing.image.height // self._protocol.cell_height)
        if drawing.message:
            lines = self._text(drawing.message, self.rich_style)[: task.cells[1]]
        if task.caption:
            muted = self.get_component_rich_style("picture--caption")
            lines.append(self._text(Content(task.caption).truncate(width, ellipsis=True).plain, muted)[0])
        self._lines = [_centred(line, width, self.rich_style) for line in lines]
        self.refresh()

    def _place_widget(self, drawing: _Drawing) -> None:
        child = next(iter(self.children), None)
        if drawing.widget is None or drawing.image is None:
            if child is not None:
                child.display = False
            return
        if child is None:
            child = drawing.widget()
            self.mount(child)
        child.display = True
        child.styles.width = drawing.image.width // self._protocol.cell_width
        child.styles.height = drawing.image.height // self._protocol.cell_height
        child.image = drawing.image  # type: ignore[attr-defined]

    def _text(self, text: str, style: Style) -> list[Strip]:
        lines = Content(_printable(text)).wrap(max(1, self.size.width))
        return [Strip([Segment(line.plain, style)]) for line in lines]


def _draw(task: _Task, protocol: Protocol) -> _Drawing:
    if task.make is None:
        return _Drawing()
    if (widget := load_widget(protocol)) is not None:
        cell = (protocol.cell_width, protocol.cell_height)
        cells = min(task.cells[0], MOST_CELLS), min(task.cells[1], MOST_CELLS)
        return _Drawing(image=task.make(cells, cell), widget=widget)
    image = task.make(task.cells, HALF_CELL)
    if task.colours in {"true", "256"}:
        return _Drawing(halfcell(image, *task.cells, colours=task.colours))
    return _Drawing(shades(image, *task.cells, dark=task.colours == "dark"))


def _centred(line: Strip, width: int, style: Style) -> Strip:
    left = max(0, (width - line.cell_length) // 2)
    return Strip([Segment(" " * left, style), *line]).adjust_cell_length(width, style)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _bytes(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())
