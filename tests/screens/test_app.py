"""The program around the screens: themes, help, commands, and what happens when something breaks."""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.pilot import Pilot

import ti_tui.screens
import ti_tui.widgets
from tests.screens.conftest import MakeHistory
from tests.screens.driving import drive, type_text, until, words
from ti_tui.crash import write_crash
from ti_tui.glossary import meaning
from ti_tui.screens.app import TiTuiApp
from ti_tui.screens.crash import CrashApp
from ti_tui.screens.key_check import key_problems
from ti_tui.screens.wizard.scheme import CHOICES
from ti_tui.settings import Settings, load_settings


def test_a_theme_that_was_chosen_is_remembered(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        pilot.app.theme = "paper"
        await pilot.pause(0.1)

    drive(steps)
    assert TiTuiApp().theme == "paper"


@pytest.mark.parametrize(("terminal", "theme"), [("xterm-256color", "quiet"), ("linux", "ansi")])
def test_a_terminal_with_few_colours_gets_the_ansi_theme_by_itself(
    terminal: str, theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.delenv("COLORTERM", raising=False)
    assert TiTuiApp().theme == theme
    assert TiTuiApp(config=Settings(theme="paper")).theme == "paper"
    assert CrashApp(Path("crash.txt")).theme == theme


def test_a_theme_that_is_not_there_is_said_and_another_one_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "there is no theme 'midnight'" in words(pilot))

    assert drive(steps, theme="midnight").theme == "quiet"


def test_a_small_terminal_is_enough_and_a_smaller_one_says_so_and_loses_nothing(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("alt+5")
        await until(pilot, lambda: "Preset" in words(pilot))
        for choice in CHOICES:
            assert f"{choice}" in words(pilot)
        pilot.app.notify("a message")
        await until(pilot, lambda: "a message" in words(pilot))
        *_, keys = words(pilot).splitlines()
        assert keys == "^n Next step ^b Back ^q Quit f1 Help"
        assert "a message" not in "\n".join(words(pilot).splitlines()[-4:])
        await pilot.press("alt+3")
        await until(pilot, lambda: "Class word" in words(pilot))
        await type_text(pilot, "zk")
        await pilot.resize_terminal(59, 18)
        await until(pilot, lambda: "needs 60 x 18 cells" in words(pilot) and "has 59 x 18" in words(pilot))
        assert "Class word" not in words(pilot)
        await pilot.press("x", "tab")
        await pilot.resize_terminal(80, 17)
        await until(pilot, lambda: "has 80 x 17" in words(pilot))
        await pilot.resize_terminal(60, 18)
        await until(pilot, lambda: "Class word" in words(pilot))
        await pilot.press("z")
        await until(pilot, lambda: "Token           zkz" in words(pilot))

    drive(steps, size=(60, 18))


def test_wrong_settings_are_said_on_the_screen_and_the_others_count(home: Path) -> None:
    config = Path(os.environ["TI_TUI_CONFIG"])
    config.mkdir(parents=True)
    (config / "config.toml").write_text('theem = "paper"\nrunz = 3\nrefresh_seconds = 0.5\n')
    app = TiTuiApp()

    async def go() -> None:
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await until(pilot, lambda: "theem" in words(pilot))

    asyncio.run(go())
    assert load_settings()[0].refresh_seconds == 0.5


def every_binding_id() -> set[str]:
    """The ids of all keys in the screens' and widgets' modules."""
    packages = (ti_tui.screens, ti_tui.widgets)
    names = [found.name for one in packages for found in pkgutil.walk_packages(one.__path__, f"{one.__name__}.")]
    classes = [thing for name in names for thing in vars(importlib.import_module(name)).values()]
    bindings = [one for thing in classes if isinstance(thing, type) for one in vars(thing).get("BINDINGS", [])]
    return {one.id for one in bindings if isinstance(one, Binding) and one.id}


def test_every_key_with_an_id_can_be_bound_anew() -> None:
    ids = every_binding_id()
    assert {"wizard.next", "dataset.masks", "crops.mode", "captions.accept", "dashboard.save", "field.clear"} <= ids
    # Each has a key of its own: that one key is given away twice is another matter.
    assert key_problems({name: f"f{at}" for at, name in enumerate(sorted(ids))}, TiTuiApp) == []
    assert key_problems({"captions.acept": "f8"}, TiTuiApp) == [
        "[keys] captions.acept: there is no key with this id; did you mean captions.accept?"
    ]


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        (
            {"dashboard.stop": "q"},
            ["[keys] dashboard.stop = q: there q already means Leave (dashboard.leave). "
             "Choose another key, or give that another one too."],
        ),
        ({"dashboard.stop": "q", "dashboard.leave": "Q"}, []),
        ({"dashboard.stop": "f5", "wizard.next": "f5"}, []),
        (
            {"dashboard.stop": "f5", "dashboard.save": "f5"},
            ["[keys] f5 is used for dashboard.save and dashboard.stop: it can only be used for one"],
        ),
        (
            {"dataset.masks": "?"},
            ["[keys] dataset.masks = question_mark: there question_mark already means Help (app.help-letter). "
             "Choose another key, or give that another one too."],
        ),
    ],
)  # fmt: skip
def test_a_key_that_hides_another_one_is_told(keys: dict[str, str], problems: list[str]) -> None:
    assert key_problems(keys, TiTuiApp) == problems


