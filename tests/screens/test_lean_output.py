"""What is sent to the terminal: less than Textual writes, and the same to see."""

from __future__ import annotations

from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.style import Style

from ti_tui.screens.lean_output import LeanOutput

COLUMNS, ROWS = 12, 4
COLOURS = st.sampled_from([None, "default", "red", "bright_black", "color(100)", "#102030", "#e0a458"])
FLAGS = ("bold", "dim", "italic", "underline", "reverse", "strike")
STYLES = st.builds(
    lambda colour, ground, flags: Style(color=colour, bgcolor=ground, **dict.fromkeys(flags, True)),
    COLOURS,
    COLOURS,
    st.sets(st.sampled_from(FLAGS), max_size=2),
)
LETTERS = st.text(st.sampled_from("ab  ━▀é"), min_size=1, max_size=6)


@st.composite
def painted(draw: st.DrawFn) -> str:
    """A paint as Textual writes it: places, pieces of text with their whole style, the cursor at last."""
    written = []
    for _ in range(draw(st.integers(1, 4))):
        written.append(f"\x1b[{draw(st.integers(1, ROWS))};{draw(st.integers(1, 4))}H")
        room = COLUMNS - 4
        for text, style in draw(st.lists(st.tuples(LETTERS, STYLES), min_size=1, max_size=3)):
            written.append(style.render(text[: max(0, room)], color_system=ColorSystem.TRUECOLOR))
            room -= len(text)
    return "".join([*written, f"\x1b[{draw(st.integers(1, ROWS))};{draw(st.integers(1, COLUMNS))}H"])


def looks(screen: Any) -> list[Any]:
    """What a person sees: letters, and of each what can be seen of its style."""
    seen = []
    for y in range(ROWS):
        for x in range(COLUMNS):
            cell = screen.buffer[y][x]
            lines = (cell.underscore, cell.reverse, cell.strikethrough)
            ink = () if cell.data == " " and not any(lines) else (cell.fg, cell.bold, cell.italics)
            seen.append((cell.data, cell.bg, lines, ink))
    return [*seen, (screen.cursor.y, screen.cursor.x)]


@settings(max_examples=60, deadline=None)
@given(st.lists(painted(), min_size=1, max_size=5))
def test_the_terminal_shows_what_textual_paints(paints: list[str]) -> None:
    lean = LeanOutput()
    full, lean_screen = pyte.Screen(COLUMNS, ROWS), pyte.Screen(COLUMNS, ROWS)
    streams = pyte.Stream(full), pyte.Stream(lean_screen)
    for paint in paints:
        streams[0].feed(paint)
        streams[1].feed(lean.shorten(paint))
        assert looks(lean_screen) == looks(full)


def test_nothing_is_sent_for_what_is_there_already() -> None:
    lean, paint = LeanOutput(), "\x1b[1;1H\x1b[1;38;2;1;2;3mword\x1b[0m\x1b[2;1H"
    assert lean.shorten(paint) == "\x1b[1;1H\x1b[1;38;2;1;2;3mword\x1b[m\x1b[2;1H"
    assert [lean.shorten(part) for part in ("\x1b[?2026h", paint, "\x1b[?2026l")] == ["", "", ""]
    changed = paint.replace("word", "wood")
    assert lean.shorten("\x1b[?2026h") == ""
    assert lean.shorten(changed) == "\x1b[?2026h\x1b[1;3H\x1b[1;38;2;1;2;3mo\x1b[m\x1b[2;1H"
    assert lean.shorten("\x1b[?2026l") == "\x1b[?2026l"


@pytest.mark.parametrize(
    "other",
    ["\x1b[1;1H\x1b_Gi=1;AAAA\x1b\\", "\x1b[1;1Hme\u0301", "\x1b[2J", "\x1b[1;1H\x1b]8;;http://x\x1b\\x", "no place"],
)
def test_what_cannot_be_followed_is_passed_on_and_everything_is_sent_again_after_it(other: str) -> None:
    lean, paint = LeanOutput(), "\x1b[1;1Hword\x1b[1;1H"
    lean.shorten(paint)
    assert lean.shorten(other) == other
    assert lean.shorten(paint) == paint


@pytest.mark.parametrize("mode", ["\x1b[?25l", "\x1b]0;title\x07", "\x1b]52;c;AAAA\x07", "\x07", "\x1b[>25u"])
def test_modes_and_titles_are_passed_on_and_change_no_cell(mode: str) -> None:
    lean, paint = LeanOutput(), "\x1b[1;1Hword\x1b[1;1H"
    lean.shorten(paint)
    assert lean.shorten(mode) == mode
    assert lean.shorten(paint) == ""


def test_after_a_change_of_the_size_everything_is_sent_again() -> None:
    lean, paint = LeanOutput(), "\x1b[1;1Hword\x1b[1;1H"
    lean.shorten(paint)
    lean.forget()
    assert lean.shorten(paint) == paint
    assert lean.shorten("\x1b[?1049h") == "\x1b[?1049h"
    assert lean.shorten(paint) == paint
