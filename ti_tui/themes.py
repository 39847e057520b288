"""Themes: reads theme files, checks every colour and derives ti_tui's CSS variables. The app calls it at start."""

from __future__ import annotations

import io
import math
import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.errors import StyleSyntaxError
from rich.style import Style
from textual.color import BLACK, WHITE, Color, ColorParseError
from textual.css.constants import VALID_STYLE_FLAGS
from textual.theme import BUILTIN_THEMES, Theme

from ti_tui import bounded, settings
from ti_tui.run.problems import nearest

VARIABLES: tuple[str, ...] = ("muted", "rule", "selected", "chart-raw", "chart-smooth", "chart-eval", "chart-rate")
"""ti_tui's own CSS variables, which every screen may use in its .tcss, as `$muted`.

muted: explanations. rule: thin lines. selected: background of the row under the cursor. chart-*: the curves of
the raw loss, the smoothed loss, the eval loss and the learning rate.
"""

READABLE = 4.5
"""Contrast that WCAG 2 asks for normal text (level AA)."""

_COLOURS = (
    *("primary", "secondary", "warning", "error", "success", "accent"),
    *("foreground", "background", "surface", "panel", "boost"),
)
_KEYS = ("name", "dark", "ansi", *_COLOURS, "variables")
# App.get_theme splits names at commas, and the name becomes a CSS class.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_COLOUR_EXAMPLE = 'Write it like "#7aa2c8", or by name, like "steelblue".'
_ANSI_EXAMPLE = 'Write one of the terminal\'s colours, like "ansi_blue", "ansi_bright_black" or "ansi_default".'


@dataclass(frozen=True)
class LoadedThemes:
    """Themes that are safe to register, and a message for each mistake in the files that were left out."""

    themes: tuple[Theme, ...]
    problems: tuple[str, ...]


def shipped_and_own() -> LoadedThemes:
    """The themes that come with the program and the user's own. Never raises."""
    return load_themes([settings.shipped_themes_folder(), settings.config_folder() / "themes"])


def load_themes(folders: Sequence[Path]) -> LoadedThemes:
    """Read every `*.toml` in `folders`; a theme in a later folder replaces one of the same name. Never raises.

    A missing folder is skipped. A file with a problem gives no theme.
    """
    themes: dict[str, Theme] = {}
    problems: list[str] = []
    for folder in folders:
        files_by_name: dict[str, Path] = {}
        for file in _theme_files(folder, problems):
            reader = _ThemeReader(file)
            theme = reader.read()
            if theme is not None and theme.name in files_by_name:
                other = files_by_name[theme.name].name
                reader.problem("name", f"{theme.name!r} is also the name in {other}", "Choose another name.")
            elif theme is not None:
                files_by_name[theme.name] = file
                themes[theme.name] = theme
            problems.extend(reader.problems)
    return LoadedThemes(tuple(themes.values()), tuple(problems))


def few_colours(environment: Mapping[str, str]) -> bool:
    """Whether Textual draws with fewer than 256 colours on the terminal that `environment` describes."""
    system = environment.get("TEXTUAL_COLOR_SYSTEM", "auto")
    with_colour = {name: value for name, value in environment.items() if name != "NO_COLOR"}
    # As Textual makes its own console; there is no reading of the terminal in it.
    console = Console(
        color_system=cast(Any, system), file=io.StringIO(), legacy_windows=False, force_terminal=True,
        _environ=with_colour,
    )  # fmt: skip
    return console.color_system in {None, "standard", "windows"}


def variable_defaults(theme: Theme | None = None) -> dict[str, str]:
    """ti_tui's CSS variables (name to colour) for a theme that does not define them; without a theme, for a dark one.

    An app returns `variable_defaults(self.current_theme)` from `get_theme_variable_defaults()`, so that
    Textual's built-in themes work with ti_tui's screens too.
    """
    theme = theme or BUILTIN_THEMES["textual-dark"]
    return _ansi_defaults() if theme.ansi else _derived(theme)


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of two opaque colours as WCAG 2 defines it, from 1 (equal) to 21 (black and white)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


