"""What stands to the right of a field, and in the plan and the receipt, about where the vectors start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import MakeRun
from ti_tui.cli import cli
from ti_tui.formatting import start_in_words
from ti_tui.run.file import load
from ti_tui.setup.check import check_run
from ti_tui.setup.draft import Draft
from ti_tui.setup.explain import note
from ti_tui.setup.fields import field
from ti_tui.setup.findings import Findings


def note_of(make_run: MakeRun, **fields: Any) -> str:
    """The note of `embedding.start` for a draft with these fields of `embedding`."""
    settings = {f"embedding.{key}": value for key, value in fields.items()}
    checked = check_run(make_run(**{**settings, "embedding.start": "words"}))
    return note("embedding.start", Draft(fields=dict(settings)), Findings(checked=checked))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"init": "woman"}, "all vectors are copies of the one token"),
        ({"init": "red cat"}, "every vector is one of 2 tokens"),
        ({"init": "red cat", "start": "mean"}, "every vector is the mean of the 2 tokens"),
        ({"init": "woman", "start": "cross"}, "a norm many times that of a word"),
        ({"init": "woman", "start": "cross", "norm": "match"}, "its direction, with the norm of a word"),
        ({"init": "", "start": "mean"}, ""),
    ],
)
def test_the_start_says_what_it_comes_to(make_run: MakeRun, fields: dict[str, str], says: str) -> None:
    assert note_of(make_run, **fields) == says


def test_the_start_is_an_advanced_choice_of_the_form() -> None:
    spec = field("embedding.start")
    assert (spec.kind, spec.choices, spec.default, spec.basic) == ("choice", ("words", "mean", "cross"), "words", False)


def test_the_plan_says_where_the_vectors_start(make_run: MakeRun) -> None:
    folder = make_run(**{"embedding.init": "red cat", "embedding.start": "mean"})
    outcome = CliRunner().invoke(cli, ["plan", str(folder.root)])
    assert outcome.exit_code == 0 and 'zkz: 2 vectors from the mean of "red cat"' in outcome.output


def test_init_takes_the_start_as_any_other_field(tmp_path: Path, photos: Path, models: dict[str, Path]) -> None:
    words = ["init", tmp_path / "run", "--images", photos, "--model", models["sd1"], "--token", "zkz"]
    given = [*map(str, words), "--init", "woman", "--set", "embedding.start=cross"]
    outcome = CliRunner().invoke(cli, given)
    assert outcome.exit_code == 0, outcome.output
    assert load(tmp_path / "run" / "run.toml").embedding.start == "cross"


def test_each_start_has_its_words() -> None:
    assert start_in_words("", "words") == "random vectors"
    assert start_in_words("woman", "words") == '"woman"'
    assert start_in_words("woman", "cross") == 'the text encoder\'s output for "woman"'


def test_with_captions_the_template_that_uses_them_is_proposed_until_another_is_chosen() -> None:
    draft = Draft(photographs="~/photos", captioned=True)
    assert draft.value("dataset.template") == "captions" and not draft.changed("dataset.template")
    assert draft.values()["dataset"] == {"template": "captions"}
    assert note("dataset.template", draft, Findings()).startswith("proposed, since there are captions")
    draft.set("dataset.template", "object")
    assert draft.values()["dataset"] == {"template": "object"} and draft.changed("dataset.template")
    assert not Draft(photographs="~/photos").values()
