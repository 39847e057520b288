"""Settings of another trainer in the wizard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.screens.driving import drive, type_text, until, words
from ti_tui.screens.wizard.screen import WizardScreen

pytestmark = pytest.mark.usefixtures("card")


@pytest.fixture
def settings_file(tmp_path: Path, photographs: Path) -> Path:
    path = tmp_path / "old run.json"
    values = {
        "pretrained_model_name_or_path": "owner/model", "train_data_dir": str(photographs), "token_string": "zkz",
        "init_word": "woman", "epoch": 2, "train_batch_size": 2, "learning_rate": 0.01, "caption_dropout_rate": 0.1,
        "sample_prompts": "zkz [at] sea",
    }  # fmt: skip
    path.write_text(json.dumps(values))
    return path


def test_settings_given_as_photographs_fill_in_the_draft(home: Path, settings_file: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await type_text(pilot, str(settings_file))
        await until(pilot, lambda: "Import old run.json?" in words(pilot))
        assert "Left out: caption_dropout_rate" in words(pilot)
        await pilot.press("t")
        await until(pilot, lambda: "left out: captions are never dropped" in words(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "Import old run.json?" in words(pilot))
        await pilot.press("u")
        await until(pilot, lambda: "to train" in words(pilot))
        screen = pilot.app.screen
        assert isinstance(screen, WizardScreen)
        assert screen.draft.photographs == str(photographs)
        assert screen.draft.value("embedding.token") == "zkz"
        assert screen.draft.value("sample.prompts") == ["[name] [at] sea"]
        assert sum(segment.steps for segment in screen.draft.segments) > 0

    drive(steps)


def test_a_picked_file_that_holds_no_settings_says_so(home: Path) -> None:
    (home / "x.json").write_text("{}")

    async def steps(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        assert isinstance(screen, WizardScreen)
        assert "Import settings" in [command.title for command in pilot.app.get_system_commands(screen)]
        screen.import_settings()
        await until(pilot, lambda: "Settings of another trainer" in words(pilot))
        await pilot.press("end", "space")
        await until(pilot, lambda: any("of a known trainer" in note.message for note in pilot.app._notifications))

    drive(steps)
