"""The user's settings, remembered choices (runs, theme, folders), and the folders that hold them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ti_tui import atomic, bounded
from ti_tui.paths import is_there

APP = "ti_tui"
KNOWN_RUNS = 200
RECENT_FOLDERS = 12
RECENT_MODELS = 12

DEFAULT_THEME = "quiet"
FEW_COLOURS_THEME = "ansi"
"""The default on terminals with fewer than 256 colours."""

Images = Literal["auto", "half", "sixel", "kitty", "off"]
TRACKERS = ("tensorboard", "wandb")
"""Programs that a run's log can also be written for."""


@dataclass(frozen=True)
class Settings:
    """The settings in config.toml. Every key is optional.

    theme:           name of a shipped theme or of your own; "auto" is quiet, or ansi where there are few colours
    images:          how images are drawn; "auto" chooses, "half" is half-cells, "off" is none
    mouse:           False does not capture the mouse
    refresh_seconds: how often the dashboard reads the run, 0.2 to 60
    runs_folder:     where new runs are made by default; "~" is the home folder
    keys:            key for each binding id, like {"wizard.next": "ctrl+n"}
    captioner:       folder or hub id of the model that writes captions; "" looks for one in the hub's cache
    model_folders:   further folders in which the wizard looks for models
    log_to:          programs that every run's log is also written for, like ["tensorboard"]
    on_end, on_verdict, on_error: shell commands that are run when a run ends, gets a new verdict, or fails; the facts
                     are in environment variables TI_TUI_...
    """

    theme: str = "auto"
    images: Images = "auto"
    mouse: bool = True
    refresh_seconds: float = 1.0
    runs_folder: str = "~/runs"
    keys: dict[str, str] = field(default_factory=dict)
    captioner: str = ""
    model_folders: list[str] = field(default_factory=list)
    log_to: list[str] = field(default_factory=list)
    on_end: str = ""
    on_verdict: str = ""
    on_error: str = ""


def config_folder() -> Path:
    """Settings and user themes."""
    return _folder("TI_TUI_CONFIG", "config")


def cache_folder() -> Path:
    """Data that can be made again: hashes of models."""
    return _folder("TI_TUI_CACHE", "cache")


def state_folder() -> Path:
    """The list of known runs and drafts."""
    return _folder("TI_TUI_STATE", "state")


