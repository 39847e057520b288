"""The table of a scheme's segments: rate and steps can be edited; the other columns follow from them."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding
from textual.message import Message

from ti_tui.run.scheme import SchemeError, Segment
from ti_tui.widgets.canvas import FocusCanvas, Line

TYPED = frozenset("0123456789.e-")


class SegmentTable(FocusCanvas):
    """Arrows move, typing changes the cell, enter accepts it; + adds a row, delete removes one."""

    BINDINGS = [
        Binding("up,k", "move(-1,0)", "Up", show=False),
        Binding("down,j", "move(1,0)", "Down", show=False),
        Binding("left,h", "move(0,-1)", "Left", show=False),
        Binding("right,l", "move(0,1)", "Right", show=False),
        Binding("plus,insert,a", "add", "Add a row", key_display="+", id="scheme.add"),
        Binding("delete,d", "remove", "Delete the row", key_display="del", id="scheme.delete"),
        Binding("enter", "keep", "Accept", show=False),
        Binding("escape", "drop", "Discard", show=False),
        Binding("backspace", "erase", "Erase", show=False),
    ]

    class Changed(Message):
        """The segments have changed."""

        def __init__(self, segments: tuple[Segment, ...]) -> None:
            super().__init__()
            self.segments = segments

    class Finished(Message):
        """Enter was pressed with nothing typed."""

    def __init__(self, segments: Sequence[Segment], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.segments = tuple(segments)
        self.typed: str | None = None
        self.problem = ""
        self._at = (0, 0)
        self.seconds_per_step: float | None = None
        self.most_rows = 12

    def show(self, segments: Sequence[Segment]) -> None:
        if tuple(segments) == self.segments:
            return
        self.segments = tuple(segments)
        self._at = (min(self._at[0], len(self.segments) - 1), self._at[1])
        self.typed, self.problem = None, ""
        self.redraw()

    def action_move(self, rows: int, columns: int) -> None:
        self._take()
        row = min(max(self._at[0] + rows, 0), len(self.segments) - 1)
        self._at = (row, min(max(self._at[1] + columns, 0), 1))
        self.redraw()

    def action_add(self) -> None:
        self._take()
        row = self._at[0]
        here = self.segments[row]
        new = Segment(float(f"{here.learning_rate / 2:.3g}"), here.steps)
        self._at = (row + 1, 0)
        self._change((*self.segments[: row + 1], new, *self.segments[row + 1 :]))

    def action_remove(self) -> None:
        self.typed = None
        if len(self.segments) == 1:
            self.problem = "A scheme needs at least one row."
            self.redraw()
            return
        row = self._at[0]
        self._at = (min(row, len(self.segments) - 2), self._at[1])
        self._change((*self.segments[:row], *self.segments[row + 1 :]))

    def action_keep(self) -> None:
        if self.typed is None:
            self.post_message(self.Finished())
        elif self._take():
            row, column = self._at
            self._at = (row, 1) if column == 0 else (min(row + 1, len(self.segments) - 1), 0)
            self.redraw()

    def action_drop(self) -> None:
        if self.typed is None:
            # Nothing to discard: let the screen handle escape.
            raise SkipAction
        self.typed, self.problem = None, ""
        self.redraw()

    def action_erase(self) -> None:
        self.typed = (self.typed if self.typed is not None else self._cell(*self._at))[:-1]
        self.redraw()

    def on_key(self, event: events.Key) -> None:
        # "e" and "-" occur in numbers such as 5e-4, but do not start one.
        starts = event.character is not None and event.character in "0123456789."
        goes_on = self.typed is not None and event.character in TYPED
        if event.character and (starts or goes_on):
            event.stop()
            event.prevent_default()
            self.typed = (self.typed or "") + event.character
            self.problem = ""
            self.redraw()

    def on_blur(self) -> None:
        self._take()

    def _cell(self, row: int, column: int) -> str:
        segment = self.segments[row]
        return repr(segment.learning_rate) if column == 0 else str(segment.steps)

    def _take(self) -> bool:
        """Put what was typed into the cell; False, with the reason shown, if it is invalid."""
        if self.typed is None:
            return True
        row, column = self._at
        here = self.segments[row]
        try:
            if column == 0:
                new = Segment(float(self.typed), here.steps)
            else:
                new = Segment(here.learning_rate, int(self.typed))
        except (ValueError, SchemeError):
            expected = "a number above 0" if column == 0 else "a whole number from 1 to 1000000"
            self.problem = f"{self.typed!r} is not {expected}."
            self.typed = None
            self.redraw()
            return False
        self.typed, self.problem = None, ""
        self._change((*self.segments[:row], new, *self.segments[row + 1 :]))
        return True

    def _change(self, segments: tuple[Segment, ...]) -> None:
        self.problem = ""
        if segments != self.segments:
            self.segments = segments
            self.post_message(self.Changed(segments))
        self.redraw()

    def redraw(self) -> None:
        from ti_tui.formatting import seconds

        lines: list[Line] = [[("  #    rate        steps      from        to", "muted")]]
        done = 0
        first = max(0, min(self._at[0] - self.most_rows // 2, len(self.segments) - self.most_rows))
        for index, segment in enumerate(self.segments):
            if not first <= index < first + self.most_rows:
                done += segment.steps
                continue
            texts = [f"{segment.learning_rate:g}", str(segment.steps)]
            line: list[tuple[str, str]] = [(f"  {index + 1:<3}", "muted")]
            for column, text in enumerate(texts):
                here = self.has_focus and self._at == (index, column)
                shown = f"{self.typed}▏" if here and self.typed is not None else text
                width = 10 if column == 0 else 9
                style = "accent b on-selected" if here else ""
                line.append((f" {shown:<{width}} " if column == 0 else f" {shown:>{width}} ", style))
            line.append((f" {done:>8}  {done + segment.steps:>8}", "muted"))
            if self.seconds_per_step:
                line.append((f"   {seconds(segment.steps * self.seconds_per_step):>8}", "muted"))
            done += segment.steps
            lines.append(line)
        if len(self.segments) > self.most_rows:
            lines.append([(f"       rows {first + 1} to {first + self.most_rows} of {len(self.segments)}", "muted")])
        if self.problem:
            lines.append([(f"  ! {self.problem}", "error")])
        self.draw(lines)
