"""The dialog that changes the remaining learning rates of a run."""

from __future__ import annotations

import contextlib

from textual.app import ComposeResult

from ti_tui.run.scheme import Scheme, SchemeError, format_scheme, parse
from ti_tui.screens.dialogs import FormDialog
from ti_tui.widgets.canvas import Canvas, marked
from ti_tui.widgets.chart import scheme_chart
from ti_tui.widgets.controls import EditingFinished, TextLine

_KEPT = " The steps trained so far are kept."
_SMOOTH = " They replace the rest of the curve, here by its mean rates."


class SchemeChange(FormDialog[str | None]):
    """Returns the text of the remaining rates, or None."""

    def __init__(self, scheme: Scheme, step: int) -> None:
        super().__init__(
            f"Learning rates from step {step} on",
            "rate:steps pairs, each for N steps." + (_SMOOTH if scheme.shape in {"cosine", "linear"} else _KEPT),
            keys="enter change   esc back",
        )
        self._scheme, self._step = scheme, step
        self._before = format_scheme(scheme.proposal_after(step))

    def body(self) -> ComposeResult:
        yield TextLine(self._before or "0.001:500")
        yield Canvas(id="total")
        yield Canvas(id="curve")

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        with contextlib.suppress(SchemeError):
            self._changed()
            text = self.query_one(TextLine).value
            # An unchanged text makes no request.
            self.dismiss(text if text.strip() != self._before else None)

    def _changed(self) -> Scheme:
        """The scheme with the rates that are typed from here on. Raises SchemeError."""
        return self._scheme.continued(self._step, parse(self.query_one(TextLine).value, "for").segments)

    def show_outcome(self) -> None:
        total, curve = self.query_one("#total", Canvas), self.query_one("#curve", Canvas)
        try:
            scheme = self._changed()
        except SchemeError as error:
            text = error.sentence
            total.draw(marked("! ", text, "error", max(20, total.size.width - 2)))
            curve.draw([])
            return
        more = scheme.total_steps - self._scheme.total_steps
        change = f"{more:+d}" if more else "as many as before"
        total.draw([[(f"{scheme.total_steps} steps in all", "b"), (f", {change}", "muted")]])
        width = min(curve.size.width, 100)
        if width >= 20:
            curve.draw(scheme_chart(scheme, width, 10, marks=[self._step]))
