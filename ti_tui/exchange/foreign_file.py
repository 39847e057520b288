"""Reads a settings file of another trainer into its fields. What kind it is, its content says, not its name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.errors import UserError
from ti_tui.exchange import command_line
from ti_tui.exchange.mapping import Program
from ti_tui.paths import user_path

LIMIT = bounded.MIB
"""Bytes; far more than any settings file has."""
MOST_FIELDS = 4000
DEEPEST = 12
OURS = re.compile(r"^#\s*ti_tui:\s*([a-z_]+\.[a-z_]+)\s*=\s*(\S.*)$", re.MULTILINE)
"""What `ti-tui export` adds for fields that the other program lacks."""


READ = "ti_tui.read"
"""Key of a field that needs no row in a table: its value is what the file says, and what became of it."""


class NotSettings(UserError):
    """A file that is no settings file of a known trainer."""


@dataclass(frozen=True)
class ForeignField:
    """A field as it is in a file.

    name: as shown; key: as looked up in the program's table, with `*` for places in lists; value: as parsed.
    """

    name: str
    key: str
    value: Any


@dataclass(frozen=True)
class ForeignSettings:
    """The fields of a file.

    form:     what kind of file it is, in words.
    complete: whether it describes a whole training; then fields that are not in it have the program's defaults.
    notes:    what was found beside the fields, such as a second command.
    """

    file: Path
    program: Program
    form: str
    fields: tuple[ForeignField, ...]
    complete: bool = True
    notes: tuple[str, ...] = ()


def read(path: Path) -> ForeignSettings:
    """Read the settings file at `path`. Raises NotSettings."""
    path = user_path(path).absolute()
    text = read_text(path)
    kind, data = _parsed(text, path)
    if kind == "commands":
        return _of_commands(text, path)
    found = _recognised(kind, data)
    if found is None:
        raise NotSettings(
            f"it is {kind}, but not the settings of a known trainer",
            where=str(path),
            remedy="Known: kohya (GUI and sd-scripts), OneTrainer, diffusers, invoke-training, ai-toolkit, A1111.",
        )
    program, form = found
    fields = list(flat(data, path))
    own = [ForeignField(f"# ti_tui: {name}", f"ti_tui:{name}", value.strip()) for name, value in OURS.findall(text)]
    return ForeignSettings(path, program, form, (*own, *fields) if kind == "TOML" else tuple(fields),
                           complete=form != "dataset config")  # fmt: skip


def looks_like_settings(path: Path) -> bool:
    """Whether a file given as photographs or model is the settings of another trainer. Never raises."""
    try:
        if path.suffix.lower() not in {".json", ".toml", ".yaml", ".yml", ".sh", ".bat", ".cmd", ".ps1", ".txt", ""}:
            return False
        return path.is_file() and bool(read(path))
    except (UserError, OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """The text of a settings file, in UTF-8, UTF-16 with a mark, or Windows' own encoding. Raises NotSettings."""
    try:
        content = bounded.read_bytes(path, LIMIT)
    except FileNotFoundError:
        raise NotSettings("there is no such file", where=str(path)) from None
    except bounded.TooLarge as error:
        raise NotSettings(f"this is no settings file: {error}", where=str(path)) from None
    except OSError as error:
        raise NotSettings(f"cannot be read: {error.strerror}", where=str(path)) from None
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252", "latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise NotSettings("this is no settings file: it is not text", where=str(path))


