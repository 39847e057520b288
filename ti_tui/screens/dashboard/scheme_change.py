"""Changing the rates ahead of a run that is going."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ti_tui.monitoring.steering import ahead, with_ahead
from ti_tui.run.scheme import Scheme, SchemeError
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.chart import Axis, Curve, chart, nice_axis
from ti_tui.widgets.field_row import wrapped


class SchemeChange(ModalScreen[str | None]):
    """Gives the text of the rates ahead, or None."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Back", show=False)]

    def __init__(self, scheme: Scheme, step: int) -> None:
        super().__init__()
        self._scheme, self._step = scheme, step
        self._before = ahead(scheme, step)
        self._text = self._before or "0.001:500"

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(f"The rates from step {self._step} on", classes="dialog-title", markup=False)
            yield Static(
                "rate:steps pairs, each for N steps. What was trained so far stays.",
                classes="dialog-text",
                markup=False,
            )
            yield Input(self._text, compact=True, select_on_focus=False)
            yield Canvas(id="said")
            yield Canvas(id="curve")
            yield Static("enter changes them   esc back", classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False
        self._show()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._text = event.value
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            with_ahead(self._scheme, self._step, event.value)
        except SchemeError:
            return
        # What was not changed is no request.
        self.dismiss(event.value if event.value.strip() != self._before else None)

    def _show(self) -> None:
        said, curve = self.query_one("#said", Canvas), self.query_one("#curve", Canvas)
        try:
            scheme = with_ahead(self._scheme, self._step, self._text)
        except SchemeError as error:
            parts = wrapped(f"{error.message}. {error.remedy}".strip(), max(20, said.size.width - 2))
            said.draw([[("! " if i == 0 else "  ", "error b"), (part, "error")] for i, part in enumerate(parts)])
            curve.draw([])
            return
        more = scheme.total_steps - self._scheme.total_steps
        change = f"{more:+d} against now" if more else "as many as now"
        said.draw([[(f"{scheme.total_steps} steps in all", "b"), (f", {change}", "muted")]])
        xs, ys = scheme.points()
        x, y = Axis(1, max(2, scheme.total_steps), log=True), nice_axis(min(ys), max(ys), log=True)
        width = min(curve.size.width, 100)
        if width >= 20:
            curve.draw(chart(width, 10, [Curve("rate", xs, ys, "chart-rate")], x, y, marks=[self._step]))