def shipped_themes_folder() -> Path:
    """The themes that come with the program: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    shipped = package / "data" / "themes"
    return shipped if shipped.is_dir() else package.parent / "themes"


def load_settings() -> tuple[Settings, list[str]]:
    """The settings in config.toml, and a message for each mistake: where, what, and what to write.

    The default is used for a wrong value. Never raises; without a file, all settings are defaults.
    """
    file = config_folder() / "config.toml"
    table, problem = _read_toml(file)
    if problem:
        return Settings(), [f"{file}: {problem}"]
    known = [setting.name for setting in fields(Settings)]
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in table.items():
        if key not in known:
            problems.append(f"{file}: {_short(key)}: is not a setting. {_did_you_mean(key, known)}")
        elif key == "keys":
            values[key], wrong = _key_table(value)
            problems.extend(f"{file}: {text}" for text in wrong)
        elif remedy := _wrong(key, value):
            problems.append(f"{file}: {key}: {_short(value)} cannot be used. {remedy}")
        else:
            values[key] = float(value) if key == "refresh_seconds" else value
    return Settings(**values), problems


def remember_choice(name: str, value: str, *, configured: str = "") -> None:
    """Remember a choice made on a screen. It is no error if it cannot be saved.

    configured: what config.toml says about it at present; see `chosen_theme`.
    """
    choices = _choices()
    choices[name] = {"value": value, "configured": configured}
    _remember("choices.json", choices)


def remembered_choice(name: str) -> str | None:
    """The choice remembered last under `name`, or None."""
    return choice["value"] if (choice := _choices().get(name)) else None


def remember_theme(name: str, *, few_colours: bool = False) -> None:
    """Remember the theme chosen on a screen, for terminals with few colours apart from the others."""
    remember_choice(_theme_choice(few_colours), name, configured=load_settings()[0].theme)


def chosen_theme(settings: Settings, *, few_colours: bool = False) -> str:
    """The theme chosen last on a screen, or that of config.toml if it was changed after that."""
    choice = _choices().get(_theme_choice(few_colours))
    default = FEW_COLOURS_THEME if few_colours else DEFAULT_THEME
    # Earlier versions had "quiet" in place of "auto".
    before = {"auto", DEFAULT_THEME} if settings.theme == "auto" else {settings.theme}
    if choice is not None and choice["configured"] in before:
        return choice["value"]
    return default if settings.theme == "auto" else settings.theme


def _theme_choice(few_colours: bool) -> str:
    return "theme of few colours" if few_colours else "theme"


def remember_folder(path: Path) -> None:
    """Put a folder of photographs first in `recent_folders`. It is no error if it cannot be saved."""
    _put_first("folders.json", str(path.expanduser().absolute()), RECENT_FOLDERS)


def recent_folders() -> list[Path]:
    """Recently used folders of photographs that still exist, latest first, at most RECENT_FOLDERS."""
    return [folder for text in _texts("folders.json")[:RECENT_FOLDERS] if _is_folder(folder := Path(text))]


def remember_model(base: str) -> None:
    """Put a model (a path or a hub id) first in `recent_models`. It is no error if it cannot be saved."""
    _put_first("models.json", base, RECENT_MODELS)


def recent_models() -> list[str]:
    """Models that runs were made with, latest first; they may no longer be there."""
    return _texts("models.json")[:RECENT_MODELS]


def remember_last_run(values: Mapping[str, object]) -> None:
    """Keep what the next run may begin with, by the run file's dotted names. It is no error if it cannot be saved."""
    _remember("last-run.json", dict(values))


def last_run() -> dict[str, object]:
    """What `remember_last_run` kept; nothing if there was no run yet."""
    kept = _remembered("last-run.json")
    return kept if isinstance(kept, dict) else {}


def remember_run(root: Path) -> None:
    """Put a run on the list that `ti-tui runs` shows. It is no error if it cannot be saved."""
    _put_first("runs.json", str(root), KNOWN_RUNS)


def known_runs() -> list[Path]:
    """Folders of runs made or trained on this machine that still exist, latest first."""
    return [Path(run) for run in _texts("runs.json") if is_there(Path(run) / "run.toml")]


def remember_demo(folder: Path) -> bool:
    """Put a demo's temporary folder on the list that `ti-tui demo --clean` removes; False if it cannot be saved."""
    return _put_first("demos.json", str(folder), None)


def known_demos() -> list[Path]:
    """Temporary folders of demos, latest first, including those that no longer exist."""
    return [Path(text) for text in _texts("demos.json")]


def forget_demos(folders: Collection[Path]) -> None:
    """Remove folders from the list of demos, and the runs in them from the list of runs, where they are listed."""
    if not folders:
        return
    demos, runs = _texts("demos.json"), _texts("runs.json")
    kept_demos = [text for text in demos if Path(text) not in folders]
    kept_runs = [text for text in runs if not any(Path(text).is_relative_to(folder) for folder in folders)]
    if kept_demos != demos:
        _remember("demos.json", kept_demos)
    if kept_runs != runs:
        _remember("runs.json", kept_runs)


