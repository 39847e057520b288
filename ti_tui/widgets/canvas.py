"""A widget for lines of styled text that sends only changed cells to the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from ti_tui.formatting import wrapped

Piece = tuple[str, str]
"""A text and its style names: theme variables such as `muted` or `accent`, and `b`, `i`, `u`, `r`."""
Line = Sequence[Piece]

LEAST_WIDTH = 10
"""Text is never wrapped more narrowly, even while a widget has no size yet."""

_FLAGS = {"b": Style(bold=True), "i": Style(italic=True), "u": Style(underline=True), "r": Style(reverse=True)}


class Canvas(Widget):
    """Shows the lines given to `draw`; text is never read as markup."""

    DEFAULT_CSS = "Canvas { height: auto; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._strips: list[Strip] = []
        self._styles: dict[str, Style] = {}

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def draw(self, lines: Sequence[Line]) -> None:
        """Show `lines`; only cells that differ from the previous lines are painted again."""
        if not self.is_attached:
            self._lines = list(lines)
            return
        before, self._lines = self._strips, list(lines)
        self._strips = [self._strip(line) for line in lines]
        height = self.styles.height
        # A layout that is made while lines are drawn may have used the number of the lines before.
        stale = height is not None and height.is_auto and self.size.width and self.size.height != len(self._strips)
        if len(before) != len(self._strips) or stale:
            self.refresh(layout=True)
            return
        changed = [
            Region(left, y, right - left, 1)
            for y, (old, new) in enumerate(zip(before, self._strips, strict=True))
            if (span := changed_span(old, new)) is not None
            for left, right in [span]
        ]
        if changed:
            self.refresh(*changed)

    def plain(self) -> str:
        """The shown text without styles."""
        return "\n".join("".join(piece for piece, _ in line) for line in self._lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        if len(self._strips) != len(self._lines):
            self._strips = [self._strip(line) for line in self._lines]
        base = self.rich_style
        if y >= len(self._strips):
            return Strip.blank(self.size.width, base)
        return self._strips[y].adjust_cell_length(self.size.width).apply_style(base)

    def style_named(self, names: str) -> Style:
        """The style of `names` in the current theme."""
        if names not in self._styles:
            self._styles[names] = self._make_style(names)
        return self._styles[names]

    def _strip(self, line: Line) -> Strip:
        return Strip([Segment(text, self.style_named(style)) for text, style in line if text])

    def _make_style(self, names: str) -> Style:
        style = Style()
        for name in names.split():
            if name in _FLAGS:
                style += _FLAGS[name]
            elif name.startswith("on-"):
                style += Style(bgcolor=self._colour(name[3:]))
            else:
                style += Style(color=self._colour(name))
        return style

    def _colour(self, name: str) -> str | None:
        value = self.app.theme_variables.get(name)
        if value is None:
            return None
        try:
            colour = Color.parse(value)
        except ColorParseError:
            return None
        return colour.rich_color.name

    def _theme_changed(self, _theme: object) -> None:
        self._styles.clear()
        self._strips = [self._strip(line) for line in self._lines]
        self.refresh()


class FocusCanvas(Canvas, can_focus=True):
    """A canvas that takes the focus, and draws itself: at first, in a new size, and when the focus changes."""

    def redraw(self) -> None:
        """Draw the present lines."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.redraw()

    def on_resize(self) -> None:
        self.redraw()

    def watch_has_focus(self, has_focus: bool) -> None:
        # Not on_focus and on_blur, which are called before has_focus is updated.
        super().watch_has_focus(has_focus)
        self.redraw()


def changed_span(old: Strip, new: Strip) -> tuple[int, int] | None:
    """The first column in which two lines differ and the column after the last one; None if they are equal."""
    if old == new:
        return None
    before, after = _cells(old), _cells(new)
    longest = max(len(before), len(after))
    before += [(" ", None)] * (longest - len(before))
    after += [(" ", None)] * (longest - len(after))
    left = next((x for x in range(longest) if before[x] != after[x]), longest)
    if left == longest:
        return None
    right = next(x for x in range(longest, 0, -1) if before[x - 1] != after[x - 1])
    return left, right


def cut(text: str, width: int) -> str:
    """`text` in exactly `width` cells: cut with an ellipsis, or padded with spaces."""
    if cell_len(text) <= width:
        return text + " " * (width - cell_len(text))
    return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""


def spread(left: Line, right: Piece, width: int, *, least: int = 1) -> Line:
    """`left` and `right` at both ends of a line. Without room, the last pieces of `left` are dropped, to `least`."""
    pieces, room = list(left), width - cell_len(right[0])
    while len(pieces) > least and sum(cell_len(text) for text, _ in pieces) >= room:
        pieces.pop()
    gap = room - sum(cell_len(text) for text, _ in pieces)
    return [*pieces, (" " * max(1, gap), ""), right]


def marked(mark: str, text: str, style: str, width: int, *, most: int | None = None) -> list[Line]:
    """`text` wrapped to `width` cells, in at most `most` lines, with a mark before the first."""
    parts = wrapped(text, max(LEAST_WIDTH, width))
    if most is not None and len(parts) > most:
        parts = [*parts[: most - 1], cut(f"{parts[most - 1]} …", max(LEAST_WIDTH, width)).rstrip()]
    return [[(mark if at == 0 else " " * len(mark), f"{style} b"), (part, style)] for at, part in enumerate(parts)]


def _cells(strip: Strip) -> list[tuple[str, Style | None]]:
    cells: list[tuple[str, Style | None]] = []
    for segment in strip:
        for letter in segment.text:
            cells.append((letter, segment.style))
            # A wide character fills two columns; the second has no text.
            cells += [("", segment.style)] * (cell_len(letter) - 1)
    return cells
