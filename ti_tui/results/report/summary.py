"""The head of the report: state, verdict and key figures."""

from __future__ import annotations

from ti_tui.formatting import clock, number, percent, seconds, start_in_words
from ti_tui.results.outcome import DAY, Outcome, ResultFiles, decimal, pace_in_words, reason_in_words
from ti_tui.results.ranking import why_best
from ti_tui.results.report.chart import LOOKS
from ti_tui.results.report.markup import Html, tag
from ti_tui.run.hardware import GIB
from ti_tui.run.recipe import RunFile
from ti_tui.run.verdicts import VerdictName

MEANINGS: dict[VerdictName, tuple[str, str]] = {
    VerdictName.LEARNING: ("Still learning", "More steps may bring more."),
    VerdictName.LEARNED: ("Learned", "More steps refine it at most."),
    VerdictName.OVERTRAINING: ("Overtrained", "Take the best checkpoint, not the last."),
    VerdictName.NOT_LEARNING: ("Not learning", "The vectors are about as good as the initial ones."),
    VerdictName.DIVERGING: ("Diverging", "Lower the rates by ten and start again."),
}
"""Heading of each verdict, and what to do."""
STATES = {
    "done": "trained to its end",
    "stopped": "stopped",
    "failed": "failed",
    "not started": "never started",
}


def head(outcome: Outcome, recipe: RunFile, files: ResultFiles) -> Html:
    """Title, state, verdict and key figures."""
    embedding = recipe.embedding
    vectors = number(embedding.vectors, "vector")
    start = start_in_words(embedding.init, embedding.start)
    about = f"{vectors} from {start}, on {_last_part(recipe.model.base)}"
    return tag(
        "header",
        tag("p", "Textual inversion, run ", tag("b", outcome.folder.name), class_="over"),
        tag("h1", embedding.token),
        tag("p", about, class_="under"),
        _state(outcome),
        _verdict(outcome, start),
        tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in _figures(outcome, files)]),
    )


def state_in_words(outcome: Outcome) -> str:
    """`trained to its end: 120 steps in 30 s`."""
    steps = number(outcome.step, "step")
    if outcome.step < outcome.total_steps:
        steps = f"step {outcome.step} of {outcome.total_steps}"
    if outcome.phase == "done" and outcome.step < outcome.total_steps:
        state = "ended before its last step"
    else:
        state = STATES.get(outcome.phase, "being trained" if outcome.going else outcome.phase)
    if not outcome.step:
        return f"{state}: before the first step"
    took = f" in {seconds(outcome.seconds)}" if outcome.seconds is not None else ""
    return f"{state}: {steps}{took}"


def verdict_time(outcome: Outcome) -> str:
    """`at step 100, 2026-03-12 14:03`."""
    assert outcome.verdict is not None
    t = outcome.outline.verdict_times.get(outcome.verdict.step)
    return f"at step {outcome.verdict.step}" + (f", {clock(t, DAY)}" if t is not None else "")


def _state(outcome: Outcome) -> Html:
    said = state_in_words(outcome)
    parts: list[object] = [tag("b", said.partition(":")[0][:1].upper() + said.partition(":")[0][1:])]
    parts.append(f":{said.partition(':')[2]}.")
    if outcome.going:
        parts.append(f" This page shows the run as of {clock(outcome.outline.history.last_t or 0.0)}.")
    made = [tag("p", parts, class_="state")]
    if outcome.phase in {"failed", "stopped"} and outcome.message:
        made.append(tag("p", outcome.message, class_="said bad" if outcome.phase == "failed" else "said"))
    return tag("div", made)


def _verdict(outcome: Outcome, start: str) -> Html:
    verdict = outcome.verdict
    if verdict is None:
        why = "A verdict takes a few evaluations."
        if outcome.evaluation is None:
            why = "Without evaluations nothing can be said about what was learned ([evaluation] in run.toml)."
        return tag("div", tag("h2", "No verdict"), tag("p", why), class_="verdict none")
    name, meaning = MEANINGS[verdict.name]
    if verdict.name == "overtraining" and outcome.best_step is None:
        meaning = "Lower the rates, or take fewer vectors."
    reason = reason_in_words(outcome, start)
    look = LOOKS.get(verdict.name, "bad")
    return tag(
        "div",
        tag("h2", tag("span", _SIGNS[look], aria_hidden="true", class_="sign"), f" {name}"),
        tag("p", f"{reason[:1].upper()}{reason[1:]}."),
        tag("p", f"Given {verdict_time(outcome)}. {meaning}", class_="when"),
        class_=f"verdict {look}",
    )


_SIGNS = {"good": "✓", "neutral": "…", "bad": "!"}


def _figures(outcome: Outcome, files: ResultFiles) -> list[tuple[str, object]]:
    found, history = outcome.evaluation, outcome.outline.history
    figures: list[tuple[str, object]] = []
    if outcome.gain is not None:
        error = found.gain_error if found is not None else None
        figures.append(("gain, training images", percent(outcome.gain, error)))
    if found is not None and found.held_gain is not None:
        figures.append(("gain, held-out images", percent(found.held_gain, found.held_gain_error)))
    if outcome.best_step is not None:
        below = why_best(history, brief=True) if files.best is not None else "its file is gone"
        figures.append(("best checkpoint", [f"step {outcome.best_step}", tag("small", below) if below else None]))
    if found is not None and outcome.gain is None:
        figures.append(("eval loss", decimal(found.loss)))
    if outcome.seconds_per_step is not None:
        figures.append(("time per step", pace_in_words(outcome.seconds_per_step)))
    if outcome.peak_bytes:
        device = str(history.plan.get("device_name") or history.plan.get("device") or "")[:40]
        figures.append(("peak memory", [f"{outcome.peak_bytes / GIB:.1f} GiB", tag("small", device)]))
    return figures


def _last_part(model: str) -> str:
    """A model's short name: without its folder and file ending."""
    name = model.rstrip("/").rpartition("/")[2] or model
    return name.removesuffix(".safetensors").removesuffix(".ckpt")