class _ThemeReader:
    """Reads one theme file and collects everything that is wrong with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[str] = []

    def problem(self, key: str, message: str, remedy: str) -> None:
        place = f"{self.file}: {key}" if key else str(self.file)
        self.problems.append(f"{place}: {message}. {remedy}".rstrip())

    def read(self) -> Theme | None:
        """The theme, or None and at least one problem."""
        table = self._table()
        if table is None:
            return None
        self._report_unknown(table, _KEYS, "")
        ansi = self._flag(table, "ansi", False)
        name = self._name(table)
        colours = {key: self._colour(key, table[key], ansi) for key in _COLOURS if key in table}
        if "primary" not in table:
            self.problem("primary", "is missing", _ANSI_EXAMPLE if ansi else _COLOUR_EXAMPLE)
        background = colours.get("background")
        dark = self._flag(table, "dark", background is None or background.brightness < 0.5)
        variables = self._variables(table.get("variables", {}), ansi)
        if self.problems:
            return None
        theme = Theme(name=name, dark=dark, ansi=ansi, **{key: table[key] for key in colours})
        # Deriving takes a millisecond or two; the shipped themes define every variable.
        given = all(variable in variables for variable in VARIABLES) and not ansi
        theme.variables = variables if given else variable_defaults(theme) | variables
        return theme

    def _table(self) -> dict[str, Any] | None:
        try:
            if not self.file.is_file():
                self.problem("", "is not a file", "Remove it from the themes folder.")
                return None
            return bounded.read_toml(self.file)
        except UnicodeDecodeError:
            self.problem("", "is not UTF-8 text", "Save it as UTF-8.")
        except tomllib.TOMLDecodeError as error:
            self.problem("", f"is not valid TOML: {error}", "Correct that place; text values need quotes.")
        except OSError as error:
            self.problem("", f"cannot be read: {error.strerror or error}", "Check its permissions.")
        except ValueError as error:
            self.problem("", f"has a value that cannot be read: {error}", "Theme values are texts, true and false.")
        return None

    def _name(self, table: dict[str, Any]) -> str:
        name = table.get("name")
        if name is None:
            self.problem("name", "is missing", f'Write a name for the theme, like name = "{_plain(self.file.stem)}".')
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            self.problem(
                "name",
                f"{reprlib.repr(name)} cannot be a theme's name",
                'Use letters, digits, "-" and "_", and begin with a letter.',
            )
        else:
            return name
        return ""

    def _flag(self, table: dict[str, Any], key: str, default: bool) -> bool:
        value = table.get(key, default)
        if isinstance(value, bool):
            return value
        self.problem(key, f"{reprlib.repr(value)} is neither true nor false", f"Write {key} = true or {key} = false.")
        return default

    def _colour(self, key: str, value: object, ansi: bool) -> Color | None:
        colour = self._parsed(key, value, ansi)
        # Textual itself blends boost over the other colours.
        if colour is not None and key != "boost" and colour.a < 1:
            self.problem(key, f"{value!r} is transparent", "Give the colour without transparency.")
        return colour

    def _parsed(self, key: str, value: object, ansi: bool) -> Color | None:
        example = _ANSI_EXAMPLE if ansi else _COLOUR_EXAMPLE
        if not isinstance(value, str):
            self.problem(key, f"{reprlib.repr(value)} is not a colour", example)
            return None
        # Textual accepts any text here, and fails much later with an error that names neither file nor key.
        try:
            colour = Color.parse(value)
        except (ColorParseError, ValueError, OverflowError) as error:
            meant = getattr(error, "suggested_color", None)
            remedy = f'Did you mean "{meant}"?' if meant and not ansi else example
            self.problem(key, f"{reprlib.repr(value)} is not a colour", remedy)
            return None
        if ansi and colour.ansi is None and not colour.is_transparent:
            self.problem(key, f"{value!r} is not one of the terminal's 16 colours, and ansi is true", _ANSI_EXAMPLE)
        elif not ansi and colour.ansi is not None:
            self.problem(key, f"{value!r} needs ansi = true", f"{_COLOUR_EXAMPLE} Or make the whole theme ansi.")
        return colour

    def _variables(self, table: object, ansi: bool) -> dict[str, str]:
        if not isinstance(table, dict):
            self.problem("variables", "is not a table", 'Write [variables] and below it lines like muted = "#929ba6".')
            return {}
        if not table:
            return {}
        self._report_unknown(table, _known_variables(), "variables.")
        return {key: self._variable(key, value, ansi) for key, value in table.items()}

    def _variable(self, key: str, value: object, ansi: bool) -> str:
        """The value in a form that Textual's CSS accepts wherever the variable is used: a colour or a text style."""
        place = f"variables.{key}"
        if "-style" in key:
            if isinstance(value, str) and _is_text_style(value):
                return value
            self.problem(place, f"{reprlib.repr(value)} is not a text style", 'Write it like "bold" or "none".')
            return ""
        percent = re.fullmatch(r"(.*\S)\s+(\d{1,2}|100)%", value) if isinstance(value, str) else None
        colour = self._parsed(place, percent[1] if percent else value, ansi)
        if colour is None:
            return ""
        if percent and colour.ansi is None:
            colour = colour.with_alpha(int(percent[2]) / 100)
        return colour.hex

    def _report_unknown(self, table: dict[str, Any], known: Iterable[str], prefix: str) -> None:
        known = tuple(known)
        for key in table:
            if key not in known:
                meant = nearest(key, known)
                remedy = f"Did you mean {meant}?" if meant else f"Known keys: {', '.join(known[:20])}."
                self.problem(f"{prefix}{_plain(key)}", "is not a key of a theme", remedy)


