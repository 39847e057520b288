"""Checks the [keys] of the settings against the bindings of the app and its screens."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from textual.binding import Binding
from textual.keys import _character_to_key

from ti_tui.screens.base import BaseApp
from ti_tui.screens.dashboard.health import HealthScreen
from ti_tui.screens.dashboard.log import LogScreen
from ti_tui.screens.dashboard.sample_grid import SampleGrid
from ti_tui.screens.dashboard.samples import CompareScreen
from ti_tui.screens.dashboard.screen import DashboardScreen
from ti_tui.screens.review.captions import CaptionReview
from ti_tui.screens.review.crops import CropReview
from ti_tui.screens.review.editor import CaptionEditor
from ti_tui.screens.review.listing import CaptionList
from ti_tui.screens.wizard.captions import CaptionsPane
from ti_tui.screens.wizard.dataset import DatasetPane
from ti_tui.screens.wizard.scheme import SchemePane
from ti_tui.screens.wizard.screen import WizardScreen
from ti_tui.widgets.controls import TextLine
from ti_tui.widgets.segment_table import SegmentTable

CHAINS: tuple[tuple[type, ...], ...] = (
    (DatasetPane, WizardScreen), (CaptionsPane, WizardScreen), (SegmentTable, SchemePane, WizardScreen),
    (TextLine, WizardScreen), (CropReview,), (CaptionList, CaptionReview), (CaptionEditor, CaptionReview),
    (DashboardScreen,), (SampleGrid, CompareScreen), (HealthScreen,), (LogScreen,),
)  # fmt: skip
"""What can have the focus, with the screen around it: within each, a key can only do one thing."""


def key_problems(keys: Mapping[str, str], app: type[BaseApp]) -> list[str]:
    """What is wrong with the [keys] of the settings: unknown ids, and keys that hide another key or each other."""
    chains = [[binding for owner in (*chain, app) for binding in _bindings(owner)] for chain in CHAINS]
    known = {binding.id for chain in chains for binding in chain if binding.id}
    wrong = []
    for name in keys:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            wrong.append(
                f"[keys] {name}: there is no key with this id" + (f"; did you mean {near[0]}?" if near else "")
            )
    # Once each: many screens share a part of their keys.
    return list(dict.fromkeys([*wrong, *(problem for chain in chains for problem in _conflicts(keys, chain))]))


def _bindings(owner: type) -> list[Binding]:
    """The bindings that a class and its bases in this program define."""
    parts = [part for part in owner.__mro__ if part.__module__.startswith("ti_tui.")]
    return [found for part in parts for found in vars(part).get("BINDINGS", []) if isinstance(found, Binding)]


def _conflicts(keys: Mapping[str, str], bindings: Sequence[Binding]) -> Iterator[str]:
    """The keys that the user has set to something that these bindings use for something else."""
    for bound in bindings:
        if bound.id not in keys:
            continue
        for other in bindings:
            shared = _keys_of(bound, keys) & _keys_of(other, keys)
            if not shared or other.id == bound.id or other.action == bound.action:
                continue
            key = min(shared)
            if other.id in keys:
                names = sorted((str(bound.id), str(other.id)))
                yield f"[keys] {key} is used for {' and '.join(names)}: it can only be used for one"
            else:
                name = f" ({other.id})" if other.id else ""
                remedy = "Choose another key, or give that another one too" if other.id else "Choose another key"
                yield f"[keys] {bound.id} = {key}: there {key} already means {other.description}{name}. {remedy}."


def _keys_of(binding: Binding, keys: Mapping[str, str]) -> set[str]:
    """The keys of a binding, with those of the user, as Textual names them."""
    names = keys.get(binding.id or "", binding.key).split(",")
    return {_character_to_key(name.strip()) if len(name.strip()) == 1 else name.strip() for name in names}