def parse_data(text: str) -> Any:
    """The content of a JSON, TOML or YAML text. Raises ValueError."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return bounded.parse_json(text)
        except ValueError as error:
            broken = error
        try:
            # A TOML file may begin with a table's header.
            return bounded.parse_toml(text)
        except ValueError:
            raise broken from None
    try:
        return bounded.parse_toml(text)
    except ValueError:
        return bounded.parse_yaml(text)


def flat(data: Any, path: Path) -> Iterator[ForeignField]:
    """Every value in nested tables and lists, by dotted name; a list of plain values is one. Raises NotSettings."""
    found = 0

    def walk(value: Any, name: str, key: str, depth: int) -> Iterator[ForeignField]:
        nonlocal found
        inner: list[tuple[str, str, Any]] = []
        if isinstance(value, dict):
            inner = [(str(part), str(part), item) for part, item in value.items()]
        elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            inner = [(str(place), "*", item) for place, item in enumerate(value)]
        if not inner:
            found += 1
            if found > MOST_FIELDS:
                raise NotSettings(f"this is no settings file: it has more than {MOST_FIELDS} fields", where=str(path))
            yield ForeignField(name, key, value)
            return
        if depth >= DEEPEST:
            raise NotSettings("this is no settings file: it is nested too deeply", where=str(path))
        for part, shape, item in inner:
            yield from walk(item, f"{name}.{part}".lstrip("."), f"{key}.{shape}".lstrip("."), depth + 1)

    if isinstance(data, (dict, list)) and data:
        yield from walk(data, "", "", 0)


def _parsed(text: str, path: Path) -> tuple[str, Any]:
    """What a text is (JSON, TOML, YAML, commands) and its content. Raises NotSettings."""
    stripped = text.lstrip()
    toml_error: tomllib.TOMLDecodeError | None = None
    if stripped.startswith("{"):
        try:
            return "JSON", bounded.parse_json(text)
        except ValueError as error:
            raise NotSettings(f"it is not valid JSON: {error}", where=str(path)) from None
    try:
        if data := bounded.parse_toml(text):
            return "TOML", data
    except tomllib.TOMLDecodeError as error:
        toml_error = error
    if command_line.names_a_script(text):
        return "commands", None
    looks_toml = re.search(r"^\s*(\[\[?[\w.]+\]\]?\s*$|\w+\s*=)", text, re.MULTILINE)
    if looks_toml and toml_error:
        remedy = "In double quotes each \\ must be doubled; single quotes take a Windows path as it is."
        raise NotSettings(f"it is not valid TOML: {toml_error}", where=str(path), remedy=remedy if "\\" in text else "")
    try:
        data = bounded.parse_yaml(text)
    except ValueError as error:
        raise NotSettings(f"it is not valid YAML: {error}", where=str(path)) from None
    if not isinstance(data, dict):
        raise NotSettings("there are no settings of a known trainer in it", where=str(path))
    return "YAML", data


def _of_commands(text: str, path: Path) -> ForeignSettings:
    try:
        found = command_line.parse(text)
    except ValueError as error:
        raise NotSettings(f"the command cannot be read: {error}", where=str(path)) from None
    fields = [
        ForeignField(f"--{option.name}", READ, (option.value, "left out: its value is not in the file"))
        if command_line.is_open(option.value)
        else ForeignField(f"--{option.name}", option.name, option.value)
        for option in found.options
    ]
    fields += [
        ForeignField(f"accelerate --{option.name}", f"accelerate.{option.name}", option.value)
        for option in found.launcher
    ]
    if found.sdxl:
        # Not a field of the file: its script says it.
        fields.append(ForeignField(found.script, "sdxl", True))
    return ForeignSettings(path, found.program, "command line", tuple(fields), notes=found.notes)


def _recognised(kind: str, data: Any) -> tuple[Program, str] | None:
    """The program that `data` is from, and the kind of its file; None if it is none that is known."""
    if not isinstance(data, dict):
        return None
    keys = {str(key) for key in data}
    if found := _of_tables(data, keys):
        return found
    inner = {str(key) for value in data.values() if isinstance(value, dict) for key in value}
    gui = kind == "JSON"
    if gui and ("embedding_name" in keys or {"learn_rate", "steps"} <= keys):
        return "a1111", "log of settings"
    if gui and keys & {"training_method", "base_model_name", "output_model_destination"}:
        return "onetrainer", "training settings"
    names = keys | inner
    if "pretrained_model_name_or_path" in names or len(names & KOHYA_SIGNS) >= 2:
        return "kohya", "settings of the GUI" if gui else "config file"
    return ("kohya", "dataset config") if isinstance(data.get("datasets"), list) else None


def _of_tables(data: dict[Any, Any], keys: set[str]) -> tuple[Program, str] | None:
    config = data.get("config")
    if isinstance(config, dict) and isinstance(config.get("process"), list):
        return "ai-toolkit", "job"
    if "TEXTUAL_INVERSION" in str(data.get("type", ""))[:80] or {"placeholder_token", "data_loader"} <= keys:
        return "invoke-training", "pipeline settings"
    tokens = data.get("tokens")
    if isinstance(tokens, list) and any(
        isinstance(one, dict) and {"token", "initializer"} & one.keys() for one in tokens
    ):
        return "everydream", "plugin settings"
    model = data.get("model")
    if isinstance(model, dict) and ("params" in model or "base_learning_rate" in model):
        return "ldm", "config"
    return None


KOHYA_SIGNS = {
    "token_string", "init_word", "num_vectors_per_token", "train_data_dir", "train_batch_size", "max_train_steps",
    "lr_scheduler", "output_name", "mixed_precision", "save_model_as", "dataset_config", "use_object_template",
    "use_style_template", "max_train_epochs", "optimizer_type", "clip_skip", "xformers",
}  # fmt: skip
