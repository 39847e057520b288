"""Reads and writes run files. Every problem names its file, line and field."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ti_tui import atomic, bounded
from ti_tui.run.field_values import accepted_values, choices_of
from ti_tui.run.problems import Problem, Problems, ProblemsError, nearest
from ti_tui.run.recipe import FORMAT, TABLES, RunFile, SchemeTable, Table, TrainingTable, is_recorded
from ti_tui.run.scheme import SchemeError
from ti_tui.run.toml_lines import key_lines

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Functions that convert each older `format` to the next one; format 1 is the first, so there are none yet."""


class RunFileError(ProblemsError):
    """A run file that cannot be used; `problems` holds every reason, each with its line."""


def load(path: Path) -> RunFile:
    """Read and validate the run file at `path`. Raises RunFileError with all problems at once."""
    return parse_run_file(_read(path), path)


def parse_run_file(text: str, path: Path) -> RunFile:
    """Validate the text of a run file; `path` only names it in problems. Raises RunFileError."""
    try:
        data = bounded.parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise RunFileError([_syntax_problem(error, path)]) from None
    lines = key_lines(text)
    data = _migrated(data, path, lines)
    return _validated(data, path, lines)


def from_values(values: dict[str, Any], path: Path) -> RunFile:
    """A run file from nested values, validated like one that was read. Raises RunFileError."""
    return _validated(values, path, {})


def with_value(values: dict[str, Any], name: str, text: str) -> None:
    """Set `table.field` in `values` from what a person typed: TOML if it is TOML, else plain text.

    Raises RunFileError for a name that the run file does not have.
    """
    table, _, key = name.partition(".")
    value = value_of(name, text)
    values.setdefault(table, {})[key] = value


def problem_with(name: str, value: Any) -> Problem | None:
    """What is wrong with `value` for the field `table.field` alone, or None."""
    table, _, key = name.partition(".")
    data = {table: {key: value}}
    try:
        RunFile.model_validate(data)
    except ValidationError as error:
        return next((problem for problem in _from_validation(error, data) if problem.field == name), None)
    return None


def value_of(name: str, text: str) -> Any:
    """The value that a person means by `text` for the field `name`: TOML if it is TOML, else plain text.

    Raises RunFileError for a name that the run file does not have.
    """
    table, dot, key = name.partition(".")
    if not dot or table not in TABLES or key not in TABLES[table].model_fields:
        known = [f"{t}.{k}" for t, model in TABLES.items() for k in model.model_fields]
        guess = nearest(name, known)
        remedy = f"Did you mean {guess}?" if guess else "The name is table.field, such as training.seed."
        raise RunFileError([Problem("error", "there is no such field", name, remedy)])
    expects_text = TABLES[table].model_fields[key].annotation is str
    try:
        value = bounded.parse_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return text if expects_text and not isinstance(value, str) else value


def lines_of(path: Path) -> dict[str, int]:
    """Line number of each field in the run file at `path`; empty if it cannot be read."""
    try:
        return key_lines(bounded.read_text(path, bounded.TOML_LIMIT))
    except (OSError, ValueError):
        return {}


def save(run: RunFile, path: Path) -> None:
    """Write `run` to `path` atomically, with each field's explanation as a comment. Raises CannotWrite."""
    atomic.write_text(path, to_toml(run))


def change_field(path: Path, name: str, value: Any) -> None:
    """Set `table.field` in the run file at `path`. Where possible, its other lines stay as they are.

    Raises RunFileError if the file cannot be used, CannotWrite.
    """
    text = _read(path)
    run = parse_run_file(text, path)
    table, _, key = name.partition(".")
    wanted = run.model_copy(update={table: getattr(run, table).model_copy(update={key: value})})
    rows, lines = text.split("\n"), key_lines(text)
    if name in lines:
        row = rows[lines[name] - 1]
        _, mark, comment = row.partition("#")
        rows[lines[name] - 1] = f"{row.partition('=')[0].rstrip()} = {toml_text(value)}{mark and '  '}{mark}{comment}"
    elif table in lines:
        rows.insert(lines[table], f"{key} = {toml_text(value)}")
    changed = "\n".join(rows)
    try:
        plain = parse_run_file(changed, path) == wanted
    except RunFileError:
        # The field is in an inline table, or its table is not in the file.
        plain = False
    atomic.write_text(path, changed if plain else to_toml(wanted))


