"""Edits many captions at once: find and replace, prefix and suffix. Pure functions of texts."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ti_tui.dataset.caption_files import one_line
from ti_tui.dataset.caption_text import begins_with, ends_with
from ti_tui.errors import UserError

LONGEST_SECONDS = 0.5
"""Time limit for a regular expression: some would take years."""

_SEAM = "\x00"
"""Marks where words were deleted, until the commas and spaces around are cleaned up. No caption contains it."""
_SEAMS = re.compile(r"(\s*,)?(\s*)\x00(?:[\s,]*\x00)*(\s*)(,\s*)?")


class ReplaceError(UserError):
    """The search text or its replacement is not valid: where, and why."""


@dataclass(frozen=True)
class Replacement:
    """A search text and its replacement. regex: both are Python regular expressions."""

    find: str
    replace: str = ""
    whole_word: bool = False
    ignore_case: bool = False
    regex: bool = False


@dataclass(frozen=True)
class Replaced:
    """changed: the changed captions by name; places: number of matches in all captions."""

    changed: Mapping[str, str]
    places: int


def replace_in(captions: Mapping[str, str], replacement: Replacement) -> Replaced:
    """Make a replacement in `captions`. Raises ReplaceError.

    Where words are deleted, surplus commas and spaces around them are deleted too.
    """
    if not replacement.find:
        return Replaced({}, 0)
    pattern = _pattern(replacement)
    template: str | None = replacement.replace if replacement.regex else None
    changed: dict[str, str] = {}
    places = 0

    def put(found: re.Match[str]) -> str:
        new = replacement.replace if template is None else found.expand(template)
        return new if new or not found[0] else _SEAM

    try:
        with _time_limit(LONGEST_SECONDS):
            for name, caption in captions.items():
                text, count = pattern.subn(put, caption)
                places += count
                new = one_line(_SEAMS.sub(_mended, text))
                if count and new != caption:
                    changed[name] = new
    except (re.error, IndexError) as error:
        raise ReplaceError(f"the replacement: {_reason(error)}") from None
    except TimeoutError:
        raise ReplaceError("this expression takes too long", remedy="Simplify it.") from None
    return Replaced(changed, places)


def framed(caption: str, prefix: str, suffix: str) -> str:
    """`caption` with prefix and suffix, unless it has them already; an empty caption stays empty."""
    caption, prefix, suffix = (" ".join(text.split()) for text in (caption, prefix, suffix))
    if not caption:
        return ""
    if prefix and not begins_with(caption, prefix):
        caption = f"{prefix} {caption}"
    if suffix and not ends_with(caption, suffix):
        caption = f"{caption}{'' if suffix[0] in ',.;:!?' else ' '}{suffix}"
    return caption


def _pattern(replacement: Replacement) -> re.Pattern[str]:
    find = replacement.find if replacement.regex else re.escape(replacement.find)
    if replacement.whole_word:
        find = rf"(?<!\w)(?:{find})(?!\w)"
    try:
        # First compiled alone, so that positions in errors refer to the typed text.
        if replacement.regex:
            re.compile(replacement.find)
        return re.compile(find, re.IGNORECASE if replacement.ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise ReplaceError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, re.error) and error.pos is not None:
        return f"character {error.pos + 1}: {error.msg}"
    return str(error)


def _mended(seam: re.Match[str]) -> str:
    before, left, right, after = seam[1], seam[2], seam[3], seam[4]
    start, end = seam.start() == 0, seam.end() == len(seam.string)
    if start or end:
        return ""
    if before or after:
        return ", "
    return " " if left or right else ""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after `seconds`. Works only in the main thread, and not on Windows.

    Only a signal can interrupt Python's regular expressions.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            # An alarm that was set before, such as a test's, continues.
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), interval)
