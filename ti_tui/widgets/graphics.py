"""Images on a terminal: finding out what it supports, before the app starts, and drawing with half cells."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import select
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from PIL import Image
    from textual.widget import Widget

GraphicsSetting = Literal["auto", "half", "sixel", "kitty", "off"]
GraphicsKind = Literal["half", "sixel", "kitty", "off"]

# The order matters: every terminal answers the last one (primary device attributes), and answers come in order.
_QUERY = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\" + b"\x1b[16t" + b"\x1b[c"
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL_SIZE = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_KITTY_YES = re.compile(rb"\x1b_G[^\x1b]*i=31[^\x1b]*;OK\x1b\\")
_SIXEL = b"4"
_VT340_CELL = (10, 20)

CellSize = tuple[int, int]
HALF_CELL: CellSize = (1, 2)
"""Pixels of a cell that is drawn as two halves."""
_CUBE = (0, 95, 135, 175, 215, 255)
_SHADES = " ░▒▓█"


@dataclass(frozen=True)
class Capabilities:
    """What the terminal reports about itself. A cell of 0x0 pixels has an unknown size."""

    sixel: bool = False
    kitty: bool = False
    cell_width: int = 0
    cell_height: int = 0


@dataclass(frozen=True)
class Protocol:
    """How images are drawn, the reason (for the user), and the pixels of a cell."""

    kind: GraphicsKind
    reason: str = ""
    cell_width: int = _VT340_CELL[0]
    cell_height: int = _VT340_CELL[1]


def choose_protocol(
    setting: GraphicsSetting, environment: Mapping[str, str], probe: Callable[[], Capabilities], installed: bool
) -> Protocol:
    """How to draw images. `probe` is called at most once, and only if its answer matters.

    installed: whether textual-image is installed, see `extra_installed`.
    """
    if setting in {"half", "off"}:
        return Protocol(setting, "as set")
    if not installed:
        return Protocol("half", "textual-image is not installed: pip install 'ti_tui[images]'")
    if setting in {"sixel", "kitty"}:
        return _with_cell(setting, "as set", probe())
    if reason := _reason_for_half(environment):
        return Protocol("half", reason)
    found = probe()
    # Sixel first: WezTerm and Konsole report both, but lack the Kitty placeholders that a TUI needs. kitty and
    # Ghostty have these, but do not support Sixel.
    if found.sixel:
        return _with_cell("sixel", "the terminal supports Sixel graphics", found)
    if found.kitty:
        return _with_cell("kitty", "the terminal supports Kitty graphics", found)
    return Protocol("half", "the terminal supports neither Sixel nor Kitty graphics")


def extra_installed() -> bool:
    """Whether textual-image can be imported; it is not imported."""
    return importlib.util.find_spec("textual_image") is not None


def probe_terminal(stdin_fd: int, stdout_fd: int, limit_seconds: float = 1.0) -> Capabilities:
    """Ask the terminal what it can draw. Call it before App.run: later, Textual's thread would read the answers.

    Reads until the answer that every terminal gives last, so that no rest of an answer is mistaken for keys. Keys
    typed meanwhile are lost. Without a terminal or an answer within the limit, and on Windows: no capabilities.
    """
    if sys.platform == "win32":
        return Capabilities()
    import termios
    import tty

    try:
        if not (os.isatty(stdin_fd) and os.isatty(stdout_fd)):
            return Capabilities()
        before = termios.tcgetattr(stdin_fd)
    except (OSError, termios.error):
        return Capabilities()
    try:
        # Not setraw, so that Ctrl+C keeps working. TCSANOW, since the others wait for output, for ever if it is stuck.
        tty.setcbreak(stdin_fd, termios.TCSANOW)
        os.write(stdout_fd, _QUERY)
        answer = _read_answer(stdin_fd, time.monotonic() + limit_seconds)
        if not _ATTRIBUTES.search(answer):
            termios.tcflush(stdin_fd, termios.TCIFLUSH)
            return Capabilities()
        return _parse(answer, stdout_fd)
    except (OSError, termios.error):
        return Capabilities()
    finally:
        # If this fails, the terminal is gone.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(stdin_fd, termios.TCSANOW, before)


def load_widget(protocol: Protocol) -> type[Widget] | None:
    """textual-image's widget for a protocol, or None if it is not available. Takes half a second the first time.

    Its import would query the terminal, and Textual would read the answers as keys; this is prevented.
    """
    if protocol.kind not in {"sixel", "kitty"}:
        return None
    real = sys.__stdout__
    try:
        # The import looks for a terminal here; Textual itself draws on stderr.
        sys.__stdout__ = _NoTerminal()  # type: ignore[misc,assignment]
        from textual_image import _terminal
        from textual_image.widget import SixelImage, TGPImage
    except Exception:
        return None
    finally:
        sys.__stdout__ = real  # type: ignore[misc]
    _terminal.get_cell_size._result = _terminal.CellSize(protocol.cell_width, protocol.cell_height)
    widget: type[Widget] = SixelImage if protocol.kind == "sixel" else TGPImage
    return widget


def fit(size: CellSize, cells: CellSize, cell: CellSize = HALF_CELL) -> CellSize:
    """Columns and rows of the largest drawing with the aspect ratio of an image of `size` pixels."""
    scale = min(cells[0] * cell[0] / size[0], cells[1] * cell[1] / size[1])
    return max(1, round(size[0] * scale / cell[0])), max(1, round(size[1] * scale / cell[1]))


def halfcell(image: Image.Image, width: int, height: int, colours: Literal["true", "256"] = "true") -> list[Strip]:
    """Draw an RGB image with half cells, as large as fits into width x height cells. Equal neighbours share a segment.

    `256` uses only the colours 16 to 255, which terminal themes do not change.
    """
    from PIL import Image

    columns, rows = fit(image.size, (width, height))
    image = _resized(image, (columns, rows * 2))
    if colours == "256":
        # Dithering would only add speckles to such a coarse image.
        image = image.quantize(palette=_palette(_xterm_colours()), dither=Image.Dither.NONE)
        paint = [Color.from_ansi(number + 16) for number in image.tobytes()]
    else:
        data = image.tobytes()
        paint = [Color.from_rgb(*data[at : at + 3]) for at in range(0, len(data), 3)]
    lines = [paint[at : at + columns] for at in range(0, len(paint), columns)]
    return [_half_strip(upper, lower) for upper, lower in zip(lines[::2], lines[1::2], strict=True)]


def shades(image: Image.Image, width: int, height: int, *, dark: bool) -> list[Strip]:
    """Draw an RGB image without colour, in five densities. dark: on a dark background, where dense means bright."""
    from PIL import Image

    columns, rows = fit(image.size, (width, height))
    greys = [(level, level, level) for level in (0, 64, 128, 191, 255)]
    image = _resized(image, (columns, rows)).convert("L").convert("RGB")
    levels = image.quantize(palette=_palette(greys), dither=Image.Dither.FLOYDSTEINBERG).tobytes()
    ink = _SHADES if dark else _SHADES[::-1]
    text = "".join(ink[level] for level in levels)
    return [Strip([Segment(text[at : at + columns], Style())]) for at in range(0, len(text), columns)]


class _NoTerminal:
    """Replaces stdout while textual-image is imported: it is not a terminal, and it discards output."""

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...


def _reason_for_half(environment: Mapping[str, str]) -> str:
    term = environment.get("TERM", "")
    if environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"):
        return "over SSH, half-cell images need the fewest bytes"
    if environment.get("TMUX") or environment.get("STY") or term.startswith(("screen", "tmux")):
        return "tmux and screen do not pass graphics through"
    # These would print the Kitty query instead of ignoring it.
    if term in {"", "dumb", "linux"} or environment.get("TERM_PROGRAM") == "Apple_Terminal":
        return "this terminal does not support graphics"
    return ""


def _with_cell(kind: GraphicsKind, reason: str, found: Capabilities) -> Protocol:
    if found.cell_width > 0 and found.cell_height > 0:
        return Protocol(kind, reason, found.cell_width, found.cell_height)
    return Protocol(kind, reason)


def _read_answer(stdin_fd: int, deadline: float) -> bytes:
    answer = b""
    while (left := deadline - time.monotonic()) > 0 and not _ATTRIBUTES.search(answer):
        if select.select([stdin_fd], [], [], left)[0]:
            chunk = os.read(stdin_fd, 1024)
            if not chunk:
                break
            answer += chunk
    return answer


def _parse(answer: bytes, stdout_fd: int) -> Capabilities:
    attributes = _ATTRIBUTES.search(answer)
    # The first number is the terminal's class (64 for a VT400), not a feature.
    sixel = attributes is not None and _SIXEL in attributes[1].split(b";")[1:]
    width, height = _cell_from_window(stdout_fd)
    if size := _CELL_SIZE.search(answer):
        height, width = int(size[1]), int(size[2])
    return Capabilities(sixel, bool(_KITTY_YES.search(answer)), width, height)


def _cell_from_window(stdout_fd: int) -> tuple[int, int]:
    """Pixels of a cell from the terminal driver, (0, 0) if unknown."""
    if sys.platform == "win32":
        return 0, 0
    import fcntl
    import termios

    try:
        window = fcntl.ioctl(stdout_fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 0, 0
    rows, columns, width, height = struct.unpack("HHHH", window)
    return (width // columns, height // rows) if rows and columns else (0, 0)


def _half_strip(upper: list[Color], lower: list[Color]) -> Strip:
    runs = ((pair, len(list(run))) for pair, run in groupby(zip(upper, lower, strict=True)))
    return Strip([Segment("▀" * count, Style(color=pair[0], bgcolor=pair[1])) for pair, count in runs], len(upper))


def _resized(image: Image.Image, size: CellSize) -> Image.Image:
    return image if image.size == size else image.resize(size, reducing_gap=2.0)


def _palette(colours: list[tuple[int, int, int]]) -> Image.Image:
    from PIL import Image

    holder = Image.new("P", (1, 1))
    # Pillow searches all 256 entries and takes the first of equal ones, so copies of a colour are never chosen.
    padded = colours + [colours[0]] * (256 - len(colours))
    holder.putpalette([value for colour in padded for value in colour])
    return holder


def _xterm_colours() -> list[tuple[int, int, int]]:
    greys = [(level, level, level) for level in range(8, 239, 10)]
    return [(red, green, blue) for red in _CUBE for green in _CUBE for blue in _CUBE] + greys
