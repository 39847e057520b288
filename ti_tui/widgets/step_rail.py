"""The wizard's steps with their states: a rail at the left, or one line on a narrow terminal."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.binding import Binding
from textual.message import Message

from ti_tui.setup.steps import StepId, StepMark, StepState, WizardStep
from ti_tui.widgets.canvas import FocusCanvas, Line, cut

GLYPHS: dict[StepMark, tuple[str, str]] = {
    "done": ("✓", "success"),
    "here": ("●", "accent b"),
    "needs": ("!", "warning b"),
    "ahead": ("·", "muted"),
}


class StepRail(FocusCanvas):
    """Up, down and enter open a step, and so does a click."""

    BINDINGS = [
        Binding("up,k", "move(-1)", "Previous step", show=False),
        Binding("down,j", "move(1)", "Next step", show=False),
        Binding("enter,right", "go", "Go to step", show=False),
    ]

    class Chosen(Message):
        """A step was chosen."""

        def __init__(self, step: StepId) -> None:
            super().__init__()
            self.step = step

    def __init__(self, steps: Sequence[WizardStep], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steps = tuple(steps)
        self._states: tuple[StepState, ...] = ()
        self._cursor = 0
        self.narrow = False

    def show(self, states: Sequence[StepState]) -> None:
        """Show the states of the steps; the cursor goes to the open step."""
        if tuple(state.mark for state in states) != tuple(state.mark for state in self._states):
            self._cursor = next((i for i, state in enumerate(states) if state.mark == "here"), 0)
        self._states = tuple(states)
        self.redraw()

    def action_move(self, by: int) -> None:
        self._cursor = (self._cursor + by) % len(self._steps)
        self.redraw()

    def action_go(self) -> None:
        self.post_message(self.Chosen(self._steps[self._cursor].id))

    def on_click(self, event: events.Click) -> None:
        row = event.y // 2 if not self.narrow else -1
        if 0 <= row < len(self._steps):
            self.post_message(self.Chosen(self._steps[row].id))

    def redraw(self) -> None:
        self.draw([self._short()] if self.narrow else self._long())

    def _long(self) -> list[Line]:
        lines: list[Line] = []
        for index, (step, state) in enumerate(zip(self._steps, self._states, strict=False)):
            glyph, style = GLYPHS[state.mark]
            here = state.mark == "here"
            bar = "▌" if (index == self._cursor if self.has_focus else here) else " "
            words = "b" if here else "" if state.mark == "done" else "muted" if state.mark == "ahead" else ""
            summary = cut(state.summary, max(0, self.size.width - 20)).rstrip()
            lines.append(
                [
                    (f"{bar} ", "accent"),
                    (f"{glyph} ", style),
                    (f"{index + 1} {step.title:<12} ", words),
                    (summary, "warning" if state.mark == "needs" else "muted"),
                ]
            )
            lines.append([(" ", "")])
        return lines

    def _short(self) -> Line:
        line: list[tuple[str, str]] = [(" ", "")]
        for state in self._states:
            glyph, style = GLYPHS[state.mark]
            line.append((glyph, style))
        here = next((i for i, state in enumerate(self._states) if state.mark == "here"), 0)
        if self._states:
            state = self._states[here]
            line += [
                (f"  {here + 1}/{len(self._steps)} ", "muted"),
                (self._steps[here].title, "b"),
                (f"   {state.summary}", "warning" if state.needs else "muted"),
            ]
        return line
