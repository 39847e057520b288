"""The caption review by its keys: typing, moving, filter, replacing, phrases, undo, the captioner, a kill."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image
from textual.events import Paste
from textual.keys import _character_to_key
from textual.pilot import Pilot

from tests.fixtures import tiny_blip
from tests.fixtures.chat_server import serving
from tests.fixtures.terminal import Terminal, ti_tui
from tests.screens.driving import LOOKS, Drive, check_snapshot, drive, type_text, until, words
from ti_tui import settings
from ti_tui.captions.desk import CaptionDesk
from ti_tui.captions.journal import history_of
from ti_tui.captions.phrases import load_phrases, save_phrases
from ti_tui.errors import UserError
from ti_tui.jobs import captioning
from ti_tui.screens.review.captioning import CHOSEN, CaptioningScreen
from ti_tui.screens.review.captions import CaptionReview
from ti_tui.screens.review.listing import labels
from ti_tui.screens.wizard.screen import WizardScreen
from ti_tui.setup.assess import Surveyor, judge
from ti_tui.setup.draft import Draft, load_draft, save_draft
from ti_tui.setup.photographs import SurveySettings

pytestmark = pytest.mark.usefixtures("card")
ODD = "a [v1] (x:1.2) [/b], standing in a garden"


def review(pilot: Pilot[None]) -> CaptionReview:
    """The review's screen."""
    screen = pilot.app.screen
    assert isinstance(screen, CaptionReview)
    return screen


def caption(pilot: Pilot[None], name: str) -> str:
    """The caption that the desk has."""
    return review(pilot).desk.caption(name)


async def opened(pilot: Pilot[None], folder: Path) -> None:
    """Go through the wizard to the review of the captions, where the cursor is in the first one."""
    await type_text(pilot, str(folder))
    await until(pilot, lambda: "5 images to train" in words(pilot) and "checking" not in words(pilot))
    await pilot.press("enter", "ctrl+n")
    await until(pilot, lambda: "with a caption" in words(pilot))
    await pilot.press("tab", "enter")
    await until(pilot, lambda: "tokens" in words(pilot))


async def opened_at_once(pilot: Pilot[None], folder: Path) -> None:
    """Open the review as the wizard's third step does, over a wizard in which nothing was typed."""
    draft = Draft(step="captions")
    draft.set("photographs", str(folder))
    survey = Surveyor().survey(folder, SurveySettings.of(draft), lambda _: True)
    images = [file for file in survey.files if file.picture is not None]
    desk = CaptionDesk(draft, images, save=lambda: save_draft(draft), history=history_of(folder))
    await pilot.app.push_screen(CaptionReview(desk, at=desk.names[0], checked=judge(draft, survey).checked))
    await until(pilot, lambda: "tokens" in words(pilot))


async def typed(pilot: Pilot[None], text: str) -> None:
    """Type a text letter by letter, wherever the cursor is."""
    await pilot.press(*(_character_to_key(letter) for letter in text))


async def pasted(pilot: Pilot[None], text: str) -> None:
    """Paste a text into the caption."""
    pilot.app.post_message(Paste(text))
    await pilot.pause()


def reviewing(
    folder: Path, steps: Drive, *, size: tuple[int, int] = (80, 24), keys: dict[str, str] | None = None
) -> None:
    """Open the review at once and go through `steps`; nothing may crash."""

    async def go(pilot: Pilot[None]) -> None:
        await opened_at_once(pilot, folder)
        await steps(pilot)

    assert drive(go, size=size, keys=keys).crash is None


# Typing and moving


def test_enter_accepts_the_caption_and_goes_to_the_next_picture(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "a pier")
        await pilot.press("enter")
        assert review(pilot).current == "garden.png"
        assert review(pilot).desk.mark("beach.png") == "reviewed"
        assert "✓ beach     a pier" in words(pilot)
        await pilot.press("enter")
        assert caption(pilot, "garden.png") == ODD
        assert review(pilot).desk.mark("garden.png") == "reviewed"
        assert "3 of 5    2 reviewed    3 without" in words(pilot).replace("   ", "  ").replace(
            "of 5  ", "of 5    "
        ) or ("2 reviewed" in words(pilot) and "3 without" in words(pilot))
        await pilot.press("enter")
        assert review(pilot).desk.mark("kitchen.png") == "none"

    reviewing(photographs, steps)
    left = load_draft()
    assert left is not None
    assert left.captions["beach.png"] == "a pier"
    assert not (photographs / "beach.txt").exists()
    assert (photographs / "garden.txt").read_text() == ODD


