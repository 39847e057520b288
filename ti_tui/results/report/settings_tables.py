"""The settings of the run: what differs from the defaults, all others, and what `auto` became and why."""

from __future__ import annotations

from ti_tui.results.report.markup import Html, table, tag
from ti_tui.results.run_settings import RunSetting, named_reasons, settings_of
from ti_tui.run.history import RunHistory
from ti_tui.run.recipe import RunFile

MOST_LETTERS = 600
"""Longest text of a value: a list of prompts may be long."""


def settings_section(recipe: RunFile, history: RunHistory) -> Html:
    """The chosen settings first, then all others."""
    settings = settings_of(recipe)
    chosen = [one for one in settings if not one.is_default]
    rest = [one for one in settings if one.is_default]
    parts: list[object] = [
        tag("h3", "Chosen"),
        tag("p", "What differs from the defaults, and what has none.", class_="says"),
        _table(chosen, defaults=True),
    ]
    if history.reasons:
        parts += [
            tag("h3", "Decided by auto"),
            tag("p", "When the trainer last started, on its machine.", class_="says"),
            table(["what", "what it became, and why"], named_reasons(history.reasons)),
        ]
    if history.plan:
        plan = [[name, "not known" if value is None else value] for name, value in history.plan.items()]
        parts.append(tag("details", tag("summary", "The plan in full"), table(["what", "value"], plan)))
    summary = f"The other {len(rest)} settings, all at their defaults"
    parts.append(tag("details", tag("summary", summary), _table(rest, defaults=False)))
    return tag("div", parts)


def _table(settings: list[RunSetting], *, defaults: bool) -> Html:
    rows: list[list[object]] = []
    for one in settings:
        value: list[object] = [tag("code", _cut(one.text))]
        row: list[object] = [tag("code", one.name), value]
        if defaults:
            row.append(tag("code", _cut(one.default)) if one.default else "")
        rows.append([*row, one.help])
    return table(["setting", "value", *(["default"] if defaults else []), "what it is"], rows, class_="settings")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} ..."
