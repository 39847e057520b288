"""Theme files: what is read, what is complained of, and that the shipped ones are readable and work in a real app."""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color as Colour
from rich.console import Console
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme
from textual.widgets import (
    Button,
    Checkbox,
    DataTable,
    Input,
    OptionList,
    ProgressBar,
    Select,
    Sparkline,
    Static,
    Switch,
    TextArea,
)

import ti_tui.screens
from ti_tui import settings
from ti_tui.setup.fields import field
from ti_tui.themes import VARIABLES, LoadedThemes, few_colours, load_themes, shipped_and_own, variable_defaults
from ti_tui.widgets.controls import TextLine, as_example
from ti_tui.widgets.field_row import FieldRow
from ti_tui.widgets.key_line import KeyLine

MINIMAL = 'name = "mine"\nprimary = "#7aa2c8"\n'
SHIPPED = {theme.name: theme for theme in load_themes([settings.shipped_themes_folder()]).themes}
PAINTS = ("foreground", "background", "surface", "panel", "primary", "accent", "warning", "error", "success")
TRUECOLOUR = {name: theme for name, theme in SHIPPED.items() if not theme.ansi}


def load(folder: Path, content: str | bytes, name: str = "mine.toml") -> LoadedThemes:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load_themes([folder])


def only_problem(loaded: LoadedThemes) -> str:
    assert loaded.themes == ()
    (problem,) = loaded.problems
    return problem


def wcag(one: str, other: str) -> float:
    """Contrast ratio as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio has it, for "#rrggbb"."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def colours(theme: Theme) -> dict[str, str]:
    """Every variable of a theme as an app makes it, colours as "#rrggbb"."""
    made = variable_defaults(theme) | theme.to_color_system().generate() | theme.variables
    return {name: Color.parse(made[name]).hex6 for name in (*VARIABLES, *PAINTS)}


class Sampler(App[None]):
    """Text in each of our variables, and the widgets that our screens use."""

    CSS = "\n".join(f"#{name} {{ color: ${name}; border-left: tall ${name}; }}" for name in (*VARIABLES, *PAINTS)) + (
        "\nStatic.on { background: $selected; } #dialog { background: $surface-active; color: $foreground-disabled; }"
    )
    BINDINGS: ClassVar = [("f1", "help", "Help")]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def compose(self) -> ComposeResult:
        for name in (*VARIABLES, *PAINTS):
            yield Static(name, id=name)
        yield Static("the row under the cursor", classes="on")
        yield Static("dialog", id="dialog")
        yield Input("zkz", placeholder="token")
        yield Input(placeholder="token")
        yield Select([("one", 1), ("two", 2)])
        yield OptionList("first", "second")
        yield Checkbox("flip", value=True)
        yield Switch(value=True)
        yield Button("Train", variant="primary")
        yield Button("Stop", disabled=True)
        yield ProgressBar(total=10)
        yield Sparkline([1, 3, 2])
        yield TextArea("a caption")
        yield DataTable()
        yield KeyLine()


def frames(*names: str, own: tuple[Theme, ...] = ()) -> list[list[Segment]]:
    """What the sampler draws in each theme in turn, switched while it runs, as the terminal gets it."""

    async def run() -> list[list[Segment]]:
        app = Sampler()
        drawn = []
        async with app.run_test(size=(80, 110)) as pilot:
            for theme in (*SHIPPED.values(), *own):
                app.register_theme(theme)
            for name in names:
                app.theme = name
                for _ in range(3):
                    await pilot.press("tab")
                await pilot.pause()
                muted = app.query_one("#muted").styles.color
                assert muted == Color.parse(app.theme_variables["muted"])
                app.notify("a message")
                await pilot.pause()
                drawn.append([segment for strip in app.screen._compositor.render_strips() for segment in strip])
        return drawn

    return asyncio.run(run())


def escape_codes(segments: list[Segment]) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=200, no_color=False)
    for segment in segments:
        console.print(segment.text, style=segment.style, end="", markup=False, highlight=False)
    return out.getvalue()


def has_truecolor(segments: list[Segment]) -> bool:
    codes = escape_codes(segments)
    return "38;2;" in codes or "48;2;" in codes


@pytest.fixture(autouse=True)
def with_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual chooses its NO_COLOR filter (grey truecolor) when the app is made, for the theme of that moment."""
    monkeypatch.delenv("NO_COLOR", raising=False)


# What ships


def test_seven_themes_ship_without_a_problem() -> None:
    loaded = shipped_and_own()
    assert loaded.problems == ()
    assert {theme.name for theme in loaded.themes} == {
        "quiet", "paper", "contrast", "colour-blind", "ansi", "ember", "fjord",
    }  # fmt: skip