def _wrong(key: str, value: object) -> str:
    """What to write instead, if `value` cannot be used for `key`; else an empty text."""
    match key:
        case "mouse":
            return "" if isinstance(value, bool) else "Write true or false."
        case "images":
            names = get_args(Images)
            return "" if value in names else f"Write one of these, in quotes: {', '.join(names)}."
        case "refresh_seconds":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            inside = number and 0.2 <= cast("float", value) <= 60
            return "" if inside else "Write a number of seconds from 0.2 to 60."
        case "runs_folder":
            return "" if _is_text(value) else 'Write a folder in quotes, like "~/runs".'
        case "model_folders":
            texts = isinstance(value, list) and all(map(_is_text, value))
            return "" if texts else 'Write a list of folders, like ["~/models", "/data/models"].'
        case "captioner":
            return "" if _is_text(value) else 'Write a folder in quotes, like "~/models/blip".'
        case "log_to":
            known = isinstance(value, list) and all(name in TRACKERS for name in value)
            return "" if known else f"Write a list of these, in quotes: {', '.join(TRACKERS)}."
        case "on_end" | "on_verdict" | "on_error":
            return (
                "" if _is_text(value) else f"Write a command in quotes, like {key} = 'notify-send \"$TI_TUI_MESSAGE\"'."
            )
        case _:
            return "" if _is_text(value) else f'Write a name in quotes, like {key} = "quiet".'


def _key_table(value: object) -> tuple[dict[str, str], list[str]]:
    if not isinstance(value, dict):
        return {}, ['keys: is not a table. Write [keys] and below it lines like "wizard.next" = "ctrl+n".']
    keys: dict[str, str] = {}
    problems: list[str] = []
    for binding, key in value.items():
        if _is_text(key):
            keys[binding] = key
        elif isinstance(key, dict):
            # TOML reads an unquoted wizard.next as a nested table.
            inner, wrong = _key_table({f"{binding}.{name}": text for name, text in key.items()})
            keys.update(inner)
            problems.extend(wrong)
        else:
            problems.append(
                f'keys.{_short(binding)}: {_short(key)} is not a key. Write a key in quotes, like "ctrl+n".'
            )
    return keys, problems


def _read_toml(file: Path) -> tuple[dict[str, Any], str]:
    """The table in `file`, and what is wrong with the file as a whole. A missing file is an empty table."""
    try:
        return bounded.read_toml(file), ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"cannot be read: {error.strerror or error}. Check its permissions."
    except UnicodeDecodeError:
        return {}, "is not UTF-8 text. Save it as UTF-8."
    except ValueError as error:
        return {}, f"is not valid TOML: {error}. Correct that place; text values need quotes."


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    import difflib

    known = list(known)
    meant = difflib.get_close_matches(word.lower(), known, n=1)
    return f"Did you mean {meant[0]}?" if meant else f"The settings are: {', '.join(known)}."


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _short(value: object) -> str:
    import reprlib

    return reprlib.repr(value)


def _choices() -> dict[str, dict[str, str]]:
    kept = _remembered("choices.json")
    if not isinstance(kept, dict):
        return {}
    return {
        name: choice
        for name, choice in kept.items()
        if isinstance(choice, dict) and all(isinstance(choice.get(part), str) for part in ("value", "configured"))
    }


def _texts(name: str) -> list[str]:
    kept = _remembered(name)
    return [text for text in kept if isinstance(text, str)] if isinstance(kept, list) else []


def _put_first(name: str, text: str, most: int | None) -> bool:
    return _remember(name, [text, *(known for known in _texts(name) if known != text)][:most])


def _remembered(name: str) -> object:
    try:
        return cast("object", bounded.read_json(state_folder() / name))
    except (OSError, ValueError, RecursionError):
        return None


def _remember(name: str, content: object) -> bool:
    """Save `content`; False if it cannot be saved."""
    # UnicodeEncodeError: a path whose bytes are not UTF-8 cannot be written as JSON; it is not remembered.
    with contextlib.suppress(atomic.CannotWrite, UnicodeEncodeError):
        atomic.write_json(state_folder() / name, content)
        return True
    return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _folder(variable: str, kind: str) -> Path:
    if override := os.environ.get(variable):
        return Path(override)
    import platformdirs

    match kind:
        case "config":
            return platformdirs.user_config_path(APP, appauthor=False)
        case "cache":
            return platformdirs.user_cache_path(APP, appauthor=False)
        case _:
            return platformdirs.user_state_path(APP, appauthor=False)
