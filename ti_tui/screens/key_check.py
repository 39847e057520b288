"""Checks the [keys] of the settings against the bindings of the app and its screens."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from textual.binding import Binding

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


def key_problems(keys: Mapping[str, str], app: type[BaseApp]) -> list[str]:
    """What is wrong with the [keys] of the settings: unknown ids, and keys that are used twice."""
    owners = (
        app, WizardScreen, DatasetPane, CaptionsPane, SchemePane, CropReview, CaptionReview, CaptionEditor,
        CaptionList, DashboardScreen, CompareScreen, SampleGrid, HealthScreen, LogScreen, TextLine, SegmentTable,
    )  # fmt: skip
    classes = {part for owner in owners for part in owner.__mro__ if part.__module__.startswith("ti_tui.")}
    bindings = [binding for part in classes for binding in vars(part).get("BINDINGS", [])]
    known = {binding.id for binding in bindings if isinstance(binding, Binding) and binding.id}
    wrong = []
    for name in keys:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            wrong.append(
                f"[keys] {name}: there is no key with this id" + (f"; did you mean {near[0]}?" if near else "")
            )
    for key in {key for key in keys.values() if list(keys.values()).count(key) > 1}:
        names = [name for name, bound in keys.items() if bound == key]
        screens = {name.partition(".")[0] for name in names}
        if len(screens) < len(names):
            wrong.append(f"[keys] {key} is used for {' and '.join(names)}: it can only be used for one")
    return wrong
