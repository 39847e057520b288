"""Filters for captions: words, is:empty, tokens:>60, name:beach; a leading - negates a term."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ti_tui.errors import UserError

CaptionState = Literal["empty", "reviewed", "auto", "changed", "out"]
STATES: tuple[CaptionState, ...] = ("empty", "reviewed", "auto", "changed", "out")
"""Each can be shortened to its first letter."""

_TERM = re.compile(r'(-?)(?:(is|tokens|name):)?(?:"([^"]*)"?|(\S+))?\s*', re.IGNORECASE)
_COUNT = re.compile(r"(<=|>=|<|>|=|)(\d{1,6})")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "": operator.eq, "=": operator.eq, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


class FilterError(UserError):
    """A filter that cannot be understood."""


@dataclass(frozen=True)
class Facts:
    """What a filter needs to know of an image. tokens: counts those of its prompt; called only if needed."""

    name: str
    caption: str
    states: frozenset[CaptionState]
    tokens: Callable[[], int]


Filter = Callable[[Facts], bool]


def parse_filter(text: str) -> Filter:
    """The filter that `text` means; terms are separated by spaces, and all must match. "" matches everything.

    Raises FilterError with what can be written.
    """
    terms: list[tuple[Filter, bool]] = []
    at, text = 0, text.strip()
    while at < len(text):
        found = _TERM.match(text, at)
        # A lone minus, or a half-typed `is:`, filters nothing yet.
        assert found is not None
        at = max(found.end(), at + 1)
        value = found[3] if found[3] is not None else found[4] or ""
        if value:
            terms.append((_term((found[2] or "").lower(), value), not found[1]))
    return lambda facts: all(term(facts) == wanted for term, wanted in terms)


def _term(key: str, value: str) -> Filter:
    folded = value.casefold()
    if key == "is":
        state = next((state for state in STATES if state.startswith(folded)), None)
        if state is None:
            raise FilterError(f"is: takes {', '.join(STATES)}")
        return lambda facts: state in facts.states
    if key == "tokens":
        count = _COUNT.fullmatch(value)
        if count is None:
            raise FilterError("tokens: takes a number, with < or > before it")
        compare, number = _COMPARE[count[1]], int(count[2])
        return lambda facts: compare(facts.tokens(), number)
    if key == "name":
        return lambda facts: folded in facts.name.casefold()
    return lambda facts: folded in facts.caption.casefold() or folded in facts.name.casefold()