@pytest.mark.parametrize("theme", ["quiet", "paper", "contrast", "colour-blind", "ansi", "ember", "fjord"])
def test_every_theme_draws_the_wizard_and_the_dashboard(theme: str, home: Path, history: MakeHistory) -> None:
    async def open_it(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Photographs" in words(pilot))

    async def watch(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "of 3790" in words(pilot))

    assert drive(open_it, theme=theme).crash is None
    assert drive(watch, theme=theme, run=history(steps=40)).crash is None


def test_the_palette_holds_the_known_runs(home: Path, history: MakeHistory) -> None:
    from ti_tui.settings import remember_run

    run = history(phase="done")
    remember_run(run.root)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+p")
        await pilot.press(*"Watch")
        await until(pilot, lambda: "Watch zkz" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "Done. The embedding" in words(pilot))

    drive(steps)


def test_a_run_named_like_markup_does_not_break_the_palette(home: Path, history: MakeHistory) -> None:
    from ti_tui.settings import remember_run

    remember_run(history(phase="done", name="x [b] [red]").root)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+p")
        await pilot.press(*"Watch")
        await until(pilot, lambda: "Watch x (b) (red)" in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "x [b] [red]" in words(pilot))

    drive(steps)


def test_help_names_the_keys_of_the_screen(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("f1")
        await until(pilot, lambda: "Go to a step; without alt outside text fields" in words(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "Photographs" in words(pilot) and "Go to a step" not in words(pilot))

    drive(steps)


def test_help_explains_the_words_of_the_step_that_is_open(home: Path) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("f1", "end")
        await until(pilot, lambda: meaning("photograph")[:40] in words(pilot))
        await pilot.press("escape", "alt+5", "f1", "end")
        await until(pilot, lambda: meaning("warm-up")[:40] in words(pilot))

    drive(steps)


def test_words_that_the_help_explains_are_in_the_glossary() -> None:
    for found in pkgutil.walk_packages(ti_tui.screens.__path__, "ti_tui.screens."):
        for kind in vars(importlib.import_module(found.name)).values():
            for name in ("help_terms", "TERMS"):
                if isinstance(terms := getattr(kind, name, ()), tuple):
                    assert all(meaning(term) for term in terms)


def test_a_mistake_of_ours_closes_the_screen_keeps_the_details_and_shows_no_traceback(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = TiTuiApp(config=Settings())

    async def go() -> None:
        with pytest.raises(ZeroDivisionError):
            async with app.run_test() as pilot:
                pilot.app.call_later(lambda: 1 / 0)
                await pilot.pause(0.5)

    asyncio.run(go())
    assert app.crash is not None
    assert "ZeroDivisionError" in app.crash.read_text()
    assert "Traceback" not in capsys.readouterr().out


def test_the_screen_after_a_mistake_says_what_happened_and_goes_on_when_asked(home: Path) -> None:
    try:
        raise RuntimeError("no room [/b] left")
    except RuntimeError as error:
        details = write_crash(error)
    app = CrashApp(details)

    async def go() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause(0.1)
            text = words(pilot)
            assert "RuntimeError: no room [/b] left" in text
            assert "Nothing is lost" in text
            await pilot.press("c")
            assert app.clipboard == str(details)
            await pilot.press("enter")

    asyncio.run(go())
    assert app.again