def to_toml(run: RunFile) -> str:
    """The text of a run file; `parse_run_file` gives `run` back exactly."""
    blocks = [f"# A ti_tui run: everything that is needed to repeat it.\n\nformat = {FORMAT}\n"]
    for name, table in TABLES.items():
        values = getattr(run, name)
        lines = [f"[{name}]"]
        for key, info in table.model_fields.items():
            if is_recorded(info) and not getattr(values, key):
                continue
            lines.append(f"# {info.description}{_takes(info)}")
            lines.append(f"{key} = {toml_text(getattr(values, key))}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _takes(info: FieldInfo) -> str:
    """The end of a field's comment: accepted values and unit, unless they are obvious."""
    unit = info.json_schema_extra.get("unit", "") if isinstance(info.json_schema_extra, dict) else ""
    words = accepted_values(info)
    plain = "text" in words or "segment" in words or "table" in words
    parts = [part for part in ("" if plain else words, str(unit)) if part]
    return f" ({'; '.join(parts)})" if parts else ""


def _read(path: Path) -> str:
    try:
        return bounded.read_text(path, bounded.TOML_LIMIT)
    except FileNotFoundError:
        message, remedy = "there is no run file here", "Make one with `ti-tui init`."
    except UnicodeDecodeError as error:
        message, remedy = f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8."
    except bounded.TooLarge as error:
        message, remedy = f"is not a run file: {error}", ""
    except OSError as error:
        message, remedy = f"cannot be read: {error.strerror}", ""
    raise RunFileError([Problem("error", message, file=path, remedy=remedy)])


def _syntax_problem(error: tomllib.TOMLDecodeError, path: Path) -> Problem:
    message = str(error)
    line = None
    if "(at line " in message:
        line = int(message.rpartition("(at line ")[2].partition(",")[0])
        message = message.rpartition(" (at ")[0]
    remedy = "Text needs quotes, lists need [ ]."
    return Problem("error", f"not valid TOML: {message[:1].lower()}{message[1:]}.", remedy=remedy, file=path, line=line)


def _migrated(data: dict[str, Any], path: Path, lines: dict[str, int]) -> dict[str, Any]:
    version = data.get("format")

    def problem(message: str, remedy: str) -> RunFileError:
        return RunFileError([Problem("error", message, "format", remedy, path, lines.get("format"))])

    if version is None:
        raise problem("is missing", f"Write `format = {FORMAT}` in the first line.")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise problem(f"{version!r} is not a version", f"Write `format = {FORMAT}`.")
    if version > FORMAT:
        raise problem(
            f"this file has format {version}, made by a newer ti_tui; this one reads up to {FORMAT}",
            "Update the checkout of ti_tui and install it again: git pull, then pip install .",
        )
    while version < FORMAT:
        data = MIGRATIONS[version](data)
        version += 1
    return data


def _validated(data: dict[str, Any], path: Path, lines: dict[str, int]) -> RunFile:
    problems: list[Problem] = []
    run: RunFile | None = None
    try:
        run = RunFile.model_validate(data)
    except ValidationError as error:
        problems += _from_validation(error, data)
    problems += _across_fields(data).found
    if problems:
        placed = Problems(problems).placed(path, lines).found
        raise RunFileError(sorted(placed, key=lambda problem: problem.line or 0))
    assert run is not None
    return run


def _from_validation(error: ValidationError, data: dict[str, Any]) -> Iterable[Problem]:
    seen: set[str] = set()
    for detail in error.errors():
        location = [part for part in detail["loc"] if not (isinstance(part, str) and _is_branch(part))]
        name = ".".join(str(part) for part in location[:2] if isinstance(part, str))
        index = next((part for part in location if isinstance(part, int)), None)
        inner = location[3:] if index is not None and len(location) > 3 else []
        # pydantic reports every branch of a union; one problem per field is enough.
        if (key := f"{name}/{index}/{inner}") in seen:
            continue
        seen.add(key)
        yield _field_problem(name, index, inner, detail, data)


def _field_problem(name: str, index: int | None, inner: list[Any], detail: Any, data: dict[str, Any]) -> Problem:
    table, _, key = name.partition(".")
    kind = detail["type"]
    if kind == "extra_forbidden" and not inner:
        return _unknown(table, key)
    if kind == "missing" and not inner:
        if not key:
            return Problem("error", f"the table [{table}] is missing", table, f"Add [{table}] with {_required(table)}.")
        wants = accepted_values(TABLES[table].model_fields[key])
        return Problem("error", "is missing", name, f"It needs {wants}: {TABLES[table].model_fields[key].description}")
    if table in TABLES and not key:
        return Problem("error", "is a table", table, f"Write [{table}] on a line of its own, and its fields below.")
    place = f"item {index + 1}: " if index is not None else ""
    value = _shown(detail["input"])
    info = TABLES[table].model_fields[key]
    if is_recorded(info):
        part = ".".join(str(one) for one in inner if isinstance(one, str))
        said = f"{place}{part} is missing." if kind == "missing" else f"{place}{part} {value} is not valid."
        return Problem("error", said, name, "ti_tui writes this field itself: restore it, or delete it.")
    if name == "scheme.segments" and index is not None:
        return _segment_problem(name, place, inner, kind, value)
    if index is not None and isinstance(detail["input"], str) and (choices := choices_of(info)):
        guess = nearest(detail["input"], choices)
        return Problem("error", f"{place}{value} is not one of {', '.join(choices)}.", name, _did_you_mean(guess))
    if key == "token" and kind == "string_pattern_mismatch":
        return Problem("error", f"{value} cannot be a token.", name, "Use one word of letters, digits, - and _.")
    choices = choices_of(info)
    guess = nearest(detail["input"], choices) if choices and isinstance(detail["input"], str) else None
    return Problem("error", f"{place}{value} is not {accepted_values(info)}.", name, _did_you_mean(guess))


def _segment_problem(name: str, place: str, inner: list[Any], kind: str, value: str) -> Problem:
    part = str(inner[0]) if inner else ""
    wants = {"learning_rate": "a number above 0", "steps": "a whole number from 1 to 1000000"}
    remedy = "Write { learning_rate = 0.005, steps = 200 }."
    if kind == "missing":
        return Problem("error", f"{place}{part} is missing.", name, remedy)
    if kind == "extra_forbidden":
        guess = nearest(part, wants)
        return Problem("error", f"{place}there is no `{part}` in a segment.", name, _did_you_mean(guess) or remedy)
    if part in wants:
        return Problem("error", f"{place}{part} {value} is not {wants[part]}.", name)
    return Problem("error", f"{place}{value} is not a segment.", name, remedy)


def _unknown(table: str, key: str) -> Problem:
    if not key:
        guess = nearest(table, TABLES)
        elsewhere = next((t for t, model in TABLES.items() if table in model.model_fields), None)
        remedy = f"It belongs under [{elsewhere}]." if elsewhere else _did_you_mean(f"[{guess}]" if guess else None)
        return Problem("error", "there is no such table or field.", table, remedy)
    guess = nearest(key, TABLES[table].model_fields) if table in TABLES else None
    elsewhere = next((t for t, model in TABLES.items() if key in model.model_fields), None)
    if elsewhere and elsewhere != table:
        remedy = f"It belongs under [{elsewhere}]."
    else:
        remedy = _did_you_mean(guess) or f"[{table}] has: {', '.join(TABLES[table].model_fields)}."
    return Problem("error", "there is no such field.", f"{table}.{key}", remedy)


def _across_fields(data: dict[str, Any]) -> Problems:
    """Problems between fields of a table; tables that are invalid by themselves are skipped."""
    problems = Problems()
    if scheme := _valid(SchemeTable, data.get("scheme", {})):
        try:
            scheme.scheme()
        except SchemeError as error:
            name = "scheme.earlier" if "earlier" in error.message else "scheme.warmup_steps"
            problems.error(error.message, field=name, remedy=error.remedy)
    training = _valid(TrainingTable, data.get("training", {}))
    if training and training.min_timestep >= training.max_timestep:
        message = f"{training.min_timestep} is not below max_timestep ({training.max_timestep})"
        problems.error(message, field="training.min_timestep")
    return problems


_SomeTable = TypeVar("_SomeTable", bound=Table)


def _valid(table: type[_SomeTable], values: Any) -> _SomeTable | None:
    try:
        return table.model_validate(values)
    except ValidationError:
        return None


def _required(table: str) -> str:
    if table not in TABLES:
        return "its fields"
    return ", ".join(key for key, info in TABLES[table].model_fields.items() if info.is_required()) or "its fields"


def _is_branch(part: str) -> bool:
    """Whether a part of a pydantic location is a branch of a union, not a key."""
    return part.startswith(("literal[", "constrained-", "function-")) or part in {"int", "str", "float"}


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _did_you_mean(guess: str | None) -> str:
    return f"Did you mean {guess}?" if guess else ""


def toml_text(value: Any) -> str:
    """`value` as it is written after the `=` in a run file."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, dict):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{_toml_key(key)} = {toml_text(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        items = [toml_text(item) for item in value]
        if any(len(item) > 24 for item in items) and len(items) > 1:
            return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
        return "[" + ", ".join(items) + "]"
    return tomli_w.dumps({"x": value})[len("x = ") : -1]


def _toml_key(key: str) -> str:
    return tomli_w.dumps({key: 0})[: -len(" = 0\n")]
