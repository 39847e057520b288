"""Sample prompts in kohya's notation: `text --n negative --w 512 --h 512 --d seed --l cfg --s steps`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ti_tui.errors import UserError

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 7.5
_OPTION = re.compile(r"\s--(?=[A-Za-z]+(?:\s|$))")


class SamplePromptError(UserError):
    """A sample prompt that cannot be read."""


@dataclass(frozen=True)
class SamplePrompt:
    """A sample to draw. Sizes are in pixels. None takes the run's resolution or seed."""

    text: str
    negative: str = ""
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    guidance: float = DEFAULT_GUIDANCE
    steps: int = DEFAULT_STEPS
    unknown: tuple[str, ...] = ()


def parse_sample_prompt(line: str) -> SamplePrompt:
    """Read one line. Options of kohya's that ti_tui does not use are kept in `unknown`.

    Raises SamplePromptError for an empty prompt and for an option without a usable number.
    """
    text, *options = _OPTION.split(f" {line.strip()}")
    if not text.strip():
        raise SamplePromptError("the prompt is empty")
    values: dict[str, str] = {}
    for option in options:
        key, _, value = option.strip().partition(" ")
        if key.lower() in values:
            raise SamplePromptError(f"--{key} is given twice")
        values[key.lower()] = value.strip()
    return SamplePrompt(
        text=text.strip(),
        negative=values.pop("n", ""),
        width=_size(values, "w"),
        height=_size(values, "h"),
        seed=_whole(values, "d", 0, 2**63 - 1),
        guidance=_number(values, "l", DEFAULT_GUIDANCE),
        steps=_whole(values, "s", 1, 1000) or DEFAULT_STEPS,
        unknown=tuple(values),
    )


def format_sample_prompt(prompt: SamplePrompt) -> str:
    """The text of `prompt`, which `parse_sample_prompt` reads back (without unused options)."""
    parts = [prompt.text]
    if prompt.negative:
        parts.append(f"--n {prompt.negative}")
    for key, value in (("w", prompt.width), ("h", prompt.height), ("d", prompt.seed)):
        if value is not None:
            parts.append(f"--{key} {value}")
    return " ".join([*parts, f"--l {prompt.guidance!r}", f"--s {prompt.steps}"])


def _size(values: dict[str, str], key: str) -> int | None:
    value = _whole(values, key, 8, 4096)
    return None if value is None else value // 8 * 8


def _whole(values: dict[str, str], key: str, low: int, high: int) -> int | None:
    if key not in values:
        return None
    text = values.pop(key)
    if not re.fullmatch(r"\d+", text) or not low <= int(text) <= high:
        raise SamplePromptError(f"--{key} {text}: a whole number from {low} to {high} is needed")
    return int(text)


def _number(values: dict[str, str], key: str, default: float) -> float:
    if key not in values:
        return default
    text = values.pop(key)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise SamplePromptError(f"--{key} {text}: a number from 0 to 100 is needed")
    return value
