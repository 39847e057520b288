"""The user's settings file and the small memories: choices, folders, runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ti_tui import settings
from ti_tui.settings import (
    Settings,
    chosen_theme,
    load_settings,
    recent_folders,
    remember_choice,
    remember_folder,
    remember_theme,
)


def write(text: str | bytes) -> Path:
    file = settings.config_folder() / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_without_a_file_all_is_default() -> None:
    assert load_settings() == (Settings(), [])


def test_every_setting_can_be_set() -> None:
    write(
        'theme = "paper"\nimages = "sixel"\nmouse = false\nrefresh_seconds = 5\nruns_folder = "/data/runs"\n'
        '[keys]\n"wizard.next" = "ctrl+n"\nquit = "ctrl+shift+q"\n'
    )
    keys = {"wizard.next": "ctrl+n", "quit": "ctrl+shift+q"}
    assert load_settings() == (Settings("paper", "sixel", False, 5.0, "/data/runs", keys), [])


def test_a_binding_id_with_a_dot_needs_no_quotes() -> None:
    write('[keys]\nwizard.next = "ctrl+n"\n')
    assert load_settings()[0].keys == {"wizard.next": "ctrl+n"}


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('thme = "paper"', ["'thme'", "Did you mean theme?"]),
        ("xyzzy = 1", ["'xyzzy'", "The settings are: theme"]),
        ("theme = 3", ["theme: 3", "in quotes"]),
        ('images = "jpeg"', ["images: 'jpeg'", "auto, half, sixel, kitty, off"]),
        ("images = []", ["images: []"]),
        ('mouse = "no"', ["mouse: 'no'", "true or false"]),
        ("refresh_seconds = 0.1", ["refresh_seconds: 0.1", "from 0.2 to 60"]),
        ("refresh_seconds = nan", ["refresh_seconds: nan"]),
        ("refresh_seconds = true", ["refresh_seconds: True"]),
        ("refresh_seconds = " + "9" * 400, ["refresh_seconds"]),
        ('runs_folder = ""', ["runs_folder: ''", "~/runs"]),
        ("keys = 1", ["keys: is not a table"]),
        ("[keys]\nquit = 1", ["keys.'quit': 1", "ctrl+n"]),
    ],
)
def test_a_wrong_line_is_said_and_only_it_falls_back(line: str, parts: list[str]) -> None:
    good = 'theme = "fjord"\n' if not line.startswith("theme") else "mouse = false\n"
    file = write(good + line)
    read, (problem,) = load_settings()
    assert problem.startswith(f"{file}: ")
    for part in parts:
        assert part in problem
    expected = Settings(theme="fjord") if good.startswith("theme") else Settings(mouse=False)
    assert read == expected


@pytest.mark.parametrize("content", [b"theme = quiet", b"\xff", b"x = " + b"[" * 5000, b"theme='a'\ntheme='b'"])
def test_a_file_that_cannot_be_read_gives_the_defaults_and_one_problem(content: bytes) -> None:
    file = write(content)
    read, (problem,) = load_settings()
    assert read == Settings()
    assert problem.startswith(str(file))


def test_a_folder_in_the_place_of_the_file_is_a_problem_not_a_crash() -> None:
    (settings.config_folder() / "config.toml").mkdir(parents=True)
    read, problems = load_settings()
    assert read == Settings() and len(problems) == 1


@given(st.one_of(st.binary(), st.text().map(str.encode), st.text().map(lambda text: f"theme = {text!r}".encode())))
def test_no_content_makes_loading_raise(content: bytes) -> None:
    write(content)
    load_settings()


def test_a_choice_is_remembered() -> None:
    assert settings.remembered_choice("theme") is None
    remember_choice("theme", "ember")
    remember_choice("sort", "newest")
    assert settings.remembered_choice("theme") == "ember"
    assert settings.remembered_choice("sort") == "newest"


def test_the_theme_chosen_on_a_screen_wins_over_an_unchanged_config() -> None:
    write('theme = "paper"')
    assert chosen_theme(load_settings()[0]) == "paper"
    remember_theme("ember")
    assert chosen_theme(load_settings()[0]) == "ember"


def test_a_theme_configured_after_the_choice_wins() -> None:
    remember_theme("ember")
    assert chosen_theme(load_settings()[0]) == "ember"
    write('theme = "fjord"')
    assert chosen_theme(load_settings()[0]) == "fjord"


def test_few_colours_have_a_theme_of_their_own_unless_one_is_configured_or_chosen_there() -> None:
    assert chosen_theme(Settings()) == "quiet" and chosen_theme(Settings(), few_colours=True) == "ansi"
    assert chosen_theme(Settings(theme="paper"), few_colours=True) == "paper"
    remember_theme("ember")
    assert chosen_theme(Settings()) == "ember" and chosen_theme(Settings(), few_colours=True) == "ansi"
    remember_theme("contrast", few_colours=True)
    assert chosen_theme(Settings()) == "ember" and chosen_theme(Settings(), few_colours=True) == "contrast"


@pytest.mark.parametrize("content", ["", "[]", '{"theme": 3}', '{"theme": {"value": 1}}', "[" * 100_000])
def test_damaged_memories_are_as_good_as_none(content: str) -> None:
    settings.state_folder().mkdir(parents=True)
    for name in ("choices.json", "folders.json", "runs.json"):
        (settings.state_folder() / name).write_text(content)
    assert chosen_theme(Settings()) == "quiet"
    assert recent_folders() == []
    assert settings.known_runs() == []
    remember_theme("ember")
    assert chosen_theme(Settings()) == "ember"


def test_memories_that_cannot_be_written_are_no_error(tmp_path: Path) -> None:
    settings.state_folder().write_text("a file where the folder should be")
    remember_theme("ember")
    remember_folder(tmp_path)
    settings.remember_run(tmp_path)
    assert recent_folders() == []


def test_folders_come_back_latest_first_each_once_and_at_most_twelve(tmp_path: Path) -> None:
    folders = [tmp_path / f"photos-{number}" for number in range(15)]
    for folder in folders:
        folder.mkdir()
        remember_folder(folder)
    remember_folder(folders[10])
    assert recent_folders() == [folders[10], *(folders[n] for n in (14, 13, 12, 11, 9, 8, 7, 6, 5, 4, 3))]


def test_folders_that_are_gone_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        remember_folder(tmp_path / name)
    (tmp_path / "b").rmdir()
    assert recent_folders() == [tmp_path / "a"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_folder_whose_name_is_no_text_is_not_remembered_and_no_error(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    remember_folder(folder)
    settings.remember_run(folder)
    assert recent_folders() == []


def test_importing_settings_brings_in_nothing_heavy() -> None:
    heavy = {"torch", "textual", "rich", "pydantic", "numpy", "difflib", "tomllib", "platformdirs"}
    code = f"import sys, ti_tui.settings; print(*{heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""
