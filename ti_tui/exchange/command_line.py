"""Reads the training command of a shell or batch script, without running anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ti_tui.exchange.mapping import Program

LONGEST_COMMAND = 64_000
_SCRIPT = re.compile(r"(?:^|[\s/\\\"'=])((?:sdxl_)?train_textual_inversion(?:_XTI)?|textual_inversion(?:_sdxl)?)\.py\b")
_ANY_SCRIPT = re.compile(r"([\w.-]+)\.py$")
_OF_DIFFUSERS = {"placeholder_token", "initializer_token"}
_OF_KOHYA = {"token_string", "init_word", "num_vectors_per_token", "use_object_template", "use_style_template"}
_TRAINS = re.compile(rf"--({'|'.join(sorted(_OF_DIFFUSERS | _OF_KOHYA))})\b")
"""Options that say what a script of any name trains."""
_OPEN = re.compile(r"\$(\w+|[({])|%\w+%|!\w+!|`")
_COMMENT = re.compile(r"\s*(#|::|@?rem\b)", re.IGNORECASE)
_ASSIGNMENT = (
    re.compile(r"\s*(?:export\s+|declare\s+|local\s+)?([A-Za-z_]\w*)=(.*)$"),
    re.compile(r"\s*@?set\s+(?:/a\s+)?\"?([A-Za-z_]\w*)=(.*)$", re.IGNORECASE),
    re.compile(r"\s*\$(?:env:)?([A-Za-z_]\w*)\s*=\s*(.*)$"),
)
_ARRAY = re.compile(r"\s*(?:export\s+|declare\s+-a\s+|local\s+)?([A-Za-z_]\w*)(\+?)=\((.*)\)\s*$", re.DOTALL)
_ARRAY_BEGINS = re.compile(r"\s*(?:export\s+|declare\s+-a\s+|local\s+)?[A-Za-z_]\w*\+?=\(")
_ARRAY_USED = re.compile(r"\"?\$\{(\w+)\[[@*]\]\}\"?")
_QUOTED = re.compile(r"(\"[^\"]*\"|'[^']*')\s*(?:#.*)?$")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$env:(\w+)|\$(\w+)|%(\w+)%|!(\w+)!")
_BATCH = re.compile(r"(?im)^\s*@?(echo off|set\s|rem\b|::|setlocal|call\s|pause\b)|\^\s*$|%\w+%|`\s*$")


@dataclass(frozen=True)
class CommandOption:
    """An option of a command; value: a text, several, or True for a flag."""

    name: str
    value: Any


@dataclass(frozen=True)
class TrainingCommand:
    """A training command. launcher: the options of `accelerate launch` before the script."""

    program: Program
    script: str
    options: tuple[CommandOption, ...]
    launcher: tuple[CommandOption, ...]
    notes: tuple[str, ...]

    @property
    def sdxl(self) -> bool:
        return "sdxl" in self.script


def names_a_script(text: str) -> bool:
    """Whether lines that are no comments call a training script for textual inversion."""
    return _calls_a_script("\n".join(line for line in text.splitlines() if not _COMMENT.match(line)))


def is_open(value: Any) -> bool:
    """Whether a value holds a variable that the file does not set, or what a command prints."""
    return any(_OPEN.search(str(item)) for item in (value if isinstance(value, list) else [value]))


def _calls_a_script(text: str) -> bool:
    return bool(_SCRIPT.search(text) or (".py" in text and _TRAINS.search(text)))


def parse(text: str) -> TrainingCommand:
    """The first training command in a script. Raises ValueError if it cannot be read."""
    batch = bool(_BATCH.search(text))
    variables: dict[str, str] = {}
    found: TrainingCommand | None = None
    more = 0
    for line in _whole_lines(text):
        if not batch and (array := _ARRAY.match(line)):
            before = variables.get(f"{array[1]}[]", "") if array[2] else ""
            variables[f"{array[1]}[]"] = f"{before} {_filled(array[3], variables, batch)}".strip()
            continue
        filled = _filled(line, variables, batch)
        assigned = next((match for pattern in _ASSIGNMENT if (match := pattern.match(line))), None)
        if _calls_a_script(filled) and (assigned is None or "--" in filled):
            if found is None:
                found = _command(filled, batch=batch)
            more += 1
        elif assigned:
            name = assigned[1].lower() if batch else assigned[1]
            variables[name] = _unquoted(_filled(assigned[2], variables, batch))
    if found is None:
        raise ValueError("there is no training command for textual inversion in it")
    if more > 1:
        return replace(found, notes=(*found.notes, f"the first of {more} training commands is read"))
    return found


def _whole_lines(text: str) -> Iterator[str]:
    """Lines with those that continue them (after \\, ^ or `), without comments."""
    whole = ""
    for line in text.splitlines():
        if _COMMENT.match(line):
            continue
        body = line.rstrip()
        goes_on = body.endswith(("\\", "^", "`")) and not body.endswith(("\\\\", "^^"))
        whole = f"{whole} {body[:-1] if goes_on else body}"
        # An array of bash goes on to its bracket.
        goes_on = goes_on or (_ARRAY_BEGINS.match(whole) is not None and not whole.rstrip().endswith(")"))
        if len(whole) > LONGEST_COMMAND:
            raise ValueError(f"a command is longer than {LONGEST_COMMAND} characters")
        if not goes_on:
            yield whole
            whole = ""
    yield whole


def _command(line: str, *, batch: bool) -> TrainingCommand:
    lexer = shlex.shlex(line.lstrip().lstrip("!"), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = "" if batch else "#"
    if batch:
        # In a batch file \ belongs to paths, and ' to words.
        lexer.escape, lexer.quotes = "", '"'
    words = list(lexer)
    scripts = [index for index, word in enumerate(words) if _ANY_SCRIPT.search(word)]
    place = next((index for index in scripts if _SCRIPT.search(words[index])), scripts[0] if scripts else None)
    if place is None:
        raise ValueError("the script stands in quotes or a comment")
    ends = [index for index, word in enumerate(words) if word and set(word) <= set(";&|")]
    begin = max((index + 1 for index in ends if index < place), default=0)
    end = min((index for index in ends if index > place), default=len(words))
    script = re.split(r"[/\\]", words[place])[-1]
    # What the shell does with the output is no value of the last option.
    end = next((index for index in range(place + 1, end) if re.match(r"\d*[<>]", words[index])), end)
    given, loose = options(words[place + 1 : end])
    launcher, _ = options(words[begin:place])
    notes = [f"{word!r} belongs to no option" for word in loose[:5]]
    names = {option.name for option in given}
    of_kohya = bool(names & _OF_KOHYA) or ("train_" in script and not names & _OF_DIFFUSERS)
    program: Program = "kohya" if of_kohya else "diffusers"
    return TrainingCommand(program, script, given, launcher, tuple(notes))


def options(words: Iterable[str]) -> tuple[tuple[CommandOption, ...], list[str]]:
    """The options among `words`, the last of each name as argparse takes it; and words that belong to none."""
    found: dict[str, list[str]] = {}
    loose: list[str] = []
    current: list[str] | None = None
    for word in words:
        if re.match(r"--[A-Za-z]", word):
            name, equals, value = word[2:].partition("=")
            current = [value] if equals else []
            found[name.replace("-", "_")] = current
        elif _ARRAY_USED.fullmatch(word):
            loose.append(word)
        elif current is not None:
            current.append(word)
        elif not word.startswith("-"):
            loose.append(word)
    made = (
        CommandOption(name, True if not given else given[0] if len(given) == 1 else given)
        for name, given in found.items()
    )
    return tuple(made), loose


def _filled(text: str, variables: dict[str, str], batch: bool) -> str:
    """`text` with the variables that the script has set; others stay as they are written."""

    def value(match: re.Match[str]) -> str:
        name = next(group for group in (match[1], match[3], match[4], match[5], match[6]) if group)
        known = variables.get(name.lower() if batch else name)
        if known is None:
            return match[2] if match[2] is not None else match[0]
        return known

    text = _ARRAY_USED.sub(lambda match: variables.get(f"{match[1]}[]", match[0]), text)
    return _VARIABLE.sub(value, text)[: 4 * LONGEST_COMMAND]


def _unquoted(text: str) -> str:
    text = text.strip().rstrip(";").strip()
    if text.count('"') == 1 and text.endswith('"'):
        # Of `set "NAME=value"`.
        return text[:-1]
    if quoted := _QUOTED.match(text):
        return quoted[1][1:-1]
    return re.sub(r"\s+#.*$", "", text)