@pytest.mark.parametrize(("after", "before"), [("pagedown", "pageup"), ("ctrl+down", "ctrl+up")])
def test_pictures_are_changed_while_typing_and_nothing_is_lost(
    after: str, before: str, home: Path, photographs: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press(after, after)
        await typed(pilot, "pots")
        await pilot.press(before, before)
        assert review(pilot).current == "beach.png"
        assert review(pilot).editor.text == "sand"
        assert caption(pilot, "kitchen.png") == "pots"
        assert review(pilot).desk.mark("beach.png") == "open"
        await pilot.press("end", "escape", after)
        assert review(pilot).current == "garden.png"
        await pilot.press("j", "k", "G")
        assert review(pilot).current == "street.png"
        await pilot.press("g")
        assert review(pilot).current == "beach.png"

    reviewing(photographs, steps)


def test_the_next_picture_without_a_caption_is_found_from_the_line_and_from_the_list(
    home: Path, photographs: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("ctrl+g")
        assert review(pilot).current == "kitchen.png"
        await typed(pilot, "pots")
        await pilot.press("escape", "u")
        assert review(pilot).current == "portrait.png"
        await pilot.press("u", "u")
        assert review(pilot).current == "portrait.png"
        await pilot.press("2", "x", "u", "x", "u")
        await until(pilot, lambda: "Every image has a caption." in words(pilot))

    reviewing(photographs, steps)


def test_a_pasted_text_becomes_one_clean_line(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pasted(pilot, "a\r\nb\tc\u200b\x07 \u2028d 👩\u200d👧 猫\n")
        assert review(pilot).editor.text == "a b c  d 👩\u200d👧 猫 "
        assert caption(pilot, "beach.png") == "a b c d 👩\u200d👧 猫"
        await pilot.press("shift+enter", "ctrl+j", "enter")
        assert caption(pilot, "beach.png") == "a b c d 👩\u200d👧 猫"
        await pilot.press("pageup", "ctrl+z")
        assert caption(pilot, "beach.png") == "a b c d 👩\u200d👧 猫"

    reviewing(photographs, steps)


def test_undo_within_the_text_and_beyond_it(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("ctrl+z")
        assert caption(pilot, "beach.png") == ""
        await pilot.press("ctrl+y")
        assert caption(pilot, "beach.png") == "sand"
        await pilot.press("enter", "escape", "U")
        assert review(pilot).current == "beach.png"
        assert caption(pilot, "beach.png") == ""
        assert "Undone: typed" in words(pilot)
        await pilot.press("ctrl+y")
        assert review(pilot).editor.text == "sand"
        assert review(pilot).desk.mark("beach.png") == "reviewed"
        await pilot.press("ctrl+z", "ctrl+z")
        assert "nothing to undo" in words(pilot)

    reviewing(photographs, steps)


def test_what_was_done_can_be_undone_in_the_next_session(home: Path, photographs: Path) -> None:
    async def first(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("enter")
        await typed(pilot, " at noon")
        await pilot.press("ctrl+q")

    reviewing(photographs, first)

    async def second(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "with a caption" in words(pilot))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "tokens" in words(pilot))
        assert caption(pilot, "garden.png") == f"{ODD} at noon"
        await pilot.press("escape", "U")
        assert caption(pilot, "garden.png") == ODD
        await pilot.press("U")
        assert caption(pilot, "beach.png") == ""
        await pilot.press("ctrl+y", "ctrl+y")
        assert caption(pilot, "garden.png") == f"{ODD} at noon"

    drive(second, size=(80, 24))


def test_pictures_are_left_out_and_taken_back(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "down", "x")
        assert "× garden" in words(pilot)
        assert review(pilot).desk.counts().trained == 4
        await pilot.press("up", "enter", "enter")
        # Accepting passes over it.
        assert review(pilot).current == "kitchen.png"
        await pilot.press("escape", "up", "x")
        assert "● garden" in words(pilot)

    reviewing(photographs, steps)


def test_the_current_row_is_lit_while_the_list_has_the_focus(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        def lit() -> bool:
            return any(segment.style and segment.style.bgcolor for segment in review(pilot).listing._strips[0])

        assert not lit()
        await pilot.press("escape")
        assert lit()
        await pilot.press("enter")
        assert not lit()
        await pilot.press("tab")
        assert lit()

    reviewing(photographs, steps)


def test_space_in_the_list_marks_a_caption_as_reviewed_and_goes_on(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "space")
        assert "It has no caption yet" in words(pilot)
        await pilot.press("down", "space")
        assert review(pilot).current == "kitchen.png"
        assert review(pilot).desk.mark("garden.png") == "reviewed"
        await pilot.press("up", "space")
        assert review(pilot).desk.mark("garden.png") == "open"

    reviewing(photographs, steps)


def test_a_picture_that_was_changed_after_its_review_is_marked(home: Path, photographs: Path) -> None:
    async def first(pilot: Pilot[None]) -> None:
        await pilot.press("pagedown", "enter", "ctrl+q")

    reviewing(photographs, first)
    Image.new("RGB", (600, 700), "red").save(photographs / "garden.png")

    async def second(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "≠ garden" in words(pilot))

    drive(second)


def test_the_review_begins_at_the_first_picture_that_nobody_looked_at(home: Path, photographs: Path) -> None:
    async def first(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("enter", "enter", "ctrl+q")

    reviewing(photographs, first)

    async def second(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "of 5 images with a caption" in words(pilot))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "tokens" in words(pilot))
        assert review(pilot).current == "kitchen.png"

    drive(second, size=(80, 24))


def test_what_was_odd_about_a_caption_file_is_said_while_its_caption_is_new(home: Path, photographs: Path) -> None:
    (photographs / "garden.txt").write_text("a garden\nand a second line")

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("pagedown")
        await until(pilot, lambda: "! its caption garden.txt has 2 lines; the first is used" in words(pilot))
        await pilot.press("enter", "pageup")
        assert "2 lines" not in words(pilot)
        assert caption(pilot, "garden.png") == "a garden"

    reviewing(photographs, steps)


# The filter


def test_enter_on_a_picture_that_the_filter_hides_goes_to_the_first_that_it_shows(
    home: Path, photographs: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("escape", "slash")
        await type_text(pilot, "is:empty")
        await pilot.press("tab", "enter")
        assert review(pilot).desk.mark("beach.png") == "reviewed"
        assert review(pilot).current == "kitchen.png"

    reviewing(photographs, steps)


def test_the_filter_shows_what_it_says_and_nothing_vanishes_under_the_cursor(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "slash")
        await type_text(pilot, "is:empty")
        assert review(pilot).shown == ["beach.png", "kitchen.png", "portrait.png", "street.png"]
        await pilot.press("enter", "down", "enter")
        await typed(pilot, "pots")
        await pilot.press("enter")
        assert review(pilot).current == "portrait.png"
        assert "✓ kitchen" in words(pilot)
        await pilot.press("escape", "slash", "ctrl+u")
        await type_text(pilot, "standing")
        assert review(pilot).shown == ["garden.png"]
        # Nothing moves while the filter is typed.
        assert review(pilot).current == "portrait.png"
        await pilot.press("enter")
        assert review(pilot).current == "garden.png"
        await pilot.press("slash", "ctrl+u")
        await type_text(pilot, "tokens:many")
        await pilot.press("enter")
        assert "tokens: takes a number" in words(pilot)
        await pilot.press("ctrl+u")
        await type_text(pilot, "nothing has this")
        assert "No image matches" in words(pilot)
        await pilot.press("enter", "pagedown", "escape")
        assert len(review(pilot).shown) == 5

    reviewing(photographs, steps)


def test_escape_leads_from_the_line_to_the_list_to_the_wizard(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, photographs)
        await typed(pilot, "sand")
        await pilot.press("escape", "slash")
        await type_text(pilot, "is:e")
        await pilot.press("enter", "escape")
        assert review(pilot).filter == ""
        await pilot.press("tab", "shift+tab", "escape")
        screen = pilot.app.screen
        assert isinstance(screen, WizardScreen)
        await until(pilot, lambda: "● beach" in words(pilot) and "2 of 5 images with a caption" in words(pilot))
        assert screen.draft.captions == {"beach.png": "sand"}

    assert drive(steps, size=(80, 24)).crash is None


# Changing many


def test_find_and_replace_shows_what_it_would_do_and_is_one_step_to_undo(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "standing in sand")
        await pilot.press("enter", "ctrl+r")
        await type_text(pilot, "STANDING")
        await until(pilot, lambda: "not found" in words(pilot))
        await pilot.press("enter", "tab", "right", "space")
        await until(pilot, lambda: "2 places in 2 captions" in words(pilot))
        assert "+ in sand" in words(pilot)
        await pilot.press("shift+tab")
        await type_text(pilot, "lying")
        await pilot.press("enter")
        await until(pilot, lambda: "Replaced in 2 captions" in words(pilot))
        assert caption(pilot, "beach.png") == "lying in sand"
        assert caption(pilot, "garden.png") == ODD.replace("standing", "lying")
        assert review(pilot).editor.text == ODD.replace("standing", "lying")
        # The first was reviewed, and still is.
        assert review(pilot).desk.mark("beach.png") == "reviewed"
        await pilot.press("escape", "U")
        assert caption(pilot, "beach.png") == "standing in sand"
        assert caption(pilot, "garden.png") == ODD
        assert "in 2 captions" in words(pilot)

    reviewing(photographs, steps)


def test_an_expression_that_is_none_is_said_under_its_line_and_changes_nothing(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("pagedown", "escape", "r")
        await type_text(pilot, "(a")
        await pilot.press("tab", "tab", "right", "right", "space")
        await until(pilot, lambda: "! character 1: missing )" in words(pilot))
        await pilot.press("enter")
        await pilot.pause()
        assert "Find and replace" in words(pilot)
        await pilot.press("escape")
        assert caption(pilot, "garden.png") == ODD

    reviewing(photographs, steps)


def test_a_replacement_can_be_for_what_is_shown_or_for_this_one(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "red sky")
        await pilot.press("pagedown", "end")
        await typed(pilot, ", red door")
        await pilot.press("pagedown")
        await typed(pilot, "red pots")
        await pilot.press("escape", "slash")
        await type_text(pilot, "red -sky")
        await pilot.press("enter", "r")
        await type_text(pilot, "red")
        await until(pilot, lambda: "2 places in 2 captions" in words(pilot))
        assert "(the 2 shown)" in words(pilot)
        await pilot.press("tab", "tab", "tab", "right")
        await until(pilot, lambda: "3 places in 3 captions" in words(pilot))
        await pilot.press("right")
        await until(pilot, lambda: "1 place in 1 caption" in words(pilot))
        await pilot.press("left", "left", "enter")
        await until(pilot, lambda: "Replaced in 2 captions" in words(pilot))
        assert caption(pilot, "beach.png") == "red sky"
        assert caption(pilot, "kitchen.png") == "pots"

    reviewing(photographs, steps)


def test_prefix_and_suffix_show_in_the_prompt_and_go_into_the_run(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("escape", "w", "p")
        await type_text(pilot, "polaroid,")
        await pilot.press("tab")
        await type_text(pilot, ", faded")
        await until(pilot, lambda: "a photo of [name x12], polaroid, sand, faded" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "a photo of [name x12], polaroid, sand, faded" in words(pilot))
        assert review(pilot).editor.text == "sand"

    reviewing(photographs, steps)
    left = load_draft()
    assert left is not None
    assert left.choices.whole_captions() == {
        "beach.png": "polaroid, sand, faded",
        "garden.png": f"polaroid, {ODD}, faded",
    }


def test_phrases_are_put_in_from_the_list_and_while_typing(home: Path, photographs: Path) -> None:
    save_phrases(["at night", "in snow"])

    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand ")
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "1  at night" in words(pilot))
        await pilot.press("1")
        await until(pilot, lambda: caption(pilot, "beach.png") == "sand, at night")
        await pilot.press("escape", "2", "2")
        assert caption(pilot, "beach.png") == "sand, at night, in snow"
        assert "is already in it" in words(pilot)
        await pilot.press("5")
        assert "There is no phrase 5" in words(pilot)
        await pilot.press("ctrl+t", "5")
        await type_text(pilot, "[x] from above")
        await pilot.press("enter", "5")
        await until(pilot, lambda: caption(pilot, "beach.png") == "sand, at night, in snow, [x] from above")
        await pilot.press("U")
        assert caption(pilot, "beach.png") == "sand, at night, in snow"

    reviewing(photographs, steps)
    assert load_phrases()[4] == "[x] from above"


def test_a_phrase_that_is_in_the_line_already_is_not_put_in_again(home: Path, photographs: Path) -> None:
    save_phrases(["at night"])

    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        for _ in range(2):
            await pilot.press("ctrl+t", "1")
        assert review(pilot).editor.text == "sand, at night"
        assert "“at night” is already in it." in words(pilot)

    reviewing(photographs, steps)


def test_words_in_most_captions_are_said_and_taken_out_by_one_key(home: Path, photographs: Path) -> None:
    for name in ("beach", "garden", "kitchen", "portrait", "street"):
        (photographs / f"{name}.txt").write_text(f"a red coat, {name}")

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "the template does not use the captions" in words(pilot))
        await pilot.press("escape", "w")
        await until(
            pilot, lambda: "“red” is in 5 of 5 captions (100 %)" in words(pilot) or "now “captions”" in words(pilot)
        )
        await pilot.press("j")
        await until(pilot, lambda: "“red” is in 5 of 5 captions (100 %)" in words(pilot))
        await pilot.press("w")
        await until(pilot, lambda: "5 places in 5 captions" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "Replaced in 5 captions" in words(pilot))
        assert caption(pilot, "street.png") == "a coat, street"
        assert review(pilot).desk.draft.fields["dataset.template"] == "captions"

    reviewing(photographs, steps)


def test_captions_of_the_draft_before_are_offered(home: Path, photographs: Path) -> None:
    async def first(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("enter", "ctrl+q")

    reviewing(photographs, first)

    async def second(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue the draft" in words(pilot))
        await pilot.press("n")
        await opened(pilot, photographs)
        assert "1 more caption" in words(pilot)
        await pilot.press("escape", "l")
        assert caption(pilot, "beach.png") == "sand"
        assert review(pilot).desk.states("beach.png") == {"auto"}

    drive(second, size=(80, 24))


# The captioner


class FakeCaptioner:
    """Captions when it is told to: `go` lets the next picture through."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.cancelled = self.closed = self.stuck = False
        self.first_words = ""

    def caption(self, pictures: Mapping[str, Path], first_words: str = "") -> Iterator[captioning.CaptionerMessage]:
        self.first_words = first_words
        yield captioning.Loaded("the CPU", 1.0)
        for done, name in enumerate(pictures):
            self.go.acquire(timeout=20)
            if self.cancelled or self.closed:
                yield captioning.CaptioningFinished("cancelled", done)
                return
            yield captioning.Captioned(name, f"made for {name}", 4.0, done + 1, len(pictures), 40.0)
        yield captioning.CaptioningFinished("done", len(pictures))

    def cancel(self) -> None:
        if not self.stuck:
            self.cancelled = True
            self.go.release()

    def close(self) -> None:
        self.closed = True
        self.go.release()


@pytest.fixture
def captioner(monkeypatch: pytest.MonkeyPatch) -> FakeCaptioner:
    made = FakeCaptioner()
    monkeypatch.setattr(CaptioningScreen, "_start", lambda self: made)
    return made


def test_pictures_without_a_caption_are_captioned_while_the_review_goes_on(
    home: Path, photographs: Path, captioner: FakeCaptioner
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "C")
        await until(pilot, lambda: "4 images will be captioned, 1 not changed" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "captioning 0 of 4" in words(pilot))
        captioner.go.release()
        await until(pilot, lambda: "captioning 1 of 4, 40 s left" in words(pilot))
        assert review(pilot).editor.text == "made for beach.png"
        assert review(pilot).desk.states("beach.png") == {"auto"}
        await pilot.press("down", "down", "enter")
        await typed(pilot, "mine")
        for _ in range(3):
            captioner.go.release()
        await until(pilot, lambda: "4 captioned" in words(pilot))
        # What was typed meanwhile stays.
        assert caption(pilot, "kitchen.png") == "mine"
        assert caption(pilot, "street.png") == "made for street.png"
        await pilot.press("escape", "U")
        assert caption(pilot, "kitchen.png") == ""
        await pilot.press("U")
        assert caption(pilot, "street.png") == ""
        assert caption(pilot, "garden.png") == ODD

    reviewing(photographs, steps)
    assert captioner.closed


def test_escape_stops_the_captioner_and_keeps_what_it_has_made(
    home: Path, photographs: Path, captioner: FakeCaptioner
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "C", "enter")
        captioner.go.release()
        await until(pilot, lambda: caption(pilot, "beach.png") == "made for beach.png")
        await pilot.press("c")
        assert caption(pilot, "beach.png") == "made for beach.png"
        await pilot.press("escape")
        await until(pilot, lambda: review(pilot).progress is None)
        assert caption(pilot, "kitchen.png") == ""
        assert "without" in words(pilot)

    reviewing(photographs, steps)


def test_a_captioner_that_does_not_stop_is_ended_by_a_second_escape(
    home: Path, photographs: Path, captioner: FakeCaptioner
) -> None:
    captioner.stuck = True

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "C", "enter")
        await until(pilot, lambda: "captioning 0 of 4" in words(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "the captioner is stopping" in words(pilot))
        assert not captioner.closed
        await pilot.press("escape")
        await until(pilot, lambda: review(pilot).progress is None)
        assert captioner.closed
        assert "Stopped." in words(pilot)

    reviewing(photographs, steps)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (1, "photo, made for garden.png"),
        (2, f"photo, made for garden.png, {ODD}"),
        (3, f"photo, {ODD}, made for garden.png"),
    ],
)
def test_captions_are_replaced_or_put_before_or_behind_and_that_is_one_step_to_undo(
    mode: int, expected: str, home: Path, photographs: Path, captioner: FakeCaptioner
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("pagedown", "enter", "escape", "C", "tab", *["right"] * mode)
        await until(pilot, lambda: "5 images will be captioned" in words(pilot))
        assert "1 caption is replaced, 1 of them reviewed" in words(pilot)
        await pilot.press("tab", "tab")
        await type_text(pilot, "photo,")
        await pilot.press("tab")
        await type_text(pilot, "a picture of")
        await pilot.press("enter")
        for _ in range(5):
            captioner.go.release()
        await until(pilot, lambda: "5 captioned" in words(pilot))
        assert captioner.first_words == "a picture of"
        assert caption(pilot, "garden.png") == expected
        assert caption(pilot, "beach.png") == "photo, made for beach.png"
        assert review(pilot).desk.states("garden.png") == {"auto"}
        await pilot.press("U")
        assert caption(pilot, "garden.png") == ODD
        assert caption(pilot, "beach.png") == ""
        assert review(pilot).desk.mark("garden.png") == "reviewed"

    reviewing(photographs, steps)


def test_file_names_become_captions_without_a_captioner_for_what_the_filter_shows(
    home: Path, photographs: Path
) -> None:
    (photographs / "beach.png").rename(photographs / "0001_red_beach.png")

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "slash")
        await type_text(pilot, "name:e")
        await pilot.press("enter", "C", "tab", "tab", "right")
        await until(pilot, lambda: "4 images will be captioned, 0" in words(pilot) or "+ red beach" in words(pilot))
        await pilot.press("enter")
        assert caption(pilot, "0001_red_beach.png") == "red beach"
        assert caption(pilot, "portrait.png") == ""
        await pilot.press("C")
        await until(pilot, lambda: "0 images will be captioned" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "Make captions" in words(pilot))

    reviewing(photographs, steps)


def test_pictures_that_could_not_be_captioned_are_told_together(
    home: Path, photographs: Path, captioner: FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def caption_none(pictures: Mapping[str, Path], first_words: str = "") -> Iterator[captioning.CaptionerMessage]:
        for done, name in enumerate(pictures, start=1):
            yield captioning.CaptionFailed(name, "is damaged [/b]", done, len(pictures))
        yield captioning.CaptioningFinished("done", 0, len(pictures))

    monkeypatch.setattr(captioner, "caption", caption_none)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "C", "enter")
        await until(pilot, lambda: "and 1 more" in words(pilot))
        assert "beach.png: is damaged [/b]" in words(pilot)
        assert "street.png" not in words(pilot)

    reviewing(photographs, steps)


def test_a_captioner_that_fails_before_the_first_caption_is_told_with_ways_out(
    home: Path, photographs: Path, captioner: FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pictures: Mapping[str, Path], first_words: str = "") -> Iterator[captioning.CaptionerMessage]:
        yield captioning.CaptioningFinished("failed", 0, 0, "the captioner needs 9 GB", "Use a smaller one.")

    monkeypatch.setattr(captioner, "caption", refuse)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "C", "enter")
        await until(pilot, lambda: "the captioner needs 9 GB" in words(pilot))
        assert "Captions are optional" in words(pilot)
        await pilot.press("n")
        assert caption(pilot, "beach.png") == "beach"
        assert captioner.closed

    reviewing(photographs, steps)


def test_the_captioner_chosen_now_goes_before_settings_and_those_before_one_chosen_earlier(
    home: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def find(given: str = "") -> Path:
        asked.append(given)
        raise UserError("no captioner")

    monkeypatch.setattr("ti_tui.screens.review.captioning.find_captioner", find)
    settings.remember_choice(CHOSEN, "/earlier")

    async def steps(pilot: Pilot[None]) -> None:
        async def again() -> None:
            count = len(asked)
            await pilot.press("c")
            await until(pilot, lambda: len(asked) > count and "No captioner" in words(pilot))
            await pilot.press("escape")

        await pilot.press("escape")
        await again()
        monkeypatch.setenv("TI_TUI_CAPTIONER", "/named")
        await again()
        review(pilot).choose_captioner("/now")
        await again()

    reviewing(photographs, steps)
    assert asked == ["/earlier", "", "/now"]


def test_a_typed_caption_is_captioned_anew_only_after_a_question(
    home: Path, photographs: Path, captioner: FakeCaptioner
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        captioner.go.release()
        await pilot.press("pagedown", "escape", "c")
        await until(pilot, lambda: "Replace this caption?" in words(pilot))
        await pilot.press("n")
        assert review(pilot).progress is None
        await pilot.press("c")
        await until(pilot, lambda: "Replace this caption?" in words(pilot))
        await pilot.press("y")
        await until(pilot, lambda: caption(pilot, "garden.png") == "made for garden.png")
        await pilot.press("U")
        assert caption(pilot, "garden.png") == ODD

    reviewing(photographs, steps)


def test_without_a_captioner_the_review_says_what_to_copy_and_takes_file_names(
    home: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: CaptioningScreen) -> None:
        raise UserError("no captioner was found [/b]", remedy="Copy one: `rsync -a blip here:`")

    monkeypatch.setattr(CaptioningScreen, "_start", none)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "c")
        await until(pilot, lambda: "no captioner was found [/b]" in words(pilot))
        assert "rsync -a blip here:" in words(pilot)
        assert "the words of its name instead: “beach”" in words(pilot)
        await pilot.press("escape", "C", "enter")
        await until(pilot, lambda: "the names of all 4 instead" in words(pilot))
        await pilot.press("n")
        assert caption(pilot, "beach.png") == "beach"
        assert caption(pilot, "street.png") == "street"
        assert review(pilot).desk.states("street.png") == {"auto"}
        await pilot.press("U")
        assert caption(pilot, "street.png") == ""
        await pilot.press("c")
        await until(pilot, lambda: "no captioner was found" in words(pilot))
        await pilot.press("f")
        await until(pilot, lambda: "The captioner's folder" in words(pilot))
        await pilot.press("space")
        await until(pilot, lambda: "no captioner was found" in words(pilot))

    reviewing(photographs, steps)
    # A folder that is no captioner is not worth remembering.
    assert settings.remembered_choice(CHOSEN) is None


def test_a_captioner_behind_an_address_is_given_once_and_asked_about_before_images_leave(
    home: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:

        async def steps(pilot: Pilot[None]) -> None:
            review(pilot).choose_captioner("/none")
            await pilot.press("escape", "c")
            await until(pilot, lambda: "No captioner" in words(pilot))
            await pilot.press("a", "ctrl+u")
            await type_text(pilot, "http://192.0.2.1/v1 llava")
            await pilot.press("enter")
            await until(pilot, lambda: "1 image will be sent to 192.0.2.1, unencrypted." in words(pilot))
            await pilot.press("n")
            assert review(pilot).progress is None
            review(pilot).choose_captioner(f"{server.url} llava")
            await pilot.press("c")
            await until(pilot, lambda: caption(pilot, "beach.png") == "a red cup")

        reviewing(photographs, steps)
        assert len(server.bodies) == 1 and settings.remembered_choice(CHOSEN) == f"{server.url} llava"


@pytest.mark.usefixtures("forked_processes")
def test_a_real_captioner_writes_captions_and_ends_with_the_review(
    home: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TI_TUI_CAPTIONER", str(tiny_blip.shared(tmp_path_factory)))
    pids: list[int] = []

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("escape", "C", "enter")
        await until(pilot, lambda: review(pilot).desk.counts().without == 0, seconds=120)
        await until(pilot, lambda: review(pilot).progress is None)
        assert review(pilot)._captioner is not None
        pids.append(review(pilot)._captioner.pid)
        assert review(pilot).desk.states("beach.png") == {"auto"}
        await pilot.press("escape")
        await until(pilot, lambda: not _alive(pids[0]))

    reviewing(photographs, steps)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Odd sets, odd terminals


def test_two_hundred_pictures_long_captions_and_odd_names_are_fine(home: Path) -> None:
    folder = home / "many"
    folder.mkdir()
    for number in range(200):
        name = f"IMG_20240712_{number:06d}" if number else "line\nbreak [b]"
        Image.new("RGB", (260, 260), (number, 0, 0)).save(folder / f"{name}.png")
    (folder / "IMG_20240712_000001.txt").write_text("red coat, 猫 👩‍👧 " * 700)

    async def steps(pilot: Pilot[None]) -> None:
        assert "1 of 200" in words(pilot).replace("  ", " ")
        await pilot.press("escape", "w", "G")
        assert "000199" in words(pilot)
        long = next(name for name in review(pilot).desk.names if name.endswith("000001.png"))
        review(pilot)._go(long)
        await pilot.press("enter")
        await typed(pilot, "x")
        assert len(caption(pilot, long)) > 10_000
        assert "not read" in words(pilot)
        assert "! " in words(pilot).splitlines()[0]
        await pilot.press("escape", "slash")
        await type_text(pilot, "tokens:>75")
        assert review(pilot).shown == [long]

    reviewing(folder, steps)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("size", [(120, 40), (60, 18)])
def test_no_key_breaks_the_review_at_any_size(size: tuple[int, int], home: Path, photographs: Path) -> None:
    keys = [
        "a", "enter", "up", "down", "tab", "pagedown", "pageup", "ctrl+g", "ctrl+z", "ctrl+y", "ctrl+u", "ctrl+k",
        "escape", "j", "k", "g", "G", "home", "end", "space", "u", "x", "U", "ctrl+y", "z", "z", "w", "escape", "l",
        "p", "enter", "r", "escape", "ctrl+r", "enter", "escape", "ctrl+t", "down", "enter", "escape", "escape", "1",
        "slash", "enter", "question_mark", "escape", "c", "escape", "q",
    ]  # fmt: skip

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(*keys)

    async def go(pilot: Pilot[None]) -> None:
        await opened(pilot, photographs)
        await pilot.resize_terminal(*size)
        await pilot.pause()
        await steps(pilot)

    assert drive(go).crash is None


def test_keys_of_the_review_can_be_bound_anew(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await typed(pilot, "sand")
        await pilot.press("enter")
        assert review(pilot).current == "beach.png"
        assert review(pilot).editor.text == "sand"
        await pilot.press("f8", "escape", "ctrl+l")
        assert review(pilot).desk.is_out("garden.png")

    reviewing(photographs, steps, keys={"captions.accept": "f8", "captions.leave-out": "ctrl+l"})


def test_names_are_shortened_to_what_tells_them_apart() -> None:
    assert labels(["a.jpg", "bb.jpg"], 14) == {"a.jpg": "a ", "bb.jpg": "bb"}
    assert labels(["a.jpg", "a.png"], 14)["a.png"] == "a.png"
    cameras = labels(["x/IMG_20240712_01.jpg", "x/IMG_20240712_22.jpg"], 14)
    assert list(cameras.values()) == ["…01", "…22"]
    wide = labels(["猫" * 20 + ".png", "犬" * 20 + "鳥.png"], 14)
    assert all(len(label) < 14 for label in wide.values())
    assert labels([], 14) == {}


# How it looks


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_review_looks_as_it_did(
    size: tuple[int, int], theme: str, home: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = f"{size[0]}-{theme}"
    for name, text in (("kitchen", "pots and pans, a window"), ("portrait", "close-up, window light")):
        (photographs / f"{name}.txt").write_text(text)

    async def steps(pilot: Pilot[None]) -> None:
        # What is said about the template need not stay as long as a person reads.
        with monkeypatch.context() as patch:
            patch.setattr("ti_tui.screens.review.base.MESSAGE_SECONDS", 0.1)
            await opened(pilot, Path("~/photos"))
        await pasted(pilot, "a pier, grey sky")
        await pilot.press("escape", "w", "end", "x", "home", "down", "down", "space", "enter")
        await pasted(pilot, ", wearing a yellow jacket")
        await until(pilot, lambda: "now “captions”" not in words(pilot) and "yellow jacket" in words(pilot))
        await until(pilot, lambda: review(pilot)._unsaved is None and "▀" in words(pilot))
        await check_snapshot(pilot, f"review-{end}")
        await pilot.press("ctrl+r")
        await type_text(pilot, "window")
        await pilot.press("enter")
        await type_text(pilot, "door")
        await until(pilot, lambda: "2 places in 2 captions" in words(pilot))
        await check_snapshot(pilot, f"review-replace-{end}")
        await pilot.press("escape", "escape", "C", "tab", "right", "right")
        await until(pilot, lambda: "5 images" in words(pilot) or "4 images" in words(pilot))
        await check_snapshot(pilot, f"review-make-{end}")
        await pilot.press("escape", "enter", "ctrl+u")
        await pasted(pilot, "a red coat, " * 40)
        await until(pilot, lambda: "not read" in words(pilot))
        await pilot.press("escape", "slash")
        await type_text(pilot, "tokens:>75")
        await pilot.press("enter")
        await check_snapshot(pilot, f"review-long-{end}")

    assert drive(steps, size=size, theme=theme).crash is None


# A kill


def test_a_kill_while_typing_loses_at_most_the_line_that_is_typed(photos: Path, tmp_path: Path) -> None:
    names = ("TI_TUI_CONFIG", "TI_TUI_CACHE", "TI_TUI_STATE")
    environment = {"OMP_NUM_THREADS": "1", **{name: os.environ[name] for name in names}}
    with Terminal(ti_tui(), environment=environment) as terminal:
        terminal.wait_for("Photographs")
        terminal.type(str(photos))
        terminal.press("enter")
        terminal.wait_for("4 images to train")
        terminal.press("ctrl+n")
        terminal.wait_for("with a caption")
        terminal.press("tab", "enter")
        terminal.wait_for("tokens")
        # As a slow line brings it: letters and keys in one piece, in their order.
        terminal.type("an astronaut\rgreen eyes\x1b[6~\x1b[5~, whiskers\r")
        terminal.wait_for("2 reviewed")
        terminal.type(" with sugar\rsmoke, and so")
        terminal.wait_for("smoke, and so")
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.wait_for_end()
    left = load_draft()
    assert left is not None
    desk_captions = _captions_after_a_restart(left, photos)
    assert desk_captions["astronaut.jpg"] == "an astronaut"
    assert desk_captions["chelsea.jpg"] == "green eyes, whiskers"
    assert desk_captions["coffee.jpg"] == "a cup on a table with sugar"
    # On a slow machine the line is saved while it is typed.
    assert "smoke, and so".startswith(desk_captions["rocket.jpg"])


def _captions_after_a_restart(draft: Draft, folder: Path) -> dict[str, str]:
    from ti_tui.dataset.photograph_checks import SurveyedFile
    from ti_tui.dataset.scan import scan

    pictures = [SurveyedFile(picture.path.name, picture.path, picture) for picture in scan(folder).pictures]
    desk = CaptionDesk(draft, pictures, history=history_of(folder))
    return {name: desk.caption(name) for name in desk.names}
