"""The tables of a run file and the scheme that they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ti_tui.run.file import from_values
from ti_tui.run.recipe import TABLES, RunFile, SchemeTable
from ti_tui.run.scheme import DEFAULT_SCHEME, Scheme, Segment


def recipe(**scheme: Any) -> RunFile:
    values = {"format": 1, "model": {"base": "m"}, "dataset": {"images": "i"}, "embedding": {"token": "zkz"}}
    return from_values({**values, "scheme": scheme}, Path("run.toml"))


def test_without_a_scheme_a_run_has_the_default() -> None:
    assert recipe().scheme.scheme() == DEFAULT_SCHEME


def test_the_scheme_of_a_run_file_has_its_segments_warm_up_and_shape() -> None:
    segments = [{"learning_rate": 0.1, "steps": 5}, {"learning_rate": 0.01, "steps": 6}]
    run = recipe(segments=segments, warmup_steps=2, shape="cosine")
    assert run.scheme.scheme() == Scheme((Segment(0.1, 5), Segment(0.01, 6)), 2, "cosine")


def test_a_run_with_another_scheme_is_the_same_but_for_it() -> None:
    run, scheme = recipe(), Scheme((Segment(0.1, 5),), 3, "linear")
    changed = run.with_scheme(scheme)
    assert changed.scheme.scheme() == scheme and SchemeTable.from_scheme(scheme) == changed.scheme
    assert changed.model_copy(update={"scheme": run.scheme}) == run
    assert run.scheme.scheme() == DEFAULT_SCHEME, "and the first one stays"


@pytest.mark.parametrize("table", TABLES)
def test_every_field_has_a_description_and_what_a_form_needs(table: str) -> None:
    for info in TABLES[table].model_fields.values():
        assert info.description
        assert isinstance(info.json_schema_extra, dict)
        assert info.json_schema_extra.keys() - {"recorded"} == {"label", "unit", "basic", "path"}


def test_marks_of_a_field_reach_the_form() -> None:
    base, vectors = TABLES["model"].model_fields["base"], TABLES["embedding"].model_fields["vectors"]
    assert base.json_schema_extra == {"label": "Model", "unit": "", "basic": True, "path": True}
    assert isinstance(vectors.json_schema_extra, dict) and vectors.json_schema_extra["path"] is False
    resolution = TABLES["dataset"].model_fields["resolution"]
    assert isinstance(resolution.json_schema_extra, dict) and resolution.json_schema_extra["unit"] == "pixels"
