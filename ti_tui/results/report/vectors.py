"""The health of the learned vectors: findings in sentences, each vector with its norm and nearest words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ti_tui.embeddings.health import Health
from ti_tui.results.report.markup import Html, table, tag
from ti_tui.run.history import RunHistory

FEW = 16
"""Up to this many vectors the table is shown open."""
MOST_WORDS = 5


def vectors_section(history: RunHistory) -> Html | None:
    """The vectors of the last checkpoint; None if the log has nothing about them."""
    found = [
        (health, values)
        for values in history.health
        if (health := Health.from_values(values)) is not None and health.norms
    ]
    if not found:
        return None
    parts: list[object] = [tag("p", f"As they were at step {history.health_step}.", class_="says")]
    for place, (health, values) in enumerate(found):
        if len(found) > 1:
            parts.append(tag("h3", f"Text encoder {place + 1} of {len(found)}"))
        parts.append(_encoder(health, values))
    return tag("div", parts)


def _encoder(health: Health, values: Mapping[str, Any]) -> Html:
    findings = [f"{finding[:1].upper()}{finding[1:]}." for finding in health.findings()]
    said = [tag("li", finding, class_="warn") for finding in findings] or [tag("li", "No problems found.")]
    said += [tag("li", fact) for fact in _facts(health)]
    rows = _rows(health, values)
    made = table(
        ["vector", "norm", "x median word", "cosine to its start", "nearest words, with their cosine"],
        rows,
        numbers={1, 2, 3},
    )
    shown = made if len(rows) <= FEW else tag("details", tag("summary", f"All {len(rows)} vectors"), made)
    return tag("div", tag("ul", said, class_="findings"), shown)


def _facts(health: Health) -> list[str]:
    facts = []
    if times := [one for one in health.times_a_word if math.isfinite(one)]:
        facts.append(f"Their norm is {_span(min(times), max(times))} times that of the median word.")
    if health.mean_cosine is not None and health.closest is not None:
        first, second, cosine = health.closest
        pair = f"at most {cosine:.2f} (vectors {first + 1} and {second + 1})"
        facts.append(f"The cosine between two of them is {health.mean_cosine:.2f} on average, {pair}.")
    # Otherwise a finding gives it.
    if not health.fewer_might_do and health.effective_rank_of_change is not None and len(health.norms) > 1:
        facts.append(f"The effective rank of what was learned is {health.effective_rank_of_change:.1f}.")
    return facts


def _rows(health: Health, values: Mapping[str, Any]) -> list[list[object]]:
    nearest, times = values.get("nearest"), health.times_a_word
    rows: list[list[object]] = []
    for place, norm in enumerate(health.norms):
        words = nearest[place] if isinstance(nearest, list) and place < len(nearest) else []
        cosines = health.start_cosines or ()
        rows.append(
            [
                place + 1,
                _digits(norm, "#.3g"),
                f"{_digits(times[place], '#.2g')} ×" if place < len(times) else "",
                _digits(cosines[place], ".2f") if place < len(cosines) else "",
                [tag("span", str(word), class_="word") for word in words[:MOST_WORDS]]
                if isinstance(words, list)
                else "",
            ]
        )
    return rows


def _digits(value: float, form: str) -> str:
    return format(value, form).rstrip(".") if math.isfinite(value) else "not finite"


def _span(low: float, high: float) -> str:
    first, last = f"{low:.2g}", f"{high:.2g}"
    return first if first == last else f"{first} to {last}"
