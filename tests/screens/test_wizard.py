"""The wizard by its keys: each step, the draft, the run that comes out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot
from textual.widgets import OptionList

from tests.fixtures.bad_pictures import Bad
from tests.screens.conftest import four_colours
from tests.screens.driving import at_start, drive, type_text, until, words
from ti_tui.cli import cli
from ti_tui.dataset.crop_boxes import Box, CropChoice
from ti_tui.dataset.picture_quality import measure
from ti_tui.dataset.prepare import prepare
from ti_tui.errors import UserError
from ti_tui.paths import BadPath
from ti_tui.run.file import load
from ti_tui.run.recipe import RunFile
from ti_tui.screens.wizard.model_field import ModelField
from ti_tui.screens.wizard.screen import WizardScreen
from ti_tui.setup.draft import Draft, bad_draft_path, draft_path, load_draft, save_draft
from ti_tui.setup.photographs import SurveySettings, is_person
from ti_tui.widgets.canvas import Canvas

pytestmark = pytest.mark.usefixtures("card")
ODD = "a [v1] (x:1.2) [/b"


def wizard(pilot: Pilot[None]) -> WizardScreen:
    """The wizard's screen."""
    screen = pilot.app.screen
    assert isinstance(screen, WizardScreen)
    return screen


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the draft was judged as it is after the last key."""
    await pilot.pause(0.05)
    await until(pilot, lambda: wizard(pilot).current and not wizard(pilot).checking)
    await pilot.pause(0.05)


async def with_pictures(pilot: Pilot[None], folder: Path) -> None:
    """Type the folder of photographs, and go on to its list; the model is left for later."""
    await type_text(pilot, str(folder))
    await until(pilot, lambda: "to train" in words(pilot) and "checking" not in words(pilot), seconds=120)
    await to_list(pilot)
    await settled(pilot)


async def to_list(pilot: Pilot[None]) -> None:
    """Put the cursor on the list of photographs."""
    pictures = pilot.app.screen.query_one("#pictures", OptionList)
    while not pictures.has_focus:
        await pilot.press("tab")


async def to_problem(pilot: Pilot[None], name: str) -> None:
    """Put the cursor on the receipt's problem of a field."""
    problems = pilot.app.screen.query_one("#problems", OptionList)
    at = next(i for i in range(problems.option_count) if name in str(problems.get_option_at_index(i).prompt))
    problems.focus()
    problems.highlighted = at
    await until(pilot, lambda: problems.has_focus)


async def with_model(pilot: Pilot[None], model: Path) -> None:
    """Type the model, in the first step."""
    await pilot.press("alt+1")
    entry = wizard(pilot).query_one(ModelField).row.entry
    entry.focus()
    await until(pilot, lambda: entry.has_focus)
    await type_text(pilot, str(model))
    await pilot.press("enter")


async def everything(pilot: Pilot[None], photographs: Path, model: Path) -> None:
    """All that must be chosen, up to the receipt."""
    await with_pictures(pilot, photographs)
    await pilot.press("alt+3")
    await until(pilot, lambda: "Class word" in words(pilot))
    await type_text(pilot, "zkz")
    await pilot.press("enter")
    await type_text(pilot, "woman")
    await with_model(pilot, model)
    await pilot.press("alt+6")
    await at_start(pilot)


def test_a_picture_that_is_left_out_is_not_trained(home: Path, photographs: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("down", "space")
        assert "4 images to train, 1 left out" in words(pilot)
        assert "× garden.png" in words(pilot)
        await pilot.press("up", "space", "up", "up", "space")
        await settled(pilot)
        assert wizard(pilot).draft.left_out == {"beach.png"}
        await pilot.press("alt+6", "escape", "alt+3")
        await until(pilot, lambda: "Class word" in words(pilot))
        await type_text(pilot, "zkz")
        await with_model(pilot, model)
        await pilot.press("alt+6")
        await at_start(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))

    drive(steps)
    run = home / "runs" / "zkz"
    assert len(list((run / "img").glob("*/*.png"))) == 4
    assert sorted(path.name for path in photographs.iterdir()) == [
        "beach.png", "garden.png", "garden.txt", "kitchen.png", "portrait.png", "street.png",
    ]  # fmt: skip


