"""The difference hash: what is the same picture, what is another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tests.fixtures.bad_pictures import photo
from ti_tui.dataset.duplicates import ALIKE, SAME, Fingerprint, LookalikeFinder, fingerprint

BITS = st.integers(0, 2**128 - 1)
TELLING = BITS.filter(lambda bits: Fingerprint(bits, bits).comparable)
NAMES = ("astronaut", "coffee", "rocket", "chelsea", "motorcycle", "retina", "immunohistochemistry")


def of(image: Image.Image) -> Fingerprint:
    return fingerprint(image.convert("L"))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_photograph_saved_another_way_is_the_same(name: str) -> None:
    image = photo(name)
    original = of(image)
    for other in (
        image.resize((300, 257), Image.Resampling.LANCZOS),
        image.filter(ImageFilter.GaussianBlur(2)),
        image.convert("L"),
        ImageOps.mirror(image),
    ):
        assert original.distance(of(other)) <= SAME
    assert original.distance(of(ImageEnhance.Brightness(image).enhance(1.2))) <= ALIKE


def test_different_photographs_are_far_apart() -> None:
    prints = [of(photo(name)) for name in NAMES]
    apart = [a.distance(b) for i, a in enumerate(prints) for b in prints[:i]]
    assert min(apart) > ALIKE


@given(BITS, BITS, BITS)
def test_distance_is_symmetric_in_its_bits_and_none_to_itself(first: int, second: int, mirrored: int) -> None:
    one, other = Fingerprint(first, mirrored), Fingerprint(second, mirrored)
    assert one.distance(one) == 0
    assert (one.bits ^ other.bits).bit_count() >= one.distance(other)


@given(st.lists(TELLING, min_size=1, max_size=80, unique=True), st.integers(0, 127))
def test_the_gallery_finds_the_nearest(known: list[int], flipped: int) -> None:
    gallery = LookalikeFinder()
    for number, bits in enumerate(known):
        gallery.add(Path(str(number)), Fingerprint(bits, bits))
    asked = Fingerprint(known[-1] ^ 1 << flipped, known[-1] ^ 1 << flipped)
    match = gallery.nearest(asked)
    if asked.comparable:
        assert match is not None and match.bits == min((bits ^ asked.bits).bit_count() for bits in known)


def test_a_mirrored_picture_is_told_as_such_and_even_ones_match_nothing() -> None:
    gallery = LookalikeFinder()
    gallery.add(Path("a"), of(photo("coffee")))
    gallery.add(Path("black"), of(Image.new("L", (100, 100))))
    match = gallery.nearest(of(ImageOps.mirror(photo("coffee"))))
    assert match is not None and match.mirrored and match.path == Path("a")
    assert gallery.nearest(of(Image.new("L", (100, 100)))) is None