def _theme_files(folder: Path, problems: list[str]) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml")
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{folder}: cannot be read: {error.strerror or error}. Check its permissions.")
        return []


def _known_variables() -> tuple[str, ...]:
    """ti_tui's variables first, then every variable that Textual makes for a theme."""
    ansi, plain = Theme("ansi", "ansi_blue", ansi=True), BUILTIN_THEMES["textual-dark"]
    generated = {**plain.to_color_system().generate(), **ansi.to_color_system().generate()}
    return (*VARIABLES, *(name for name in generated if name not in VARIABLES))


def _is_text_style(text: str) -> bool:
    """Whether both the CSS parser (which checks the words) and the renderer (which checks their order) accept it."""
    try:
        Style.parse(text)
    except StyleSyntaxError:
        return False
    return bool(text.split()) and set(text.split()) <= VALID_STYLE_FLAGS


def _plain(text: str) -> str:
    """`text` for one line of a message: shortened, without control characters."""
    return reprlib.repr(text)[1:-1]


def _ansi_defaults() -> dict[str, str]:
    # This must be readable on dark and light terminals, and with palettes that use bright black as the background
    # (Solarized): so text has the default colour, and bright black is used for backgrounds only.
    return {
        "muted": "ansi_default",
        "rule": "ansi_bright_black",
        "selected": "ansi_bright_black",
        "chart-raw": "ansi_cyan",
        "chart-smooth": "ansi_blue",
        "chart-eval": "ansi_magenta",
        "chart-rate": "ansi_yellow",
        # Textual's own widgets use these, but its ansi colour system lacks them; without them the CSS does not parse.
        "ansi-background": "ansi_bright_black",
        "ansi-foreground": "ansi_default",
        "foreground-disabled": "ansi_default",
        "surface-active": "ansi_default",
    }


def _derived(theme: Theme) -> dict[str, str]:
    made = theme.to_color_system().generate()
    grounds = [Color.parse(made[name]) for name in ("background", "surface", "panel")]
    background, foreground, primary = grounds[0], Color.parse(made["foreground"]), Color.parse(made["primary"])
    selected = _selected(background, primary, foreground)
    muted = _muted(foreground, [background, Color.parse(selected.hex), *grounds[1:]])
    others = [Color.parse(made[name]) for name in ("accent", "success", "secondary", "warning")]
    spare = [Color.from_hsl((primary.hsl.h + part / 5) % 1, 0.6, 0.6 if theme.dark else 0.4) for part in range(5)]
    smooth = _apart([primary, *spare], [background])
    raw = _apart([primary.blend(background, 0.4), muted, *spare], [background, smooth])
    evaluated = _apart([*others, *spare], [background, smooth, raw])
    rate = _apart([*others, *spare], [background, smooth, raw, evaluated])
    colours = {
        "muted": muted,
        "rule": background.blend(foreground, 0.2),
        "selected": selected,
        "chart-raw": raw,
        "chart-smooth": smooth,
        "chart-eval": evaluated,
        "chart-rate": rate,
    }
    return {name: colour.hex for name, colour in colours.items()}


def _muted(foreground: Color, grounds: Sequence[Color]) -> Color:
    """The greyest blend that is readable on all `grounds`, else on the first two, else on the first: the background."""
    background = grounds[0]
    for must_be_readable_on in (grounds, grounds[:2], grounds[:1]):
        for percent in range(50, -1, -5):
            colour = foreground.blend(background, percent / 100)
            if all(contrast(colour, ground) >= READABLE for ground in must_be_readable_on):
                return colour
    return max(BLACK, WHITE, key=lambda colour: contrast(colour, background))


def _selected(background: Color, primary: Color, foreground: Color) -> Color:
    for percent in (25, 20, 15, 10, 5):
        colour = background.blend(primary, percent / 100)
        if contrast(colour, foreground) >= READABLE:
            return colour
    return background


def _apart(candidates: Iterable[Color], taken: Sequence[Color]) -> Color:
    """The first candidate that looks different from all colours in `taken`.

    The five spare hues are more than twice the required distance apart, so each of the at most four taken colours
    rules out at most one of them, and one candidate always remains.
    """
    return next(colour for colour in candidates if all(_distance(colour, other) >= 60 for other in taken))


def _distance(one: Color, other: Color) -> float:
    return math.dist(one.rgb, other.rgb)


def _luminance(colour: Color) -> float:
    red, green, blue = (_linear(part) for part in colour.normalized)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else math.pow((part + 0.055) / 1.055, 2.4)