def test_captions_are_shown_and_kept_as_they_are_and_the_source_stays_untouched(
    home: Path, photographs: Path, model: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: ODD in words(pilot))
        await pilot.press("right", "right")
        await settled(pilot)
        await pilot.press("tab")
        await pilot.press("enter")
        await until(pilot, lambda: "tokens" in words(pilot))
        await type_text(pilot, f"{ODD} at the beach")
        await pilot.press("enter")
        assert "2 of 5" in words(pilot)
        await pilot.press("ctrl+u", "enter", "escape", "escape")
        await settled(pilot)
        await everything_but_pictures(pilot, model)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))

    drive(steps)
    pictures = home / "runs" / "zkz" / "img" / "1_zkz"
    assert (pictures / "0001.txt").read_text() == f"{ODD} at the beach"
    assert not (pictures / "0002.txt").exists()
    assert (photographs / "garden.txt").read_text() == f"{ODD}], standing in a garden"
    assert not (photographs / "beach.txt").exists()


async def everything_but_pictures(pilot: Pilot[None], model: Path) -> None:
    """Token and model, then the receipt."""
    await pilot.press("alt+3")
    await until(pilot, lambda: "Class word" in words(pilot))
    await type_text(pilot, "zkz")
    await with_model(pilot, model)
    await pilot.press("alt+6")
    await at_start(pilot)


def test_the_wizard_and_init_write_the_same_run_file_byte_for_byte(home: Path, photographs: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))

    drive(steps)
    arguments = ["init", str(home / "runs" / "two"), "--images", str(photographs), "--model", str(model)]
    arguments += ["--token", "zkz", "--init", "woman", "--set", "dataset.template=captions"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    one, two = home / "runs" / "zkz", home / "runs" / "two"
    assert (one / "run.toml").read_bytes() == (two / "run.toml").read_bytes()
    pictures = sorted(path.relative_to(one) for path in one.glob("img/**/*.*"))
    assert pictures == sorted(path.relative_to(two) for path in two.glob("img/**/*.*"))
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in pictures)


