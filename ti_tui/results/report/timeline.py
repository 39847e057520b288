"""The course of the run: time, pace and memory, warnings and errors, each evaluation in numbers."""

from __future__ import annotations

from ti_tui.formatting import clock, number, percent, seconds
from ti_tui.results.comparison import thinned
from ti_tui.results.outcome import DAY, Outcome, decimal, pace_in_words
from ti_tui.results.report.markup import Html, table, tag
from ti_tui.run.hardware import GIB
from ti_tui.run.history import Notice, RunHistory

MOST_NOTICES = 40
MOST_EVALUATIONS = 50


def facts_section(outcome: Outcome, history: RunHistory) -> Html:
    """Time, pace, memory and the device."""
    plan, rows = history.plan, list[list[object]]()
    began = outcome.status.started if outcome.status is not None else history.started
    if began is not None:
        rows.append(["started", clock(began, DAY)])
    if history.last_t is not None:
        rows.append(["last event" if outcome.going else "ended", clock(history.last_t, DAY)])
    if outcome.seconds is not None:
        sessions = outcome.outline.sessions
        times = f", in {number(sessions, 'session')}" if sessions > 1 else ""
        rows.append(["trained for", f"{seconds(outcome.seconds)}{times}, including loading, evaluations and samples"])
    if outcome.seconds_per_step is not None:
        rows.append(["time per step", f"{pace_in_words(outcome.seconds_per_step)} (median of the last ones)"])
    left = history.left_seconds()
    if outcome.going and left is not None:
        rows.append(["left", f"{seconds(left)} at this pace"])
    if (epoch := history.epoch()) is not None:
        rows.append(["epochs", f"{epoch:.4g} over {number(history.images, 'image')}"])
    if plan:
        rows.append(["device", f"{plan.get('device_name')}, {plan.get('precision')}"])
        rows.append(["batch", f"{plan.get('batch_size')} x {plan.get('accumulation')}"])
    if outcome.peak_bytes:
        predicted = plan.get("predicted_bytes")
        known = isinstance(predicted, int | float) and 0 < predicted < 1e18
        prediction = f" (predicted: {float(predicted or 0) / GIB:.1f} GiB)" if known else ""
        rows.append(["peak memory", f"{outcome.peak_bytes / GIB:.1f} GiB{prediction}"])
    if history.bad_steps:
        rows.append(
            ["losses that were not finite", f"{len(history.bad_steps)}, the last at step {history.bad_steps[-1]}"]
        )
    if not history.warnings and not history.errors:
        rows.append(["warnings, errors", "none"])
    return table(["what", "value"], rows, class_="facts")


def notices_section(history: RunHistory) -> Html | None:
    """Errors, then warnings; only the last ones if there are many. None without any."""
    parts: list[object] = []
    for name, notices in (("error", history.errors), ("warning", history.warnings)):
        if notices:
            parts.append(tag("h3", number(len(notices), name)))
            parts.append(tag("ul", [_notice(one, name) for one in notices[-MOST_NOTICES:]], class_="notices"))
            if len(notices) > MOST_NOTICES:
                parts.append(tag("p", f"Only the last {MOST_NOTICES} are shown.", class_="says"))
    return tag("div", parts) if parts else None


def evaluations_section(history: RunHistory) -> Html | None:
    """The evaluations in numbers, as drawn in the charts; None without any."""
    found = {one.step: one for one in history.evaluations}
    if not found:
        return None
    shown = thinned(list(found), MOST_EVALUATIONS, keep=(history.best_step,))
    rows: list[list[object]] = [
        [
            step,
            decimal(found[step].loss),
            percent(found[step].gain, found[step].gain_error),
            percent(found[step].held_gain, found[step].held_gain_error),
            decimal(found[step].length, 2),
            decimal(found[step].rank, 1),
            percent(found[step].follows),
        ]
        for step in shown
    ]
    heads = ["step", "eval loss", "gain", "held out", "norm", "effective rank", "prompt-following"]
    used = [place for place in range(len(heads)) if any(row[place] != "" for row in rows)]
    made = table([heads[i] for i in used], [[row[i] for i in used] for row in rows], numbers=set(range(len(used))))
    some = f", {len(shown)} of them" if len(shown) < len(found) else ""
    return tag("details", tag("summary", f"The evaluations in numbers{some}"), made)


def _notice(notice: Notice, look: str) -> Html:
    when = tag("span", f"step {notice.step}, {clock(notice.t)}", class_="quiet")
    return tag("li", when, " ", notice.message, class_=look)
