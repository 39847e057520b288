"""Boxes: where the rules put them, and that no key can push one out of its picture."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ti_tui.dataset import crop_boxes, crop_changes
from ti_tui.dataset.crop_boxes import AUTO, Box, Crop, CropChoice, Face, PictureContent, crop_for, crops_for
from ti_tui.dataset.crop_changes import GROW

SIDES = st.integers(1, 8000)
SIZES = st.tuples(SIDES, SIDES)
TARGETS = st.sampled_from([(512, 512), (64, 64), (768, 768), (48, 48), (640, 384), (384, 640), (1024, 1024)])
PARTS = st.floats(0, 1)
SIDE_STEPS = st.sampled_from(
    [-1.0, -crop_changes.STEP, -crop_changes.FINE, 0.0, crop_changes.FINE, crop_changes.STEP, 0.5, 1000.0]
)


@st.composite
def contents(draw: st.DrawFn) -> PictureContent:
    """A picture of any size with faces anywhere, edges anywhere."""
    size = draw(SIZES)
    faces = []
    for _ in range(draw(st.integers(0, 3))):
        width, height = draw(PARTS) * size[0] + 1, draw(PARTS) * size[1] + 1
        left, top = draw(PARTS) * size[0] - width / 3, draw(PARTS) * size[1] - height / 3
        faces.append(Face(left, top, width, height, draw(st.integers(60, 100))))
    strips = st.lists(st.floats(0, 100), min_size=64, max_size=64).map(tuple)
    profile = draw(st.sampled_from([(), (0.0,) * 64]) | strips)
    return PictureContent(size, draw(st.sampled_from([None, tuple(faces)])), (profile, profile))


CHOICES = st.builds(
    CropChoice,
    mode=st.sampled_from(crop_boxes.MODES),
    box=st.none() | st.builds(Box, *[st.floats(-9000, 9000)] * 2, *[st.floats(0.01, 9000)] * 2),
    face=st.integers(0, 5),
    framing=st.sampled_from(list(crop_boxes.FRAMINGS)),
)


def assert_lies_in(crop: Crop, content: PictureContent) -> None:
    box = crop.box
    assert box.left >= 0 and box.top >= 0
    assert box.right <= content.size[0] + 1e-6 and box.bottom <= content.size[1] + 1e-6
    assert box.width > 0 and box.height > 0
    if crop.rule not in ("whole", "keep"):
        assert math.isclose(box.width / box.height, crop.size[0] / crop.size[1], rel_tol=1e-6)


@given(contents(), TARGETS, CHOICES)
def test_every_box_lies_in_its_picture_and_has_the_shape_of_what_it_becomes(
    content: PictureContent, size: tuple[int, int], choice: CropChoice
) -> None:
    for crop in crops_for(content, size, choice):
        assert_lies_in(crop, content)


@given(contents(), TARGETS, CHOICES)
def test_no_rule_enlarges_what_the_picture_has_enough_pixels_for(
    content: PictureContent, size: tuple[int, int], choice: CropChoice
) -> None:
    if content.size[0] < size[0] or content.size[1] < size[1]:
        return
    for crop in crops_for(content, size, choice):
        assert crop.rule == "manual" or crop.upscale <= 1 + 1e-6


@given(contents(), TARGETS)
def test_auto_takes_the_largest_box_there_is(content: PictureContent, size: tuple[int, int]) -> None:
    crop = crop_for(content, size)
    largest = crop_boxes.largest_box(content.size, size)
    if not crop.padded and crop.rule != "keep":
        assert crop.box.width == pytest.approx(min(largest.width, content.size[0]))


@given(SIZES, TARGETS)
def test_the_largest_box_leaves_nothing_on_one_side(source: tuple[int, int], size: tuple[int, int]) -> None:
    box = crop_boxes.largest_box(source, size)
    assert min(source[0] - box.width, source[1] - box.height) < 1e-6
    assert box.middle == pytest.approx((source[0] / 2, source[1] / 2))


@given(
    contents(),
    TARGETS,
    CHOICES,
    st.lists(
        st.tuples(st.just("move"), SIDE_STEPS, SIDE_STEPS)
        | st.tuples(st.just("size"), st.sampled_from([GROW, 1 / GROW, 0.01, 100.0]), st.just(0.0))
        | st.tuples(st.sampled_from(["face", "framing", "mode"]), st.just(0.0), st.just(0.0)),
        max_size=12,
    ),
)
def test_no_series_of_keys_leaves_the_picture(
    content: PictureContent, size: tuple[int, int], choice: CropChoice, keys: list[tuple[str, float, float]]
) -> None:
    # A box by hand that is none is nothing that can be chosen, or read from a file.
    assume(choice.mode != "manual" or choice.box is not None)
    for key, first, second in keys:
        match key:
            case "move":
                choice = crop_changes.moved(choice, content, size, first, second)
            case "size":
                choice = crop_changes.resized(choice, content, size, first)
            case "face":
                choice = crop_changes.next_face(choice, content)
            case "framing":
                choice = crop_changes.next_framing(choice)
            case "mode":
                choice = crop_changes.next_mode(choice, content, size)
        assert_lies_in(crop_for(content, size, choice), content)
        assert CropChoice.from_values(choice.to_values()) == CropChoice.from_values(
            CropChoice.from_values(choice.to_values()).to_values()  # type: ignore[union-attr]
        )


@given(CHOICES)
def test_a_choice_comes_back_from_its_values(choice: CropChoice) -> None:
    if choice.mode == "manual" and choice.box is None:
        assert CropChoice.from_values(choice.to_values()) is None
        return
    back = CropChoice.from_values(choice.to_values())
    assert back is not None
    assert (back.mode, back.box, back.face) == (choice.mode, choice.box, choice.face)
    assert back.framing == (choice.framing if choice.mode == "face" else "head")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["mode", "box", "face", "framing"]), inner)
        ),
    )
)
def test_any_values_are_a_choice_or_none(values: object) -> None:
    choice = CropChoice.from_values(values)
    assert choice is None or choice.mode in crop_boxes.MODES


def test_a_face_is_put_in_the_upper_middle() -> None:
    face = Face(900, 500, 200, 240)
    crop = crop_for(PictureContent((3000, 2000), (face,)), (512, 512))
    assert crop.rule == "face" and crop.box.width == 2000
    assert crop.box.left == 0, "the face is near the left edge: the box goes no further"
    wide = crop_for(PictureContent((6000, 2000), (Face(2900, 500, 200, 240),)), (512, 512))
    assert wide.box.left + wide.box.width / 2 == pytest.approx(3000)
    tall = crop_for(PictureContent((2000, 6000), (Face(900, 2900, 200, 240),)), (512, 512))
    assert (2900 + 0.4 * 240 - tall.box.top) / tall.box.height == pytest.approx(0.42)


def test_a_head_is_not_cut_where_the_box_can_hold_it() -> None:
    face = Face(0, 900, 800, 1000)
    crop = crop_for(PictureContent((2000, 5000), (face,)), (512, 512))
    head = face.head((2000, 5000))
    assert crop.box.top <= head.top and head.bottom <= crop.box.bottom


def test_of_several_faces_the_largest_is_followed_and_the_others_on_demand() -> None:
    small, large = Face(100, 100, 100, 120), Face(2500, 100, 300, 360)
    content = PictureContent((3000, 1000), (small, large, Face(1500, 0, 20, 20), Face(1000, 0, 400, 400, 60)))
    first = crop_for(content, (512, 512))
    assert first.face == 0 and first.box.left == 2000
    choice = crop_changes.next_face(AUTO, content)
    second = crop_for(content, (512, 512), choice)
    assert second.face == 1 and second.box.left == 0
    assert crop_for(content, (512, 512), crop_changes.next_face(choice, content)) == first, (
        "two count; the others are no faces"
    )


def test_without_faces_the_edges_decide_and_the_middle_pulls() -> None:
    right = tuple([0.5] * 44 + [30.0] * 20)
    crop = crop_for(PictureContent((2000, 1000), (), (right, ())), (512, 512))
    assert crop.rule == "detail" and crop.box.left == pytest.approx(1000, abs=10)
    even = crop_for(PictureContent((2000, 1000), (), ((9.0,) * 64, ())), (512, 512))
    assert even.rule == "detail" and even.box.left == pytest.approx(500, abs=5)


def test_a_flat_picture_is_cut_in_the_middle_and_a_tall_one_above_it() -> None:
    flat = ((0.1,) * 64, (0.1,) * 64)
    wide = crop_for(PictureContent((2000, 1000), None, flat), (512, 512))
    assert wide.rule == "centre" and wide.box.left == 500
    tall = crop_for(PictureContent((1000, 2000), None, flat), (512, 512))
    assert tall.rule == "centre" and tall.box.top == pytest.approx(300), "10 % of the height above the middle"
    assert crop_for(PictureContent((1000, 2000)), (512, 512), CropChoice("centre")).box.top == 500


def test_a_square_picture_is_used_whole_and_one_of_the_right_size_kept() -> None:
    face = (Face(10, 10, 100, 100),)
    assert crop_for(PictureContent((2000, 2000), face), (512, 512)).rule == "whole"
    assert crop_for(PictureContent((512, 512), face), (512, 512)).rule == "keep"
    assert crop_for(PictureContent((512, 512), face), (512, 512)).trivial
    assert not crop_for(PictureContent((500, 500)), (512, 512)).trivial, "it is enlarged"
    assert crop_for(PictureContent((2000, 1000)), (512, 512), CropChoice("keep")).rule == "centre", "it cannot be kept"


def test_the_whole_of_a_long_picture_is_padded() -> None:
    crop = crop_for(PictureContent((2000, 1000)), (512, 512), CropChoice("whole"))
    assert crop.padded and crop.upscale == 0.256 and crop.box == Box(0, 0, 2000, 1000)


def test_framing_takes_more_or_less_around_the_face_but_never_too_few_pixels() -> None:
    content = PictureContent((4000, 3000), (Face(1800, 1000, 300, 400),))
    sides = [
        crop_for(content, (512, 512), CropChoice("face", framing=framing)).box.height for framing in crop_boxes.FRAMINGS
    ]
    assert sides == pytest.approx([2.2 * 400, 3.2 * 400, 5 * 400])
    small = PictureContent((4000, 3000), (Face(1800, 1000, 120, 150),))
    assert crop_for(small, (512, 512), CropChoice("face", framing="close-up")).box.height == 512


def test_a_long_picture_is_split_into_overlapping_squares() -> None:
    crops = crops_for(PictureContent((3000, 1000)), (512, 512), CropChoice("split"))
    assert [crop.box.left for crop in crops] == pytest.approx([0, 2000 / 3, 4000 / 3, 2000])
    assert all(crop.rule == "split" and crop.box.width == 1000 for crop in crops)
    assert len(crops_for(PictureContent((1400, 1000)), (512, 512), CropChoice("split"))) == 1
    assert len(crops_for(PictureContent((1000, 1800)), (512, 512), CropChoice("split"))) == 2


def test_keys_move_and_resize_the_box_that_is_seen() -> None:
    content = PictureContent((3000, 1000), (Face(1400, 100, 200, 240),))
    first = crop_for(content, (512, 512))
    left = crop_changes.moved(AUTO, content, (512, 512), -crop_changes.STEP, 0)
    crop = crop_for(content, (512, 512), left)
    assert crop.rule == "manual" and crop.box.left == pytest.approx(first.box.left - 1000 / 32)
    smaller = crop_changes.resized(left, content, (512, 512), 1 / crop_changes.GROW)
    assert crop_for(content, (512, 512), smaller).box.width == pytest.approx(1000 / crop_changes.GROW)
    for _ in range(100):
        smaller = crop_changes.resized(smaller, content, (512, 512), 1 / crop_changes.GROW)
    assert crop_for(content, (512, 512), smaller).upscale == pytest.approx(crop_boxes.MOST), "no smaller than that"
    assert crop_changes.next_mode(smaller, content, (512, 512)) == AUTO


def test_only_modes_that_make_a_difference_are_offered() -> None:
    assert crop_changes.modes_for(PictureContent((512, 512)), (512, 512)) == ("auto",)
    assert crop_changes.modes_for(PictureContent((2000, 2000), (Face(0, 0, 500, 500),)), (512, 512)) == ("auto", "face")
    assert crop_changes.modes_for(PictureContent((2000, 1000)), (512, 512)) == ("auto", "centre", "whole", "split")
