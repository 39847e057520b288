"""Texts as people read them."""

from __future__ import annotations

import pytest

from ti_tui.formatting import enlarged, figure, wrapped


def test_a_text_is_broken_between_words_and_a_name_stays_whole() -> None:
    assert wrapped("the prompt-following is low", 16) == ["the", "prompt-following", "is low"]
    assert wrapped("one\ntwo", 10) == ["one two"]
    assert wrapped("", 10) == [""]


def test_what_is_longer_than_a_line_is_cut_by_cells() -> None:
    assert wrapped("see /a/long/path.txt", 8) == ["see", "/a/long/", "path.txt"]
    assert wrapped("写真写真", 4) == ["写真", "写真"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.125, "0.125"),
        (2.5, "2.5"),
        (40, "40"),
        (999.4, "999"),
        (999.9, "1000"),
        (13234.0, "13200"),
        (1e9, "1000000000"),
    ],
)
def test_a_figure_has_no_exponent(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("times", "said"),
    [(2.4, "2.4 times"), (1.06, "1.1 times"), (1.04, "by 4 %"), (1.0001, "by less than 1 %"), (12.0, "12 times")],
)
def test_an_enlargement_is_never_once(times: float, said: str) -> None:
    assert enlarged(times) == f"enlarged {said}"
