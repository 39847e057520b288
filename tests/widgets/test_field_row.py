"""A form's row: what an empty line says."""

from __future__ import annotations

import pytest

from ti_tui.screens.wizard.directories import PLACEHOLDERS
from ti_tui.setup.fields import OWN, FieldSpec, recipe_fields
from ti_tui.widgets.controls import TextLine
from ti_tui.widgets.field_row import FieldRow


@pytest.mark.parametrize(
    "spec",
    [spec for spec in (*OWN.values(), *recipe_fields().values()) if spec.name != "scheme.segments"],
    ids=lambda spec: spec.name,
)
def test_an_empty_line_says_whether_it_shows_an_example_or_the_default(spec: FieldSpec) -> None:
    control = FieldRow(spec, "", placeholder=PLACEHOLDERS.get(spec.name, "")).control
    if isinstance(control, TextLine):
        shown = control.placeholder
        assert shown.startswith("e.g. ") or "(default)" in shown
        if spec.kind == "number":
            assert len(shown) <= 15, "it would be cut"
