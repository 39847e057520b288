"""What becomes of a captioner's words: cleaned, and put together with the captions that are there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui.dataset.caption_text import CaptionMode, CaptionRules, clean_caption, words_of_name

OLD, MADE = "an old caption", "a woman, smiling"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("arafed woman in a red coat.", "woman in a red coat"),
        ("there is an arafed view of a  city", "there is a view of a city"),
        ("a araffed image of an arafed old man", "an image of an old man"),
        ("Arafed, a man", "a man"),
        ("a photo of yasser arafat", "a photo of yasser arafat"),
        ("a carafe on a table", "a carafe on a table"),
        ("a man with a a a hat", "a man with a hat"),
        ("a man, a man, a man sitting", "a man sitting"),
        ("two zebras , two zebras", "two zebras"),
        ("a dog and a dog and a dog", "a dog and a dog"),
        ("a man in a t - shirt", "a man in a t-shirt"),
        ("it ' s a close - up of a cat", "it's a close-up of a cat"),
        ("a woman , smiling .", "a woman, smiling"),
        ("  a\nb\tc\u200bd\x1b ", "a b cd"),
        ("a half letter\ufffd", "a half letter"),
        ("an hour in an x-ray", "an hour in an x-ray"),
        ("arafed", ""),
        (" - . , ", ""),
        ("", ""),
    ],
)
def test_a_captioners_words_are_cleaned(said: str, meant: str) -> None:
    assert clean_caption(said) == meant


@given(st.text())
def test_cleaning_gives_one_printable_line_and_is_done_once(said: str) -> None:
    text = clean_caption(said)
    assert text == text.strip() and (text.isprintable() or not text) and "  " not in text


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("0001", ""),
        ("00012-0-a_red_coat", "a red coat"),
        ("2024-05-03 beach", "beach"),
        ("anna_at  the_sea", "anna at the sea"),
        ("IMG_2031", "IMG 2031"),
    ],
)
def test_a_name_becomes_words_as_in_a1111(stem: str, words: str) -> None:
    assert words_of_name(stem) == words


@pytest.mark.parametrize(
    ("mode", "wanted", "text"),
    [
        ("missing", False, MADE),
        ("replace", True, MADE),
        ("prepend", True, f"{MADE}, {OLD}"),
        ("append", True, f"{OLD}, {MADE}"),
    ],
)
def test_the_four_modes(mode: CaptionMode, wanted: bool, text: str) -> None:
    rules = CaptionRules(mode)
    assert rules.wants("") and rules.wants(OLD) == wanted
    assert rules.combined(OLD, MADE) == text
    assert rules.combined("", MADE) == MADE


@pytest.mark.parametrize("mode", ["missing", "replace", "prepend", "append"])
@pytest.mark.parametrize("prefix", ["", "a portrait of", "studio light, ", "a"])
@pytest.mark.parametrize("old", ["", OLD, MADE, "a portrait of an old man", "annas hat"])
def test_captioning_again_changes_nothing_more(mode: CaptionMode, prefix: str, old: str) -> None:
    rules = CaptionRules(mode, prefix)
    once = rules.combined(old, MADE)
    assert rules.combined(once, MADE) == once


def test_the_prefix_stands_once_and_at_the_front() -> None:
    rules = CaptionRules("prepend", "studio light,")
    assert rules.combined("studio light, an old man", MADE) == f"studio light, {MADE}, an old man"
    assert CaptionRules(prefix="a photo of").combined("", "a photo of a cat") == "a photo of a cat"
    assert CaptionRules(prefix="a photo").combined("", "a photograph") == "a photo a photograph"