def test_nothing_is_written_before_the_last_step_but_the_draft(home: Path, photographs: Path, model: Path) -> None:
    before = sorted(home.rglob("*"))

    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        await pilot.pause(0.8)

    drive(steps)
    assert sorted(home.rglob("*")) == before
    assert draft_path().exists()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_problem_of_the_receipt_leads_to_its_field(
    size: tuple[int, int], home: Path, photographs: Path, model: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("alt+6")
        await until(pilot, lambda: "2 problems to correct" in words(pilot))
        assert "Start training" not in words(pilot) and "enter starts" not in words(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: wizard(pilot).here == "directories")
        await type_text(pilot, "dog")
        await with_model(pilot, model)
        await pilot.press("alt+6")
        await until(pilot, lambda: "already a word of the model" in words(pilot).replace("\n", " "))
        await settled(pilot)
        await to_problem(pilot, "Token")
        await pilot.press("enter")
        await until(pilot, lambda: wizard(pilot).here == "directories")

    drive(steps, size=size)


def test_the_receipt_first_says_what_is_wrong_and_start_waits_until_that_was_passed(
    home: Path, photographs: Path, model: Path
) -> None:
    def focused(pilot: Pilot[None]) -> str:
        return str(pilot.app.focused.id) if pilot.app.focused is not None else ""

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("alt+2")
        await until(
            pilot, lambda: "proposed, since there are captions" in words(pilot) and "(captions)" in words(pilot)
        )
        await pilot.press("alt+3")
        await until(pilot, lambda: "Class word" in words(pilot))
        await type_text(pilot, "zkz")
        await with_model(pilot, model)
        await pilot.press("alt+6")
        await until(pilot, lambda: "Start training" in words(pilot))
        assert focused(pilot) == "problems" and "enter starts" not in words(pilot)
        assert words(pilot).index("! Photographs:") < words(pilot).index("Images  ")
        assert "4 of 5 images have no caption" in words(pilot).replace("\n", " ")
        assert "Result" not in words(pilot)
        await pilot.press("end")
        assert "Result" in words(pilot) and "! Photographs:" not in words(pilot)
        await pilot.press("pageup")
        assert "! Photographs:" in words(pilot)
        await pilot.press("pagedown", "home", "enter")
        await until(pilot, lambda: wizard(pilot).here == "dataset")
        await pilot.press("alt+6")
        await settled(pilot)
        assert focused(pilot) == "problems"
        await pilot.press("tab")
        assert focused(pilot) == "answers" and "enter starts" in words(pilot)
        await pilot.press("end")
        assert "Result" in words(pilot)
        # What was read once need not be passed again; what is new does.
        await pilot.press("ctrl+b", "ctrl+n")
        await settled(pilot)
        assert focused(pilot) == "answers"
        wizard(pilot).draft.put("dataset.resolution", 1024)
        wizard(pilot).check_again()
        await settled(pilot)
        await until(pilot, lambda: focused(pilot) == "problems")

    drive(steps, size=(80, 24))


def test_a_value_that_is_none_is_said_below_its_field_and_kept(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+4")
        await until(pilot, lambda: "Batch size" in words(pilot))
        await pilot.press("tab", "tab")
        await type_text(pilot, "none")
        await pilot.press("enter")
        await settled(pilot)
        assert "'none' is not a whole number from 1 to 75" in words(pilot)
        assert wizard(pilot).draft.mistyped == {"embedding.vectors": "none"}
        await pilot.press("shift+tab", "ctrl+r")
        await settled(pilot)
        assert "is not a whole number" not in words(pilot)
        await type_text(pilot, "8")
        await pilot.press("enter")
        await settled(pilot)
        assert "67 of 75 places left for the prompt" in words(pilot)
        assert "* Vectors" in words(pilot)

    drive(steps)


def test_a_token_is_judged_while_it_is_typed_and_without_a_model(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+3")
        await until(pilot, lambda: "Class word" in words(pilot))
        for token, says in {
            "cat": "'cat' is already a word of the model",
            "📷": "is already a word of the model",
            "z'kz": "is not a letter, a digit, - or _",
            "two words": "'two words' is not one word of letters, digits, - and _",
            **dict.fromkeys(("--help", "(", "z)kz", "AND", "__metadata__"), "no prompt can call"),
        }.items():
            await type_text(pilot, token)
            await until(pilot, lambda says=says: says in words(pilot))  # type: ignore[misc]
            await pilot.press("ctrl+u")
        await type_text(pilot, "zkz")
        await until(pilot, lambda: "not a word of the model" in words(pilot))

    drive(steps)


def test_fields_are_found_by_a_word_of_their_explanation(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+4")
        await until(pilot, lambda: "Batch size" in words(pilot))
        assert "Noise offset" not in words(pilot)
        await pilot.press("ctrl+f")
        await type_text(pilot, "very dark")
        await until(pilot, lambda: "Noise offset" in words(pilot))
        assert "Vectors" not in words(pilot)
        await pilot.press("enter")
        await type_text(pilot, ".05")
        await pilot.press("escape")
        await settled(pilot)
        assert wizard(pilot).draft.fields["training.noise_offset"] == 0.05

    drive(steps)


def test_both_readings_of_a_pasted_scheme_are_shown_and_the_chosen_one_counts(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        await pilot.press("enter", "ctrl+u")
        await type_text(pilot, "0.01:100, 0.001:300")
        await settled(pilot)
        assert "for N steps: 400 in all" in words(pilot)
        assert "until step N: 300 in all" in words(pilot)
        assert "(own)" in words(pilot)
        await pilot.press("enter", "right")
        await settled(pilot)
        segments = wizard(pilot).draft.fields["scheme.segments"]
        assert [segment["steps"] for segment in segments] == [100, 200]
        await pilot.press("shift+tab")
        await type_text(pilot, ", x")
        await settled(pilot)
        assert "`x` is not a number" in words(pilot)

    drive(steps)


def test_the_table_of_segments_can_be_typed_over(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        await pilot.press("enter", "enter", "enter")
        await type_text(pilot, "5e-2")
        await pilot.press("enter")
        await type_text(pilot, "25")
        await pilot.press("enter", "down", "d", "a")
        await settled(pilot)
        segments = wizard(pilot).draft.fields["scheme.segments"]
        assert segments[0] == {"learning_rate": 0.05, "steps": 25}
        assert [segment["steps"] for segment in segments] == [25, 20, 200, 200, 500, 3000]
        assert "0.05:25, 0.02:20, 0.005:200, 0.0025:200" in words(pilot)
        await type_text(pilot, "0")
        await pilot.press("enter")
        assert "is not a number above 0" in words(pilot)

    drive(steps)


def test_the_draft_is_offered_at_the_next_start_with_all_that_was_typed(home: Path, photographs: Path) -> None:
    async def first(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("space", "alt+4")
        await until(pilot, lambda: "Batch size" in words(pilot))
        await pilot.press("tab", "tab")
        await type_text(pilot, "many")
        await pilot.pause(0.9)

    drive(first)
    left = load_draft()
    assert left is not None
    assert left.mistyped == {"embedding.vectors": "many"}
    assert left.left_out == {"beach.png"}

    async def second(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft of" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "many" in words(pilot) and "Batch size" in words(pilot))
        assert wizard(pilot).here == "parameters"
        await pilot.press("alt+1")
        await until(pilot, lambda: "4 images to train, 1 left out" in words(pilot))

    drive(second)

    async def third(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft of" in words(pilot))
        await pilot.press("n")
        await settled(pilot)
        assert not wizard(pilot).draft.photographs

    drive(third)
    assert load_draft() is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[draft]\nleft_out = 3\ncaptions = []\n", b"[[draft]]\n", b"x = "]
)
def test_a_damaged_draft_does_not_keep_the_wizard_from_opening(content: bytes, home: Path) -> None:
    draft_path().parent.mkdir(parents=True)
    draft_path().write_bytes(content)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause(0.2)
        assert "Photographs" in words(pilot)

    drive(steps)


def test_a_run_that_cannot_be_made_says_why_and_loses_nothing(home: Path, photographs: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        (home / "runs" / "zkz").mkdir(parents=True)
        (home / "runs" / "zkz" / "mine.txt").write_text("mine")
        wizard(pilot).draft.run_folder = str(home / "runs" / "zkz")
        await pilot.press("enter")
        await until(pilot, lambda: "exists and is not empty" in words(pilot))
        assert wizard(pilot).draft.fields["embedding.token"] == "zkz"

    drive(steps)
    assert [path.name for path in (home / "runs" / "zkz").iterdir()] == ["mine.txt"]


def test_a_folder_is_picked_with_the_keyboard(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await type_text(pilot, str(home))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "space choose" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "this folder, 5 images" in words(pilot))
        await pilot.press("space")
        await until(pilot, lambda: "5 images to train" in words(pilot))
        assert wizard(pilot).draft.photographs == "~/photos"

    drive(steps)


def test_the_run_file_is_shown_before_it_is_written(home: Path, photographs: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        await pilot.press("v")
        await until(pilot, lambda: "run.toml, as it will be written" in words(pilot))
        assert "format = 1" in words(pilot)
        await pilot.press("escape")
        await at_start(pilot)

    drive(steps)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("size", [(120, 40), (60, 18)])
def test_no_key_breaks_any_step_without_a_draft(size: tuple[int, int], home: Path) -> None:
    keys = ["enter", "space", "tab", "shift+tab", "up", "down", "left", "right", "ctrl+r", "ctrl+t", "escape", "enter",
            "x", "ctrl+u", "backspace", "delete", "question_mark", "escape", "v"]  # fmt: skip

    async def steps(pilot: Pilot[None]) -> None:
        for step in "123456":
            # All at once: after each call the pilot asks every widget, and here are hundreds.
            await pilot.press(f"alt+{step}", *keys)
        await pilot.pause(0.3)

    assert drive(steps, size=size).crash is None


def test_a_mistake_of_ours_is_written_down_and_not_thrown_at_the_person(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake [/b]")

    monkeypatch.setattr("ti_tui.setup.assess.judge", broken)

    async def steps(pilot: Pilot[None]) -> None:
        await type_text(pilot, str(home))
        await until(pilot, lambda: "a mistake [/b]" in words(pilot))

    app = drive(steps)
    assert app.crash is None
    assert "a mistake" in (Path(os.environ["TI_TUI_STATE"]) / "crash.log").read_text()


def test_keys_can_be_bound_anew_by_their_ids(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+n")
        assert wizard(pilot).here == "dataset"
        await pilot.press("ctrl+l")
        assert wizard(pilot).here == "captions"

    drive(steps, keys={"wizard.next": "ctrl+l"})


def test_a_draft_comes_back_from_its_file_as_it_was() -> None:
    draft = Draft(photographs="~/p [1]", class_word="woman", repeats=3, left_out={"a.jpg"}, captions={"b.jpg": ODD})
    draft.forced, draft.crop_all = {os.fsdecode(b"bad\xff.jpg")}, CropChoice("face", framing="waist")
    draft.crops = {"10_x/c.png": CropChoice("manual", Box(0.5, 1.0, 30.25, 30.0)), "d.png": CropChoice("face", face=2)}
    draft.masks, draft.subfolders = "faces", True
    draft.set("embedding.token", "zkz")
    draft.set("training.batch_size", "auto")
    draft.set("save.formats", "safetensors, diffusers")
    draft.put("scheme.segments", [{"learning_rate": 0.1, "steps": 3}])
    save_draft(draft)
    assert load_draft() == draft


def test_a_caption_is_kept_as_it_is_typed_and_stays_with_its_picture(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "with a caption" in words(pilot))
        await pilot.press("tab", "end", "enter")
        await until(pilot, lambda: "tokens" in words(pilot))
        await type_text(pilot, "a long street")
        await pilot.press("escape", "escape")
        await settled(pilot)
        assert wizard(pilot).draft.captions == {"street.png": "a long street"}
        await pilot.press("enter")
        await until(pilot, lambda: "tokens" in words(pilot))
        assert "a long street" in words(pilot)
        await pilot.press("escape", "escape")
        await settled(pilot)
        await pilot.press("ctrl+b")
        await settled(pilot)
        await to_list(pilot)
        await pilot.press("home", "space", "end", "space")
        await settled(pilot)
        await pilot.press("ctrl+n")
        await settled(pilot)
        assert "● street" not in words(pilot)
        assert wizard(pilot).draft.captions == {"street.png": "a long street"}

    assert drive(steps).crash is None


def test_a_search_that_finds_nothing_says_so_and_can_be_left(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+4")
        await until(pilot, lambda: "Batch size" in words(pilot))
        await pilot.press("ctrl+f")
        await type_text(pilot, "zzz")
        await until(pilot, lambda: "no field matches" in words(pilot))
        assert "zzz" in words(pilot)
        await pilot.press("enter", "tab", "ctrl+b", "ctrl+n")
        await until(pilot, lambda: "Batch size" in words(pilot))

    drive(steps)


def test_a_scheme_text_that_cannot_be_read_keeps_the_run_from_starting_and_stays_in_the_draft(
    home: Path, photographs: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        await pilot.press("enter", "ctrl+u")
        await type_text(pilot, "0.05:0")
        await settled(pilot)
        await pilot.press("alt+6")
        await until(pilot, lambda: "Segments: part 1 of the scheme" in words(pilot))
        assert "! 5 LR scheme    needs 1" in words(pilot)
        await pilot.pause(0.8)

    drive(steps)
    left = load_draft()
    assert left is not None
    assert left.mistyped == {"scheme.segments": "0.05:0"}


def test_names_that_are_no_text_do_not_keep_the_draft_from_being_saved() -> None:
    draft = Draft(photographs="~/p", left_out={os.fsdecode(b"bad\xff.jpg")})
    save_draft(draft)
    assert load_draft() == draft


def test_a_draft_that_cannot_be_read_is_kept_aside(home: Path) -> None:
    draft_path().parent.mkdir(parents=True)
    draft_path().write_text("what I typed =")

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "The last draft cannot be read" in words(pilot))

    drive(steps)
    assert bad_draft_path().read_text() == "what I typed ="


def test_a_needed_field_among_the_advanced_ones_is_announced(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+4")
        await until(pilot, lambda: "Batch size" in words(pilot))
        await pilot.press("ctrl+f")
        await type_text(pilot, "training.seed")
        await until(pilot, lambda: "Seed" in words(pilot))
        await pilot.press("enter")
        await type_text(pilot, "x")
        await settled(pilot)
        await pilot.press("ctrl+t")
        await until(
            pilot, lambda: re.search(r"▸ advanced \(\d+\)   1 changed   ! 1 to correct", words(pilot)) is not None
        )

    drive(steps)


def test_a_value_typed_just_before_the_start_is_looked_at_first(home: Path, photographs: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        await settled(pilot)
        await pilot.press("alt+4", "tab", "tab")
        await type_text(pilot, "many")
        await pilot.press("alt+6", "enter")
        await until(pilot, lambda: "'many' is not a whole number" in words(pilot))
        await settled(pilot)
        assert not (home / "runs").exists()

    drive(steps)


def test_a_mistake_while_the_run_is_made_is_said_and_it_can_be_started_again(
    home: Path, photographs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no room [/b]")

    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        with monkeypatch.context() as patch:
            patch.setattr("ti_tui.setup.start.create_run", broken)
            await pilot.press("enter")
            await until(pilot, lambda: "The run could not be made: no room [/b]" in words(pilot))
        await settled(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))

    drive(steps)


def test_a_trainer_that_cannot_be_started_says_why_on_the_dashboard(
    home: Path, photographs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise UserError("the card is gone")

    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        monkeypatch.setattr("ti_tui.setup.start.start_detached", refused)
        await settled(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "but not started: the card is gone" in words(pilot).replace("\n", " "))
        assert "never trained" in words(pilot)

    drive(steps)
    assert load_draft() is None


def test_what_was_left_out_of_one_folder_is_not_left_out_of_another(home: Path, photographs: Path) -> None:
    other = home / "other"
    other.mkdir()
    for path in photographs.glob("*.png"):
        (other / path.name).write_bytes(path.read_bytes())

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("space")
        await until(pilot, lambda: "4 images to train, 1 left out" in words(pilot))
        await pilot.press("shift+tab", "shift+tab", "ctrl+u")
        await type_text(pilot, str(other))
        await until(pilot, lambda: "5 images to train" in words(pilot))
        await pilot.press("ctrl+u")
        await type_text(pilot, str(photographs))
        await until(pilot, lambda: "4 images to train, 1 left out" in words(pilot))

    drive(steps)


def test_pictures_that_come_meanwhile_are_seen_at_the_next_step(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        four_colours(photographs / "late.png", 2, side=900)
        await pilot.press("ctrl+n", "ctrl+b")
        await until(pilot, lambda: "6 images to train" in words(pilot))

    drive(steps)


def told(pilot: Pilot[None]) -> str:
    """What stands beside the picture under the cursor, without the spaces that lines are broken at."""
    return "".join(pilot.app.screen.query_one("#about", Canvas).plain().split())


def test_every_kind_of_bad_picture_is_told_beside_it_and_the_run_holds_what_prepare_makes(
    home: Path, model: Path, tmp_path: Path, make_bad_pictures: Callable[[Path], list[Bad]]
) -> None:
    folder = home / "bad"
    made = make_bad_pictures(folder)

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, folder)
        usable = sum(one.usable for one in made)
        bad = len(made) - usable
        assert f"{usable} images to train, {bad} cannot be used" in words(pilot)
        pictures = pilot.app.screen.query_one("#pictures", OptionList)
        names = [look.name for look in wizard(pilot).seen]
        for one in made:
            pictures.highlighted = names.index(one.name)
            await pilot.pause()
            assert ("✗" in str(pictures.get_option_at_index(names.index(one.name)).prompt)) != one.usable, one.name
            for said in one.says:
                said = said.removeprefix(repr(one.name)).removeprefix(one.name)
                assert "".join(said.split()) in told(pilot), (one.name, said)
            assert one.summed in words(pilot).replace("\n", " ") or one.summed.startswith("16 to 8")
        await everything_but_pictures(pilot, model)
        assert "cannot be used: " in words(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot), seconds=120)

    assert drive(steps).crash is None
    run = home / "runs" / "zkz" / "img"
    prepare(folder, tmp_path / "again", name="zkz", resolution=512)
    files = sorted(path.relative_to(run) for path in run.rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*"))
    assert all((run / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in files)


def test_a_picture_that_is_refused_can_be_used_all_the_same(home: Path, photographs: Path) -> None:
    four_colours(photographs / "tiny.png", 1, side=140)

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        assert "5 images to train, 1 cannot be used" in words(pilot)
        await pilot.press("end", "k")
        await until(pilot, lambda: "6 images to train" in words(pilot))
        assert wizard(pilot).draft.forced == {"tiny.png"}
        assert "used all the same" in words(pilot)
        await pilot.press("k")
        await until(pilot, lambda: "5 images to train, 1 cannot be used" in words(pilot))
        await pilot.press("home", "k")
        await until(pilot, lambda: "It is used already." in words(pilot))

    drive(steps)


def test_nothing_is_measured_twice_on_the_way_to_the_run(
    home: Path, photographs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def counting(path: Path, **options: Any) -> object:
        measured.append(path.name)
        return measure(path, **options)

    monkeypatch.setattr("ti_tui.dataset.survey.measure", counting)

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("space")
        await settled(pilot)
        await everything_but_pictures(pilot, model)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))

    drive(steps)
    assert sorted(measured) == sorted(path.name for path in photographs.glob("*.png"))


def test_a_new_resolution_says_anew_what_is_too_small_and_the_cursor_stays(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("down", "down")
        wizard(pilot).draft.put("dataset.resolution", 1536)
        wizard(pilot).check_again()
        await until(pilot, lambda: "1 image to train, 4 cannot be used" in words(pilot))
        assert pilot.app.screen.query_one("#pictures", OptionList).highlighted == 2
        assert "it would be enlarged 2.4 times to 1536" in words(pilot).replace("\n", " ") or "2.4" in told(pilot)

    drive(steps)


def test_whether_the_subject_is_a_person_is_asked_of_the_class_word() -> None:
    assert is_person("woman") and is_person("a young Woman, smiling") and is_person("man")
    assert not is_person("dog") and not is_person("manor") and not is_person("")
    assert SurveySettings.of(Draft(class_word="girl")).person and not SurveySettings.of(Draft()).person


def test_a_runs_folder_that_cannot_be_looked_at_ends_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ti_tui.setup.create.is_taken", lambda root: True)
    with pytest.raises(BadPath, match="no folder can be made"):
        Draft(fields={"embedding.token": "zkz"}).folder("/nowhere")


@pytest.mark.parametrize("saved", ["inf", "1" * 400, "-1.0", "nan"])
def test_a_draft_with_an_impossible_time_is_offered_all_the_same(saved: str, home: Path) -> None:
    draft_path().parent.mkdir(parents=True)
    draft_path().write_text(f'[draft]\nphotographs = "~/photos"\nsaved = {saved}\n')

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft of" in words(pilot))

    drive(steps)


def test_a_pasted_scheme_of_several_lines_is_taken_whole(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        await pilot.press("enter", "ctrl+u")
        await type_text(pilot, "0.05:10, 0.02:20\n0.001:70\n")
        await settled(pilot)
        assert [part["steps"] for part in wizard(pilot).draft.fields["scheme.segments"]] == [10, 20, 70]

    drive(steps)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_field_that_a_problem_leads_to_is_on_the_screen(
    size: tuple[int, int], home: Path, photographs: Path, models: dict[str, Path]
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_model(pilot, models["sd1.safetensors"])
        await pilot.press("alt+6")
        await until(pilot, lambda: "its own vocabulary" in words(pilot).replace("\n", " "))
        await settled(pilot)
        problems = pilot.app.screen.query_one("#problems", OptionList)
        at = next(i for i in range(problems.option_count) if "Tokenizer" in str(problems.get_option_at_index(i).prompt))
        problems.focus()
        problems.highlighted = at
        await pilot.press("enter")
        await until(pilot, lambda: "Tokenizer: A folder with vocab.json" in words(pilot))
        await type_text(pilot, "a-folder")
        await until(pilot, lambda: "Tokenizer       a-folder" in words(pilot))

    drive(steps, size=size)


class Counted:
    """Presses keys one at a time, as a person does, and counts them; texts that are typed do not count."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self._pilot = pilot
        self.keys = 0

    async def press(self, key: str, sees: str) -> None:
        self.keys += 1
        await self._pilot.press(key)
        await until(self._pilot, lambda: sees in words(self._pilot))


def test_a_second_embedding_with_the_same_model_takes_few_keys(
    home: Path, photographs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    monkeypatch.setattr("ti_tui.setup.start.start_trainer", lambda folder: started.append(folder.root))
    counts = []

    async def embedding(pilot: Pilot[None], folder: Path, token: str, *, first: bool) -> None:
        counted = Counted(pilot)
        await type_text(pilot, str(folder))
        await until(pilot, lambda: "5 images to train" in words(pilot) and "checking" not in words(pilot))
        if first:
            await counted.press("enter", "tiny-sd1")
            await counted.press("enter", "enter takes this model")
        await counted.press("enter", "space leaves")
        await until(pilot, lambda: "Stable Diffusion 1, epsilon" in words(pilot))
        await counted.press("enter", "Template")
        await counted.press("enter", "Class word")
        await type_text(pilot, token)
        await counted.press("enter", "Class word: ")
        await type_text(pilot, "woman")
        await counted.press("ctrl+n", "Batch size")
        await counted.press("ctrl+n", "Preset")
        if first:
            await counted.press("right", "(styles)")
        await counted.press("ctrl+n", "Train")
        await settled(pilot)
        while not pilot.app.screen.query_one("#answers").has_focus:
            await counted.press("tab", "Train")
        await counted.press("enter", "never trained")
        counts.append(counted.keys)

    drive(lambda pilot: embedding(pilot, photographs, "zkz", first=True))
    shutil.copytree(photographs, home / "more")

    async def second(pilot: Pilot[None]) -> None:
        assert "settings of zkz" in words(pilot)
        await embedding(pilot, home / "more", "zky", first=False)

    drive(second)
    runs = [load(root / "run.toml") for root in started]
    assert runs[0].scheme == runs[1].scheme != RunFile.model_fields["scheme"].get_default(call_default_factory=True)
    assert runs[0].model == runs[1].model
    assert counts[0] <= 14 and counts[1] <= 10, counts
