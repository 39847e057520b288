"""Turns the values of foreign files into ours: programs write numbers as texts, `false` for 0, sizes as "512,512"."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import typing
from typing import Any

from ti_tui.exchange.mapping import UNSET, NoCounterpart
from ti_tui.run.file import problem_with
from ti_tui.run.recipe import TABLES

LONGEST_SHOWN = 160
OFF = frozenset({"", "0", "0.0", "false", "none", "no", "off", "null", "nan"})
"""Texts (in lower case) that say that something is not used."""
_ARGUMENT = re.compile(r"""[\w.]+\s*=(?:"[^"]*"|'[^']*'|\([^)]*\)|\S+)""")


def is_empty(value: Any) -> bool:
    """Whether a field is in the file but not set."""
    return value is None or (isinstance(value, (str, list, dict)) and not value) or str(value).strip() == ""


def is_off(value: Any) -> bool:
    """Whether a value says that something is not used."""
    return is_empty(value) or str(value).strip().lower() in OFF


def number(value: Any) -> float:
    """A finite number. Raises NoCounterpart."""
    try:
        result = float(value.strip() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise NoCounterpart(f"{shown(value)} is not a number") from None
    if not math.isfinite(result):
        raise NoCounterpart(f"{shown(value)} is not a number")
    return result


def whole(value: Any) -> int:
    """A whole number, also one written as 8.0. Raises NoCounterpart."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,30}\s*", value):
        return int(value)
    result = number(value)
    if result != int(result):
        raise NoCounterpart(f"{shown(value)} is not a whole number")
    return int(result)


def boolean(value: Any) -> bool:
    """On or off, also as a text or a number. Raises NoCounterpart."""
    word = str(value).strip().lower()
    if word in OFF:
        return False
    if word in {"true", "yes", "on", "1", "1.0"}:
        return True
    raise NoCounterpart(f"{shown(value)} is neither true nor false")


def text(value: Any) -> str:
    """A text on one line. Raises NoCounterpart for a list or table."""
    if isinstance(value, (list, dict)):
        raise NoCounterpart("a single text is needed")
    return str(value).strip()


def first_text(value: Any) -> str:
    """A text, or the first of a list of them. Raises NoCounterpart."""
    return text(value[0]) if isinstance(value, list) and value else text(value)


def positive(value: Any) -> Any:
    """A number above 0, or UNSET. Raises NoCounterpart."""
    if is_off(value):
        return UNSET
    result = number(value)
    return result if result > 0 else UNSET


def count(value: Any) -> Any:
    """A whole number above 0, or UNSET. Raises NoCounterpart."""
    found = positive(value)
    return UNSET if found is UNSET else max(1, whole(found))


def flag(value: Any) -> Any:
    """True, or UNSET. Raises NoCounterpart."""
    return True if boolean(value) else UNSET


def when_on(word: Any) -> typing.Callable[[Any], Any]:
    """A converter that gives `word` for true, and sets nothing for false."""
    return lambda value: word if boolean(value) else UNSET


def one_of(words: dict[str, Any]) -> typing.Callable[[Any], Any]:
    """A converter by a table of words in lower case."""

    def convert(value: Any) -> Any:
        word = str(value).strip().lower()
        if word not in words:
            raise NoCounterpart(f"{shown(value)} is not known here")
        return words[word]

    return convert


def attention(value: Any) -> Any:
    """The attention kernel of kohya's `xformers`, which is a word or a flag. Raises NoCounterpart."""
    word = one_of({"xformers": "xformers", "true": "xformers", "1": "xformers", "sdpa": "sdpa", "none": "plain",
                   "false": UNSET, "": UNSET, "0": UNSET})(value)  # fmt: skip
    return "sdpa" if word == "xformers" and importlib.util.find_spec("xformers") is None else word


def trackers(value: Any) -> Any:
    """The programs for which a log is written, of the words of accelerate's `report_to`. Raises NoCounterpart."""
    known = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "all": ["tensorboard", "wandb"], "none": UNSET}
    return one_of(known)(value)


def side(value: Any) -> int:
    """The side of the square with the area of `512`, `"512,768"`, `[512, 512]` or `"512x512"`. Raises NoCounterpart."""
    parts = value if isinstance(value, list) else re.split(r"[,x×\s]+", str(value).strip(" ()[]"))
    sizes = [whole(part) for part in parts if str(part).strip()][:2]
    if not sizes or min(sizes) < 16 or max(sizes) > 16384:
        raise NoCounterpart(f"{shown(value)} is not a size in pixels")
    length = math.sqrt(sizes[0] * sizes[-1])
    step = 64 if sizes[0] != sizes[-1] else 8
    return max(16, min(4096, round(length / step) * step))


def arguments(value: Any) -> dict[str, Any]:
    """Arguments such as `["betas=0.9,0.99", "weight_decay=0.01"]` or in one text, by name. Raises NoCounterpart."""
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    parts = value if isinstance(value, list) else _ARGUMENT.findall(text(value))
    found = {}
    for part in map(str, parts):
        name, equals, given = part.partition("=")
        if not equals or not name.strip().isidentifier():
            raise NoCounterpart(f"{shown(part)} is not of the form name=value")
        found[name.strip()] = literal(given.strip().strip("\"'"))
    return found


def literal(given: str) -> Any:
    """The value that Python code would have: a number, True, a list; else the text."""
    try:
        value = ast.literal_eval(given[:200])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return given
    if isinstance(value, (tuple, list)):
        return [item for item in value if isinstance(item, (int, float))]
    return value if isinstance(value, (bool, int, float, str)) else given


def coerced(name: str, value: Any) -> Any:
    """`value` with the type of the run file field `name`, checked. Raises NoCounterpart."""
    if problem_with(name, value) is None:
        return value
    table, _, key = name.partition(".")
    annotation = TABLES[table].model_fields[key].annotation
    kinds = {annotation, *(typing.get_args(part)[0] for part in typing.get_args(annotation) if typing.get_args(part))}
    if bool in kinds:
        value = boolean(value)
    elif int in kinds:
        value = whole(False if isinstance(value, str) and is_off(value) else value)
    elif float in kinds:
        value = number(False if isinstance(value, str) and is_off(value) else value)
    elif annotation is str:
        value = text(value)
    if problem := problem_with(name, value):
        raise NoCounterpart(problem.sentence)
    return value


def shown(value: Any) -> str:
    """A value as a table shows it, on one line and not too long."""
    if isinstance(value, bool):
        words = str(value).lower()
    elif isinstance(value, float):
        words = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    elif isinstance(value, list):
        words = "[" + ", ".join(shown(item) for item in value[:50]) + "]"
    elif isinstance(value, dict):
        words = "{ " + ", ".join(f"{key} = {shown(item)}" for key, item in list(value.items())[:50]) + " }"
    else:
        words = " / ".join(str(value)[: 4 * LONGEST_SHOWN].split("\n"))
    return words if len(words) <= LONGEST_SHOWN else f"{words[: LONGEST_SHOWN - 3]}..."
