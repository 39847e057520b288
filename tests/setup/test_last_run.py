"""The next run begins with the settings of the last one, whatever stands in the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeRun
from ti_tui import settings
from ti_tui.setup.draft import Draft
from ti_tui.setup.last_run import proposed_draft, remember

VALUES: dict[str, dict[str, Any]] = {
    "model": {"base": "/data/models/a.safetensors"},
    "embedding": {"token": "zkz", "init": "woman", "vectors": 8},
    "dataset": {"resolution": 768, "images": "img"},
    "scheme": {"segments": [{"learning_rate": 0.01, "steps": 300}]},
    "save": {"install_to": ""},
}


def test_model_scheme_and_directories_are_proposed_and_what_is_the_subjects_is_not() -> None:
    assert proposed_draft() == Draft()
    remember(Path("/data/runs/zkz"), VALUES, chosen=True)
    draft = proposed_draft()
    assert draft.fields == {
        "model.base": "/data/models/a.safetensors",
        "dataset.resolution": 768,
        "scheme.segments": [{"learning_rate": 0.01, "steps": 300}],
    }
    assert draft.folder("/elsewhere") == Path("/data/runs/new-run")
    assert draft.like == "zkz" and settings.recent_models() == ["/data/models/a.safetensors"]
    remember(Path("/data/runs/zkz"), VALUES)
    assert proposed_draft().folder("/elsewhere") == Path("/elsewhere/new-run")


def test_what_is_proposed_alone_is_no_draft_to_continue() -> None:
    remember(Path("/data/runs/zkz"), VALUES)
    draft = proposed_draft()
    assert draft.empty
    draft.set("model.base", "/data/models/b.safetensors")
    assert not draft.empty
    assert Draft.from_toml(draft.to_toml()).fields == draft.fields


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "{",
        json.dumps({"model.base": 3, "dataset.resolution": "x", "scheme.segments": ["x"], "name": 1}),
        json.dumps({"scheme.segments": [{"learning_rate": -1, "steps": 0}]}),
        json.dumps({"scheme.segments": [{"learning_rate": {}}], "scheme.shape": ["x"]}),
    ],
)
def test_a_damaged_file_proposes_nothing(content: str) -> None:
    settings.state_folder().mkdir(parents=True)
    (settings.state_folder() / "last-run.json").write_text(content)
    assert proposed_draft() == Draft()


def test_a_run_that_was_made_by_a_test_or_the_demo_is_not_the_last_one(make_run: MakeRun) -> None:
    make_run()
    assert proposed_draft() == Draft()
