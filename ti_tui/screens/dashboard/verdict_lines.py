"""The text of the dashboard about learning: gain, verdict, advice. Pure functions, as in `lines`."""

from __future__ import annotations

from ti_tui.formatting import percent, printable
from ti_tui.run.history import RunHistory
from ti_tui.run.verdicts import Cause, Verdict
from ti_tui.widgets.canvas import Line, Piece, marked

MARKS = {
    "learning": ("·", "muted"),
    "learned": ("✓", "success"),
    "overtraining": ("!", "warning"),
    "not learning": ("!", "warning"),
    "diverging": ("!", "error"),
}
WORDS = {"learning": "still learning"}


def loss(value: float) -> str:
    """A loss with four decimal places; those of a run that diverged as powers of ten."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.2e}"


def summary(history: RunHistory, *, wide: bool) -> list[Piece]:
    """The eval loss, the gain and the verdict in short, for the head of the dashboard."""
    if not history.evaluations:
        return []
    last = history.evaluations[-1]
    pieces: list[Piece] = [("  eval ", "muted"), (f"{loss(last.loss)} ", "chart-eval b")]
    if last.step and (text := percent(last.gain, last.gain_error if wide else None, sign=True)):
        worse = (last.gain or 0.0) < 0
        pieces += [("gain ", "muted")] if wide else []
        pieces.append((f"{text} ", "warning" if worse else ""))
    if history.verdict is not None:
        mark, style = MARKS[history.verdict.name]
        pieces.append((f"  {mark} {WORDS.get(history.verdict.name, history.verdict.name)}", style))
    return pieces


def advice(verdict: Verdict, best: int | None, *, going: bool, ends_itself: bool) -> str:
    """What to do about a verdict."""
    best_text = f"the best checkpoint is step {best}" if best is not None else ""
    match verdict.name:
        case "learned" | "overtraining" if going and ends_itself:
            return best_text
        case "learned":
            return f"more steps refine it at most; {best_text}" if best_text else "more steps would refine it at most"
        case "overtraining":
            return f"use an earlier one: {best_text}" if best_text else "lower the rates, or use fewer vectors"
        case "not learning" if verdict.cause is Cause.RATE_TOO_LOW:
            return "raise the rates (e)" if going else "raise the rates"
        case "diverging":
            return "divide the rates by ten and start again: x stops" if going else "divide the rates by ten"
    return ""


def lines(history: RunHistory, width: int, *, going: bool, ends_itself: bool = False, most: int = 3) -> list[Line]:
    """The verdict with its reason and advice, in at most `most` lines; none while it is still learning."""
    verdict = history.verdict
    if verdict is None or not verdict.ends:
        return []
    mark, style = MARKS[verdict.name]
    text = f"{verdict.name} at step {verdict.step}: {printable(verdict.reason)}"
    if todo := advice(verdict, history.best_step, going=going, ends_itself=ends_itself):
        text += f". {todo[0].upper()}{todo[1:]}."
    return marked(f"{mark} ", text, style, width - 4, most=most)
