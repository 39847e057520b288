"""The list of images with their captions, in the review and in the wizard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding
from textual.message import Message

from ti_tui.formatting import printable
from ti_tui.widgets.canvas import FocusCanvas, Line, cut


@dataclass(frozen=True)
class Row:
    """One line of the list. label: the image name as it is shown, with the same width in all rows."""

    name: str
    mark: str
    label: str
    caption: str


GLYPHS = {
    "out": ("×", "muted"),
    # Captions.
    "reviewed": ("✓", "success"),
    "none": ("·", "muted"),
    "open": ("●", ""),
    "changed": ("≠", "warning"),
    # Crops.
    "own": ("●", ""),
    "rule": ("·", "muted"),
    "odd": ("!", "warning"),
}
"""Character and style of each mark."""


class CaptionRows(FocusCanvas):
    """The images with their marks, and their captions or crops. The caller says which one is current."""

    class Clicked(Message):
        """A row was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[Row] = ()
        self._at: int | None = None
        self._top = 0

    def show(self, rows: Sequence[Row], at: int | None) -> None:
        """Show `rows`; the current one is at `at`, None if it is not among them."""
        self._rows, self._at = rows, at
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        at = self._top + event.y
        if at < len(self._rows):
            self.post_message(self.Clicked(self._rows[at].name))

    def on_mouse_scroll_down(self) -> None:
        self._scroll(3)

    def on_mouse_scroll_up(self) -> None:
        self._scroll(-3)

    def _scroll(self, by: int) -> None:
        self._top = max(0, min(self._top + by, len(self._rows) - self.size.height))
        self._draw()

    def redraw(self) -> None:
        height = self.size.height
        self._top = max(0, min(self._top, len(self._rows) - height))
        if self._at is not None and height:
            # Keep a neighbour visible on both sides.
            near = 1 if height > 4 else 0
            self._top = min(self._top, max(0, self._at - near))
            self._top = max(self._top, min(len(self._rows) - height, self._at + near - height + 1))
        self._draw()

    def _draw(self) -> None:
        height = self.size.height
        lines = [self._line(at) for at in range(self._top, min(len(self._rows), self._top + height))]
        lines += [[]] * (height - len(lines))
        self.draw(lines)

    def _line(self, at: int) -> Line:
        row, here = self._rows[at], at == self._at
        ground = " on-selected b" if here and self.has_focus else " b" if here else ""
        glyph, style = GLYPHS[row.mark]
        words = "muted" if row.mark == "out" else ""
        caption = printable(row.caption[:400]) or ("left out" if row.mark == "out" else "")
        width = self.size.width - cell_len(row.label) - 8
        return [
            ("▌" if here else " ", f"accent{ground}"),
            (f"{glyph} ", f"{style}{ground}"),
            (f"{row.label}  ", f"{words or 'muted'}{ground}" if not here else ground),
            (f"{cut(caption, width)} ", f"{words}{ground}"),
            (self._thumb(at), "rule"),
        ]

    def _thumb(self, at: int) -> str:
        """The scroll bar beside a row; blank if there is nothing to scroll."""
        height, total = self.size.height, len(self._rows)
        if total <= height:
            return " "
        length = max(1, height * height // total)
        first = round((height - length) * self._top / (total - height))
        return "┃" if first <= at - self._top < first + length else " "


class CaptionList(CaptionRows):
    """The review's list: letters are commands for the current image or for all."""

    BINDINGS = [
        Binding("up,k", "screen.move(-1)", "Image above", show=False),
        Binding("down,j", "screen.move(1)", "Image below", show=False),
        Binding("home,g", "screen.move(-100000)", "First", show=False, id="captions.first", tooltip="First image"),
        Binding("end,G", "screen.move(100000)", "Last", show=False, id="captions.last", tooltip="Last image"),
        Binding("enter,i", "screen.type", "Type", key_display="enter", id="captions.type", tooltip="Type the caption"),
        Binding("space", "screen.reviewed", "Reviewed", show=False, id="captions.reviewed",
                tooltip="Mark as reviewed or not, and go to the next"),
        Binding("u", "screen.next_without", "Empty", id="captions.empty", tooltip="Next image without a caption"),
        Binding("slash", "screen.filter", "Filter", key_display="/", id="captions.filter"),
        Binding("r", "screen.replace", "Replace", id="captions.replace", tooltip="Find and replace"),
        Binding("c", "screen.caption_one", "Caption", id="captions.caption", tooltip="Generate this caption"),
        Binding("C", "screen.caption_many", "Caption many", show=False, id="captions.caption-many",
                tooltip="Generate missing captions, or more"),
        Binding("x", "screen.leave_out", "Out", id="captions.leave-out", tooltip="Leave out, or include again"),
        Binding("U,ctrl+z", "screen.undo", "Undo", key_display="U", id="captions.undo",
                tooltip="Undo the last change"),
        Binding("ctrl+y", "screen.redo", "Redo", show=False, id="captions.redo"),
        Binding("p", "screen.frame", "Prefix", show=False, id="captions.prefix", tooltip="Prefix and suffix of all"),
        Binding("w", "screen.fix", "Fix", show=False, id="captions.mend", tooltip="Do what the remark proposes"),
        Binding("l", "screen.earlier", "Earlier", show=False, id="captions.earlier",
                tooltip="Take over the captions of the previous draft"),
        Binding("z", "screen.zoom", "Zoom", show=False, id="captions.zoom", tooltip="Show the image large, or not"),
        Binding("1", "screen.phrase(1)", "Phrase", show=False, id="captions.phrase", key_display="1…9",
                tooltip="Add a saved phrase; ctrl+t shows and edits them"),
        *(Binding(str(n), f"screen.phrase({n})", "Phrase", show=False) for n in range(2, 10)),
    ]  # fmt: skip


def labels(names: Sequence[str], width: int) -> dict[str, str]:
    """Image names as the list shows them: of equal width, short, distinguished by their ends."""
    files = [printable(name.rpartition("/")[2]) for name in names]
    stems = [file.rpartition(".")[0] or file for file in files]
    # Suffixes are only needed if two names differ in nothing else.
    shown = stems if len(set(stems)) == len(stems) else files
    if max((cell_len(text) for text in shown), default=0) > width and len(shown) > 1:
        # Cameras begin every name with the same letters: leave these out.
        same = common_start(min(shown), max(shown))
        shown = [f"…{text[same:]}" for text in shown] if same > 1 else shown
    widest = min(width, max((cell_len(text) for text in shown), default=0))
    return {name: _shortened(text, widest) for name, text in zip(names, shown, strict=True)}


def common_start(one: str, other: str) -> int:
    """The number of characters at the start that both share."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shortened(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return cut(text, width)
    end = text[-(width - 5) :]
    while cell_len(end) > width - 5:
        end = end[1:]
    return cut(f"{set_cell_size(text, 4).rstrip()}…{end}", width)
