"""Makes sample prompts of those in a foreign file, with what it says of their size, seed and steps."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ti_tui.exchange.foreign_file import NotSettings, read_text
from ti_tui.exchange.gathering import Gathered
from ti_tui.exchange.mapping import NoCounterpart, Part
from ti_tui.exchange.paths_in_files import found_path
from ti_tui.exchange.values import is_off, number, whole
from ti_tui.run.sample_prompts import SamplePrompt, SamplePromptError, format_sample_prompt, parse_sample_prompt

MOST_PROMPTS = 64
LONGEST_PROMPT = 2000
PLACEHOLDERS = re.compile(r"\[(trigger|name)\]|<embedding>")
OPTIONS: tuple[Part, ...] = ("width", "height", "negative", "seed", "guidance", "drawing steps")


def sample_prompts(g: Gathered) -> None:
    """Set `sample.prompts`, and say what became of each field."""
    lines: list[str] = []
    for found in g.all_of("prompts"):
        texts, said = _texts(g, found.value)
        readable = [line for text in texts if (line := _line(g, text)) is not None]
        lost = len(texts) - len(readable)
        if not texts:
            g.settle(found, "left out", note=said or "there is no prompt in it")
            continue
        lines += [_with_options(g, line, found.place) for line in readable]
        note = "; ".join(filter(None, (said, f"{lost} of its lines cannot be read as a prompt" if lost else "")))
        alike = texts == ([found.source.value] if isinstance(found.source.value, str) else found.source.value)
        same = alike and readable == texts
        ours = f"sample.prompts: {' / '.join(readable)}" if readable else ""
        g.settle(found, "left out" if not readable else "same" if same else "changed", ours,
                 note or ("" if same else "[name] is the token, options are kohya's"))  # fmt: skip
    if not lines:
        for part in (*OPTIONS, "samples of a prompt", "random seed"):
            for each in g.all_of(part):
                g.settle(each, "left out", note="there is no sample prompt in the file")
        return
    lines = lines[:MOST_PROMPTS]
    several = g.first("samples of a prompt")
    if several is not None:
        lines = _repeated(lines, min(int(several.value), 8), g)
        g.settle(several, "same" if several.value == 1 else "changed",
                 "" if several.value == 1 else "sample.prompts", "a line for each, with its own seed")  # fmt: skip
    for each in g.all_of("random seed"):
        g.settle(each, "changed" if each.value else "same", note="samples of a run always have the same seed")
    g.set("sample.prompts", lines)


def _texts(g: Gathered, value: Any) -> tuple[list[str], str]:
    """The lines that a field holds: a list, a text of lines, or a file with them; and what is said of it."""
    if isinstance(value, list):
        return [line for item in value if (line := str(item).strip())], ""
    text = str(value).strip()
    if re.fullmatch(r"[^\n]+\.txt", text):
        path = found_path(text, g.folder)
        if path is None:
            return [], "there is no such file here: give --set sample.prompts"
        try:
            text = read_text(path)
        except NotSettings as error:
            return [], error.message
        return prompt_lines(text), f"read from {path.name}"
    return prompt_lines(text), ""


def prompt_lines(text: str) -> list[str]:
    """The prompts in kohya's text: one a line, without comments."""
    stripped = (line.strip() for line in text.split("\n")[:1000])
    return [line for line in stripped if line and not line.startswith("#")]


def _line(g: Gathered, text: str) -> str | None:
    """A prompt with [name] for the token, as the file spells it; None if it cannot be read."""
    named = PLACEHOLDERS.sub("[name]", text[:LONGEST_PROMPT])
    for token in (str(g.value("token", "")), str(g.fields.get("embedding.token", ""))):
        if token:
            named = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", "[name]", named)
    try:
        parse_sample_prompt(named)
    except SamplePromptError:
        return None
    return named


def _with_options(g: Gathered, line: str, place: str) -> str:
    """The line with the options that the file gives for it or for all prompts, where it has none of its own.

    place: the table in which the prompt stands; options in it or around it are its own.
    """
    options: dict[str, Any] = {}
    for part, key, convert in _CONVERSIONS:
        around = [found for found in g.parts.get(part, ()) if f"{place}.".startswith(f"{found.place}.".lstrip("."))]
        if not around:
            continue
        found = max(around, key=lambda each: len(each.place))
        try:
            value: Any = str(found.value).strip() if convert is str else convert(found.value)
        except NoCounterpart as error:
            g.settle(found, "left out", note=str(error))
            continue
        if key == "seed" and (is_off(found.value) or value < 0):
            g.settle(found, "left out", note="any seed there; the run's seed here")
            continue
        options[key] = value
        g.settle(found, "changed", f"--{_LETTERS[key]} {value}", "an option of each prompt")
    if not options:
        return line
    before = parse_sample_prompt(line)
    own = {letter for letter in _LETTERS.values() if re.search(rf"\s--{letter}(\s|$)", line)}
    wanted = {key: value for key, value in options.items() if _LETTERS[key] not in own}
    made = format_sample_prompt(replace(before, **wanted))
    try:
        parse_sample_prompt(made)
    except SamplePromptError:
        return line
    return made


def _repeated(lines: list[str], times: int, g: Gathered) -> list[str]:
    """Each line `times` times, with seeds that follow one another."""
    if times <= 1:
        return lines
    made = []
    for line in lines:
        prompt: SamplePrompt = parse_sample_prompt(line)
        first = prompt.seed if prompt.seed is not None else int(g.fields.get("training.seed", 42))
        made += [format_sample_prompt(replace(prompt, seed=first + place)) for place in range(times)]
    return made[:MOST_PROMPTS]


_LETTERS = {"width": "w", "height": "h", "negative": "n", "seed": "d", "guidance": "l", "steps": "s"}
_CONVERSIONS: tuple[tuple[Part, str, Any], ...] = (
    ("width", "width", whole),
    ("height", "height", whole),
    ("negative", "negative", str),
    ("seed", "seed", whole),
    ("guidance", "guidance", number),
    ("drawing steps", "steps", whole),
)