def test_the_default_theme_ships() -> None:
    assert {settings.DEFAULT_THEME, settings.FEW_COLOURS_THEME} <= set(SHIPPED)


def test_each_shipped_file_opens_with_a_comment_and_is_named_like_its_theme() -> None:
    for file in settings.shipped_themes_folder().glob("*.toml"):
        assert file.read_text(encoding="utf-8").startswith("# ")
        assert file.stem in SHIPPED


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_text_is_readable_in(name: str) -> None:
    made = colours(TRUECOLOUR[name])
    for ground in ("background", "surface", "panel", "selected"):
        assert wcag(made["foreground"], made[ground]) >= 4.5, f"foreground on {ground}"
        assert wcag(made["muted"], made[ground]) >= 4.5, f"muted on {ground}"
    for text in ("accent", "warning", "error", "success", "primary"):
        assert wcag(made[text], made["background"]) >= 4.5, text


def test_the_contrast_theme_reaches_seven_to_one() -> None:
    made = colours(SHIPPED["contrast"])
    for ground in ("background", "surface", "panel", "selected"):
        assert wcag(made["foreground"], made[ground]) >= 7
        assert wcag(made["muted"], made[ground]) >= 7
    for text in ("accent", "warning", "error", "success", "primary"):
        assert wcag(made[text], made["background"]) >= 7


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_curves_stand_out_from_the_ground_and_from_each_other_in(name: str) -> None:
    made = colours(TRUECOLOUR[name])
    curves = [made[curve] for curve in VARIABLES if curve.startswith("chart-")]
    assert all(wcag(curve, made["background"]) >= 3 for curve in curves)
    for one, other in itertools.combinations(curves, 2):
        assert math.dist(Color.parse(one).rgb, Color.parse(other).rgb) >= 60


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB: red, green and blue blindness.
BLINDNESS = {
    "protanopia": [(0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)],
    "deuteranopia": [(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)],
    "tritanopia": [(1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colour_blind_theme_keeps_curves_and_states_apart_with(kind: str) -> None:
    def seen(colour: str) -> list[float]:
        linear = [(part + 0.055) / 1.055 for part in Color.parse(colour).normalized]
        linear = [part**2.4 for part in linear]
        mixed = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in BLINDNESS[kind]]
        return [255 * (1.055 * min(max(part, 0.0), 1.0) ** (1 / 2.4) - 0.055) for part in mixed]

    made = colours(SHIPPED["colour-blind"])
    curves = [name for name in VARIABLES if name.startswith("chart-")]
    pairs = [*itertools.combinations(curves, 2), ("success", "warning"), ("success", "error")]
    for one, other in pairs:
        assert math.dist(seen(made[one]), seen(made[other])) >= 60, (one, other)


@pytest.mark.parametrize(
    ("environment", "few"),
    [
        ({"TERM": "xterm"}, True), ({"TERM": "screen"}, True), ({"TERM": "linux"}, True), ({"TERM": "vt100"}, True),
        ({"TERM": "xterm-16color"}, True), ({"TERM": "dumb"}, True), ({}, True),
        ({"TERM": "xterm-256color"}, False), ({"TERM": "screen-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, False), ({"TERM": "xterm-kitty"}, False),
        ({"TERM": "xterm", "TEXTUAL_COLOR_SYSTEM": "truecolor"}, False),
    ],
)  # fmt: skip
def test_few_colours_are_told_from_the_environment(environment: dict[str, str], few: bool) -> None:
    assert few_colours(environment) is few


# In a real app


def test_every_shipped_theme_can_be_switched_to_while_the_app_runs() -> None:
    drawn = frames(*SHIPPED)
    assert len(drawn) == len(SHIPPED)
    assert len({escape_codes(segments) for segments in drawn}) == len(SHIPPED)


def test_our_variables_work_in_textuals_own_themes_too() -> None:
    frames("textual-light", "ansi-dark", "ansi-light", "nord")


def test_the_ansi_theme_sends_no_truecolor() -> None:
    quiet, ansi = frames("quiet", "ansi")
    assert has_truecolor(quiet), "the sampler must show truecolor where there is some"
    assert not has_truecolor(ansi)


def test_a_users_small_ansi_theme_sends_no_truecolor_either(tmp_path: Path) -> None:
    own = load(tmp_path / "own", 'name = "console"\nansi = true\nprimary = "ansi_green"\n').themes
    (drawn,) = frames("console", own=own)
    assert not has_truecolor(drawn)


# A user's own


def test_a_users_theme_of_the_same_name_wins(tmp_path: Path) -> None:
    own = settings.config_folder() / "themes"
    own.mkdir(parents=True)
    (own / "quiet.toml").write_text('name = "quiet"\nprimary = "#123456"\n')
    loaded = shipped_and_own()
    (quiet,) = [theme for theme in loaded.themes if theme.name == "quiet"]
    assert quiet.primary == "#123456"
    assert loaded.problems == ()


def test_a_bad_file_of_the_users_leaves_the_shipped_theme_in_place() -> None:
    own = settings.config_folder() / "themes"
    own.mkdir(parents=True)
    (own / "quiet.toml").write_text('name = "quiet"\nprimary = "bleu"\n')
    loaded = shipped_and_own()
    assert len(loaded.themes) == 7
    assert len(loaded.problems) == 1


def test_folders_that_are_not_there_are_passed_over(tmp_path: Path) -> None:
    assert load_themes([tmp_path / "nowhere"]) == LoadedThemes((), ())


def test_a_name_and_a_primary_colour_make_a_theme_with_all_our_variables(tmp_path: Path) -> None:
    (theme,) = load(tmp_path, MINIMAL).themes
    assert set(VARIABLES) <= set(theme.variables)


def test_a_light_background_makes_a_light_theme_when_dark_is_left_out(tmp_path: Path) -> None:
    (theme,) = load(tmp_path, MINIMAL + 'background = "#ffffff"\n').themes
    assert theme.dark is False


def test_a_given_variable_is_kept_and_the_others_are_derived(tmp_path: Path) -> None:
    (theme,) = load(tmp_path, MINIMAL + '[variables]\nmuted = "rgb(1,2,3)"\nborder = "white 50%"\n').themes
    assert theme.variables["muted"] == "#010203"
    assert Color.parse(theme.variables["border"]).a == pytest.approx(0.5, abs=0.01)
    assert theme.variables["rule"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('primary = "#7aa2c8"', ["name", "is missing", 'name = "mine"']),
        ('name = "mine"', ["primary", "is missing", "#7aa2c8"]),
        (MINIMAL + 'accent = "#12"', ["accent", "'#12' is not a colour", "Write it like"]),
        (MINIMAL + 'accent = "oranje"', ["accent", "'oranje'", 'Did you mean "orange"?']),
        (MINIMAL + "accent = 7", ["accent", "7 is not a colour", "Write it like"]),
        (MINIMAL + 'acent = "red"', ["acent", "not a key of a theme", "Did you mean accent?"]),
        (MINIMAL + 'dark = "yes"', ["dark", "'yes'", "dark = true or dark = false"]),
        (MINIMAL + 'accent = "ansi_blue"', ["accent", "needs ansi = true"]),
        (MINIMAL + 'background = "#00000080"', ["background", "is transparent", "without transparency"]),
        (MINIMAL + "variables = 3", ["variables", "is not a table", "[variables]"]),
        (MINIMAL + '[variables]\nmutd = "red"', ["variables.mutd", "Did you mean muted?"]),
        (MINIMAL + '[variables]\nmuted = "rde"', ["variables.muted", "'rde' is not a colour", 'Did you mean "red"?']),
        (MINIMAL + '[variables]\nlink-style = "not"', ["variables.link-style", "not a text style", '"bold"']),
        (MINIMAL + '[variables]\nborder = "red; } * { color: red"', ["variables.border", "is not a colour"]),
        ('name = "a,b"\nprimary = "red"', ["name", "'a,b'", "letters, digits"]),
        ('name = "mine"\nansi = true\nprimary = "#ff0000"', ["primary", "16 colours", "ansi_blue"]),
        ("name = mine", ["is not valid TOML", "line 1", "quotes"]),
        (b"name = '\xff'", ["is not UTF-8"]),
        ("name = " + "[" * 5000, ["mine.toml"]),
        (MINIMAL + 'accent = "rgb(' + "9" * 400 + ',0,0)"', ["accent", "is not a colour"]),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_remedy(tmp_path: Path, content: str | bytes, parts: list[str]) -> None:
    problem = only_problem(load(tmp_path, content))
    assert problem.startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in problem
    for part in parts:
        assert part in problem


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'name = "mine"\naccent = "x"\npanel = 1\ncolour = "red"\n')
    assert len(loaded.problems) == 4


def test_two_files_with_one_name_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(MINIMAL)
    (tmp_path / "b.toml").write_text(MINIMAL)
    loaded = load_themes([tmp_path])
    assert len(loaded.themes) == 1
    assert "b.toml: name" in loaded.problems[0] and "a.toml" in loaded.problems[0]


def test_a_folder_and_a_dangling_link_among_the_files_are_problems(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "link.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "mine.toml").write_text(MINIMAL)
    loaded = load_themes([tmp_path])
    assert [theme.name for theme in loaded.themes] == ["mine"]
    assert len(loaded.problems) == 2


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode()).problems == ()


# Whatever stands in the file

hexes = st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)
words = st.one_of(hexes, st.sampled_from(["ansi_red", "ansi_default", "red", "auto 60%", "none", "bold"]), st.text())
values = st.recursive(
    st.one_of(words, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)
theme_keys = st.one_of(st.sampled_from(["name", "dark", "ansi", "variables", *PAINTS]), st.text(max_size=8))
variable_keys = st.sampled_from(
    [*VARIABLES, "link-style", "border", "background-darken-1", "primary-lighten-1", "text"]
)
tables = st.builds(
    lambda base, more, variables: {**base, **more, **({"variables": variables} if variables else {})},
    st.fixed_dictionaries({"name": st.just("mine"), "primary": words}),
    st.dictionaries(theme_keys, values, max_size=4),
    st.dictionaries(variable_keys, words, max_size=4),
)


def loads_or_complains(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(Path(folder), content)
    assert len(loaded.themes) == (0 if loaded.problems else 1)
    for theme in loaded.themes:
        made = theme.to_color_system().generate() | theme.variables
        for name in VARIABLES:
            Color.parse(made[name])


@given(st.binary())
def test_no_bytes_make_it_raise(content: bytes) -> None:
    loads_or_complains(content)


@given(tables)
def test_no_toml_makes_it_raise_and_what_it_lets_pass_textual_can_use(table: dict[str, object]) -> None:
    try:
        content = tomli_w.dumps(table).encode()
    except UnicodeEncodeError:
        return
    loads_or_complains(content)


@given(background=hexes, foreground=hexes, primary=hexes, accent=hexes)
def test_derived_explanations_are_readable_and_derived_curves_differ(
    background: str, foreground: str, primary: str, accent: str
) -> None:
    theme = Theme("any", primary, background=background, foreground=foreground, accent=accent)
    made = variable_defaults(theme)
    assert wcag(made["muted"], background) >= 4.5
    curves = [Color.parse(made[name]).rgb for name in VARIABLES if name.startswith("chart-")]
    assert all(math.dist(one, other) >= 60 for one, other in itertools.combinations(curves, 2))


def test_defaults_without_a_theme_name_every_variable() -> None:
    assert set(variable_defaults()) == set(VARIABLES)
    assert variable_defaults() == variable_defaults(BUILTIN_THEMES["textual-dark"])


# Fields


class Form(App[None]):
    """A field that shows an example, with and without the focus, in the styles of all screens."""

    CSS_PATH = Path(ti_tui.screens.__file__).parent / "app.tcss"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def compose(self) -> ComposeResult:
        for name in ("photographs", "embedding.token"):
            yield FieldRow(field(name), "", placeholder=as_example("something"))


def test_examples_and_defaults_in_a_field_are_readable_in_every_theme() -> None:
    async def run() -> None:
        app = Form()
        async with app.run_test(size=(60, 8)) as pilot:
            for theme in SHIPPED.values():
                app.register_theme(theme)
            await pilot.press("tab")
            for name, theme in app.available_themes.items():
                if theme.ansi:
                    continue
                app.theme = name
                await pilot.pause()
                drawn = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
                shown = [segment for segment in drawn if "omething" in segment.text]
                assert len(shown) == 2
                for segment in shown:
                    assert segment.style is not None and segment.style.color is not None and segment.style.bgcolor
                    ink, ground = (part.get_truecolor().hex for part in (segment.style.color, segment.style.bgcolor))
                    assert wcag(ink, ground) >= 4.5, (name, ink, ground)

    asyncio.run(run())


def test_without_colours_the_cursor_and_the_chosen_row_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def run() -> None:
        app = Form(ansi_color=True)
        async with app.run_test(size=(60, 8)) as pilot:
            app.register_theme(SHIPPED["ansi"])
            app.theme = "ansi"
            await app.mount(OptionList("first", "second"))
            app.query_one(OptionList).highlighted = 1
            for widget, shown in ((app.query(TextLine).first(), "e"), (app.query_one(OptionList), "second")):
                widget.focus()
                await pilot.pause()
                drawn = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
                styles = [(segment.text, segment.style) for segment in drawn if segment.style is not None]
                assert {style.color for _, style in styles} == {Colour.parse("default")}
                assert any(text == shown and (style.reverse or style.underline) for text, style in styles)

    asyncio.run(run())
