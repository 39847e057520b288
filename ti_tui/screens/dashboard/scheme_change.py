"""The dialog that changes the remaining learning rates of a run."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Input

from ti_tui.run.scheme import Scheme, SchemeError, format_scheme, parse
from ti_tui.screens.dialogs import FormDialog
from ti_tui.widgets.canvas import Canvas, marked
from ti_tui.widgets.chart import scheme_chart


class SchemeChange(FormDialog[str | None]):
    """Returns the text of the remaining rates, or None."""

    def __init__(self, scheme: Scheme, step: int) -> None:
        super().__init__(
            f"Learning rates from step {step} on",
            "rate:steps pairs, each for N steps. The steps trained so far are kept.",
            keys="enter change   esc back",
        )
        self._scheme, self._step = scheme, step
        self._before = format_scheme(scheme.segments_after(step))
        self._typed = self._before or "0.001:500"

    def body(self) -> ComposeResult:
        yield Input(self._typed, compact=True, select_on_focus=False)
        yield Canvas(id="total")
        yield Canvas(id="curve")

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

    def on_input_changed(self, event: Input.Changed) -> None:
        self._typed = event.value
        self.show_outcome()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            self._changed(event.value)
        except SchemeError:
            return
        # An unchanged text makes no request.
        self.dismiss(event.value if event.value.strip() != self._before else None)

    def _changed(self, text: str) -> Scheme:
        """The scheme with the rates of `text` from here on. Raises SchemeError."""
        return self._scheme.continued(self._step, parse(text, "for").segments)

    def show_outcome(self) -> None:
        total, curve = self.query_one("#total", Canvas), self.query_one("#curve", Canvas)
        try:
            scheme = self._changed(self._typed)
        except SchemeError as error:
            text = f"{error.message}. {error.remedy}".strip()
            total.draw(marked("! ", text, "error", max(20, total.size.width - 2)))
            curve.draw([])
            return
        more = scheme.total_steps - self._scheme.total_steps
        change = f"{more:+d}" if more else "as many as before"
        total.draw([[(f"{scheme.total_steps} steps in all", "b"), (f", {change}", "muted")]])
        width = min(curve.size.width, 100)
        if width >= 20:
            curve.draw(scheme_chart(scheme, width, 10, marks=[self._step]))
